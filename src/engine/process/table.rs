//! The kernel's table of processes, read from `/proc` (proc(5)).

use std::fs;
use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process and no other: numbers are used again, but not with the same start in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Clock ticks after the boot.
    started: u64,
    boot: String,
}

impl Identity {
    /// The process that has this number now.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        let entry = Entry::read(pid)?;
        Ok(Self { pid, started: entry.started, boot: boot()? })
    }

    /// Whether it lives. A zombie doesn't: it runs no more code and holds nothing.
    pub(super) fn is_alive(&self) -> bool {
        self.is_of_this_boot() && Entry::read(self.pid).is_ok_and(|entry| entry.is(self) && entry.is_alive())
    }

    /// Sends a signal; says whether there was anyone to send it to.
    pub(super) fn send(&self, signal: Signal) -> bool {
        self.is_alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }

    fn is_of_this_boot(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
    }
}

/// A line of the table.
#[derive(Debug)]
struct Entry {
    pid: i32,
    state: char,
    parent: i32,
    session: i32,
    started: u64,
}

impl Entry {
    fn read(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(pid, &text).ok_or_else(|| io::Error::other("/proc/PID/stat makes no sense"))
    }

    /// The name, second, is in parentheses and may hold anything, so what counts starts after the last one.
    fn parse(pid: i32, text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn is(&self, identity: &Identity) -> bool {
        self.pid == identity.pid && self.started == identity.started
    }

    /// Whether `variable` (`NAME=value`) was in its environment when it started. Another user's can't be read.
    fn has_variable(&self, variable: &str) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    }
}

/// Everyone who descends from `ancestor`, is in its session, or was started with `variable`, and whoever descends from
/// those; without `ancestor` itself, and without zombies.
pub(super) fn kin(ancestor: Option<&Identity>, variable: &str) -> io::Result<Vec<Identity>> {
    let boot = boot()?;
    let table = read_all()?;
    let ancestor = ancestor.filter(|identity| identity.boot == boot);
    // The number of a session's leader stays taken while the session lives; if another has it, ours is over.
    let usurped = ancestor.is_some_and(|id| table.iter().any(|other| other.pid == id.pid && !other.is(id)));
    let ancestor = ancestor.filter(|_| !usurped);
    let root = ancestor.map(|identity| identity.pid);

    // What is older than its ancestor is no kin, and its environment needs no reading.
    let since = ancestor.map_or(0, |identity| identity.started);
    let table = table.into_iter().filter(|entry| entry.started >= since && Some(entry.pid) != root);

    let by_itself = |entry: &Entry| {
        Some(entry.session) == root || Some(entry.parent) == root || entry.has_variable(variable)
    };
    let (mut kin, mut others): (Vec<_>, Vec<_>) = table.partition(by_itself);
    loop {
        let (more, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|entry| kin.iter().any(|parent| parent.pid == entry.parent));
        if more.is_empty() {
            break;
        }
        kin.extend(more);
        others = rest;
    }
    let alive = kin.into_iter().filter(Entry::is_alive);
    Ok(alive.map(|entry| Identity { pid: entry.pid, started: entry.started, boot: boot.clone() }).collect())
}

fn read_all() -> io::Result<Vec<Entry>> {
    let mut table = Vec::new();
    for file in fs::read_dir("/proc")? {
        let pid = file?.file_name().to_str().and_then(|name| name.parse().ok());
        // One that ends while we look is no longer of interest.
        table.extend(pid.and_then(|pid| Entry::read(pid).ok()));
    }
    Ok(table)
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_is_no_trouble() {
        let text = "42 (a) R 1 (b) S 7 40 39 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2";
        let entry = Entry::parse(42, text).unwrap();
        assert_eq!((entry.state, entry.parent, entry.session, entry.started), ('S', 7, 39, 98765));
        assert!(Entry::parse(42, "42 (a").is_none());
        assert!(Entry::parse(42, "").is_none());
    }

    #[test]
    fn a_number_with_another_start_is_another_process() {
        let own = Identity::of(std::process::id().cast_signed()).unwrap();
        assert!(own.is_alive());
        let earlier = Identity { started: own.started + 1, ..own.clone() };
        assert!(!earlier.is_alive() && !earlier.send(Signal::SIGKILL), "or this test would be dead");
        let last_boot = Identity { boot: "another".to_owned(), ..own };
        assert!(!last_boot.is_alive() && !last_boot.send(Signal::SIGKILL));
    }
}
