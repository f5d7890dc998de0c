//! Makes text from agents inert: what can't be seen becomes visible, what steers a terminal or the reading
//! direction loses its power. Escaping for HTML is the templates' part.

use std::fmt::Write as _;

/// Text that can be shown: no ANSI sequences, no control characters but newline and tab, nothing that turns the
/// reading direction or hides letters (the attack of CVE-2021-42574).
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            '\u{1b}' => skip_ansi(&mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            '\u{0}'..='\u{1f}' => out.extend(char::from_u32(0x2400 + c as u32)),
            '\u{7f}' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => out.push('\u{fffd}'),
            '\u{2028}' | '\u{2029}' => out.push('\n'),
            c if is_deceptive(c) => {
                // Writing to a String can't fail.
                let _ = write!(out, "⟨U+{:04X}⟩", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// [`inert`], on one line.
pub fn inert_line(text: &str) -> String {
    inert(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first `max` characters of a text, with a mark when there was more.
pub fn head(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The longest prefix of at most `max` bytes that ends between two characters.
pub fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Bidirectional controls, invisible spaces and joiners that change no glyph, and the tag characters.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Skips what follows an ESC (ECMA-48, section 5): a control sequence, a string up to its end, or one character
/// after any intermediates.
fn skip_ansi(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_csi(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                match c {
                    '\u{7}' | '\u{9c}' => break,
                    '\u{1b}' => {
                        chars.next_if_eq(&'\\');
                        break;
                    }
                    _ => {}
                }
            }
        }
        _ => {
            while chars.next_if(|c| (' '..='/').contains(c)).is_some() {}
            chars.next_if(|c| ('0'..='~').contains(c));
        }
    }
}

/// Skips parameters and intermediates of a control sequence, and its final character.
fn skip_csi(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
    chars.next_if(|c| ('@'..='~').contains(c));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ansi_goes() {
        assert_eq!(inert("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(inert("\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\y"), "xy");
        assert_eq!(inert("a\u{1b}(Bb\u{9b}2Jc\u{1b}"), "abc");
    }

    #[test]
    fn what_hides_is_shown() {
        assert_eq!(inert("a\0b\u{8}c"), "a␀b␈c");
        assert_eq!(inert("x\u{202e}y\u{2066}"), "x⟨U+202E⟩y⟨U+2066⟩");
        assert_eq!(inert("\u{e0041}"), "⟨U+E0041⟩");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(inert("a\r\nb\rc\u{2028}d"), "a\nb\nc\nd");
        assert_eq!(inert_line(" a\n\n b "), "a b");
    }

    #[test]
    fn cuts_fall_between_characters() {
        assert_eq!(prefix("aé", 2), "a");
        assert_eq!(head("éé", 1), "é…");
        assert_eq!(head("éé", 2), "éé");
    }
}
