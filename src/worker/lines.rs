//! Bytes into lines: whole, in order, bounded in memory; and the same again when read again.

use bytes::Bytes;

/// The longest line kept in memory, so that a `result` with a long answer can still be read.
pub const KEEP_MAX: usize = 16 * 1024 * 1024;

/// A line of output, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLine {
    /// Its bytes, as far as they were kept.
    pub bytes: Vec<u8>,
    /// How many were not.
    pub dropped: usize,
}

/// Cuts one stream into lines. The first `skip` of them are counted, not given: they are stored already.
#[derive(Debug, Default)]
pub struct Splitter {
    bytes: Vec<u8>,
    dropped: usize,
    skip: i64,
}

impl Splitter {
    /// A splitter that leaves out the first `skip` lines.
    pub fn skipping(skip: i64) -> Self {
        Self { skip, ..Self::default() }
    }

    /// Takes a chunk, gives the lines that it completes.
    pub fn feed(&mut self, chunk: &Bytes, mut give: impl FnMut(RawLine)) {
        let mut rest = &chunk[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.keep(&rest[..end]);
            rest = &rest[end + 1..];
            self.finish(&mut give);
        }
        self.keep(rest);
    }

    /// The stream is over: what is left is a line too.
    pub fn end(&mut self, mut give: impl FnMut(RawLine)) {
        if !self.bytes.is_empty() || self.dropped > 0 {
            self.finish(&mut give);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skip > 0 {
            self.dropped += bytes.len();
            return;
        }
        let room = KEEP_MAX - self.bytes.len();
        let kept = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.dropped += bytes.len() - kept;
    }

    fn finish(&mut self, give: &mut impl FnMut(RawLine)) {
        let line =
            RawLine { bytes: std::mem::take(&mut self.bytes), dropped: std::mem::take(&mut self.dropped) };
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            give(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]], skip: i64) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::skipping(skip);
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.feed(&Bytes::copy_from_slice(chunk), |line| out.push(line.bytes));
        }
        splitter.end(|line| out.push(line.bytes));
        out
    }

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        assert_eq!(lines(&[b"a", b"b\n\nc", b"d"], 0), [b"ab".to_vec(), b"".to_vec(), b"cd".to_vec()]);
    }

    #[test]
    fn long_lines_are_bounded_and_say_what_was_dropped() {
        let mut splitter = Splitter::default();
        let big = Bytes::from(vec![b'x'; KEEP_MAX + 5]);
        let mut got = Vec::new();
        splitter.feed(&big, |line| got.push(line));
        splitter.feed(&Bytes::from_static(b"yz\n"), |line| got.push(line));
        assert_eq!((got[0].bytes.len(), got[0].dropped), (KEEP_MAX, 7));
    }

    proptest! {
        #[test]
        fn reading_again_from_any_line_gives_the_rest(text in "[ab\n]{0,60}", cut in 0usize..60, skip in 0i64..20) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let all = lines(&[bytes], 0);
            let again = lines(&[&bytes[..cut], &bytes[cut..]], skip);
            let rest: Vec<_> = all.into_iter().skip(skip as usize).collect();
            prop_assert_eq!(again, rest);
        }
    }
}
