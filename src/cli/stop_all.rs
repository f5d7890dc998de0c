//! `signalbox stop-all`: kills every agent on this host, with no store, no network and, if need be, no engine.

mod kill;

use std::io;
use std::path::PathBuf;

use nix::unistd::{Uid, User};
use time::OffsetDateTime;

use super::{Failure, block_on, say};
use crate::clock;
use crate::config;
use crate::worker::notes::{Killed, Note};
use kill::{Killer, Proof, name_of};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Why; kept in the audit when the worker is back.
    #[arg(long, default_value = "")]
    reason: String,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let host = config::Host::from_env(&config::env())?;
    block_on(stop_all(&host, &args.reason))
}

async fn stop_all(settings: &config::Host, reason: &str) -> Result<u8, Failure> {
    let killer = Killer::new(settings);
    let mut note =
        Note { at: clock::now(), who: who(), reason: reason.to_owned(), killed: Vec::new(), done: false };
    // Where they can't be looked for, killing comes first all the same.
    let (folders, unread) = killer.folders().map_or_else(|error| (Vec::new(), Some(error)), |f| (f, None));
    let mut workers: Vec<Worker> = folders.into_iter().map(|folder| Worker::tell(folder, &note)).collect();
    let proofs = killer.kill_all().await;
    let at = clock::now();
    note.done = true;
    for worker in &mut workers {
        note.killed = proofs.iter().filter(|proof| worker.may_have(proof)).map(killed).collect();
        worker.fill_in(&note);
    }
    for proof in &proofs {
        let short: String = proof.container.chars().take(12).collect();
        let untold = workers.iter().filter(|worker| worker.may_have(proof)).find_map(Worker::trouble);
        let untold = untold.map(|trouble| format!("; {trouble}")).unwrap_or_default();
        say::line(format_args!("run {}  {short}  {} UTC  {}{untold}", proof.run, clock_ms(at), proof.words));
    }
    let living = proofs.iter().filter(|proof| !proof.dead).count();
    say::line(format_args!("{} stopped, {living} alive.", proofs.len() - living));
    let mut troubles: Vec<String> = workers.iter().filter_map(Worker::trouble).collect();
    if let Some(error) = unread {
        troubles.push(format!("NO WORKER IS TOLD: {} can't be read: {error}", settings.work_dir.display()));
    } else if workers.is_empty() && !proofs.is_empty() {
        troubles.push(format!("NO WORKER IS TOLD: none has its folder in {}", settings.work_dir.display()));
    }
    for trouble in &troubles {
        say::line(format_args!("{trouble}."));
    }
    let told: Vec<&str> =
        workers.iter().filter(|worker| worker.left.is_ok()).map(|w| w.name.as_str()).collect();
    if !told.is_empty() {
        let told = told.join(", ");
        say::line(format_args!("Told to take nothing more until somebody lets them: {told}."));
    }
    Ok(u8::from(living > 0 || !troubles.is_empty()))
}

/// A worker of this host, and whether it has its note.
struct Worker {
    name: String,
    folder: PathBuf,
    /// A note that there was a stop: with it, the worker takes nothing more.
    left: io::Result<()>,
    /// The note with what was killed.
    filled: io::Result<()>,
}

impl Worker {
    /// Leaves the note where the worker finds it.
    fn tell(folder: PathBuf, note: &Note) -> Self {
        let left = note.write(&folder).map(drop);
        Self { name: name_of(&folder).unwrap_or_default(), folder, left, filled: Ok(()) }
    }

    /// Writes into it what was killed. Now there may be room for one that couldn't be left before.
    fn fill_in(&mut self, note: &Note) {
        self.filled = note.write(&self.folder).map(drop);
        if self.filled.is_ok() {
            self.left = Ok(());
        }
    }

    /// Whether an agent is, or may be, this worker's.
    fn may_have(&self, proof: &Proof) -> bool {
        proof.worker.as_ref().is_none_or(|worker| *worker == self.name)
    }

    /// What is wrong with the note.
    fn trouble(&self) -> Option<String> {
        let (name, folder) = (&self.name, self.folder.display());
        match (&self.left, &self.filled) {
            (Err(error), _) => Some(format!(
                "WORKER {name} IS NOT TOLD and may take runs again: no note can be left in {folder}: {error}"
            )),
            (_, Err(error)) => {
                Some(format!("the note for worker {name} in {folder} doesn't say what was killed: {error}"))
            }
            (Ok(()), Ok(())) => None,
        }
    }
}

fn killed(proof: &Proof) -> Killed {
    Killed { run: proof.run, container: proof.container.clone(), proof: proof.words.clone() }
}

fn who() -> String {
    let uid = Uid::current();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    name.unwrap_or_else(|| format!("user {uid}"))
}

fn clock_ms(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", at.hour(), at.minute(), at.second(), at.millisecond())
}
