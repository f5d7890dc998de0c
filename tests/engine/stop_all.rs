//! `signalbox stop-all` on a host of plain processes: nothing holds up a kill, and what it says is what is so in the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use signalbox::engine::process::Processes;
use signalbox::engine::{Cell, Engine};
use signalbox::model::agent::Limits;
use signalbox::worker::notes::Note;
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

const STUBBORN: &str = "trap '' INT TERM HUP; while :; do sleep 1; done";

/// An engine that takes every question and answers none.
pub(crate) struct Hanging {
    path: PathBuf,
    given_up: Arc<AtomicBool>,
}

impl Hanging {
    pub(crate) fn at(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let given_up = Arc::<AtomicBool>::default();
        let all = Arc::clone(&given_up);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let mut asked = [0; 4096];
                    while stream.read(&mut asked).await.is_ok_and(|length| length > 0) {}
                    all.store(true, Ordering::SeqCst);
                });
            }
        });
        Self { path, given_up }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Whether anybody has waited for it as long as they would.
    pub(crate) fn was_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }
}

/// Runs the program beside the test.
pub(crate) fn stop_all(work_dir: &Path, fleet: &str, engine: &str) -> JoinHandle<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.args(["stop-all", "--reason", "it is burning"]).env_clear();
    command.env("SIGNALBOX_WORK_DIR", work_dir).env("SIGNALBOX_FLEET", fleet).env("DOCKER_HOST", engine);
    tokio::task::spawn_blocking(move || command.output().unwrap())
}

pub(crate) fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Waits for something that comes about by itself.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "not {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A host with workers' folders, and agents in them.
struct Host {
    dir: PathBuf,
    /// Where something is mounted.
    mounted: Option<PathBuf>,
}

impl Host {
    fn new(workers: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("signalbox-stop-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("work")).unwrap();
        for worker in workers {
            fs::create_dir(dir.join("work").join(worker)).unwrap();
        }
        let claude = dir.join("claude");
        fs::write(&claude, "#!/bin/sh\nexec sh -c \"$(cat)\"\n").unwrap();
        fs::set_permissions(&claude, fs::Permissions::from_mode(0o755)).unwrap();
        let host = Self { dir, mounted: None };
        workers.iter().for_each(|worker| host.move_in(worker));
        host
    }

    /// What tells a worker's folder from another.
    fn move_in(&self, worker: &str) {
        fs::write(self.worker(worker).join("lock"), "").unwrap();
    }

    fn work_dir(&self) -> PathBuf {
        self.dir.join("work")
    }

    fn worker(&self, name: &str) -> PathBuf {
        self.work_dir().join(name)
    }

    fn hanging(&self) -> Hanging {
        Hanging::at(self.dir.join("engine.sock"))
    }

    /// Starts an agent that ends for nothing but SIGKILL.
    async fn start(&self, worker: &str, run: i64) -> i32 {
        let gate_dir = self.dir.join("gates").join(run.to_string());
        fs::create_dir_all(&gate_dir).unwrap();
        fs::write(gate_dir.join("prompt"), STUBBORN).unwrap();
        let cell = Cell {
            run,
            fence: 1,
            image: "none".to_owned(),
            model: None,
            limits: Limits { memory_mib: 64, milli_cpus: 500, pids: 32, time: Duration::from_secs(60) },
            gate_dir,
            gate_token: "t".to_owned(),
        };
        let claude = self.dir.join("claude");
        let shim = Path::new(env!("CARGO_BIN_EXE_signalbox"));
        let engine = Processes::new(&self.worker(worker), claude.to_str().unwrap()).with_shim(shim);
        engine.start(&cell).await.unwrap();
        self.pid(worker, run, "cli.json")
    }

    fn pid(&self, worker: &str, run: i64, file: &str) -> i32 {
        let text = fs::read(self.worker(worker).join("cells").join(run.to_string()).join(file)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
    }

    fn notes(&self, worker: &str) -> Vec<Note> {
        Note::read_all(&self.worker(worker)).unwrap().into_iter().map(|(_, note)| note).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for cli in fs::read_dir(self.work_dir()).into_iter().flatten().flatten() {
            for cell in fs::read_dir(cli.path().join("cells")).into_iter().flatten().flatten() {
                let Ok(text) = fs::read(cell.path().join("cli.json")) else { continue };
                let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let _ = Command::new("kill").arg("-9").arg(value["pid"].to_string()).output();
            }
        }
        if let Some(place) = &self.mounted {
            let _ = Command::new("umount").arg("-l").arg(place).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn lives(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn skipped(why: &str) {
    let thread = std::thread::current();
    eprintln!("SKIPPED {}: {why}", thread.name().unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_die_at_once_though_the_engine_hangs() {
    let host = Host::new(&["w1", "w2"]);
    let engine = host.hanging();
    let mut pids = Vec::new();
    for run in 1..=24 {
        pids.push(host.start(if run % 2 == 0 { "w1" } else { "w2" }, run).await);
    }
    let done = stop_all(&host.work_dir(), "fleet", &engine.address());
    until("all dead", || !pids.iter().any(|pid| lives(*pid))).await;
    assert!(!engine.was_given_up(), "the engine was waited for before the last kill");
    let done = done.await.unwrap();
    let said = said(&done);
    assert!(done.status.success() && engine.was_given_up(), "{done:?}");
    for run in 1..=24 {
        let receipt = said.lines().find(|line| line.starts_with(&format!("run {run} "))).unwrap();
        assert!(receipt.contains("nothing of it is left"), "{receipt}");
    }
    assert!(said.contains("24 stopped, 0 alive") && said.contains("take nothing more"), "{said}");
    assert!(said.contains("w1, w2") || said.contains("w2, w1"), "{said}");
    for worker in ["w1", "w2"] {
        let notes = host.notes(worker);
        assert!(notes.len() == 1 && notes[0].done && notes[0].killed.len() == 12, "{notes:?}");
    }
}

/// A group of version 1 in which nobody dies before the thaw.
struct Freezer(PathBuf);

impl Freezer {
    fn make() -> Option<Self> {
        let group = Path::new("/sys/fs/cgroup/freezer").join(format!("signalbox-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        Some(Self(group))
    }

    fn set(&self, state: &str) {
        fs::write(self.0.join("freezer.state"), state).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.set("THAWED");
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_outlives_a_round_and_not_the_next_is_dead() {
    let Some(freezer) = Freezer::make() else {
        return skipped("needs root and the freezer of cgroup version 1");
    };
    let host = Host::new(&["w1"]);
    let engine = host.hanging();
    let (pid, shim) = (host.start("w1", 1).await, host.pid("w1", 1, "shim.json"));
    fs::write(freezer.0.join("cgroup.procs"), pid.to_string()).unwrap();
    freezer.set("FROZEN");
    let done = stop_all(&host.work_dir(), "fleet", &engine.address());
    // It gives the agent's parent some time, and kills that too.
    until("tried in vain", || !lives(shim)).await;
    assert!(lives(pid));
    freezer.set("THAWED");
    let done = done.await.unwrap();
    assert!(done.status.success() && !lives(pid), "{done:?}");
    let said = said(&done);
    assert!(said.contains("nothing of it is left") && !said.contains("ALIVE"), "{said}");
    let note = host.notes("w1").remove(0);
    assert!(note.killed.len() == 1 && !note.killed[0].proof.contains("ALIVE"), "{note:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_note_finds_no_room_is_said_not_to_be_told() {
    let mut host = Host::new(&["w1", "w2"]);
    let place = host.worker("w2");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&place).stderr(std::process::Stdio::null());
    if !mount.status().is_ok_and(|status| status.success()) {
        return skipped("this user may not mount anything");
    }
    host.mounted = Some(place.clone());
    host.move_in("w2");
    let engine = host.hanging();
    let pids = [host.start("w1", 1).await, host.start("w2", 2).await];
    let mut filler = fs::File::create(place.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 512]).is_ok() {}
    let done = stop_all(&host.work_dir(), "fleet", &engine.address()).await.unwrap();
    let said = said(&done);
    assert!(pids.iter().all(|pid| !lives(*pid)), "a note comes first, and a kill all the same");
    assert_eq!(done.status.code(), Some(1), "{said}");
    let receipt = |run: i64| said.lines().find(|line| line.starts_with(&format!("run {run} "))).unwrap();
    assert!(receipt(2).contains("WORKER w2 IS NOT TOLD"), "{said}");
    assert!(!receipt(1).contains("NOT TOLD"), "{said}");
    assert!(said.contains("2 stopped, 0 alive"), "{said}");
    assert!(said.lines().any(|line| line.ends_with("until somebody lets them: w1.")), "{said}");
    assert_eq!((host.notes("w1").len(), host.notes("w2").len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_said_to_be_told_where_there_is_nobody() {
    let host = Host::new(&[]);
    let done = stop_all(&host.work_dir(), "fleet", &host.hanging().address()).await.unwrap();
    let said = said(&done);
    assert!(done.status.success() && said.contains("0 stopped, 0 alive"), "{said}");
    assert!(!said.contains("take nothing more"), "{said}");
}
