//! What the command line says. A reader that has gone away is no trouble (`println!` would panic).

use std::fmt::Display;
use std::io::Write;

/// Says a line on standard output, at once.
pub(super) fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Says a line on standard error: what isn't the answer.
pub(super) fn aside(text: impl Display) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
