//! Whether what was measured may be quoted: not while others used the machine, nor when a floor was another at the end than at the
//! beginning. What it is told is text and numbers, so that a test can tell it anything.

use std::collections::{BTreeMap, BTreeSet};

/// What others may use, in processors: a clock, a shell, an idle desktop; no build, no test.
const BUSY: f64 = 0.25;
/// What the medians of the first, the middle and the last third of a floor may be apart.
const DRIFT: f64 = 1.25;
/// With fewer, a third has no median worth the name.
const FEWEST: usize = 9;

/// What all processors have done until a moment, in the kernel's ticks (proc(5)).
pub(crate) struct Work {
    processors: u64,
    /// Idle or not.
    passed: u64,
    /// With what the hypervisor gave to its other guests.
    spent: u64,
    by: BTreeMap<u32, Process>,
}

struct Process {
    name: String,
    parent: u32,
    ticks: u64,
}

impl Work {
    /// From `/proc/stat` and the `/proc/N/stat` of every process.
    pub(crate) fn read(stat: &str, processes: impl IntoIterator<Item = String>) -> Option<Self> {
        let lines = stat.lines().filter(|line| line.starts_with("cpu"));
        let all = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = all.split_whitespace().take(8).filter_map(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, waiting, irq, softirq, stolen] = ticks[..] else { return None };
        let spent = user + nice + system + irq + softirq + stolen;
        let by = processes.into_iter().filter_map(|text| Process::read(&text)).collect();
        Some(Self { processors: lines.count() as u64 - 1, passed: spent + idle + waiting, spent, by })
    }

    /// The topmost of those above a process, itself among them, that is so; else itself.
    pub(crate) fn topmost(&self, pid: u32, is_so: impl Fn(u32) -> bool) -> u32 {
        let above = std::iter::successors(Some(pid), |pid| Some(self.by.get(pid)?.parent));
        above.filter(|pid| is_so(*pid)).last().unwrap_or(pid)
    }

    /// A process and all that it has started.
    fn below(&self, root: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::from([root]);
        loop {
            let more = self.by.iter().filter(|(_, process)| found.contains(&process.parent));
            let more: Vec<u32> = more.map(|(pid, _)| *pid).filter(|pid| !found.contains(pid)).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }
}

impl Process {
    fn read(stat: &str) -> Option<(u32, Self)> {
        // A name may hold spaces and brackets.
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some((pid.parse().ok()?, Self { name: name.to_owned(), parent: fields[1].parse().ok()?, ticks }))
    }
}

/// Says who else used the machine between two looks, if more than a little: everything but `ours` and what it has started.
pub(crate) fn busy(before: &Work, after: &Work, ours: u32) -> Option<String> {
    let passed = after.passed.saturating_sub(before.passed);
    if passed == 0 {
        return Some("nobody knows whether the machine is busy: its clock stands".to_owned());
    }
    let share = |ticks: u64| ticks as f64 * after.processors as f64 / passed as f64;
    let ours = after.below(ours);
    let mut own = 0;
    let mut others: BTreeMap<&str, u64> = BTreeMap::new();
    for (pid, now) in &after.by {
        let before = before.by.get(pid).map_or(0, |then| then.ticks);
        let sum = if ours.contains(pid) { &mut own } else { others.entry(&now.name).or_default() };
        *sum += now.ticks.saturating_sub(before);
    }
    let used = share(after.spent.saturating_sub(before.spent).saturating_sub(own));
    (used > BUSY).then(|| {
        let mut most: Vec<_> = others.into_iter().map(|(name, ticks)| (share(ticks), name)).collect();
        most.sort_by(|a, b| b.0.total_cmp(&a.0));
        let named = most.iter().take(3).filter(|(share, _)| *share >= 0.05);
        let named: Vec<String> = named.map(|(share, name)| format!("{name} {share:.2}")).collect();
        let named =
            if named.is_empty() { "by nobody who can be seen here".to_owned() } else { named.join(", ") };
        format!("the machine is busy: {used:.2} processors are used beside the bench ({named})")
    })
}

/// Says that a floor didn't stay where it was while the rest was measured, in turns with it.
pub(crate) fn drifted(floor: &str, times: &[f64]) -> Option<String> {
    if times.len() < FEWEST {
        return Some(format!(
            "{floor} was measured {} times, too few to tell whether it drifts",
            times.len()
        ));
    }
    let third = times.len().div_ceil(3);
    let medians: Vec<f64> = times.chunks(third).map(median).collect();
    let least = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let most = medians.iter().copied().fold(0.0, f64::max);
    (most > DRIFT * least).then(|| {
        let medians: Vec<String> = medians.iter().map(|ms| format!("{ms:.3}")).collect();
        format!("{floor} drifted: {} ms in its three thirds, more than {DRIFT} apart", medians.join(", "))
    })
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
