//! Notes that `signalbox stop-all` leaves in a worker's folder, for the worker to report when it can.
//!
//! A note is there before the first kill: from then on the worker takes nothing new, whatever else is dead.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::Worker;
use crate::clock;
use crate::model::run::RunId;

/// How long a `stop-all` may take before its note is reported as it is.
const UNDER_WAY: Duration = Duration::seconds(30);

/// What was done on a worker's host without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it began, by the host's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Which user of the host.
    pub who: String,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// What was killed; filled in when it is done.
    pub killed: Vec<Killed>,
    /// Whether it is done. A note that never will be was left by a process that was killed itself.
    pub done: bool,
}

/// One container that was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// The run.
    pub run: i64,
    /// The engine's id.
    pub container: String,
    /// What is known of its end, in words.
    pub proof: String,
}

const PREFIX: &str = "stop-all-";

impl Note {
    /// What it means for a run that ended by SIGKILL while nobody here had sent any.
    fn words(&self) -> String {
        let why = if self.reason.is_empty() { String::new() } else { format!(": “{}”", self.reason) };
        format!("Killed by `signalbox stop-all` on its host, by {}{why}.", self.who)
    }

    /// Writes it into a worker's folder, in place of what it said before.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        let name = format!("{PREFIX}{}.json", self.at.unix_timestamp_nanos() / 1_000_000);
        let passing = folder.join(format!(".{name}"));
        let text = serde_json::to_vec(self)?;
        fs::write(&passing, text).inspect_err(|_| drop(fs::remove_file(&passing)))?;
        let path = folder.join(name);
        fs::rename(passing, &path)?;
        Ok(path)
    }

    fn is_its_name(name: &str) -> bool {
        name.starts_with(PREFIX) && name.ends_with(".json")
    }

    /// Whether there is a note in a worker's folder, readable or not.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn any(folder: &Path) -> io::Result<bool> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            entries => entries?,
        };
        for entry in entries {
            if Self::is_its_name(&entry?.file_name().to_string_lossy()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The notes in a worker's folder, oldest first, each with its file. One that can't be read counts as a note all the
    /// same: something was stopped here.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn read_all(folder: &Path) -> io::Result<Vec<(PathBuf, Self)>> {
        let mut notes = Vec::new();
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(notes),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if Self::is_its_name(&name) {
                let text = fs::read(&path)?;
                let note = serde_json::from_slice(&text).unwrap_or_else(|error| Self {
                    at: OffsetDateTime::UNIX_EPOCH,
                    who: "unknown".to_owned(),
                    reason: format!("the note can't be read: {error}"),
                    killed: Vec::new(),
                    done: true,
                });
                notes.push((path, note));
            }
        }
        notes.sort_by_key(|(_, note)| note.at);
        Ok(notes)
    }
}

/// Notes that were found, the newest last.
#[derive(Default)]
pub(super) struct Notes {
    known: Mutex<Vec<Note>>,
}

impl Notes {
    fn known(&self) -> MutexGuard<'_, Vec<Note>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a note that is reported; one that was kept before isn't kept twice.
    fn learn(&self, note: Note) {
        let mut known = self.known();
        if !known.contains(&note) {
            known.push(note);
        }
    }

    /// What ended a run that was alive since `started` and died of a SIGKILL that this worker didn't send, if it was a
    /// `stop-all`.
    pub(super) fn behind(&self, worker: &Worker, started: OffsetDateTime) -> Option<String> {
        let found = Note::read_all(&worker.dir()).unwrap_or_default().into_iter().map(|(_, note)| note);
        let mut all: Vec<Note> = self.known().iter().cloned().chain(found).collect();
        all.retain(|note| note.at >= started);
        all.pop().map(|note| note.words())
    }
}

/// Why nothing may start here now, if so: `stop-all` has left a note that isn't reported yet.
pub(super) fn forbids(worker: &Worker) -> Option<String> {
    let dir = worker.dir();
    match Note::any(&dir) {
        Ok(false) => None,
        Ok(true) => Some("`signalbox stop-all` was here.".to_owned()),
        Err(error) => Some(format!("{} can't be searched for a note of stop-all: {error}.", dir.display())),
    }
}

/// Whether the `stop-all` that left a note may still be at work. A clock that was set back makes a note of the future, which
/// is as far away as one of the past.
fn is_under_way(note: &Note, now: OffsetDateTime) -> bool {
    !note.done && (now - note.at).abs() < UNDER_WAY
}

/// Reports the notes that wait, and drains the worker with them. False while there is one that isn't reported: then nothing
/// new may be taken.
///
/// # Errors
/// When the folder or Postgres can't be reached.
pub(super) async fn report(worker: &Worker) -> anyhow::Result<bool> {
    let mut all_told = true;
    for (path, note) in Note::read_all(&worker.dir())? {
        if is_under_way(&note, clock::now()) {
            all_told = false;
            continue;
        }
        tracing::warn!(who = note.who, reason = note.reason, killed = note.killed.len(), "stop-all was here");
        let killed: Vec<(RunId, String)> =
            note.killed.iter().map(|killed| (RunId(killed.run), killed.proof.clone())).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        worker.parts.db.report_stop_all(worker.name(), &name, &note.who, &note.words(), &killed).await?;
        worker.notes.learn(note);
        fs::remove_file(path)?;
    }
    Ok(all_told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_the_future_is_not_waited_for_and_a_known_one_is_kept_once() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let note =
            |at| Note { at, who: "root".into(), reason: String::new(), killed: Vec::new(), done: false };
        for (at, waits) in [(0, true), (-29, true), (-31, false), (29, true), (3600, false)] {
            assert_eq!(is_under_way(&note(now + Duration::seconds(at)), now), waits, "{at} s");
        }
        assert!(!is_under_way(&Note { done: true, ..note(now) }, now));
        let notes = Notes::default();
        for _ in 0..3 {
            notes.learn(note(now));
        }
        notes.learn(note(now + Duration::SECOND));
        assert_eq!(notes.known().len(), 2);
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_one_that_is_torn_is_still_a_note() {
        let folder = std::env::temp_dir().join(format!("signalbox-notes-{}", std::process::id()));
        assert_eq!(Note::read_all(&folder).unwrap(), []);
        fs::create_dir_all(&folder).unwrap();
        let mut note = Note {
            at: OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1_700_000_000_123),
            who: "root".into(),
            reason: "it “spends”".into(),
            killed: Vec::new(),
            done: false,
        };
        assert!(!Note::any(&folder).unwrap());
        let before = note.write(&folder).unwrap();
        assert!(Note::any(&folder).unwrap());
        note.killed.push(Killed { run: 7, container: "c".into(), proof: "nothing is left".into() });
        assert_eq!(note.write(&folder).unwrap(), before, "the same note, filled in");
        assert_eq!(Note::read_all(&folder).unwrap(), [(before, note)]);
        fs::write(folder.join("stop-all-1.json"), "{").unwrap();
        assert_eq!(Note::read_all(&folder).unwrap().len(), 2);
        fs::remove_dir_all(folder).unwrap();
    }
}
