//! Reads an answer of the model API while it passes: in any pieces, with bounded memory, whatever comes.

use super::usage::Record;

/// The longest line of a stream that is read. Those that say something of tokens have some hundred bytes.
const LINE_MAX: usize = 64 << 10;

/// The largest answer that is read when it doesn't come as a stream.
const WHOLE_MAX: usize = 1 << 20;

/// The events that say something of tokens.
const TELLING: [&[u8]; 3] = [b"message_start", b"message_delta", b"message_stop"];

/// Reads one answer.
#[derive(Debug)]
pub(super) enum Reader {
    /// Server-sent events.
    Stream(Lines),
    /// One JSON value: what has come of it, none when it is too large.
    Whole(Option<Vec<u8>>),
    /// Something else.
    Unreadable,
}

/// The lines of a stream of server-sent events (HTML standard, "Server-sent events"), as the model API writes them: each event
/// has its name first and its data on one line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// The line is longer than is kept.
    cut: bool,
    /// The event's name says that it doesn't matter.
    passes: bool,
    /// A line that mattered couldn't be read.
    lost: bool,
}

impl Reader {
    /// For an answer of this type; `encoded` when its bytes are not its text.
    pub(super) fn new(content_type: &str, encoded: bool) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*kind {
            _ if encoded => Self::Unreadable,
            "text/event-stream" => Self::Stream(Lines::default()),
            "application/json" => Self::Whole(Some(Vec::new())),
            _ => Self::Unreadable,
        }
    }

    /// Takes the next piece in; gives the records that it completes.
    pub(super) fn take(&mut self, piece: &[u8], hear: &mut impl FnMut(Record)) {
        match self {
            Self::Stream(lines) => lines.take(piece, hear),
            Self::Whole(kept) => match kept {
                Some(bytes) if bytes.len() + piece.len() <= WHOLE_MAX => bytes.extend_from_slice(piece),
                _ => *kept = None,
            },
            Self::Unreadable => {}
        }
    }

    /// The answer is over, or breaks off here.
    pub(super) fn end(&mut self, hear: &mut impl FnMut(Record)) {
        if let Self::Whole(Some(bytes)) = self
            && let Ok(record) = serde_json::from_slice(bytes)
        {
            hear(record);
        }
    }

    /// Whether something that mattered couldn't be read.
    pub(super) fn has_lost(&self) -> bool {
        match self {
            Self::Stream(lines) => lines.lost,
            Self::Whole(kept) => kept.is_none(),
            Self::Unreadable => true,
        }
    }
}

impl Lines {
    fn take(&mut self, piece: &[u8], hear: &mut impl FnMut(Record)) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE_MAX - self.line.len();
            self.cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line(hear);
                self.line.clear();
                self.cut = false;
            }
        }
    }

    fn end_line(&mut self, hear: &mut impl FnMut(Record)) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if line.is_empty() {
            self.passes = false;
        } else if let Some(name) = line.strip_prefix(b"event:") {
            self.passes = !TELLING.contains(&name.trim_ascii());
        } else if let Some(data) = line.strip_prefix(b"data:").filter(|_| !self.passes) {
            match serde_json::from_slice(data) {
                Ok(record) if !self.cut => hear(record),
                _ => self.lost = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::usage::Said;
    use super::*;
    use crate::model::metered::Tokens;

    const STREAM: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"id":"m","model":"claude-opus-5-5","content":[],"usage":{"input_tokens":3,"#,
        r#""cache_creation_input_tokens":50,"cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},"#,
        r#""cache_read_input_tokens":7,"output_tokens":1,"service_tier":"standard"}}}"#,
        "\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n",
        ": a comment\r\n\r\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"usage\":{\"output_tokens\":999}}\n\n",
        "event: message_delta\r\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":11}}"#,
        "\r\n\r\nevent: message_delta\n",
        r#"data: {"type":"message_delta","usage":{"input_tokens":3,"cache_creation_input_tokens":50,"output_tokens":40}}"#,
        "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    const ALL: Tokens = Tokens { input: 3, cache_write: 20, cache_write_1h: 30, cache_read: 7, output: 40 };

    fn read(content_type: &str, pieces: &[&[u8]]) -> (Said, Reader) {
        let (mut said, mut reader) = (Said::default(), Reader::new(content_type, false));
        for piece in pieces {
            reader.take(piece, &mut |record| said.hear(record));
        }
        reader.end(&mut |record| said.hear(record));
        (said, reader)
    }

    fn stream(pieces: &[&[u8]]) -> (Said, Reader) {
        read("text/event-stream; charset=utf-8", pieces)
    }

    #[test]
    fn a_stream_says_the_same_wherever_it_is_split() {
        let bytes = STREAM.as_bytes();
        for at in 0..=bytes.len() {
            let (said, reader) = stream(&[&bytes[..at], &bytes[at..]]);
            assert_eq!((said.tokens, said.model.as_deref()), (Some(ALL), Some("claude-opus-5-5")), "{at}");
            assert!(said.is_whole() && !reader.has_lost() && !said.special && !said.searched, "{at}");
        }
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(stream(&bytewise).0.tokens, Some(ALL));
    }

    #[test]
    fn one_that_breaks_off_has_said_what_it_had_said() {
        let bytes = STREAM.as_bytes();
        let last = STREAM.rfind("event: message_stop").unwrap();
        for at in 0..last {
            let (said, _) = stream(&[&bytes[..at]]);
            assert!(!said.is_whole(), "{at}");
        }
        let at = STREAM.find("event: ping").unwrap();
        let begun = stream(&[&bytes[..at]]).0.tokens.unwrap();
        assert_eq!((begun.prompt(), begun.output), (60, 1));
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let (mut said, mut reader) = (Said::default(), Reader::new("text/event-stream", false));
        let mut hear = |record| said.hear(record);
        reader.take(b"event: content_block_delta\ndata: ", &mut hear);
        for _ in 0..1000 {
            reader.take(&[b'x'; 4096], &mut hear);
        }
        let Reader::Stream(lines) = &reader else { panic!("{reader:?}") };
        assert!(lines.line.capacity() <= 2 * LINE_MAX, "{}", lines.line.capacity());
        reader.take(b"\n\n", &mut hear);
        reader.take(STREAM.as_bytes(), &mut hear);
        assert!(!reader.has_lost(), "it was none that matters");
        assert!(said.is_whole());
    }

    #[test]
    fn a_long_line_that_matters_is_missed_and_known_to_be() {
        let long = STREAM.replacen("\"id\":\"m\"", &format!("\"id\":\"{}\"", "m".repeat(LINE_MAX)), 1);
        let (said, reader) = stream(&[long.as_bytes()]);
        assert!(reader.has_lost() && said.model.is_none());
        assert_eq!(said.tokens.unwrap().output, 40, "the rest is read");
    }

    #[test]
    fn garbage_is_no_number() {
        for garbage in [
            "\0\u{1}\n\n\n::\ndata\ndata:\nevent:\n",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":-1}}}\n\n",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1.5}}}\n\n",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":7}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":\"9\"}}\n\n",
            "data: [[[[[[\n\n",
        ] {
            let (said, reader) = stream(&[garbage.as_bytes()]);
            assert!(reader.has_lost() && said.tokens.is_none(), "{garbage}: {said:?}");
        }
        let deep = format!("event: message_delta\ndata: {}\n\n", "[".repeat(LINE_MAX / 2));
        assert!(stream(&[deep.as_bytes()]).1.has_lost());
        let huge = r#"{"type":"message","model":"m","usage":{"input_tokens":1,"output_tokens":18446744073709551615}}"#;
        let (said, _) = read("application/json", &[huge.as_bytes()]);
        assert!(said.unbelievable && said.tokens.is_none());
    }

    #[test]
    fn a_whole_message_is_read_at_its_end() {
        let message =
            br#"{"type":"message","model":"claude-haiku-4-5","content":[{"type":"text","text":"hi"}],
            "usage":{"input_tokens":5,"cache_creation_input_tokens":2,"output_tokens":4}}"#;
        let (said, reader) = read("application/json", &[&message[..20], &message[20..]]);
        assert!(said.is_whole() && !reader.has_lost());
        let tokens = Tokens { input: 5, cache_write: 2, output: 4, ..Tokens::default() };
        assert_eq!(said.tokens, Some(tokens), "what isn't split is kept for five minutes");
        assert!(!read("application/json", &[&message[..20]]).0.is_whole());
        let (said, reader) = read("application/json", &[&[b' '; WHOLE_MAX], message]);
        assert!(!said.is_whole() && reader.has_lost());
    }

    #[test]
    fn what_is_billed_otherwise_is_known_to_be() {
        let special = |more: &str| {
            let usage = format!("\"input_tokens\":1,\"output_tokens\":1,{more}");
            let text = format!("{{\"type\":\"message\",\"model\":\"m\",\"usage\":{{{usage}}}}}");
            let said = read("application/json", &[text.as_bytes()]).0;
            assert!(said.is_whole(), "{text}");
            (said.special, said.searched)
        };
        assert_eq!(special(r#""service_tier":"standard","speed":null,"inference_geo":"""#), (false, false));
        assert_eq!(special(r#""service_tier":"priority""#), (true, false));
        assert_eq!(special(r#""speed":"fast""#), (true, false));
        assert_eq!(special(r#""inference_geo":"us""#), (true, false));
        assert_eq!(special(r#""server_tool_use":{"web_search_requests":2}"#), (false, true));
        assert_eq!(special(r#""server_tool_use":{"web_search_requests":0}"#), (false, false));
    }

    #[test]
    fn bytes_that_are_not_its_text_are_not_read() {
        assert!(Reader::new("text/event-stream", true).has_lost());
        assert!(Reader::new("text/html", false).has_lost());
        assert!(!Reader::new("Application/JSON ; x=y", false).has_lost());
    }
}
