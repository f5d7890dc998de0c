//! Names and roles of people.

use super::words;

words! {
    /// What a person may do.
    Role {
        /// Sees and does everything.
        Superuser = "superuser",
        /// Sees nothing.
        Plain = "plain",
    }
}

/// A user's name: 1 to 64 characters of `a-z 0-9 . _ -`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName(String);

/// A name that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "A name has 1 to 64 characters: small letters, digits, dot, dash, underscore; the first one a letter or digit."
)]
pub struct BadUserName;

impl UserName {
    /// Checks a name; capitals become small, spaces around it go.
    ///
    /// # Errors
    /// [`BadUserName`] says what a name is made of.
    pub fn parse(name: &str) -> Result<Self, BadUserName> {
        let name = name.trim().to_ascii_lowercase();
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let first = name.bytes().next().ok_or(BadUserName)?;
        let fits = name.len() <= 64 && good(first) && name.bytes().all(|c| good(c) || b"._-".contains(&c));
        fits.then_some(Self(name)).ok_or(BadUserName)
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for UserName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_small_and_plain() {
        assert_eq!(UserName::parse(" Admin ").unwrap().as_str(), "admin");
        for bad in ["", " ", "-x", "a b", "a\0", "ä", "../x", &"x".repeat(65)] {
            assert!(UserName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
