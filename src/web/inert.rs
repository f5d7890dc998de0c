//! What every `{{ … }}` of every template goes through: text is made inert, then escaped for HTML. A page can't
//! forget it, since askama.toml names it for all of them.

use std::fmt::{self, Write};

use askama::filters::{Escaper, Html};

use crate::model::text;

/// The escaper of all templates.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Inert;

impl Escaper for Inert {
    fn write_escaped_str<W: Write>(&self, dest: W, string: &str) -> fmt::Result {
        // Most of a page is plain and short; it needs no copy to be made of it.
        let plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
        // Not `all`, which has a way out after each byte and so can't look at many at once.
        if string.bytes().fold(true, |so_far, byte| so_far & plain(byte)) {
            return Html.write_escaped_str(dest, string);
        }
        Html.write_escaped_str(dest, &text::inert(string))
    }
}

/// The escaper of what a person has typed, for a form that comes back to them: their own words unchanged, marks of
/// reading direction included, but no control characters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AsTyped;

impl Escaper for AsTyped {
    fn write_escaped_str<W: Write>(&self, dest: W, string: &str) -> fmt::Result {
        let shown = |c: char| match c {
            '\n' | '\r' | '\t' => c,
            '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
            '\u{7f}'..='\u{9f}' => '\u{fffd}',
            c => c,
        };
        Html.write_escaped_str(dest, &string.chars().map(shown).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_can_act() {
        let mut out = String::new();
        Inert.write_escaped_str(&mut out, "<b>\u{1b}[31m&\0\u{202e}").unwrap();
        assert_eq!(out, "&#60;b&#62;&#38;␀⟨U+202E⟩");
    }

    #[test]
    fn what_was_typed_comes_back() {
        let mut out = String::new();
        AsTyped.write_escaped_str(&mut out, "a\r\n\u{200f}ש </textarea>\0").unwrap();
        assert_eq!(out, "a\r\n\u{200f}ש &#60;/textarea&#62;␀");
    }
}
