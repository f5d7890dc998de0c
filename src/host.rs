//! What the kernel says of this host and of this process, read from `/proc`; none where it can't be read.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{SysconfVar, sysconf};

/// Time that processors have spent, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    busy: u64,
    all: u64,
}

impl Spent {
    /// The share that was busy since `before`, from 0 to 1; none when no time has passed.
    pub fn share_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some((self.busy.checked_sub(before.busy)? as f64 / all as f64).clamp(0.0, 1.0))
    }
}

/// What all processors of the host have spent since it started.
pub fn processors() -> Option<Spent> {
    spent(&fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
fn spent(stat: &str) -> Option<Spent> {
    let mut words = stat.lines().next()?.split_ascii_whitespace();
    words.next().filter(|word| *word == "cpu")?;
    let ticks: Vec<u64> = words.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let all = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4).copied().unwrap_or_default();
    Some(Spent { busy: all - idle, all })
}

/// Bytes in use and bytes there are.
pub type Room = (i64, i64);

/// The host's memory. What the kernel could take back at once isn't in use.
pub fn memory() -> Option<Room> {
    room(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn room(meminfo: &str) -> Option<Room> {
    let kib = |name: &str| -> Option<i64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    let total = kib("MemTotal")?.checked_mul(1024)?;
    Some((total - kib("MemAvailable")?.checked_mul(1024)?, total))
}

/// The disk that this folder is on, as df(1) has it: what is kept back for root is neither in use nor there to be used.
pub fn disk(folder: &Path) -> Option<Room> {
    let stat = statvfs(folder).ok()?;
    let block = i64::try_from(stat.fragment_size()).ok()?;
    let bytes = |blocks| i64::try_from(blocks).ok()?.checked_mul(block);
    let used = bytes(stat.blocks())? - bytes(stat.blocks_free())?;
    Some((used, used + bytes(stat.blocks_available())?))
}

/// The memory of this process that is in use, in bytes.
pub fn own_memory() -> Option<i64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(sysconf(SysconfVar::PAGE_SIZE).ok()??)
}

/// How many seconds of processor time this process has spent.
pub fn own_seconds() -> Option<f64> {
    let ticks = own_ticks(&fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(ticks as f64 / sysconf(SysconfVar::CLK_TCK).ok()?? as f64)
}

/// utime and stime; the program's name before them may hold anything, spaces and brackets too (proc_pid_stat(5)).
fn own_ticks(stat: &str) -> Option<u64> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?)
}

/// The host's name; none when it hasn't one that can be read.
pub fn name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_processors_is_between_two_looks() {
        let look = |text| spent(text).unwrap();
        let before = look("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 1 1 1\n");
        let after = look("cpu  150 0 50 840 60 0 0 0 0 0\n");
        assert_eq!(after.share_since(before), Some(0.5));
        assert_eq!(after.share_since(after), None);
        assert_eq!(before.share_since(after), None);
        assert_eq!(spent("intr 5"), None);
    }

    #[test]
    fn memory_that_could_be_taken_back_is_not_in_use() {
        assert_eq!(
            room("MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n"),
            Some((600 * 1024, 1000 * 1024))
        );
        assert_eq!(room("MemTotal:       1000 kB\n"), None);
    }

    #[test]
    fn a_name_with_brackets_hides_no_ticks() {
        assert_eq!(own_ticks("7 (a) (b c) S 1 1 1 0 -1 0 0 0 0 0 30 12 0 0"), Some(42));
    }

    #[test]
    fn this_host_can_be_measured() {
        assert!(processors().is_some() && own_memory().unwrap() > 0 && own_seconds().is_some());
        for (used, total) in [memory().unwrap(), disk(Path::new("/")).unwrap()] {
            assert!(0 < used && used <= total, "{used} of {total}");
        }
    }
}
