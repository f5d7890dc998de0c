//! A page in pieces: where its template says that it can be cut, it is.
//!
//! `<!--cut NAME-->…<!--/cut-->` goes around an element whose id is NAME. Nothing printed can look like such a mark, since
//! every `<` in it is escaped.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

const CUT: &str = "<!--cut ";
const END: &str = "<!--/cut-->";

/// Elements by their ids. Where one was cut out of another, a `<template>` of its id stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pieces(BTreeMap<String, String>);

/// What is left of a piece when nobody needs its words.
pub(super) type Prints = BTreeMap<String, u64>;

impl Pieces {
    /// Cuts a page; what stands in no piece is dropped.
    pub(super) fn cut(page: &str) -> Self {
        let mut pieces = BTreeMap::new();
        let mut open: Vec<(&str, String)> = Vec::new();
        let mut rest = page;
        while let Some(at) = rest.find("<!--") {
            let (before, mark) = rest.split_at(at);
            if let Some((_, piece)) = open.last_mut() {
                piece.push_str(before);
            }
            let named = mark.strip_prefix(CUT).and_then(|named| named.split_once("-->"));
            rest = match (named, mark.strip_prefix(END)) {
                (Some((name, rest)), _) => {
                    if let Some((_, around)) = open.last_mut() {
                        around.push_str(&format!("<template id=\"{name}\"></template>"));
                    }
                    open.push((name, String::new()));
                    rest
                }
                (None, Some(rest)) => {
                    pieces.extend(open.pop().map(|(name, piece)| (name.to_owned(), piece)));
                    rest
                }
                (None, None) => {
                    if let Some((_, piece)) = open.last_mut() {
                        piece.push('<');
                    }
                    &mark[1..]
                }
            };
        }
        Self(pieces)
    }

    pub(super) fn prints(&self) -> Prints {
        self.0.iter().map(|(name, piece)| (name.clone(), print(piece))).collect()
    }

    /// Those that these are the names of.
    pub(super) fn named<'a>(
        &'a self,
        named: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.0.iter().map(|(name, piece)| (name.as_str(), piece.as_str()));
        all.filter(move |(name, _)| named(name))
    }
}

/// One number for them all.
pub(super) fn version(prints: &Prints) -> u64 {
    print(prints)
}

/// The same on every server of one build.
fn print(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_in_pieces() {
        let page = "<html><!--cut main--><main id=\"main\">a<!--cut run-1--><li id=\"run-1\">b</li><!--/cut-->c<!-- d -->\
                    </main><!--/cut--><p>e</p>";
        let pieces = Pieces::cut(page);
        let all: Vec<_> = pieces.named(|_| true).collect();
        assert_eq!(
            all,
            [
                ("main", "<main id=\"main\">a<template id=\"run-1\"></template>c<!-- d --></main>"),
                ("run-1", "<li id=\"run-1\">b</li>"),
            ]
        );
        assert_ne!(version(&pieces.prints()), version(&Pieces::cut("").prints()));
    }
}
