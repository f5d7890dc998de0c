//! A run's transcript as a conversation.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::show::{self, Moment};
use crate::model::event::{Event, Piece, Source};
use crate::model::run::{Run, State};
use crate::model::text;

/// How many events a page shows.
pub(crate) const TAIL: i64 = 200;

/// How many events are more than fit on a screen.
const LONG: usize = 12;

/// How many characters of one piece a page shows; the rest is behind a link.
const CLIP: usize = 12_000;

/// What a page shows of a transcript.
pub(crate) struct Transcript {
    pub(crate) entries: Vec<Entry>,
    /// Which events these are, in words.
    pub(crate) span: String,
    /// The cursor of the page with older events, when there are any.
    pub(crate) older: Option<i64>,
    /// Whether the newest event is here.
    pub(crate) at_tail: bool,
    /// Whether the prompt is shown above.
    pub(crate) with_prompt: bool,
    /// Whether it is long enough to be jumped over.
    pub(crate) long: bool,
    /// What is said when there are no events.
    pub(crate) silence: Cow<'static, str>,
}

/// An event, or plain lines of one stream that came one after the other.
pub(crate) enum Entry {
    Event { seq: i64, at: Moment, cut: Option<String>, pieces: Vec<View> },
    Lines { seq: i64, at: Moment, stderr: bool, lines: Vec<Line> },
}

/// A plain line.
pub(crate) struct Line {
    pub(crate) seq: i64,
    pub(crate) cut: Option<String>,
    pub(crate) clip: Clip,
}

/// A piece of the conversation, as it is laid out.
pub(crate) enum View {
    Began(String),
    Say(Clip),
    Fold {
        class: &'static str,
        bad: bool,
        name: String,
        gist: String,
        lines: Option<String>,
        clip: Option<Clip>,
    },
    Last {
        good: bool,
        what: String,
        clip: Clip,
    },
}

/// As much of a text as a page shows.
pub(crate) struct Clip {
    pub(crate) text: String,
    /// How much is left out, in words.
    pub(crate) rest: Option<String>,
}

impl Clip {
    fn new(text: String, whole: bool) -> Self {
        match text.char_indices().nth(CLIP) {
            Some((end, _)) if !whole => {
                let rest = show::count(text[end..].chars().count() as i64);
                Self { text: text[..end].to_owned(), rest: Some(format!("… {rest} more characters")) }
            }
            _ => Self { text, rest: None },
        }
    }
}

impl Transcript {
    /// Lays out events that end before `end`, or at the newest one. `whole` shows all of each.
    pub(crate) fn new(
        run: &Run,
        events: Vec<Event>,
        end: Option<i64>,
        whole: bool,
        now: OffsetDateTime,
    ) -> Self {
        let (first, last) = (events.first().map(|event| event.seq), events.last().map(|event| event.seq));
        let span = match (first, last) {
            (Some(first), Some(last)) if first == last && run.events > 1 => {
                format!("event {} of {}", show::count(first), show::count(run.events))
            }
            (Some(first), Some(last)) if first > 1 || last < run.events => format!(
                "events {} to {} of {}",
                show::count(first),
                show::count(last),
                show::count(run.events.max(last))
            ),
            (Some(_), Some(1)) => "1 event".to_owned(),
            (Some(_), Some(last)) => format!("{} events", show::count(last)),
            _ => String::new(),
        };
        let entries = entries(events, &[], whole, now);
        Self {
            span,
            older: first.filter(|first| *first > 1),
            at_tail: end.is_none(),
            with_prompt: end.is_none() || first == Some(1),
            long: entries.len() > LONG,
            silence: match run.state {
                State::Queued => "It hasn’t started.",
                State::Starting | State::Running => "Nothing said yet.",
                State::Ended | State::Lost => "Nothing was said.",
            }
            .into(),
            entries,
        }
    }

    /// What a page that follows it says of it, but for its events: those it gets one after the other.
    pub(crate) fn followed(last: i64) -> Self {
        let span = match last {
            0 => String::new(),
            1 => "1 event".to_owned(),
            last => format!("{} events", show::count(last)),
        };
        Self {
            entries: Vec::new(),
            span,
            older: None,
            at_tail: true,
            with_prompt: false,
            long: last > LONG as i64,
            silence: Cow::default(),
        }
    }
}

/// Lays out events that come after others.
pub(crate) fn entries(events: Vec<Event>, after: &[Event], whole: bool, now: OffsetDateTime) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let said_last = |event: &Event| {
        event.pieces().into_iter().rev().find_map(|piece| match piece {
            Piece::Say(text) => Some(text),
            _ => None,
        })
    };
    let mut said = after.iter().rev().find_map(said_last).unwrap_or_default();
    for event in events {
        let at = Moment::new(event.at, now);
        let is_stderr = event.source == Source::Stderr;
        let mut pieces = event.pieces();
        if let [Piece::Text(text)] = pieces.as_mut_slice() {
            let line =
                Line { seq: event.seq, cut: cut(event.cut), clip: Clip::new(std::mem::take(text), whole) };
            match entries.last_mut() {
                Some(Entry::Lines { stderr, lines, .. }) if *stderr == is_stderr => lines.push(line),
                _ => entries.push(Entry::Lines { seq: event.seq, at, stderr: is_stderr, lines: vec![line] }),
            }
            continue;
        }
        for piece in &mut pieces {
            match piece {
                Piece::Say(text) => said.clone_from(text),
                // The last word repeats what was just said; once is enough.
                Piece::Result { text, .. } if *text == said => text.clear(),
                _ => {}
            }
        }
        let pieces = pieces.into_iter().map(|piece| view(piece, whole)).collect();
        entries.push(Entry::Event { seq: event.seq, at, cut: cut(event.cut), pieces });
    }
    entries
}

/// What the worker didn't keep, in words.
fn cut(bytes: i64) -> Option<String> {
    (bytes > 0).then(|| format!("✂ {} bytes were cut off", show::count(bytes)))
}

fn view(piece: Piece, whole: bool) -> View {
    match piece {
        Piece::Init { model, tools, version } => {
            let mut said = vec!["Session began".to_owned()];
            said.extend([model].into_iter().filter(|model| !model.is_empty()));
            said.push(format!("{tools} tools"));
            said.extend(
                Some(version).filter(|version| !version.is_empty()).map(|v| format!("Claude Code {v}")),
            );
            View::Began(said.join(" · "))
        }
        Piece::Say(text) | Piece::Text(text) => View::Say(Clip::new(text, whole)),
        Piece::Think(text) => fold("think", "Thought", text, whole),
        Piece::ToolUse { name, gist, input } => View::Fold {
            class: "call",
            bad: false,
            name,
            gist,
            lines: None,
            clip: (!input.is_empty()).then(|| Clip::new(input, whole)),
        },
        Piece::ToolResult { text, is_error: true } => fold("back bad", "Error", text, whole),
        Piece::ToolResult { text, is_error: false } => fold("back", "", text, whole),
        Piece::Result { success, subtype, text } => View::Last {
            good: success,
            what: if subtype.is_empty() { "not said".to_owned() } else { subtype },
            clip: Clip::new(text, whole),
        },
        Piece::Other { what, text } => View::Fold {
            class: "other",
            bad: false,
            name: "Record".to_owned(),
            gist: what,
            lines: None,
            clip: Some(Clip::new(text, whole)),
        },
    }
}

/// A text behind its first line; one short line needs no fold.
fn fold(class: &'static str, name: &str, body: String, whole: bool) -> View {
    let lines = body.lines().count();
    let first = body.lines().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
    let gist = text::head(first.trim(), 160);
    let is_all = lines <= 1 && body.trim().chars().count() <= 40;
    View::Fold {
        class,
        bad: class == "back bad",
        name: name.to_owned(),
        gist,
        lines: (lines > 1).then(|| format!("{} lines", show::count(lines as i64))),
        clip: (!is_all).then(|| Clip::new(body, whole)),
    }
}
