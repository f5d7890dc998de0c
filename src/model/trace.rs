//! Where in a trace something stands, so that another process can go on with it.

use std::fmt;
use std::str::FromStr;

/// A `traceparent`, as the W3C's Trace Context writes it (section 3.2): version, trace, span, flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole of it.
    pub trace: u128,
    /// What goes on.
    pub span: u64,
    /// Whether it is recorded.
    pub sampled: bool,
}

/// It is written otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct Unreadable;

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags] = parts[..] else { return Err(Unreadable) };
        let is_hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        };
        if version != "00" || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
            return Err(Unreadable);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| Unreadable)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| Unreadable)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| Unreadable)?;
        // All zeros say that there is none.
        if trace == 0 || span == 0 {
            return Err(Unreadable);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        let read: TraceParent = text.parse().unwrap();
        assert_eq!((read.to_string().as_str(), read.span, read.sampled), (text, 0xf0_67aa_0ba9_02b7, true));
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7",
            "00-0AF7651916CD43DD8448EB211C80319C-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-+0f067aa0ba902b7-01",
            "01-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(wrong.parse::<TraceParent>(), Err(Unreadable), "{wrong}");
        }
    }
}
