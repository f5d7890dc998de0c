//! Processes: which there are, whose child is whose, and how all that is ours is ended.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Tells the program that it is the janitor.
const JANITOR: &str = "--janitor";

/// Every process id.
pub(crate) fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A process's state and its parent.
pub(crate) fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What follows the name, which is in parentheses and may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether it is there and no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// These processes and all below them.
pub(crate) fn with_children(roots: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = pids().filter_map(|pid| Some((pid, stat(pid)?.1))).collect();
    let mut kin: HashSet<i32> = roots.into_iter().collect();
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, up)| kin.contains(up) && !kin.contains(pid))
            .map(|(p, _)| *p)
            .collect();
        if more.is_empty() {
            return kin.into_iter().collect();
        }
        kin.extend(more);
    }
}

/// Sends them all a signal; those that have gone meanwhile are fine.
pub(crate) fn signal(pids: &[i32], signal: Signal) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

/// The processes that work for the world in `dir`: its name is in their arguments, their environment, or the mounts of a
/// namespace that isn't ours. What is mounted in ours everybody has, and everybody isn't to be ended.
fn of_world(dir: &str) -> Vec<i32> {
    let holds = |bytes: Vec<u8>| bytes.windows(dir.len()).any(|window| window == dir.as_bytes());
    let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let here = mounts("self");
    let ours = |pid: &i32| {
        let elsewhere = mounts(&pid.to_string()).is_some_and(|its| Some(its) != here);
        let files =
            if elsewhere { &["cmdline", "environ", "mountinfo"][..] } else { &["cmdline", "environ"] };
        files.iter().any(|file| fs::read(format!("/proc/{pid}/{file}")).is_ok_and(holds))
    };
    let me = std::process::id().cast_signed();
    let mut found = with_children(pids().filter(|pid| *pid != me).filter(ours));
    found.retain(|pid| *pid != me && lives(*pid));
    found
}

/// Ends everything of the world in `dir`, and removes what it left.
pub(crate) fn clean(dir: &Path) {
    let containers = fs::read_dir(dir.join("docker/containers")).into_iter().flatten().flatten();
    let containers: Vec<_> = containers.map(|entry| entry.file_name()).collect();
    for _ in 0..100 {
        let ours = of_world(&dir.display().to_string());
        if ours.is_empty() {
            break;
        }
        signal(&ours, Signal::SIGKILL);
        sleep(Duration::from_millis(50));
    }
    // What an engine that was killed leaves of its containers' control groups; with cgroup v2 there is one of each.
    let groups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for group in groups.chain([PathBuf::from("/sys/fs/cgroup")]) {
        for container in &containers {
            let _ = fs::remove_dir(group.join("docker").join(container));
        }
    }
    let _ = fs::remove_dir_all(dir);
}

/// A process that cleans up behind this one, however it ends.
pub(crate) struct Janitor(Child);

impl Janitor {
    /// In a session of its own, and without the world's name in its arguments.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut command = Command::new("setsid");
        command.arg(std::env::current_exe().unwrap()).arg(JANITOR).env_clear();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{}", dir.display()).unwrap();
        Self(child)
    }
}

impl Drop for Janitor {
    /// Now.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The janitor's part, when this process is it: waits until the other is gone.
pub(crate) fn is_janitor() -> bool {
    if std::env::args().nth(1).as_deref() != Some(JANITOR) {
        return false;
    }
    let mut from = BufReader::new(std::io::stdin());
    let mut dir = String::new();
    if from.read_line(&mut dir).is_ok() && dir.starts_with('/') {
        let _ = from.read_to_end(&mut Vec::new());
        clean(Path::new(dir.trim_end()));
    }
    true
}
