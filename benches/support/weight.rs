//! What a process weighs: its proportional share of memory, which counts what it shares with others only once.

use super::Process;

impl Process {
    /// That share, in KiB (proc_pid_smaps(5)).
    pub(crate) fn pss_kib(&self) -> f64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let said = std::fs::read_to_string(path).expect("alive");
        let line = said.lines().find(|line| line.starts_with("Pss:")).expect("Pss");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
    }

    /// The same in MiB.
    pub(crate) fn pss_mib(&self) -> f64 {
        self.pss_kib() / 1024.0
    }
}
