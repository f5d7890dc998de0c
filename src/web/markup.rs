//! Markdown as pages show it. It comes from agents, so what becomes of it can do nothing: a few elements with no attribute
//! but the address of a link, made inert word by word, and sanitised once more when it is all there.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use askama::filters::Safe;
use pulldown_cmark::{
    CodeBlockKind, CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html,
};
use url::Url;

use super::tint::{self, Language};
use crate::model::text;

/// How deep elements may lie in each other; what lies deeper is text where it stands.
const DEPTH: usize = 12;

/// How many parts a text may have for each of its bytes, and how many bytes its elements: a little text can ask for a great
/// table.
const PARTS_A_BYTE: usize = 2;
const GROWTH: usize = 8;

const TAGS: [&str; 28] = [
    "p",
    "br",
    "hr",
    "em",
    "strong",
    "del",
    "code",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "li",
    "h3",
    "h4",
    "h5",
    "h6",
    "a",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "small",
    "b",
    "i",
    "samp",
    "var",
];

/// Elements made here, and by nobody else: the one text that a template prints as it is.
#[derive(Debug)]
pub(crate) struct Markup(String);

impl Markup {
    /// A text's elements; none where they would be too many, or where it is plain anyway.
    pub(crate) fn of(source: &str) -> Option<Self> {
        if source.trim().is_empty() {
            return None;
        }
        let source = text::inert(source);
        let mut writer = Writer::default();
        let parts_max = PARTS_A_BYTE * source.len() + 64;
        for event in Parser::new_ext(
            &source,
            Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS,
        ) {
            writer.take(event);
            if writer.parts.len() > parts_max {
                return None;
            }
        }
        let mut raw = String::with_capacity(2 * source.len());
        html::push_html(&mut raw, writer.parts.into_iter());
        if raw.len() > GROWTH * source.len() + 1024 {
            return None;
        }
        // Whatever the parser made of it: nothing hidden is left, and no sequence that could take an element with it.
        Some(Self(text::inert(&CLEAN.clean(&raw).to_string())))
    }

    /// For the template.
    pub(crate) fn html(&self) -> Safe<&str> {
        Safe(&self.0)
    }
}

static CLEAN: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let attributes = [("a", HashSet::from(["href"])), ("ol", HashSet::from(["start"]))];
    let mut clean = Builder::empty();
    clean
        .tags(HashSet::from(TAGS))
        .tag_attributes(HashMap::from(attributes))
        .url_schemes(HashSet::from(["http", "https"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"));
    clean
});

/// Takes what the parser says, and keeps what may be shown.
#[derive(Default)]
struct Writer<'a> {
    parts: Vec<Event<'a>>,
    /// What is open: whether it is shown as an element; and how many are.
    open: Vec<bool>,
    depth: usize,
    /// Where the words of the open link begin, and where it leads.
    link: Option<(usize, Url)>,
    /// The language of the code that is open, and what there is of it.
    code: Option<(&'static Language, String)>,
}

impl<'a> Writer<'a> {
    fn take(&mut self, event: Event<'a>) {
        match event {
            Event::Start(tag) => self.begin(tag),
            Event::End(tag) => self.end(tag),
            Event::Code(words) => self.parts.push(Event::Code(inert(&words))),
            // Models break lines where they mean it.
            Event::SoftBreak | Event::HardBreak => self.parts.push(Event::HardBreak),
            Event::Rule => self.parts.push(Event::Rule),
            Event::TaskListMarker(done) => self.say(if done { "☑ " } else { "☐ " }),
            Event::Text(words)
            | Event::Html(words)
            | Event::InlineHtml(words)
            | Event::InlineMath(words)
            | Event::DisplayMath(words)
            | Event::FootnoteReference(words) => self.say(&words),
        }
    }

    fn say(&mut self, words: &str) {
        if let Some((_, code)) = &mut self.code {
            code.push_str(words);
            return;
        }
        self.parts.push(Event::Text(inert(words)));
    }

    fn tint(&mut self, language: &Language, code: &str) {
        for (kind, part) in tint::parts(&Some(language), code) {
            let part = Event::Text(part.to_owned().into());
            match kind.element() {
                None => self.parts.push(part),
                Some(name) => {
                    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
                    self.parts.extend([
                        Event::InlineHtml(open.into()),
                        part,
                        Event::InlineHtml(close.into()),
                    ]);
                }
            }
        }
    }

    fn begin(&mut self, tag: Tag<'a>) {
        let plain = match tag {
            Tag::Paragraph | Tag::HtmlBlock => Some(Tag::Paragraph),
            Tag::Heading { level, .. } => {
                Some(Tag::Heading { level: below(level), id: None, classes: Vec::new(), attrs: Vec::new() })
            }
            Tag::BlockQuote(_) => Some(Tag::BlockQuote(None)),
            Tag::CodeBlock(kind) => {
                self.code = language(&kind).map(|language| (language, String::new()));
                Some(Tag::CodeBlock(CodeBlockKind::Indented))
            }
            Tag::Table(columns) => Some(Tag::Table(vec![pulldown_cmark::Alignment::None; columns.len()])),
            Tag::Link { dest_url, .. } => address(&dest_url).map(|url| {
                let href = CowStr::from(url.to_string());
                self.link = Some((self.parts.len(), url));
                Tag::Link { link_type: LinkType::Inline, dest_url: href, title: "".into(), id: "".into() }
            }),
            Tag::Image { .. } => {
                self.say("[image: ");
                None
            }
            kept @ (Tag::List(_)
            | Tag::Item
            | Tag::Emphasis
            | Tag::Strong
            | Tag::Strikethrough
            | Tag::TableHead
            | Tag::TableRow
            | Tag::TableCell) => Some(kept),
            _ => None,
        };
        let plain = plain.filter(|_| self.depth < DEPTH);
        self.depth += usize::from(plain.is_some());
        self.open.push(plain.is_some());
        self.parts.extend(plain.map(Event::Start));
    }

    fn end(&mut self, tag: TagEnd) {
        if tag == TagEnd::CodeBlock
            && let Some((language, code)) = self.code.take()
        {
            self.tint(language, &text::inert(&code));
        }
        let shown = self.open.pop().unwrap_or(false);
        self.depth -= usize::from(shown);
        let host = if tag == TagEnd::Link { self.misnamed() } else { None };
        if shown {
            self.parts.push(Event::End(match tag {
                TagEnd::HtmlBlock => TagEnd::Paragraph,
                TagEnd::Heading(level) => TagEnd::Heading(below(level)),
                TagEnd::BlockQuote(_) => TagEnd::BlockQuote(None),
                tag => tag,
            }));
        }
        if tag == TagEnd::Image {
            self.say("]");
        }
        if let Some(host) = host {
            self.say(&format!(" ({host})"));
        }
    }

    /// Where the link that ends leads, when its words don't say it.
    fn misnamed(&mut self) -> Option<String> {
        let (begun, url) = self.link.take()?;
        let words: String = self.parts[begun..]
            .iter()
            .filter_map(|part| match part {
                Event::Text(words) | Event::Code(words) => Some(words.as_ref()),
                _ => None,
            })
            .collect();
        (words.trim_end_matches('/') != url.as_str().trim_end_matches('/'))
            .then(|| url.host_str().map(str::to_owned))?
    }
}

/// The language that a fence names.
fn language(kind: &CodeBlockKind<'_>) -> Option<&'static Language> {
    let CodeBlockKind::Fenced(info) = kind else { return None };
    tint::named(info.split([' ', ',', '{']).next()?)
}

fn inert(words: &str) -> CowStr<'static> {
    text::inert(words).into()
}

/// The address of a page that may be linked.
fn address(href: &str) -> Option<Url> {
    let url: Url = href.parse().ok()?;
    (matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none())
        .then_some(url)
}

/// The page has headings of its own above.
fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn html(source: &str) -> String {
        Markup::of(source).map(|markup| markup.0).unwrap_or_default()
    }

    /// The first tag that may not be there.
    fn foreign(html: &str) -> Option<&str> {
        html.split('<').skip(1).find(|tag| {
            let Some((tag, _)) = tag.split_once('>') else { return true };
            let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
            let rest = &tag[tag.find(' ').unwrap_or(tag.len())..];
            let link = rest.strip_prefix(" href=\"http").is_some_and(|rest| {
                rest.ends_with("\" rel=\"noopener noreferrer nofollow\"") && rest.matches('"').count() == 3
            });
            let number = rest.strip_prefix(" start=\"").and_then(|rest| rest.strip_suffix('"'));
            let may = rest.is_empty()
                || (name == "a" && link)
                || (name == "ol" && number.is_some_and(|n| n.parse::<u64>().is_ok()));
            !TAGS.contains(&name) || !may
        })
    }

    #[test]
    fn what_agents_write_reads_well() {
        let said = html(
            "# Done\n\nI changed **two** files in `src`:\n\n1. one\n2. ~~two~~\n\n```rust\nlet a = \"<b>\";\n```\n\n```\nlet b = 1;\n```\n\n| a | b |\n|--:|---|\n| 1 | 2 |\n\n- [x] tests\nline\n\n> quote\n",
        );
        for part in [
            "<h3>Done</h3>",
            "<strong>two</strong>",
            "<code>src</code>",
            "<ol>\n<li>one</li>",
            "<del>two</del>",
            "<pre><code><b>let</b> a = <samp>\"&lt;b&gt;\"</samp>;\n</code></pre>",
            "<pre><code>let b = 1;\n</code></pre>",
            "<th>a</th>",
            "<td>2</td>",
            "☑ tests<br>\nline",
            "<blockquote>",
        ] {
            assert!(said.contains(part), "{part} isn't in {said}");
        }
        assert_eq!(foreign(&said), None);
    }

    #[test]
    fn links_lead_where_they_say_and_nowhere_else() {
        let rel = "rel=\"noopener noreferrer nofollow\"";
        assert_eq!(
            html("[a](https://x.example/b)"),
            format!("<p><a href=\"https://x.example/b\" {rel}>a</a> (x.example)</p>\n")
        );
        assert_eq!(
            html("<https://x.example/b>"),
            format!("<p><a href=\"https://x.example/b\" {rel}>https://x.example/b</a></p>\n")
        );
        for href in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "&#106;avascript:alert(1)",
            "java&#10;script:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "//evil.example",
            "/runs/1/terminate",
            "https://good.example@evil.example/",
            "mailto:a@b.example",
        ] {
            for source in [format!("[a]({href})"), format!("[a](<{href}>)"), format!("[a]\n\n[a]: {href}")] {
                assert!(!html(&source).contains("<a"), "{source}: {}", html(&source));
            }
        }
        assert_eq!(html("![a *b*](https://x.example/p.png \"t\")"), "<p>[image: a <em>b</em>]</p>\n");
    }

    #[test]
    fn nothing_hostile_becomes_an_element_and_nothing_hidden_stays_hidden() {
        for source in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<style>*{display:none}</style>",
            "<a href=\"https://x\" onclick=\"x\">y</a>",
            "<!-- <p> -->\n<svg><script>x</script></svg>",
            "<!--cut main-->x<!--/cut-->",
            "<div id=\"talk\">\n\n**x**\n\n</div>",
            "```\"><script>\nx\n```",
            "```rust\nlet \"<img src=x onerror=alert(1)>\" </code><script>/* <svg onload=x>\n```",
            "[a](https://x.example/\"onmouseover=\"alert(1))",
            "# a {#main .lever onclick=x}",
            "|a|\n|:-:|\n|<b>|",
            "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
        ] {
            let html = html(source);
            assert_eq!(foreign(&html), None, "{source} became {html}");
            assert!(!html.contains("<!--"), "{html}");
        }
        let hidden = html(
            "&#x202e;a \u{202e} `\u{2066}` &#27;[31m \u{1b}[32m [x](https://a.example/&#x202e;) &#0; \u{200b}",
        );
        assert!(hidden.contains("⟨U+202E⟩a") && hidden.contains("<code>⟨U+2066⟩</code>"), "{hidden}");
        assert!(!hidden.chars().any(|c| c.is_control() && c != '\n'), "{hidden:?}");
        assert_eq!(text::inert(&hidden), hidden);
    }

    #[test]
    fn the_worst_takes_neither_long_nor_much_room() {
        let lines = |line: &str| line.repeat(12_000 / line.len());
        let worst = [
            "a".repeat(1_000_000),
            lines(">"),
            lines("> "),
            lines("- "),
            lines("*"),
            lines("[") + &lines("]"),
            lines("**a "),
            lines("`"),
            lines("<a "),
            lines("&#1;"),
            format!(
                "{}\n{}\n{}",
                lines("|a")[..4000].to_owned(),
                lines("|-")[..4000].to_owned(),
                lines("|\n")[..4000].to_owned()
            ),
            format!("[a]: https://x.example/{}\n\n{}", "b".repeat(6000), &lines("[a]")[..6000]),
            lines("![a](b"),
            lines("1. a\n   "),
            lines("<div>\n\n"),
            "```js\n".to_owned() + &lines("\"\"1;"),
            "```py\n".to_owned() + &lines("'''a"),
            lines("\u{202e}"),
        ];
        for source in worst {
            let began = Instant::now();
            let html = html(&source);
            assert!(began.elapsed() < Duration::from_secs(3), "{:?} for {:.20}", began.elapsed(), source);
            assert!(html.len() <= 8 * GROWTH * source.len() + 1024, "{} for {:.20}", html.len(), source);
            let (mut depth, mut deepest) = (0_usize, 0);
            for tag in html.split('<').skip(1) {
                let name = tag.split(['>', ' ']).next().unwrap_or_default();
                match name {
                    "br" | "hr" => {}
                    name if name.starts_with('/') => depth -= 1,
                    _ => depth += 1,
                }
                deepest = deepest.max(depth);
            }
            assert!(depth == 0 && deepest <= DEPTH + 3, "{deepest} for {source:.20}");
            assert_eq!(foreign(&html), None);
        }
    }

    proptest! {
        #[test]
        fn no_text_becomes_an_element_that_may_not_be_there(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("<script>".to_owned()), Just("</p>".to_owned()), Just("[a](".to_owned()), Just(")".to_owned()),
                    Just("javascript:".to_owned()), Just("https://a.example".to_owned()), Just("\n\n".to_owned()),
                    Just("\n".to_owned()), Just("```".to_owned()), Just("**".to_owned()), Just("> ".to_owned()),
                    Just("- ".to_owned()), Just("|a|b|\n|-|-|\n".to_owned()), Just("\"".to_owned()), Just("&#".to_owned()),
                    Just("x202e;".to_owned()), Just("<img onerror=".to_owned()), Just("<!--".to_owned()), Just("-->".to_owned()),
                    Just("    ".to_owned()), Just("\u{1b}[".to_owned()), Just("# ".to_owned()), Just("<a href='".to_owned()),
                    any::<String>(),
                ],
                0..40,
            )
        ) {
            let html = html(&parts.concat());
            prop_assert_eq!(foreign(&html), None, "{}", html);
            prop_assert_eq!(&text::inert(&html), &html);
        }
    }
}
