//! The outside check: knocks on every door of a server as a stranger with a phone, and says which ones open.
//!
//! It knows nothing of the server but its address. What it tries comes from what anybody can read there and from a
//! list of what such a dashboard would have; see [`paths`].

mod door;
mod judge;
mod learn;
pub mod paths;
mod report;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use url::Url;

pub use judge::{Trouble, is_public};
pub use report::Report;

use door::{Caller, Target};
use report::Knock;

/// Every path is tried with each of these.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Requests on their way at once.
const AT_ONCE: usize = 8;

/// Paths learned from the server, at most; one that invents links must not keep us for ever.
const LEARNED_MAX: usize = 600;

/// Paths that differ in their query alone, at most.
const QUERIES_MAX: usize = 3;

/// So many doors in a row without an answer, and nobody is at home any more.
const SILENT_MAX: usize = 40;

/// A visit that couldn't be made, or not to its end, so that it proves nothing; one line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotVisited(String);

/// Where to go, and what must not be seen there.
#[derive(Debug)]
pub struct Visit {
    target: Target,
    canaries: Vec<String>,
}

impl Visit {
    /// Reads `http://host:port` or `https://host[:port]`. `canaries` are texts that must be in no answer.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(url: &str, canaries: Vec<String>) -> Result<Self, NotVisited> {
        let bad = |why: &str| NotVisited(format!("{url:?} {why}; for example https://signalbox.example.org"));
        let parsed = Url::parse(url).map_err(|error| bad(&format!("is no URL ({error})")))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(bad("is no address of a web server"));
        }
        let bare = parsed.path() == "/" && parsed.query().is_none() && parsed.fragment().is_none();
        if !(bare && parsed.username().is_empty() && parsed.password().is_none()) {
            return Err(bad("is more than scheme, host and port"));
        }
        if canaries.iter().any(|canary| canary.trim().is_empty()) {
            return Err(NotVisited("an empty canary is in every answer".into()));
        }
        Ok(Self { target: Target::of(&parsed).map_err(|error| bad(&error))?, canaries })
    }
}

/// Makes the visit: every path that is known or can be learned, with every method.
///
/// # Errors
/// [`NotVisited`] when the server can't be reached, stops answering, or sends everybody to another address.
pub async fn visit(visit: Visit) -> Result<Report, NotVisited> {
    let front = Caller::new(&visit.target).ask("GET", "/").await;
    let front =
        front.map_err(|error| NotVisited(format!("{} can't be reached: {error}", visit.target.origin())))?;
    if let Some(other) = judge::moved(&front, &visit.target) {
        return Err(NotVisited(format!(
            "{} sends everybody to {other}, so nothing behind it was tried: visit {other}",
            visit.target.origin()
        )));
    }
    let round = Round::new(&visit);
    for path in paths::all(visit.target.origin()) {
        round.add(path);
    }
    let callers = (0..AT_ONCE).map(|_| walk(&round));
    futures_util::future::join_all(callers).await;
    round.report()
}

/// What all callers share while they walk.
struct Round<'a> {
    visit: &'a Visit,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Doors still to be tried.
    doors: VecDeque<(String, &'static str)>,
    known: HashSet<String>,
    queries: HashMap<String, usize>,
    learned: usize,
    knocks: Vec<Knock>,
    silent_in_a_row: usize,
}

impl<'a> Round<'a> {
    fn new(visit: &'a Visit) -> Self {
        Self { visit, notes: Mutex::default() }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds a path, unless it is known or can't be sent.
    fn add(&self, path: String) {
        let mut notes = self.notes();
        if door::can_be_sent(&path) && notes.known.insert(path.clone()) {
            notes.doors.extend(METHODS.iter().map(|&method| (path.clone(), method)));
        }
    }

    /// Adds a path that an answer told of, as long as there is room.
    fn learn(&self, path: String) {
        {
            let mut notes = self.notes();
            if notes.known.contains(&path) || notes.learned >= LEARNED_MAX {
                return;
            }
            if let Some((bare, _)) = path.split_once('?') {
                let alike = notes.queries.entry(bare.to_owned()).or_default();
                *alike += 1;
                if *alike > QUERIES_MAX {
                    return;
                }
            }
            notes.learned += 1;
        }
        self.add(path);
    }

    /// The next door, unless nobody answers any more.
    fn next(&self) -> Option<(String, &'static str)> {
        let mut notes = self.notes();
        if notes.silent_in_a_row >= SILENT_MAX { None } else { notes.doors.pop_front() }
    }

    fn note(&self, knock: Knock) {
        let mut notes = self.notes();
        notes.silent_in_a_row = if knock.status.is_some() { 0 } else { notes.silent_in_a_row + 1 };
        notes.knocks.push(knock);
    }

    fn report(self) -> Result<Report, NotVisited> {
        let notes = self.notes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if notes.silent_in_a_row >= SILENT_MAX {
            return Err(NotVisited(format!(
                "{} stopped answering after {} doors",
                self.visit.target.origin(),
                notes.knocks.len() - SILENT_MAX
            )));
        }
        Ok(Report::of(self.visit.target.origin().to_owned(), notes.knocks))
    }
}

/// Knocks on one door after the other over one connection, until there are none left. A caller that finds none may go
/// home too early while another still learns: that one then walks the rest alone.
async fn walk(round: &Round<'_>) {
    let mut caller = Caller::new(&round.visit.target);
    while let Some((path, method)) = round.next() {
        let answer = caller.ask(method, &path).await;
        let knock = Knock::of(&path, method, &answer, &round.visit.target, &round.visit.canaries);
        if let Ok(answer) = &answer {
            let origin = round.visit.target.origin();
            learn::location(answer, &path, origin).into_iter().for_each(|path| round.learn(path));
            if method == "GET" {
                learn::body(answer, &path, origin).into_iter().for_each(|path| round.learn(path));
            }
        }
        round.note(knock);
    }
}
