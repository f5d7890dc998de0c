//! No figure without a quiet machine and floors that stay: what a bench says is held back until both are known, and is never shown
//! otherwise. `BENCH_ANYWAY=1` shows it all the same, each line marked.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Sample;
use super::judge::{Work, busy, drifted};

/// How long the machine is looked at, before and after.
const LOOK: Duration = Duration::from_secs(2);

/// What was said, as long as it is held back.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<String>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what was measured, once it may be quoted.
pub(crate) fn say(line: &str) {
    match held().as_mut() {
        Some(lines) => lines.push(line.to_owned()),
        None => show(line),
    }
}

fn show(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn complain(why: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{why}");
}

fn anyway() -> bool {
    std::env::var("BENCH_ANYWAY").is_ok_and(|value| value == "1")
}

/// A bench that was begun.
pub(crate) struct Quiet {
    at_first: Option<String>,
}

impl Quiet {
    /// Before anything is started: ends the bench when others use the machine.
    pub(crate) fn begin() -> Self {
        let at_first = look();
        if let Some(why) = at_first.as_ref().filter(|_| !anyway()) {
            complain(&format!("not measured: {why}"));
            std::process::exit(1);
        }
        *held() = Some(Vec::new());
        Self { at_first }
    }

    /// When all was measured: shows what was said, or why it can't be quoted. The floors, each from the beginning to the end.
    pub(crate) fn end(self, floors: &[(&str, &Sample)]) -> ExitCode {
        let drifted = floors.iter().filter_map(|(name, floor)| drifted(name, &floor.0));
        let why: Vec<String> = self.at_first.into_iter().chain(look()).chain(drifted).collect();
        let lines = held().take().unwrap_or_default();
        if why.is_empty() {
            lines.iter().for_each(|line| show(line));
            return ExitCode::SUCCESS;
        }
        why.iter().for_each(|why| complain(&format!("not to be quoted: {why}")));
        if !anyway() {
            return ExitCode::FAILURE;
        }
        lines.iter().for_each(|line| show(&format!("(busy) {line}")));
        ExitCode::SUCCESS
    }
}

fn look() -> Option<String> {
    let before = work()?;
    std::thread::sleep(LOOK);
    let after = work()?;
    busy(&before, &after, ours(&after))
}

/// What all processes have done until now; nothing where there is no such file.
fn work() -> Option<Work> {
    let stat = |folder: std::fs::DirEntry| std::fs::read_to_string(folder.path().join("stat")).ok();
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(|folder| stat(folder.ok()?));
    Work::read(&std::fs::read_to_string("/proc/stat").ok()?, processes)
}

/// Who started all that belongs to the bench: `deploy/dev/with-stores`, which has its Postgres and Redis, or the bench itself.
fn ours(work: &Work) -> u32 {
    work.topmost(std::process::id(), |pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("deploy/dev/with-stores")
    })
}
