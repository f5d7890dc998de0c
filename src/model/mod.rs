//! Signalbox's words as plain values: no I/O, no async, no framework.

pub mod activity;
pub mod agent;
pub mod bell;
pub mod device;
pub mod event;
pub mod filter;
pub mod found;
pub mod metered;
pub mod page;
pub mod piece;
pub mod price;
pub mod run;
pub mod search;
pub mod seek;
pub mod span;
pub mod stop;
pub mod stuck;
pub mod text;
pub mod trace;
pub mod user;
pub mod wish;
pub mod work;
pub mod worker;

/// An enum whose variants are words, the same in code, database, URL and page.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in the order of its life.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that the database, the URL and the page use.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::model::UnknownWord;
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    other => Err(crate::model::UnknownWord { what: stringify!($name), word: other.to_owned() }),
                }
            }
        }
    };
}
pub(crate) use words;

/// A word that none of the values goes by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what}")]
pub struct UnknownWord {
    /// The type that was asked for.
    pub what: &'static str,
    /// What came instead.
    pub word: String,
}
