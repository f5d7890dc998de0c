//! Paths that a stranger can read off the server's own answers.

use url::Url;

use super::door::Answer;

/// The longest path that is taken from a text.
const LONGEST: usize = 300;

/// Where a redirect leads, when that is this server.
pub(super) fn location(answer: &Answer, at: &str, origin: &str) -> Option<String> {
    resolve(&answer.header("location")?, at, origin)
}

/// Every path that a body names: links, sources, actions and quoted strings of HTML, CSS and scripts, the lines of
/// `robots.txt`, the places of a site map, the entries of a manifest.
pub(super) fn body(answer: &Answer, at: &str, origin: &str) -> Vec<String> {
    let kind = answer.header("content-type").unwrap_or_default();
    if ["image/", "font/", "audio/", "video/"].iter().any(|binary| kind.starts_with(binary))
        && !kind.contains("svg")
    {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&answer.body);
    let mut found = attributes(&text, at, origin);
    found.extend(absolute(&text, origin));
    found.extend(quoted(&text));
    if at == "/robots.txt" {
        let values = text.lines().filter_map(|line| line.split_once(':')).map(|(_, value)| value.trim());
        let paths =
            values.filter(|value| value.starts_with('/')).map(|path| path.trim_end_matches(['*', '$']));
        found.extend(paths.filter_map(|path| resolve(path, at, origin)));
    }
    found
}

/// What the forms of a page are sent to.
pub(super) fn forms(html: &str, at: &str, origin: &str) -> Vec<String> {
    let small = html.to_ascii_lowercase();
    let starts: Vec<usize> = small.match_indices("<form").map(|(start, _)| start).collect();
    let tag = |&start: &usize| &html[start..start + small[start..].find('>').unwrap_or(small.len() - start)];
    let bare = |path: String| path.split('?').next().unwrap_or_default().to_owned();
    starts
        .iter()
        .map(|start| {
            let action = attribute(tag(start), "action").unwrap_or("");
            resolve(action, at, origin).map_or_else(|| action.to_owned(), bare)
        })
        .collect()
}

/// The values of attributes that hold addresses, relative ones too.
fn attributes(text: &str, at: &str, origin: &str) -> Vec<String> {
    const NAMES: [&str; 7] = ["href", "src", "action", "formaction", "content", "poster", "cite"];
    let mut found = Vec::new();
    for name in NAMES {
        for (start, _) in text.match_indices(name) {
            let value =
                attribute(&text[start..], name).map(|value| value.rsplit("url=").next().unwrap_or(value));
            found.extend(
                value
                    .filter(|_| name != "content" || text[start..].contains("url="))
                    .and_then(|value| resolve(value, at, origin)),
            );
        }
    }
    found
}

/// An attribute's value: `name = "value"`, `name='value'`, `name=value`.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let start = tag.to_ascii_lowercase().find(name)? + name.len();
    let value = tag.get(start..)?.trim_start().strip_prefix('=')?.trim_start();
    let end = match value.chars().next()? {
        quote @ ('"' | '\'') => return value[1..].split(quote).next(),
        _ => value.find([' ', '>', '\n', '\t']).unwrap_or(value.len()),
    };
    Some(&value[..end])
}

/// Addresses of this server, written in full.
fn absolute(text: &str, origin: &str) -> Vec<String> {
    let ends = ['"', '\'', '<', '>', ' ', '\n', '\r', '\t', ')', '`', '\\'];
    let after = text.match_indices(origin).map(|(start, _)| &text[start + origin.len()..]);
    after.filter_map(|rest| tidy(rest.split(ends).next().unwrap_or_default())).collect()
}

/// Strings that start with a slash, as scripts, styles and JSON hold them.
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices('/') {
        let Some(before @ ('"' | '\'' | '`' | '(')) = text[..start].chars().next_back() else { continue };
        let end = if before == '(' { ')' } else { before };
        let value = text[start..].split([end, '\n']).next().unwrap_or_default();
        // A template's hole becomes a number: /runs/${id}/x is tried as /runs/1/x.
        let mut filled = String::new();
        let mut rest = value;
        while let Some(hole) = rest.find("${").or_else(|| rest.find('{')) {
            filled.push_str(&rest[..hole]);
            filled.push('1');
            rest = rest[hole..].split_once('}').map_or("", |(_, after)| after);
        }
        filled.push_str(rest);
        found.extend(tidy(&filled));
    }
    found
}

/// The path of an address, as it is to be sent, when it is this server's.
fn resolve(address: &str, at: &str, origin: &str) -> Option<String> {
    let address = address.trim().replace("&amp;", "&");
    let base = Url::parse(&if at.starts_with('/') { format!("{origin}{at}") } else { at.to_owned() }).ok()?;
    let url = base.join(&address).ok()?;
    let ours = url.origin().ascii_serialization() == origin && url.fragment() != Some(&address);
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    ours.then(|| tidy(&format!("{}{query}", url.path()))).flatten()
}

/// A path without its fragment, if it looks like one.
fn tidy(path: &str) -> Option<String> {
    let path = path.split('#').next().unwrap_or_default();
    let looks = |c: u8| c.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?[]".contains(&c);
    let comment = path.starts_with("/*") || path.starts_with("/>") || path.starts_with("//");
    (path.starts_with('/') && !comment && path.len() <= LONGEST && path.bytes().all(looks))
        .then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "http://127.0.0.1:8080";

    fn learned(at: &str, kind: &str, text: &str) -> Vec<String> {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        let mut found = body(&Answer { status: 200, headers, body: text.to_owned().into() }, at, ORIGIN);
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn pages_tell_of_links_sources_and_actions() {
        let html = r#"<link href="/static/a.css"><a href='runs?x=1&amp;y=2'>x</a><a href="https://other.example/no">
            <script src=/b.js></script><form action="/go#top"></form><a href="http://127.0.0.1:8080/full">
            <meta http-equiv="refresh" content="0; url=/next"><a href="mailto:x@y"><br/>"#;
        let found = learned("/a/page", "text/html", html);
        assert_eq!(found, ["/a/runs?x=1&y=2", "/b.js", "/full", "/go", "/next", "/static/a.css"]);
    }

    #[test]
    fn scripts_styles_and_lists_tell_too() {
        let script = "/* no */ fetch(`/runs/${id}/events`); const x = '/api/x'; a / b; // no";
        assert_eq!(learned("/live.js", "text/javascript", script), ["/api/x", "/runs/1/events"]);
        assert_eq!(learned("/a.css", "text/css", "b{background:url(/static/b.png)}"), ["/static/b.png"]);
        let map = "<urlset><url><loc>http://127.0.0.1:8080/hidden</loc></url></urlset>";
        assert_eq!(learned("/sitemap.xml", "application/xml", map), ["/hidden"]);
        assert_eq!(
            learned("/robots.txt", "text/plain", "User-agent: *\nDisallow: /secret/*\n"),
            ["/secret/"]
        );
    }

    #[test]
    fn forms_say_where_they_lead() {
        let html = r#"<FORM method=post action="/login?x=1"></form><form ></form><form action=/runs>"#;
        assert_eq!(forms(html, "/here", ORIGIN), ["/login", "/here", "/runs"]);
    }

    #[test]
    fn torn_pages_are_read_as_far_as_they_go() {
        for torn in ["<form", "<a href", "<a href=", "<a href=\"", "`/${", "href=\u{e9}'", "<form action='"] {
            learned("/", "text/html", torn);
            forms(torn, "/", ORIGIN);
        }
    }
}
