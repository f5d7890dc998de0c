//! The device that a wish came from, in a few words, from what its browser says of itself. It is a hint for a person who
//! reads the audit, never a proof: anybody can say anything.

use super::text;

/// The longest phrase, in characters.
pub const DEVICE_MAX: usize = 80;

/// What it runs on: the word that gives it away, and what we call it. The first that fits counts; an iPad says
/// "Macintosh" too, and an Android says "Linux".
const SYSTEMS: &[(&str, &str)] = &[
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "Chromebook"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
    ("FreeBSD", "FreeBSD"),
    ("OpenBSD", "OpenBSD"),
];

/// The browser, by the same rule: Edge says "Chrome" too, and Chrome says "Safari".
const BROWSERS: &[(&str, &str)] = &[
    ("SamsungBrowser/", "Samsung Internet"),
    ("EdgiOS/", "Edge"),
    ("EdgA/", "Edge"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "headless Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Programs that aren't browsers and say so first.
const PROGRAMS: &[&str] = &["curl", "Wget", "HTTPie", "python-requests", "Python-urllib", "Go-http-client"];

/// The phrase for a `User-Agent`: "iPhone, Safari", "curl"; none when it says nothing. What isn't known is shortened and
/// made inert.
pub fn device(user_agent: &str) -> Option<String> {
    // Longer ones are no browser's; looking through a kilobyte is enough.
    let said = text::prefix(user_agent, 1024);
    let system = SYSTEMS.iter().find(|(word, _)| said.contains(word)).map(|(_, name)| *name);
    let browser = BROWSERS.iter().find(|(word, _)| said.contains(word)).map(|(_, name)| *name);
    let program = PROGRAMS
        .iter()
        .copied()
        .find(|name| said.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    match (program, system, browser) {
        (Some(program), _, _) => Some(program.to_owned()),
        (None, Some(system), Some(browser)) => Some(format!("{system}, {browser}")),
        _ => Some(text::head(&text::inert_line(said), DEVICE_MAX - 1)).filter(|said| !said.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(user_agent: &str) -> String {
        device(user_agent).unwrap_or_default()
    }

    #[test]
    fn devices_have_short_names() {
        let webkit = "AppleWebKit/605.1.15 (KHTML, like Gecko)";
        for (user_agent, phrase) in [
            (
                format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {webkit} Version/18.1 Mobile/15E148 Safari/604.1"
                ),
                "iPhone, Safari",
            ),
            (
                format!("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1) {webkit} CriOS/131.0 Safari/604.1"),
                "iPhone, Chrome",
            ),
            (format!("Mozilla/5.0 (iPad; CPU OS 18_1) {webkit} FxiOS/131.0 Safari/604.1"), "iPad, Firefox"),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 15; Pixel 9) {webkit} Chrome/131.0 Mobile Safari/537.36"
                ),
                "Android, Chrome",
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 15) {webkit} SamsungBrowser/27.0 Chrome/125.0 Safari/537.36"
                ),
                "Android, Samsung Internet",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0".to_owned(),
                "Linux, Firefox",
            ),
            (
                format!(
                    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/131.0 Safari/537.36 Edg/131.0"
                ),
                "Windows, Edge",
            ),
            (
                format!(
                    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {webkit} Version/18.1 Safari/605.1.15"
                ),
                "Mac, Safari",
            ),
            (
                format!("Mozilla/5.0 (X11; Linux x86_64) {webkit} HeadlessChrome/131.0 Safari/537.36"),
                "Linux, headless Chrome",
            ),
            ("curl/8.11.0".to_owned(), "curl"),
            ("Wget/1.25 (linux-gnu)".to_owned(), "Wget"),
            ("curly".to_owned(), "curly"),
        ] {
            assert_eq!(said(&user_agent), phrase, "{user_agent}");
        }
    }

    #[test]
    fn what_is_hostile_is_short_and_inert() {
        for user_agent in ["", " \t ", "\u{b}\u{c}"] {
            let phrase = said(user_agent);
            assert!(phrase.is_empty() || phrase == "␋␌", "{phrase:?}");
        }
        assert_eq!(said("\u{1b}[31mred\u{1b}[0m\r\n\u{202e}x"), "red ⟨U+202E⟩x");
        assert_eq!(said("<script>alert(1)</script>"), "<script>alert(1)</script>", "the page escapes it");
        for hostile in ["w".repeat(100_000), "é\u{202e}".repeat(5_000), "\0".repeat(2_000)] {
            let phrase = said(&hostile);
            assert!(phrase.chars().count() <= DEVICE_MAX, "{phrase}");
            assert!(!phrase.contains(['\0', '\n', '\u{202e}']), "{phrase}");
        }
        let late = format!("{}iPhone Safari/", "x".repeat(5_000));
        assert!(said(&late).ends_with('…'), "what comes after a kilobyte isn't read");
    }
}
