//! A history: what happened, one record a line, so that it can be judged again without being lived again.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, by the clock of this host, which is everybody's here.
pub(crate) type Ms = i64;

/// Now.
pub(crate) fn now() -> Ms {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The history begins.
    Began { at: Ms, seed: u64, seconds: u64, lease_ms: Ms },
    /// The faults are over, and the last stops wished.
    Healed { at: Ms },
    /// Everything has settled, or the time for it was up.
    Settled { at: Ms, in_time: bool },
    /// The superuser sends a form.
    Asked { at: Ms, click: u64, wish: Wish },
    /// It was answered; `run` is where it leads.
    Answered { at: Ms, click: u64, status: u16, run: Option<i64> },
    /// It was not: nobody knows what became of it.
    Unanswered { at: Ms, click: u64, why: String },
    /// A run's page, as it said.
    Page(Page),
    /// It couldn't be read.
    Unread { at: Ms, run: i64, why: String },
    /// A fault begins, or ends.
    Fault { at: Ms, fault: u64, kind: String, target: String, begins: bool },
    /// A process of ours begins, or is over.
    Life { at: Ms, life: String, begins: bool },
    /// All processes in cells, seen from the host, past everybody.
    Scan { from: Ms, to: Ms, cells: Vec<Sight> },
    /// The engine's own note.
    Engine(Note),
    /// The engine answers again: notes of before may be lost.
    EngineBack { at: Ms },
    /// A container put there by the nemesis itself; `ours` when it bears this fleet's labels.
    Planted { at: Ms, container: String, ours: bool },
    /// Whether a planted container lives at the end.
    Left { at: Ms, container: String, alive: bool },
    /// A change of a run's row, by the database's own journal.
    Change(Change),
    /// A run's row at the end.
    Row(Row),
    /// A stored event.
    Line { run: i64, seq: i64, source: String, text: String },
    /// A line of the audit.
    Audit { at: Ms, who: String, did: String, run: Option<i64> },
}

/// What a form asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
pub(crate) enum Wish {
    /// A run; the same `once` twice is the same run.
    Start { play: String, once: String },
    /// Its end; `save` when its work is to be saved before.
    Stop {
        stop: i64,
        force: bool,
        #[serde(default)]
        save: bool,
    },
    /// The end of several.
    StopMany { stops: Vec<i64>, force: bool },
    /// The end of everything. It changes nothing unless it was `fresh`: not pulled already.
    Handle { fresh: bool },
    /// Something that is about no run: the queue, a worker, the way out of the handle.
    Else { path: String },
}

/// What a run's page said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) asked: Ms,
    pub(crate) answered: Ms,
    pub(crate) run: i64,
    pub(crate) state: String,
    pub(crate) outcome: String,
    pub(crate) wish: String,
    pub(crate) confirmed: Option<Ms>,
}

/// A container with at least one living process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sight {
    pub(crate) run: i64,
    pub(crate) container: String,
    /// Just before its last process was looked at: it lived then.
    pub(crate) at: Ms,
    pub(crate) pids: u32,
    /// The last heartbeat of any of its processes, when a new one was found.
    pub(crate) beat: Option<Ms>,
    /// How many new ones.
    pub(crate) beats: u32,
}

/// What the engine notes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) at: Ms,
    pub(crate) did: String,
    pub(crate) container: String,
    pub(crate) run: Option<i64>,
    pub(crate) worker: Option<String>,
    pub(crate) exit: Option<i64>,
}

/// A run's row after a change, and whose change it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) n: i64,
    pub(crate) at: Ms,
    pub(crate) life: String,
    pub(crate) run: i64,
    pub(crate) fence: i64,
    pub(crate) state: String,
    pub(crate) wish: String,
    pub(crate) mode: Option<String>,
    #[serde(default)]
    pub(crate) save: bool,
    pub(crate) worker: Option<String>,
    pub(crate) container: Option<String>,
    pub(crate) lease_until: Option<Ms>,
    pub(crate) outcome: Option<String>,
    pub(crate) confirmed: Option<Ms>,
    pub(crate) events: i64,
    /// Ghosts' writes that were refused.
    pub(crate) refused: i64,
    /// A mark of all of the row but that count.
    pub(crate) rest: String,
}

/// A run's row at the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) run: i64,
    pub(crate) once: Option<String>,
    pub(crate) play: String,
    pub(crate) state: String,
    pub(crate) wish: String,
    pub(crate) mode: Option<String>,
    pub(crate) wish_at: Option<Ms>,
    pub(crate) worker: Option<String>,
    pub(crate) fence: i64,
    pub(crate) container: Option<String>,
    pub(crate) ended: Option<Ms>,
    pub(crate) cut: Option<Ms>,
    pub(crate) outcome: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) exit: Option<i64>,
    pub(crate) confirmed: Option<Ms>,
    pub(crate) events: i64,
}

/// Where records go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pen(Arc<Mutex<BufWriter<File>>>);

impl Pen {
    pub(crate) fn new(file: &Path) -> Self {
        Self(Arc::new(Mutex::new(BufWriter::new(File::create(file).unwrap()))))
    }

    pub(crate) fn write(&self, record: &Record) {
        let mut file = self.0.lock().unwrap();
        serde_json::to_writer(&mut *file, record).unwrap();
        file.write_all(b"\n").unwrap();
    }

    pub(crate) fn flush(&self) {
        self.0.lock().unwrap().flush().unwrap();
    }
}

/// Reads a history back.
pub(crate) fn read(file: &Path) -> Vec<Record> {
    let file = File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = BufReader::new(file).lines().map(Result::unwrap);
    lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
