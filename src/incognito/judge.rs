//! What an answer gives away.

use std::borrow::Cow;

use url::Url;

use super::door::{Answer, Target};
use super::learn;

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It lets a stranger in.
    Open,
    /// It holds a canary (its number, from 1), and where.
    Leak(usize, &'static str),
    /// The server faltered, or didn't answer at all: nobody knows what it would have said.
    Faltered(String),
    /// A public page has a form other than the sign-in.
    StrangeForm(String),
    /// `/healthz` says more than `ok`.
    Talkative,
    /// It sends the visitor to somebody else's server.
    Astray(String),
    /// It came encoded though that wasn't asked for, so that it couldn't be searched.
    Unreadable(String),
}

impl Trouble {
    /// Whether something was seen that only a superuser may see.
    pub fn lets_in(&self) -> bool {
        matches!(self, Self::Open | Self::Leak(..))
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => f.write_str("lets a stranger in"),
            Self::Leak(number, place) => write!(f, "canary no. {number} is in its {place}"),
            Self::Faltered(how) => write!(f, "faltered: {how}"),
            Self::StrangeForm(action) => write!(f, "a form for {action:?} on a public page"),
            Self::Talkative => f.write_str("says more than \"ok\""),
            Self::Astray(to) => write!(f, "sends visitors to {to:?}"),
            Self::Unreadable(encoding) => write!(f, "can't be searched: it came as {encoding:?}"),
        }
    }
}

/// Whether a stranger may have this: the sign-in, static files, the sign of life, the web app's manifest. Only as
/// they are written here; no other spelling of them.
pub fn is_public(path: &str) -> bool {
    let bare = path.split('?').next().unwrap_or(path);
    let plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
    };
    matches!(bare, "/login" | "/healthz" | "/manifest.webmanifest")
        || bare.strip_prefix("/static/").is_some_and(|file| file.split('/').all(plain))
}

/// Whether a stranger may be answered with 2xx here.
fn may_open(method: &str, path: &str) -> bool {
    let reads = matches!(method, "GET" | "HEAD" | "OPTIONS");
    let signs_in = method == "POST" && path.split('?').next() == Some("/login");
    is_public(path) && (reads || signs_in)
}

/// Everything that is wrong with an answer.
pub(super) fn troubles(
    method: &str,
    path: &str,
    answer: &Answer,
    target: &Target,
    canaries: &[String],
) -> Vec<Trouble> {
    let mut found = Vec::new();
    let opens = (200..300).contains(&answer.status) || answer.status == 101;
    if opens && !may_open(method, path) {
        found.push(Trouble::Open);
    }
    if answer.status >= 500 {
        found.push(Trouble::Faltered(format!("status {}", answer.status)));
    }
    let body = String::from_utf8_lossy(&answer.body);
    let headers: String = answer
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    for (number, canary) in (1..).zip(canaries) {
        for (place, text) in [("headers", &headers[..]), ("body", &body)] {
            if holds(text, canary) {
                found.push(Trouble::Leak(number, place));
            }
        }
    }
    if let Some(encoding) = answer.header("content-encoding").filter(|encoding| encoding != "identity")
        && !answer.body.is_empty()
    {
        found.push(Trouble::Unreadable(encoding));
    }
    if opens && method == "GET" && path == "/healthz" && body.trim() != "ok" {
        found.push(Trouble::Talkative);
    }
    if opens && method == "GET" {
        let strange = learn::forms(&body, path, target.origin());
        found.extend(strange.into_iter().filter(|form| form != "/login").map(Trouble::StrangeForm));
    }
    if let Some(to) = elsewhere(answer, target) {
        found.push(Trouble::Astray(to.to_string()));
    }
    found
}

/// Where the front page sends everybody, when that is the same host under another scheme or port.
pub(super) fn moved(front: &Answer, target: &Target) -> Option<String> {
    let location = Url::parse(&front.header("location")?).ok()?;
    let origin = location.origin().ascii_serialization();
    (location.host_str() == Url::parse(target.origin()).ok()?.host_str() && origin != target.origin())
        .then_some(origin)
}

/// Where a redirect leads, when that is another host.
fn elsewhere(answer: &Answer, target: &Target) -> Option<Url> {
    let location = answer.header("location")?;
    // `//host/…` and `/\host/…` are another host to a browser.
    let to = Url::parse(target.origin()).ok()?.join(&location).ok()?;
    let host = to.host_str()?.trim_start_matches('[').trim_end_matches(']');
    (host != target.host()).then_some(to)
}

/// Whether a text holds a canary, plainly or written as HTML, URLs and JSON write it.
fn holds(text: &str, canary: &str) -> bool {
    text.contains(canary)
        || percent_decoded(text).contains(canary)
        || html_decoded(text).contains(canary)
        || json_decoded(text).contains(canary)
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(if first == b'+' { b' ' } else { first }));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn html_decoded(text: &str) -> Cow<'_, str> {
    decoded(text, '&', |tail| {
        let (name, _) = tail.split_at_checked(tail.find(';').filter(|&end| end <= 8)?)?;
        let c = match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            "nbsp" => '\u{a0}',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        };
        Some((c, name.len() + 1))
    })
}

fn json_decoded(text: &str) -> Cow<'_, str> {
    decoded(text, '\\', |tail| {
        Some(match tail.chars().next()? {
            'u' => (char::from_u32(u32::from_str_radix(tail.get(1..5)?, 16).ok()?)?, 5),
            'n' => ('\n', 1),
            't' => ('\t', 1),
            c @ ('"' | '\\' | '/') => (c, 1),
            _ => return None,
        })
    })
}

/// The text with each escape replaced: `read` is given what follows `mark`, and gives the character and its length.
fn decoded(text: &str, mark: char, read: impl Fn(&str) -> Option<(char, usize)>) -> Cow<'_, str> {
    if !text.contains(mark) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(mark) {
        plain.push_str(&rest[..at]);
        let tail = &rest[at + mark.len_utf8()..];
        match read(tail) {
            Some((c, length)) => {
                plain.push(c);
                rest = &tail[length..];
            }
            None => {
                plain.push(mark);
                rest = tail;
            }
        }
    }
    plain.push_str(rest);
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_spellings_are_public() {
        for public in ["/login", "/login?next=/", "/healthz", "/static/v1/app.css", "/manifest.webmanifest"] {
            assert!(is_public(public), "{public}");
        }
        for private in [
            "/",
            "/runs",
            "/login/",
            "/LOGIN",
            "//login",
            "/static/",
            "/static",
            "/static/../runs",
            "/static/%2e%2e/runs",
            "/static//runs",
            "/static/a;b",
            "/login/../runs",
            "/healthz/x",
            "http://h/login",
        ] {
            assert!(!is_public(private), "{private}");
        }
    }

    #[test]
    fn even_public_paths_only_take_what_they_should() {
        assert!(may_open("POST", "/login") && may_open("HEAD", "/static/app.css"));
        assert!(!may_open("PUT", "/static/app.css") && !may_open("POST", "/healthz"));
    }

    #[test]
    fn a_canary_is_found_however_it_is_written() {
        let canary = "tom & \"jerry\" <é>";
        for text in [
            "xx tom & \"jerry\" <é> yy",
            "<p>tom &amp; &quot;jerry&quot; &lt;&#233;&gt;</p>",
            "<p>tom &#x26; &#34;jerry&#34; &#60;é&#62;</p>",
            "location: /login?next=tom%20%26+%22jerry%22%20%3C%C3%A9%3E",
            r#"{"x":"tom \u0026 \"jerry\" <\u00e9>"}"#,
        ] {
            assert!(holds(text, canary), "{text}");
        }
        assert!(!holds("tom & jerry; 100%; \\", canary));
        assert!(!holds("%zz % &; &#; &#xffffffff; \\u12 \\", canary));
    }
}
