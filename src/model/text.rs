//! Makes text from agents inert: what can't be seen becomes visible, what steers a terminal or the reading
//! direction loses its power. Escaping for HTML is the templates' part.

use std::fmt::Write as _;

/// Text that can be shown: no control characters but newline and tab, nothing that turns the reading direction or
/// hides letters (the attack of CVE-2021-42574). Colours and movements of a cursor go; of any other ANSI sequence only
/// the ESC loses its power, since what such a sequence holds may be part of a command.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {
                if !rest.starts_with('\n') {
                    out.push('\n');
                }
            }
            '\u{1b}' | '\u{9b}' if let Some(after) = after_ansi(c, rest) => rest = after,
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

/// Bidirectional controls, fillers, invisible spaces and joiners that change no glyph, the tag characters and the
/// variation selectors that only rare ideographs have.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'
        | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

/// The longest parameters of a control sequence that goes, in bytes; a colour has 16 or so.
const PARAMETERS_MAX: usize = 32;

/// What follows a sequence that holds nothing but how to show things, begun by ESC or by the CSI of eight bits.
fn after_ansi(begun_by: char, rest: &str) -> Option<&str> {
    // The choice of a character set ends most programs' bold text.
    let charset = || rest.strip_prefix("(B").or_else(|| rest.strip_prefix("(0"));
    let csi = if begun_by == '\u{9b}' { Some(rest) } else { rest.strip_prefix('[') };
    csi.map_or_else(charset, after_csi)
}

/// What follows a control sequence (ECMA-48, section 5.4): parameters, intermediates, one final character.
fn after_csi(rest: &str) -> Option<&str> {
    let end = rest.trim_start_matches(|c| ('0'..='?').contains(&c));
    let end = end.trim_start_matches(|c| (' '..='/').contains(&c));
    let after = end.strip_prefix(|c| ('@'..='~').contains(&c))?;
    (rest.len() - end.len() <= PARAMETERS_MAX).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ansi_goes() {
        assert_eq!(inert("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(inert("\u{1b}[38;2;255;100;0mred\u{1b}[?25h"), "red");
        assert_eq!(inert("a\u{1b}(Bb\u{9b}2Jc"), "abc");
    }

    #[test]
    fn no_sequence_hides_words() {
        assert_eq!(inert("a \u{1b}]0; rm -rf ~"), "a ␛]0; rm -rf ~");
        assert_eq!(inert("\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\y"), "␛]0;title␇x␛]8;;http://a␛\\y");
        assert_eq!(inert("\u{1b}Px\u{1b}_y\u{1b}"), "␛Px␛_y␛");
        assert_eq!(inert("a\u{1b}|b\u{9b}é"), "a␛|b\u{fffd}é");
        let long = format!("\u{1b}[{}m", "1;".repeat(40));
        assert_eq!(inert(&long), long.replace('\u{1b}', "␛"));
    }

    #[test]
    fn what_hides_is_shown() {
        assert_eq!(inert("a\0b\u{8}c"), "a␀b␈c");
        assert_eq!(inert("x\u{202e}y\u{2066}"), "x⟨U+202E⟩y⟨U+2066⟩");
        assert_eq!(inert("\u{e0041}"), "⟨U+E0041⟩");
        assert_eq!(inert("a\u{ad}\u{3164}\u{e0101}"), "a⟨U+00AD⟩⟨U+3164⟩⟨U+E0101⟩");
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
