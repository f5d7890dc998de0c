//! A run's transcript as a conversation.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::clip::{Clip, FOLDED, LINE, Room, SAID};
use super::diff::Diff;
use super::markup::Markup;
use super::part::Part;
use super::show::{self, Moment};
use super::tint::{self, Language};
use crate::model::event::{Event, Source};
use crate::model::piece::Piece;
use crate::model::run::{Run, State};
use crate::model::text;

/// How many events are more than fit on a screen.
const LONG: usize = 12;

/// How many pieces of one event a page shows.
const PIECES: usize = 40;

/// What a page shows of a transcript.
pub(crate) struct Transcript {
    pub(crate) entries: Vec<Entry>,
    /// Which events these are, in words.
    pub(crate) span: String,
    /// The cursor of the page with older events, when there are any.
    pub(crate) older: Option<i64>,
    /// The cursor of the page with newer events, when there are any.
    pub(crate) newer: Option<i64>,
    /// Whether this is the end, which grows.
    pub(crate) at_tail: bool,
    /// From where calls before and after are looked for; at the tail from its end.
    pub(crate) around: Option<(i64, i64)>,
    /// Whether it is long enough to be jumped over.
    pub(crate) long: bool,
    /// What is said when there are no events.
    pub(crate) silence: Cow<'static, str>,
}

/// An event, or plain lines of one stream that came one after the other.
pub(crate) enum Entry {
    Event { seq: i64, at: Moment, cut: Option<String>, marked: bool, pieces: Vec<View>, more: Option<String> },
    Lines { seq: i64, at: Moment, stderr: bool, lines: Vec<Line> },
}

impl Entry {
    /// Whether it is the one that was asked for, or begins with it.
    pub(crate) fn is_marked(&self) -> bool {
        match self {
            Self::Event { marked, .. } => *marked,
            Self::Lines { lines, .. } => lines.first().is_some_and(|line| line.marked),
        }
    }
}

/// A plain line.
pub(crate) struct Line {
    pub(crate) seq: i64,
    pub(crate) cut: Option<String>,
    pub(crate) marked: bool,
    pub(crate) clip: Clip,
}

/// A piece of the conversation, as it is laid out.
pub(crate) enum View {
    Began(String),
    Say {
        clip: Clip,
        markup: Option<Markup>,
    },
    Fold {
        class: &'static str,
        bad: bool,
        name: String,
        gist: String,
        size: Option<String>,
        clip: Option<Clip>,
    },
    Edit {
        name: String,
        path: String,
        language: Option<&'static Language>,
        diff: Diff,
    },
    Last {
        good: bool,
        what: String,
        clip: Clip,
        markup: Option<Markup>,
    },
}

impl Transcript {
    /// Lays out these events, which are that part of it.
    pub(crate) fn new(run: &Run, events: Vec<Event>, part: Part, now: OffsetDateTime) -> Self {
        let ends = events.first().map(|event| event.seq).zip(events.last().map(|event| event.seq));
        let count = run.events.max(ends.map_or(0, |(_, last)| last));
        let span = match ends {
            Some((first, last)) if first > 1 || last < count => {
                format!("events {} to {} of {}", show::count(first), show::count(last), show::count(count))
            }
            Some(_) => number_of(count),
            None => String::new(),
        };
        let at_tail = part == Part::Tail;
        let at = part.marked();
        let entries = entries(events, &[], at, now);
        Self {
            span,
            older: ends.map(|(first, _)| first).filter(|first| *first > 1),
            newer: ends.map(|(_, last)| last).filter(|last| !at_tail && *last < count),
            at_tail,
            around: ends.filter(|_| !at_tail).map(|ends| at.map_or(ends, |at| (at, at))),
            long: entries.len() > LONG,
            silence: match run.state {
                _ if count > 0 && at_tail => "What it said isn’t kept any more.",
                _ if count > 0 => "There is nothing here, or it isn’t kept any more.",
                State::Queued => "It hasn’t started.",
                State::Starting | State::Running => "Nothing said yet.",
                State::Ended | State::Lost => "Nothing was said.",
            }
            .into(),
            entries,
        }
    }

    /// What a page that follows it says of it, but for its events: those it gets one after the other, if it is at the tail.
    pub(crate) fn followed(last: i64, at_tail: bool) -> Self {
        Self {
            entries: Vec::new(),
            span: if last == 0 { String::new() } else { number_of(last) },
            older: None,
            newer: None,
            at_tail,
            around: None,
            long: last > LONG as i64,
            silence: Cow::default(),
        }
    }
}

fn number_of(events: i64) -> String {
    if events == 1 { "1 event".to_owned() } else { format!("{} events", show::count(events)) }
}

/// Lays out events that come after others. What is newest finds room first.
pub(crate) fn entries(
    events: Vec<Event>,
    after: &[Event],
    marked: Option<i64>,
    now: OffsetDateTime,
) -> Vec<Entry> {
    let said_last = |event: &Event| {
        event.pieces().into_iter().rev().find_map(|piece| match piece {
            Piece::Say(text) => Some(text),
            _ => None,
        })
    };
    let mut said = after.iter().rev().find_map(said_last).unwrap_or_default();
    let read: Vec<(Event, Vec<Piece>)> = events
        .into_iter()
        .map(|event| {
            let mut pieces = event.pieces();
            for piece in &mut pieces {
                match piece {
                    Piece::Say(text) => said.clone_from(text),
                    // The last word repeats what was just said; once is enough.
                    Piece::Result { text, .. } if *text == said => text.clear(),
                    _ => {}
                }
            }
            (event, pieces)
        })
        .collect();
    let mut room = Room::new();
    let mut entries: Vec<Entry> = Vec::new();
    for (event, pieces) in read.into_iter().rev() {
        let mut own = Room::new();
        // The one that was asked for isn't cut short for the sake of the others.
        let is_marked = marked == Some(event.seq);
        let entry = entry(event, pieces, is_marked, if is_marked { &mut own } else { &mut room }, now);
        match (entry, entries.last_mut()) {
            (
                Entry::Lines { seq, at, stderr, mut lines },
                Some(Entry::Lines { seq: first, at: first_at, stderr: same, lines: below }),
            ) if stderr == *same && !below.last().is_some_and(|line| line.marked) => {
                below.append(&mut lines);
                (*first, *first_at) = (seq, at);
            }
            (entry, _) => entries.push(entry),
        }
    }
    for entry in &mut entries {
        if let Entry::Lines { lines, .. } = entry {
            lines.reverse();
        }
    }
    entries.reverse();
    entries
}

fn entry(event: Event, mut pieces: Vec<Piece>, marked: bool, room: &mut Room, now: OffsetDateTime) -> Entry {
    let (seq, at, cut) = (event.seq, Moment::new(event.at, now), cut(event.cut));
    if let [Piece::Text(text)] = pieces.as_mut_slice() {
        let clip = Clip::open(std::mem::take(text), LINE, room);
        let line = Line { seq, cut, marked, clip };
        return Entry::Lines { seq, at, stderr: event.source == Source::Stderr, lines: vec![line] };
    }
    let shown = room.take_lines(pieces.len().min(PIECES));
    let more = pieces.len() - shown;
    let more = (more > 0).then(|| format!("… {} more pieces", show::count(more as i64)));
    let pieces = pieces.into_iter().take(shown).map(|piece| view(piece, room)).collect();
    Entry::Event { seq, at, cut, marked, pieces, more }
}

/// What the worker didn't keep, in words.
fn cut(bytes: i64) -> Option<String> {
    (bytes > 0).then(|| format!("✂ {} bytes were cut off", show::count(bytes)))
}

/// Without the empty lines at its end.
fn ended(mut text: String) -> String {
    text.truncate(text.trim_end().len());
    text
}

fn view(piece: Piece, room: &mut Room) -> View {
    match piece {
        Piece::Init { model, tools, version } => {
            let mut said = vec!["Session began".to_owned()];
            said.extend([model].into_iter().filter(|model| !model.is_empty()));
            said.push(format!("{tools} tools"));
            said.extend(
                Some(version).filter(|version| !version.is_empty()).map(|v| format!("Claude Code {v}")),
            );
            View::Began(text::head(&said.join(" · "), 300))
        }
        Piece::Say(text) | Piece::Text(text) => {
            let clip = Clip::open(ended(text), SAID, room);
            View::Say { markup: Markup::of(&clip.text), clip }
        }
        Piece::Think(text) => fold("think", "Thought", text, room),
        Piece::ToolUse { name, gist, input } => View::Fold {
            class: "call",
            bad: false,
            name: text::head(&name, 60),
            gist,
            size: None,
            clip: (!input.is_empty()).then(|| Clip::folded(input, FOLDED, room)),
        },
        Piece::Edit { name, path, changes } => View::Edit {
            name,
            language: tint::of_file(&path),
            path: text::head(&path, 160),
            diff: Diff::of(&changes, room),
        },
        Piece::ToolResult { text, is_error: true } => fold("back bad", "Error", text, room),
        Piece::ToolResult { text, is_error: false } => fold("back", "", text, room),
        Piece::Result { success, subtype, text } => {
            let clip = Clip::open(ended(text), SAID, room);
            View::Last {
                good: success,
                what: if subtype.is_empty() { "not said".to_owned() } else { text::head(&subtype, 100) },
                markup: Markup::of(&clip.text),
                clip,
            }
        }
        Piece::Other { what, text } => View::Fold {
            class: "other",
            bad: false,
            name: "Record".to_owned(),
            gist: text::head(&what, 160),
            size: None,
            clip: Some(Clip::folded(text, FOLDED, room)),
        },
    }
}

/// A text behind its first line; one short line needs no fold.
fn fold(class: &'static str, name: &str, body: String, room: &mut Room) -> View {
    const LARGE: usize = 2048;
    let lines = body.lines().count();
    let first = body.lines().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
    let gist = text::head(first.trim(), 160);
    let is_all = lines <= 1 && body.trim().chars().count() <= 40;
    let mut size = Vec::new();
    if lines > 1 {
        size.push(format!("{} lines", show::count(lines as i64)));
    }
    if body.len() >= LARGE {
        size.push(show::size(body.len() as i64));
    }
    View::Fold {
        class,
        bad: class == "back bad",
        name: name.to_owned(),
        gist,
        size: (!size.is_empty()).then(|| size.join(", ")),
        clip: (!is_all).then(|| Clip::folded(body, FOLDED, room)),
    }
}
