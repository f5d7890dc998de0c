//! The process engine, with shell scripts as agents: `claude` here is a script that runs its prompt.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use signalbox::engine::process::Processes;
use signalbox::engine::{Cell, DEADLINE, Engine, Error, Exit, Output, Signal, Stage, Status};
use signalbox::model::agent::Limits;

const KILLED: Status = Status::Exited(Exit { code: 137, oom: false });

/// Ignores all that can be ignored.
const STUBBORN: &str = "trap '' INT TERM HUP; echo up; while :; do sleep 1; done";

struct Host {
    engine: Processes,
    dir: PathBuf,
}

impl Host {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("signalbox-proc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("bin")).unwrap();
        let claude = dir.join("bin/claude");
        let script = "#!/bin/sh\n[ \"$1\" = --version ] && { echo '9.9.9 (Claude Code)'; exit; }\nexec sh -c \"$(cat)\"\n";
        fs::write(&claude, script).unwrap();
        fs::set_permissions(&claude, fs::Permissions::from_mode(0o755)).unwrap();
        Self { engine: open(&dir), dir }
    }

    fn cell(&self, run: i64, script: &str) -> Cell {
        let gate_dir = self.dir.join("gates").join(run.to_string());
        fs::create_dir_all(&gate_dir).unwrap();
        fs::write(gate_dir.join("prompt"), script).unwrap();
        Cell {
            run,
            fence: 7,
            image: "none".to_owned(),
            model: None,
            limits: Limits { memory_mib: 64, milli_cpus: 500, pids: 32, time: Duration::from_secs(60) },
            gate_dir,
            gate_token: "token-of-this-run".to_owned(),
        }
    }

    async fn started(&self, run: i64, script: &str) -> String {
        let container = self.engine.start(&self.cell(run, script)).await.unwrap();
        soon("its first line", self.engine.output(&container).next()).await.unwrap().unwrap();
        container
    }

    async fn all_output(&self, container: &str) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut pieces = self.engine.output(container);
        while let Some(piece) = soon("output", pieces.next()).await {
            match piece.unwrap() {
                Output::Stdout(bytes) => out.extend(bytes),
                Output::Stderr(bytes) => err.extend(bytes),
            }
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn pid(&self, run: i64, file: &str) -> i32 {
        let text = fs::read(self.dir.join("cells").join(run.to_string()).join(file)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
    }

    /// Everything that runs with this host's folder in its command line or environment: what must not be left.
    fn left(&self) -> Vec<String> {
        let needle = self.dir.display().to_string();
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |file: &str| {
                String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default()).into_owned()
            };
            if read("environ").contains(&needle) || read("cmdline").contains(&needle) {
                left.push(read("cmdline").replace('\0', " "));
            }
        }
        left
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.dir.join("cells")).into_iter().flatten().flatten() {
            for file in ["shim.json", "cli.json"] {
                let Ok(text) = fs::read(entry.path().join(file)) else { continue };
                let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let _ = Command::new("kill").arg("-9").arg(value["pid"].to_string()).output();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn open(dir: &Path) -> Processes {
    let claude = dir.join("bin/claude");
    let shim = Path::new(env!("CARGO_BIN_EXE_signalbox"));
    Processes::new(dir, claude.to_str().unwrap()).with_shim(shim)
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} didn't come within 20 s"),
    }
}

/// Waits for something that comes about by itself.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, wait).await;
}

fn signal(pid: i32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_start_to_removal() {
    let host = Host::new();
    let engine = &host.engine;
    let container = engine.start(&host.cell(1, "echo out; echo err >&2; exit 3")).await.unwrap();
    let exit = soon("the end", engine.wait(&container)).await.unwrap();
    assert_eq!(exit, Exit { code: 3, oom: false });
    assert_eq!(engine.inspect(&container).await.unwrap(), Status::Exited(exit));
    assert_eq!(host.all_output(&container).await, ("out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(host.all_output(&container).await.0, "out\n", "the same again when asked again");

    let found = engine.list().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].run, found[0].fence, found[0].stage), (1, 7, Stage::Over));
    assert_eq!(found[0].container, container);

    assert!(matches!(engine.start(&host.cell(1, "true")).await, Err(Error::Exists)));
    assert!(matches!(engine.signal(&container, Signal::Kill).await, Err(Error::NotRunning)));
    assert!(matches!(engine.signal(&container, Signal::Int).await, Err(Error::NotRunning)));
    engine.remove(&container).await.unwrap();
    engine.remove(&container).await.unwrap();
    assert_eq!(engine.inspect(&container).await.unwrap(), Status::Absent);
    assert!(matches!(engine.signal(&container, Signal::Kill).await, Err(Error::Absent)));
    assert!(matches!(soon("an answer", engine.wait(&container)).await, Err(Error::Absent)));
    assert_eq!(engine.list().await.unwrap(), vec![]);
    assert_eq!(engine.inspect("../1").await.unwrap(), Status::Absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_a_home_of_its_own_and_no_variable_of_the_worker() {
    let host = Host::new();
    let container = host.engine.start(&host.cell(2, "env; pwd")).await.unwrap();
    soon("the end", host.engine.wait(&container)).await.unwrap();
    let (said, _) = host.all_output(&container).await;
    let cell = host.dir.join("cells/2");
    assert!(said.contains(&format!("HOME={}\n", cell.join("home").display())), "{said}");
    assert!(said.ends_with(&format!("{}\n", cell.join("workspace").display())), "{said}");
    assert!(said.contains("ANTHROPIC_BASE_URL=http://127.0.0.1:"), "{said}");
    assert!(said.contains("ANTHROPIC_API_KEY=token-of-this-run\n"), "{said}");
    assert!(!said.contains("CARGO"), "{said}");
    let spec = fs::metadata(cell.join("spec.json")).unwrap();
    assert_eq!(spec.permissions().mode() & 0o777, 0o600, "it holds the gate's token");
}

#[tokio::test(flavor = "multi_thread")]
async fn int_and_term_reach_the_cli_and_not_its_children() {
    let host = Host::new();
    let script = "sh -c \"trap 'echo child' INT TERM; while :; do sleep 0.1; done\" & \
                  trap 'echo int' INT; trap 'echo term; exit 143' TERM; echo up; while :; do sleep 0.1; done";
    let container = host.started(3, script).await;
    host.engine.signal(&container, Signal::Int).await.unwrap();
    until("int", || fs::read_to_string(host.dir.join("cells/3/stdout")).unwrap().contains("int")).await;
    host.engine.signal(&container, Signal::Term).await.unwrap();
    assert_eq!(soon("the end", host.engine.wait(&container)).await.unwrap().code, 143);
    assert_eq!(host.all_output(&container).await.0, "up\nint\nterm\n");
    assert_eq!(host.left(), Vec::<String>::new(), "the child went with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_takes_everything_that_descends_from_the_run() {
    let host = Host::new();
    let hide = "setsid sh -c \"trap '' HUP INT TERM; echo hidden; while :; do sleep 1; done\"";
    let script = format!("(({hide} &) &); env -i {hide} & until [ -e go ]; do sleep 0.01; done; {STUBBORN}");
    let container = host.engine.start(&host.cell(4, &script)).await.unwrap();
    let stdout = host.dir.join("cells/4/stdout");
    until("two hidden ones", || fs::read_to_string(&stdout).unwrap() == "hidden\nhidden\n").await;
    fs::write(host.dir.join("cells/4/workspace/go"), "").unwrap();
    until("the stubborn one", || fs::read_to_string(&stdout).unwrap().ends_with("up\n")).await;
    host.engine.signal(&container, Signal::Term).await.unwrap();
    host.engine.signal(&container, Signal::Int).await.unwrap();
    assert_eq!(host.engine.inspect(&container).await.unwrap(), Status::Alive);
    assert!(matches!(host.engine.remove(&container).await, Err(Error::Refused(_))), "removal doesn't kill");

    let begun = Instant::now();
    host.engine.signal(&container, Signal::Kill).await.unwrap();
    soon("the end", host.engine.wait(&container)).await.unwrap();
    eprintln!("processes, kill → confirmed: {:?}", begun.elapsed());
    assert_eq!(host.engine.inspect(&container).await.unwrap(), KILLED);
    assert_eq!(host.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_outlives_the_cli_ends_with_it() {
    let host = Host::new();
    let script = "(trap '' HUP TERM; setsid sh -c 'while :; do sleep 1; done') & echo done; exit 5";
    let container = host.engine.start(&host.cell(5, script)).await.unwrap();
    assert_eq!(soon("the end", host.engine.wait(&container)).await.unwrap().code, 5);
    assert_eq!(host.left(), Vec::<String>::new());
    assert_eq!(host.all_output(&container).await.0, "done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_shim_a_run_is_over_only_when_nothing_of_it_lives() {
    let host = Host::new();
    let container =
        host.started(6, &format!("(setsid sh -c 'while :; do sleep 1; done') & {STUBBORN}")).await;
    signal(host.pid(6, "shim.json"), "KILL");
    until("the shim's end", || !Path::new(&format!("/proc/{}/cmdline", host.pid(6, "shim.json"))).exists())
        .await;
    assert_eq!(host.engine.inspect(&container).await.unwrap(), Status::Alive);
    signal(host.pid(6, "cli.json"), "KILL");
    assert_eq!(host.engine.inspect(&container).await.unwrap(), Status::Alive, "a child lives on");
    assert!(matches!(host.engine.remove(&container).await, Err(Error::Refused(_))));
    host.engine.signal(&container, Signal::Kill).await.unwrap();
    assert_eq!(soon("the end", host.engine.wait(&container)).await.unwrap().code, 137);
    assert_eq!(host.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_is_stopped_doesnt_save_its_run() {
    let host = Host::new();
    let container = host.started(7, STUBBORN).await;
    signal(host.pid(7, "shim.json"), "STOP");
    host.engine.signal(&container, Signal::Kill).await.unwrap();
    assert_eq!(soon("the end", host.engine.wait(&container)).await.unwrap().code, 137);
    assert_eq!(host.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_worker_finds_the_run_and_all_its_output() {
    let host = Host::new();
    let container = host.started(8, "echo one; until [ -e go ]; do sleep 0.01; done; echo two; exit 4").await;
    let next = open(&host.dir);
    let found = next.list().await.unwrap();
    assert_eq!((found.len(), found[0].run, found[0].stage), (1, 8, Stage::Alive));
    let output = next.output(&found[0].container);
    fs::write(host.dir.join("cells/8/workspace/go"), "").unwrap();
    let pieces: Vec<_> = soon("the output", output.collect()).await;
    let text: Vec<u8> = pieces
        .into_iter()
        .flat_map(|piece| match piece.unwrap() {
            Output::Stdout(bytes) | Output::Stderr(bytes) => bytes,
        })
        .collect();
    assert_eq!(text, b"one\ntwo\n");
    assert_eq!(soon("the end", next.wait(&container)).await.unwrap().code, 4);
}

/// The worker here is this test program once more, running the next test.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_is_refused_with_a_reason_and_can_be_removed() {
    let host = Host::new();
    let without =
        Processes::new(&host.dir, "/no/such/claude").with_shim(Path::new(env!("CARGO_BIN_EXE_signalbox")));
    let Err(Error::Refused(reason)) = without.start(&host.cell(10, "true")).await else {
        panic!("it started")
    };
    assert!(reason.contains("/no/such/claude") && !reason.contains("token"), "{reason}");
    let found = soon("the shim's end", async {
        loop {
            let found = without.list().await.unwrap();
            if found[0].stage == Stage::Created {
                return found;
            }
        }
    })
    .await;
    assert!(matches!(without.signal("10", Signal::Kill).await, Err(Error::NotRunning)));
    without.remove(&found[0].container).await.unwrap();
    assert_eq!(without.list().await.unwrap(), vec![]);
    assert_eq!(without.about().await.unwrap().claude, None);

    let broken = Processes::new(&host.dir, "claude").with_shim(Path::new("/bin/false"));
    assert!(matches!(broken.start(&host.cell(11, "true")).await, Err(Error::Refused(_))));
    assert_eq!(broken.inspect("11").await.unwrap(), Status::Created);
    broken.remove("11").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_comes_whole_and_in_order() {
    let host = Host::new();
    let container = host.engine.start(&host.cell(12, "seq 1 300000")).await.unwrap();
    let (said, _) = host.all_output(&container).await;
    assert!(said.lines().map(str::to_owned).eq((1..=300_000).map(|n| n.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_is() {
    let about = Host::new().engine.about().await.unwrap();
    assert_eq!(about.line, "plain processes, unsandboxed");
    assert_eq!((about.sandboxed, about.claude.as_deref()), (false, Some("9.9.9")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_beside_an_agent_runs_in_its_workspace_and_within_bounds() {
    let host = Host::new();
    let container = host.started(31, "echo mine > file; echo up; sleep 60").await;
    let exec = async |argv: &[&str], limit, ms| {
        soon("an answer", host.engine.exec(&container, argv, limit, Duration::from_millis(ms))).await
    };
    let done = exec(&["cat", "file"], 100, 5_000).await.unwrap();
    assert_eq!((done.code, done.stdout.as_slice(), done.cut), (Some(0), b"mine\n".as_slice(), false));
    let done = exec(&["cat", "/no/such/file"], 100, 5_000).await.unwrap();
    assert!(done.code == Some(1) && !done.stderr.is_empty() && done.stdout.is_empty(), "{done:?}");
    let done = exec(&["yes"], 1000, 5_000).await.unwrap();
    assert_eq!((done.code, done.stdout.len(), done.cut), (None, 1000, true));
    let late = exec(&["sleep", "61"], 100, 200).await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    assert!(matches!(exec(&["no-such-program"], 100, 5_000).await, Err(Error::Refused(_))));
    host.engine.signal(&container, Signal::Kill).await.unwrap();
    soon("the end", host.engine.wait(&container)).await.unwrap();
    assert!(matches!(exec(&["true"], 100, 5_000).await, Err(Error::NotRunning)));
    assert!(matches!(host.engine.exec("77", &["true"], 1, DEADLINE).await, Err(Error::Absent)));
    assert_eq!(host.left(), Vec::<String>::new(), "nothing that was run beside it lives on");
}
