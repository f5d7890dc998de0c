//! Code with a little colour: comments, strings, numbers, and the words that a language keeps for itself. What reads it knows no
//! grammar: it loads nothing, and its time grows with the text and nothing else.

use std::collections::HashSet;
use std::sync::LazyLock;

/// How a language writes what is told apart.
#[derive(Debug)]
pub(crate) struct Language {
    /// By what it is known: as a name beside code, and at the end of a file's.
    names: &'static [&'static str],
    /// What begins a comment that ends with its line.
    comment: &'static str,
    /// What begins and ends a comment or a string of many lines.
    long: &'static [(&'static str, &'static str, Kind)],
    /// What begins and ends a string within a line.
    quotes: &'static str,
    /// Laid out when one is first looked for.
    words: LazyLock<HashSet<&'static str>>,
}

fn words(words: &'static str) -> HashSet<&'static str> {
    words.split(' ').collect()
}

/// What a part of code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Word,
    Text,
    Number,
    Comment,
}

impl Kind {
    /// The element that it is put in. None has attributes: what cleans markup lets none through.
    pub(crate) fn element(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Word => Some("b"),
            Self::Text => Some("samp"),
            Self::Number => Some("var"),
            Self::Comment => Some("i"),
        }
    }
}

const C_COMMENT: (&str, &str, Kind) = ("/*", "*/", Kind::Comment);
const BACKTICK: (&str, &str, Kind) = ("`", "`", Kind::Text);

static LANGUAGES: [Language; 9] = [
    Language {
        names: &["rust", "rs"],
        comment: "//",
        long: &[C_COMMENT],
        // A single one begins lifetimes too.
        quotes: "\"",
        words: LazyLock::new(|| {
            words(
                "Self as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self static struct super trait true type unsafe use where while",
            )
        }),
    },
    Language {
        names: &["javascript", "js", "mjs", "cjs", "jsx", "typescript", "ts", "mts", "tsx"],
        comment: "//",
        long: &[C_COMMENT, BACKTICK],
        quotes: "\"'",
        words: LazyLock::new(|| {
            words(
                "abstract as async await break case catch class const continue declare default delete do else enum export extends false finally for from function if implements import in instanceof interface let new null of private protected public readonly return static super switch this throw true try type typeof undefined var void while yield",
            )
        }),
    },
    Language {
        names: &["python", "py", "pyi"],
        comment: "#",
        long: &[("\"\"\"", "\"\"\"", Kind::Text), ("'''", "'''", Kind::Text)],
        quotes: "\"'",
        words: LazyLock::new(|| {
            words(
                "False None True and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return self try while with yield",
            )
        }),
    },
    Language {
        names: &["go"],
        comment: "//",
        long: &[C_COMMENT, BACKTICK],
        quotes: "\"'",
        words: LazyLock::new(|| {
            words(
                "any bool break byte case chan const continue default defer else error fallthrough false for func go goto if import int interface iota map nil package range return select string struct switch true type var",
            )
        }),
    },
    Language {
        names: &[
            "c", "h", "cpp", "cc", "hpp", "c++", "java", "kotlin", "kt", "swift", "cs", "csharp", "scala",
            "php", "dart", "zig", "proto",
        ],
        comment: "//",
        long: &[C_COMMENT],
        quotes: "\"'",
        words: LazyLock::new(|| {
            words(
                "abstract auto bool break case catch char class const constexpr continue default delete do double else enum explicit export extends extern false final finally float for foreach fun func function goto guard if implements import in inline int interface internal let long namespace new nil null nullptr object operator override package private protected public return short signed sizeof static struct super switch template this throw throws true try typedef typename union unsigned using val var virtual void volatile when while",
            )
        }),
    },
    Language {
        names: &[
            "bash",
            "sh",
            "shell",
            "zsh",
            "console",
            "dockerfile",
            "makefile",
            "ruby",
            "rb",
            "perl",
            "pl",
        ],
        comment: "#",
        long: &[],
        quotes: "\"'",
        words: LazyLock::new(|| {
            words(
                "begin break case class continue def do done elif else elsif end ensure esac eval exec exit export false fi for function if in local module my nil readonly require rescue return self set shift source sub then trap true unless unset until use when while yield",
            )
        }),
    },
    Language {
        names: &["sql", "psql"],
        comment: "--",
        long: &[C_COMMENT, ("$$", "$$", Kind::Text)],
        quotes: "'",
        words: LazyLock::new(|| {
            words(
                "ADD ALL ALTER AND AS ASC BEGIN BETWEEN BY CASCADE CASE CHECK COLUMN COMMIT CONSTRAINT CREATE CROSS DEFAULT DELETE DESC DISTINCT DROP ELSE END EXISTS FALSE FOREIGN FROM FULL FUNCTION GRANT GROUP HAVING IF IN INDEX INNER INSERT INTO IS JOIN KEY LANGUAGE LATERAL LEFT LIKE LIMIT NOT NULL OFFSET ON OR ORDER OUTER PRIMARY REFERENCES REPLACE RETURNING RETURNS RIGHT ROLLBACK SELECT SET TABLE THEN TRIGGER TRUE UNION UNIQUE UPDATE USING VALUES VIEW WHEN WHERE WITH add all alter and as asc begin between by cascade case check column commit constraint create cross default delete desc distinct drop else end exists false foreign from full function grant group having if in index inner insert into is join key language lateral left like limit not null offset on or order outer primary references replace returning returns right rollback select set table then trigger true union unique update using values view when where with",
            )
        }),
    },
    Language {
        names: &["json", "jsonc", "json5", "css", "scss"],
        comment: "//",
        long: &[C_COMMENT],
        quotes: "\"'",
        words: LazyLock::new(|| words("false null true")),
    },
    Language {
        names: &["yaml", "yml", "toml", "ini", "conf", "env"],
        comment: "#",
        long: &[],
        quotes: "\"'",
        words: LazyLock::new(|| words("false no null off on true yes")),
    },
];

/// The language that is called so.
pub(crate) fn named(name: &str) -> Option<&'static Language> {
    let name = name.to_ascii_lowercase();
    LANGUAGES.iter().find(|language| language.names.contains(&name.as_str()))
}

/// The language of a file, by the end of its name.
pub(crate) fn of_file(path: &str) -> Option<&'static Language> {
    let file = path.rsplit('/').next()?;
    named(file.rsplit('.').next()?)
}

/// Code in parts, each of one kind: all of it is plain where it has no language.
pub(crate) fn parts<'a>(language: &Option<&Language>, code: &'a str) -> Vec<(Kind, &'a str)> {
    let Some(language) = language else { return vec![(Kind::Plain, code)] };
    let mut parts = Vec::new();
    // Where what is plain began.
    let (mut plain, mut at, mut before) = (0, 0, '\n');
    while at < code.len() {
        let (len, kind) = language.next(&code[at..], before);
        if kind != Kind::Plain {
            if plain < at {
                parts.push((Kind::Plain, &code[plain..at]));
            }
            plain = at + len;
            parts.push((kind, &code[at..plain]));
        }
        before = code[at..at + len].chars().next_back().unwrap_or(before);
        at += len;
    }
    if plain < at {
        parts.push((Kind::Plain, &code[plain..]));
    }
    parts
}

impl Language {
    /// How long what comes next is, and what. Never nothing.
    fn next(&self, rest: &str, before: char) -> (usize, Kind) {
        // In a shell it stands within words too.
        let may_comment = self.comment != "#" || before.is_whitespace();
        if may_comment && rest.starts_with(self.comment) {
            return (rest.find('\n').unwrap_or(rest.len()), Kind::Comment);
        }
        for (open, close, kind) in self.long {
            if let Some(inner) = rest.strip_prefix(open) {
                let end = inner.find(close).map_or(inner.len(), |end| end + close.len());
                return (open.len() + end, *kind);
            }
        }
        let Some(first) = rest.chars().next() else { return (0, Kind::Plain) };
        if self.quotes.contains(first) {
            return (string(rest, first), Kind::Text);
        }
        if rest.starts_with("'\"'") {
            return (3, Kind::Text);
        }
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        match &rest[..word] {
            "" => (first.len_utf8(), Kind::Plain),
            word if first.is_ascii_digit() => (word.len(), Kind::Number),
            word if self.words.contains(word) => (word.len(), Kind::Word),
            word => (word.len(), Kind::Plain),
        }
    }
}

/// Where a string ends: with its line at the latest.
fn string(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tint(name: &str, code: &str) -> String {
        let written = |(kind, part): (Kind, &str)| match kind.element() {
            Some(element) => format!("<{element}>{part}</{element}>"),
            None => part.to_owned(),
        };
        parts(&named(name), code).into_iter().map(written).collect()
    }

    #[test]
    fn words_strings_numbers_and_comments_are_told_apart() {
        assert_eq!(
            tint("rust", "let a: &'a str = \"b\\\"c\"; // 1\nletter(0x1f, '\"')"),
            "<b>let</b> a: &'a str = <samp>\"b\\\"c\"</samp>; <i>// 1</i>\nletter(<var>0x1f</var>, <samp>'\"'</samp>)"
        );
        assert_eq!(
            tint("py", "def f(): # x\n  '''a\nb'''"),
            "<b>def</b> f(): <i># x</i>\n  <samp>'''a\nb'''</samp>"
        );
        assert_eq!(tint("sh", "echo $# \"a\nb\" # c"), "echo $# <samp>\"a</samp>\nb<samp>\" # c</samp>");
        assert_eq!(tint("sql", "SELECT 1 -- a"), "<b>SELECT</b> <var>1</var> <i>-- a</i>");
        assert_eq!(tint("ts", "`a\n${b}` /* c"), "<samp>`a\n${b}`</samp> <i>/* c</i>");
        assert_eq!(tint("unheard-of", "let <a>"), "let <a>");
    }

    #[test]
    fn a_file_is_known_by_its_end() {
        for (path, known) in
            [("/w/src/a.RS", true), ("Makefile", true), ("a.rs/b", false), ("", false), ("a.", false)]
        {
            assert_eq!(of_file(path).is_some(), known, "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(code in "([a-z0-9 \n\"'`#<>&/*$é\\\\-]|let|\"\"\"|//|/\\*){0,80}", n in 0..LANGUAGES.len()) {
            let parts = parts(&LANGUAGES.get(n), &code);
            prop_assert!(parts.iter().all(|(_, part)| !part.is_empty()), "{:?}", parts);
            prop_assert_eq!(parts.into_iter().map(|(_, part)| part).collect::<String>(), code);
        }
    }
}
