//! What somebody searches for: words, "several in a row", one or another, -none of these.

/// A search, as it was typed and as Postgres takes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Search {
    typed: String,
    terms: String,
}

/// Why nothing can be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// More than a line.
    #[error("What is searched for is {0} characters long; {max} is the most.", max = Search::MAX)]
    TooLong(usize),
    /// No word.
    #[error("There is no word in {0:?} to search for: type some letters or digits.")]
    NoWord(String),
}

impl Search {
    /// The longest, in characters.
    pub const MAX: usize = 200;

    /// Reads what was typed; nothing typed is no search.
    ///
    /// # Errors
    /// Why it is none, in a person's words.
    pub fn parse(typed: &str) -> Result<Option<Self>, SearchError> {
        let typed = typed.trim();
        match typed.chars().count() {
            0 => return Ok(None),
            1..=Self::MAX => {}
            n => return Err(SearchError::TooLong(n)),
        }
        let terms = terms(typed);
        let is_word =
            |term: &str| term.contains(char::is_alphanumeric) && !term.starts_with('-') && term != "or";
        if !terms.split(' ').any(is_word) {
            return Err(SearchError::NoWord(typed.to_owned()));
        }
        Ok(Some(Self { typed: typed.to_owned(), terms }))
    }

    /// As it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// For `websearch_to_tsquery`.
    pub fn terms(&self) -> &str {
        &self.terms
    }
}

/// Signs part words, as migration 0019 parts them where they are kept; but quotes, and a minus in front of a word.
fn terms(typed: &str) -> String {
    let mut out = String::with_capacity(typed.len());
    let mut rest = typed.chars().peekable();
    let mut before = ' ';
    while let Some(c) = rest.next() {
        let begins = before.is_whitespace();
        let minus =
            c == '-' && begins && rest.peek().is_some_and(|next| *next == '"' || next.is_alphanumeric());
        let kept = minus || c == '"' || !(c.is_ascii_punctuation() || c.is_whitespace() || c.is_control());
        out.push(if kept { c } else { ' ' });
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms_of(typed: &str) -> String {
        Search::parse(typed).unwrap().unwrap().terms().to_owned()
    }

    #[test]
    fn words_are_parted_as_they_are_kept() {
        assert_eq!(terms_of(" src/web/runs.rs "), "src web runs rs");
        assert_eq!(
            terms_of("foo_bar-baz -flaky \"a.b c\" -\"x y\""),
            "foo bar baz -flaky \"a b c\" -\"x y\""
        );
        assert_eq!(terms_of("a\0b - 5 Ünï"), "a b   5 Ünï");
    }

    #[test]
    fn what_holds_no_word_is_no_search() {
        assert_eq!(Search::parse("  "), Ok(None));
        for typed in ["!!!", "-", "\"\"", "-flaky", "or"] {
            assert_eq!(Search::parse(typed), Err(SearchError::NoWord(typed.into())), "{typed}");
        }
        assert_eq!(Search::parse(&"é".repeat(201)), Err(SearchError::TooLong(201)));
        assert!(Search::parse(&"é".repeat(200)).unwrap().is_some());
    }
}
