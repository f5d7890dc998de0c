//! The kernel's word: which processes there are, and what belongs to them.

use std::fs;
use std::path::Path;

/// A process.
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its arguments and its environment, as the kernel shows them to its user and to root.
    pub(crate) shown: Vec<u8>,
    cgroup: String,
    cwd: String,
}

/// Every process that isn't a zombie.
fn processes() -> Vec<Process> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(Process::read).collect()
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let file = |name: &str| format!("/proc/{pid}/{name}");
        let stat = fs::read_to_string(file("stat")).ok()?;
        // What follows the name, which is in parentheses and may hold anything.
        let state = stat.get(stat.rfind(')')? + 1..)?.trim_start().chars().next()?;
        let mut shown = fs::read(file("cmdline")).unwrap_or_default();
        shown.push(0);
        shown.extend(fs::read(file("environ")).unwrap_or_default());
        let cgroup = fs::read_to_string(file("cgroup")).unwrap_or_default();
        let cwd = fs::read_link(file("cwd")).unwrap_or_default().display().to_string();
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, shown, cgroup, cwd })
    }

    /// Whether these are its arguments, its own name first.
    pub(crate) fn is(&self, arguments: &[&str]) -> bool {
        let shown: Vec<_> = self.shown.split(|byte| *byte == 0).take(arguments.len() + 1).collect();
        shown.iter().zip(arguments).all(|(shown, argument)| *shown == argument.as_bytes())
            && shown.last().is_some_and(|rest| rest.is_empty())
    }

    pub(crate) fn shows(&self, text: &str) -> bool {
        holds(&self.shown, text)
    }
}

/// The processes in a container.
pub(crate) fn of_container(id: &str) -> Vec<Process> {
    let mut all = processes();
    all.retain(|process| process.cgroup.contains(id));
    all
}

/// The processes of the cells of plain processes under this folder: shims, CLIs, and whatever those left behind.
pub(crate) fn of_cells(work_dir: &Path) -> Vec<Process> {
    let cells = format!("{}/", work_dir.join("cells").display());
    let mut all = processes();
    all.retain(|process| process.cwd.starts_with(&cells) || process.shows(&cells));
    all
}

/// Whether these bytes hold this text.
pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
