//! The observer: looks ten times a second, past everybody, which processes live in which cells, and reads the heartbeats
//! that they leave in their workspaces. What it says is the truth that claims are held against.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::history::{Ms, Pen, Record, Sight, now};
use crate::kin;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(80);
/// The longest that it keeps silent when it sees nothing.
const SILENT: Duration = Duration::from_secs(1);

/// A thread of its own, so that nothing else keeps it from looking.
pub(crate) struct Observer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Looks at the containers of the engine whose data are in `engine`.
    pub(crate) fn of(engine: PathBuf, pen: Pen) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = thread::spawn(move || Eyes::new(engine, pen).look_until(&told));
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Eyes {
    engine: PathBuf,
    pen: Pen,
    /// The run of each container seen so far; none for those that are no run's.
    runs: HashMap<String, Option<i64>>,
    /// How far each container's heartbeats have been read.
    read: HashMap<String, u64>,
    /// When the machine started.
    booted: Ms,
}

impl Eyes {
    fn new(engine: PathBuf, pen: Pen) -> Self {
        let up = fs::read_to_string("/proc/uptime").unwrap();
        let booted = now() - uptime(&up).expect("/proc/uptime");
        Self { engine, pen, runs: HashMap::new(), read: HashMap::new(), booted }
    }

    fn look_until(&mut self, over: &AtomicBool) {
        let mut written = Instant::now();
        let mut empty = false;
        while !over.load(Ordering::Relaxed) {
            let from = now();
            let cells = self.look();
            if !cells.is_empty() || !empty || written.elapsed() > SILENT {
                empty = cells.is_empty();
                self.pen.write(&Record::Scan { from, to: now(), cells });
                written = Instant::now();
            }
            thread::sleep(LOOK);
        }
    }

    fn look(&mut self) -> Vec<Sight> {
        let mut cells: BTreeMap<String, Sight> = BTreeMap::new();
        for pid in kin::pids() {
            let Some(container) = container_of(pid) else { continue };
            let Some(run) = self.run(&container) else { continue };
            // In this order: what isn't dead when it is looked at was alive at the time before.
            let at = now();
            if !kin::lives(pid) {
                continue;
            }
            let sight = cells.entry(container.clone()).or_insert_with(|| {
                let (beat, beats) = self.heartbeats(pid, &container).unwrap_or((None, 0));
                Sight { run, container, at, pids: 0, beat, beats }
            });
            sight.at = at;
            sight.pids += 1;
        }
        cells.into_values().collect()
    }

    /// The run that a container's label names, from the engine's own files: they can be read while it hangs.
    fn run(&mut self, container: &str) -> Option<i64> {
        if let Some(known) = self.runs.get(container) {
            return *known;
        }
        let config = self.engine.join("containers").join(container).join("config.v2.json");
        let config = fs::read(config).ok();
        if config.is_none() && self.engine.join("containers").join(container).exists() {
            return None;
        }
        let run = match config.map(|config| serde_json::from_slice::<Value>(&config)) {
            // Half written: later.
            Some(Err(_)) => return None,
            Some(Ok(config)) => {
                config["Config"]["Labels"]["signalbox.run"].as_str().and_then(|run| run.parse().ok())
            }
            // Of another engine.
            None => None,
        };
        self.runs.insert(container.to_owned(), run);
        run
    }

    /// The last heartbeat that is new, and how many are.
    fn heartbeats(&mut self, pid: i32, container: &str) -> Option<(Option<Ms>, u32)> {
        let mut file = File::open(format!("/proc/{pid}/root/workspace/beats")).ok()?;
        let from = self.read.entry(container.to_owned()).or_default();
        file.seek(SeekFrom::Start(*from)).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        *from += whole.len() as u64;
        let beats = whole.lines().filter_map(|line| uptime(line.split_once(' ')?.1));
        let (mut last, mut count) = (None, 0);
        for beat in beats {
            last = last.max(Some(self.booted + beat));
            count += 1;
        }
        Some((last, count))
    }
}

/// Milliseconds, from the first field of `/proc/uptime`.
fn uptime(text: &str) -> Option<Ms> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<Ms>().ok()? * 1000 + hundredths.parse::<Ms>().ok()? * 10)
}

/// The container that a process is in, by its control group.
pub(crate) fn container_of(pid: i32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let id = |line: &str| {
        let last = line.rsplit('/').next()?;
        let id = last.strip_prefix("docker-").and_then(|id| id.strip_suffix(".scope")).unwrap_or(last);
        (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    };
    groups.lines().find_map(id)
}
