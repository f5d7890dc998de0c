//! The Docker engine, against a real one at `DOCKER_HOST`. Without it these tests are skipped, unless `CI` is set.
//!
//! The image is made here, once: Debian's static busybox, an entrypoint that keeps to the agent image's contract, and a
//! `claude` that runs its prompt as a shell script. So each test writes its own agent: one that ignores signals, floods,
//! or hangs.

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder};
use futures_util::StreamExt;
use signalbox::engine::docker::Docker;
use signalbox::engine::{Cell, Engine, Error, Exit, Left, Output, Signal, Stage, Status};
use signalbox::model::agent::Limits;
use signalbox::model::found::{Kind, Leftover};

use crate::{image, stop_all};

const IMAGE: &str = "signalbox-test-agent:latest";
const KILLED: Status = Status::Exited(Exit { code: 137, oom: false });

/// Ignores all that can be ignored.
const STUBBORN: &str = "trap '' INT TERM HUP; echo up; while :; do sleep 1; done";

/// A fleet of its own at the engine, cleared away at the end.
struct Host {
    engine: Docker,
    fleet: String,
    address: String,
    dir: PathBuf,
}

impl Host {
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let address = engine_address()?;
        make_image(&address);
        let fleet = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let engine = Docker::connect(Some(&address), &fleet, "worker-1").unwrap().with_image(IMAGE);
        let dir = std::env::temp_dir().join(&fleet);
        fs::create_dir_all(&dir).unwrap();
        Some(Self { engine, fleet, address, dir })
    }

    fn cell(&self, run: i64, script: &str) -> Cell {
        let gate_dir = self.dir.join(run.to_string());
        fs::create_dir_all(&gate_dir).unwrap();
        fs::set_permissions(&gate_dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(gate_dir.join("prompt"), script).unwrap();
        Cell {
            run,
            fence: 7,
            image: IMAGE.to_owned(),
            model: None,
            limits: Limits { memory_mib: 64, milli_cpus: 500, pids: 32, time: Duration::from_secs(60) },
            gate_dir,
            gate_token: "token-of-this-run".to_owned(),
        }
    }

    /// Starts a run and waits for its first line.
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

    fn api(&self) -> bollard::Docker {
        bollard::Docker::connect_with_unix(&self.address, 10, bollard::API_DEFAULT_VERSION).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let listed = docker(
            &self.address,
            &["ps", "-aq", "--filter", &format!("label=signalbox.fleet={}", self.fleet)],
        );
        for container in listed.split_whitespace() {
            docker(&self.address, &["rm", "-f", container]);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are told where the engine is")]
fn engine_address() -> Option<String> {
    let address = std::env::var("DOCKER_HOST").ok().filter(|address| !address.is_empty());
    if address.is_none() {
        assert!(std::env::var_os("CI").is_none(), "DOCKER_HOST isn't set, and CI skips nothing");
        let thread = std::thread::current();
        eprintln!("SKIPPED {}: DOCKER_HOST isn't set", thread.name().unwrap_or_default());
    }
    address
}

fn docker(address: &str, arguments: &[&str]) -> String {
    let done = Command::new("docker").args(arguments).env("DOCKER_HOST", address).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

fn make_image(address: &str) {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("signalbox-test-image-{}", std::process::id()));
        let tools =
            ["sh", "sleep", "cat", "id", "ls", "head", "yes", "touch", "env", "grep", "seq", "ps", "setsid"];
        let scripts = [
            ("bin/claude", "#!/bin/sh\nexec sh -c \"$(cat)\"\n"),
            ("entrypoint", "#!/bin/sh\nexec \"$@\" </gate/prompt\n"),
        ];
        image::make(address, IMAGE, &root, &tools, &scripts);
    });
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} didn't come within 20 s"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_start_to_removal() {
    let Some(host) = Host::new() else { return };
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
    engine.remove(&container).await.unwrap();
    engine.remove(&container).await.unwrap();
    assert_eq!(engine.inspect(&container).await.unwrap(), Status::Absent);
    assert!(matches!(engine.signal(&container, Signal::Kill).await, Err(Error::Absent)));
    assert!(matches!(soon("an answer", engine.wait(&container)).await, Err(Error::Absent)));
    let first = soon("an answer", engine.output(&container).next()).await;
    assert!(matches!(first, Some(Err(Error::Absent))), "{first:?}");
    assert_eq!(engine.list().await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cell_has_the_walls_it_claims() {
    let Some(host) = Host::new() else { return };
    let script = "
        grep -E '^(Cap(Eff|Prm|Bnd|Inh|Amb)|NoNewPrivs|Seccomp):' /proc/self/status
        echo id $(id -u):$(id -g)
        echo interfaces $(ls /sys/class/net)
        for d in / /etc /gate /bin; do touch $d/x 2>/dev/null && echo can write $d; done
        for d in /tmp /home/agent /workspace; do touch $d/x && echo wrote $d; done
        echo in $PWD home $HOME
        env
        ls /dev
        echo end";
    let container = host.engine.start(&host.cell(2, script)).await.unwrap();
    assert_eq!(soon("the end", host.engine.wait(&container)).await.unwrap().code, 0);
    let (said, _) = host.all_output(&container).await;
    for kind in ["Eff", "Prm", "Bnd", "Inh", "Amb"] {
        assert!(said.contains(&format!("Cap{kind}:\t0000000000000000\n")), "{said}");
    }
    for line in
        ["NoNewPrivs:\t1", "Seccomp:\t2", "id 1000:1000", "interfaces lo", "in /workspace home /home/agent"]
    {
        assert!(said.lines().any(|other| other == line), "{line:?} isn't in {said}");
    }
    for folder in ["/tmp", "/home/agent", "/workspace"] {
        assert!(said.contains(&format!("wrote {folder}\n")), "{said}");
    }
    assert!(!said.contains("can write"), "{said}");
    assert!(said.contains("ANTHROPIC_BASE_URL=http://127.0.0.1:9000\n"), "{said}");
    let keys: Vec<&str> =
        said.lines().filter(|line| line.contains("KEY") || line.contains("TOKEN")).collect();
    assert_eq!(keys, ["ANTHROPIC_API_KEY=token-of-this-run"], "the gate's token and nothing else");

    let found = host.api().inspect_container(&container, None::<InspectContainerOptions>).await.unwrap();
    let walls = found.host_config.unwrap();
    assert_eq!(walls.network_mode.as_deref(), Some("none"));
    assert_eq!(walls.readonly_rootfs, Some(true));
    assert_eq!(walls.privileged, Some(false));
    assert_eq!(walls.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(walls.cap_add.unwrap_or_default(), Vec::<String>::new());
    assert_eq!(walls.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!(walls.ipc_mode.as_deref(), Some("private"));
    assert_eq!(walls.pid_mode.unwrap_or_default(), "");
    assert_eq!(walls.init, Some(true));
    assert_eq!((walls.memory, walls.memory_swap), (Some(64 << 20), Some(64 << 20)));
    assert_eq!((walls.nano_cpus, walls.pids_limit), (Some(500_000_000), Some(32)));
    assert_eq!(walls.binds, Some(vec![format!("{}:/gate:ro", host.dir.join("2").display())]));
    assert_eq!(walls.restart_policy.unwrap().name.unwrap().to_string(), "no");
    assert_eq!(walls.auto_remove, Some(false));
    assert_eq!(walls.log_config.unwrap().typ.as_deref(), Some("json-file"));
    let mut folders: Vec<String> = walls.tmpfs.unwrap().into_keys().collect();
    folders.sort();
    assert_eq!(folders, ["/home/agent", "/tmp", "/workspace"]);
    let config = found.config.unwrap();
    assert_eq!(config.user.as_deref(), Some("1000:1000"));
    let labels: HashMap<String, String> = config.labels.unwrap();
    let label = |name: &str| labels.get(name).map(String::as_str);
    assert_eq!((label("signalbox.run"), label("signalbox.fence")), (Some("2"), Some("7")));
    assert_eq!(
        (label("signalbox.worker"), label("signalbox.fleet")),
        (Some("worker-1"), Some(host.fleet.as_str()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_cli_and_a_stubborn_one_dies_of_the_last() {
    let Some(host) = Host::new() else { return };
    let polite = host
        .started(
            3,
            "trap 'echo int' INT; trap 'echo term; exit 143' TERM; echo up; while :; do sleep 0.1; done",
        )
        .await;
    host.engine.signal(&polite, Signal::Int).await.unwrap();
    let mut said = host.engine.output(&polite);
    let mut text = Vec::new();
    while !text.ends_with(b"int\n") {
        let Output::Stdout(bytes) = soon("int", said.next()).await.unwrap().unwrap() else { continue };
        text.extend(bytes);
    }
    host.engine.signal(&polite, Signal::Term).await.unwrap();
    assert_eq!(soon("the end", host.engine.wait(&polite)).await.unwrap().code, 143);

    let stubborn = host.started(4, STUBBORN).await;
    host.engine.signal(&stubborn, Signal::Int).await.unwrap();
    host.engine.signal(&stubborn, Signal::Term).await.unwrap();
    assert_eq!(host.engine.inspect(&stubborn).await.unwrap(), Status::Alive);
    assert!(matches!(host.engine.remove(&stubborn).await, Err(Error::Refused(_))), "removal doesn't kill");
    assert_eq!(host.engine.inspect(&stubborn).await.unwrap(), Status::Alive);
    host.engine.signal(&stubborn, Signal::Kill).await.unwrap();
    soon("the end", host.engine.wait(&stubborn)).await.unwrap();
    assert_eq!(host.engine.inspect(&stubborn).await.unwrap(), KILLED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_takes_detached_children_and_a_paused_container_too() {
    let Some(host) = Host::new() else { return };
    let container = host
        .started(5, &format!("(trap '' HUP; while :; do sleep 1; done) >/dev/null 2>&1 & {STUBBORN}"))
        .await;
    docker(&host.address, &["pause", &container]);
    assert_eq!(host.engine.inspect(&container).await.unwrap(), Status::Alive);
    host.engine.signal(&container, Signal::Kill).await.unwrap();
    soon("the end", host.engine.wait(&container)).await.unwrap();
    assert_eq!(host.engine.inspect(&container).await.unwrap(), KILLED);
    let processes = Path::new("/sys/fs/cgroup/pids/docker").join(&container).join("cgroup.procs");
    assert!(fs::read_to_string(processes).unwrap_or_default().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_own_kernel_ends_everything_without_a_word_to_the_engine() {
    let Some(host) = Host::new() else { return };
    let script = format!("(setsid sh -c '{STUBBORN}' &) >/dev/null 2>&1; (setsid sleep 1000 &); {STUBBORN}");
    let container = host.started(20, &script).await;
    let other = host.started(21, STUBBORN).await;
    assert!(matches!(host.engine.left(&container).await, Left::Alive(n) if n >= 4));
    let began = Instant::now();
    host.engine.kill_by_host(&container).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(matches!(host.engine.left(&container).await, Left::Empty | Left::Gone));
    soon("the engine's word", host.engine.wait(&container)).await.unwrap();
    assert_eq!(host.engine.inspect(&container).await.unwrap(), KILLED);
    assert_eq!(host.engine.inspect(&other).await.unwrap(), Status::Alive, "nobody else is hit");

    docker(&host.address, &["pause", &other]);
    host.engine.kill_by_host(&other).await.unwrap();
    soon("the engine's word", host.engine.wait(&other)).await.unwrap();
    assert!(matches!(host.engine.left(&other).await, Left::Empty | Left::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_found_by_its_folder_when_the_engine_cant_be_asked() {
    let Some(host) = Host::new() else { return };
    // As a worker keeps them: FOLDER/WORKER/runs/RUN.
    let folder = host.dir.join("worker-1/runs/22");
    fs::create_dir_all(&folder).unwrap();
    let mut cell = host.cell(22, STUBBORN);
    fs::copy(cell.gate_dir.join("prompt"), folder.join("prompt")).unwrap();
    cell.gate_dir = folder.clone();
    let container = host.engine.start(&cell).await.unwrap();
    assert_eq!(host.engine.find_by_host(&folder).await.unwrap(), Some(container.clone()));
    assert_eq!(host.engine.find_by_host(&folder.with_file_name("23")).await.unwrap(), None);
    // A worker's next life has never seen it; its processes tell all the same.
    let next_life = Docker::connect(Some(&host.address), &host.fleet, "worker-1").unwrap();
    next_life.kill_by_host(&container).await.unwrap();
    soon("the engine's word", host.engine.wait(&container)).await.unwrap();
    assert_eq!(host.engine.find_by_host(&folder).await.unwrap(), None);
    let elsewhere = Docker::connect(Some("tcp://127.0.0.1:9"), &host.fleet, "worker-1").unwrap();
    assert_eq!(elsewhere.left(&container).await, Left::Unseen, "another host's processes aren't ours to see");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_outlives_the_cli_ends_with_it() {
    let Some(host) = Host::new() else { return };
    let container = host
        .engine
        .start(&host.cell(6, "(trap '' HUP TERM; while :; do sleep 1; done) & echo done"))
        .await
        .unwrap();
    assert_eq!(soon("the end", host.engine.wait(&container)).await.unwrap().code, 0);
    assert_eq!(host.all_output(&container).await.0, "done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_comes_whole_and_in_order_and_twice_the_same() {
    let Some(host) = Host::new() else { return };
    let container = host
        .engine
        .start(&host.cell(7, "seq 1 50000; head -c 100000 /dev/zero | busybox tr '\\0' x; echo"))
        .await
        .unwrap();
    let (live, _) = host.all_output(&container).await;
    let (again, _) = host.all_output(&container).await;
    let mut lines = live.lines();
    for n in 1..=50_000 {
        assert_eq!(lines.next(), Some(n.to_string().as_str()));
    }
    assert_eq!(lines.next().map(str::len), Some(100_000), "a line longer than the engine's own pieces");
    assert!(live == again);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_and_the_kernels_word_is_handed_on() {
    let Some(host) = Host::new() else { return };
    let container = host
        .engine
        .start(
            &host.cell(8, "exec head -c 200000000 /dev/zero | busybox tail -c 190000000 >/dev/null; exit 9"),
        )
        .await
        .unwrap();
    let exit = soon("the end", host.engine.wait(&container)).await.unwrap();
    assert!(exit.oom, "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workers_and_another_fleets_containers_are_never_listed() {
    let Some(host) = Host::new() else { return };
    host.started(9, STUBBORN).await;
    let other_worker = Docker::connect(Some(&host.address), &host.fleet, "worker-2").unwrap();
    let other_fleet = Docker::connect(Some(&host.address), "test-else", "worker-1").unwrap();
    assert_eq!(host.engine.list().await.unwrap().len(), 1);
    assert_eq!(other_worker.list().await.unwrap(), vec![]);
    assert_eq!(other_fleet.list().await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_labels_say_too_little_is_listed_for_every_worker_of_its_fleet() {
    let Some(host) = Host::new() else { return };
    let fleet = format!("--label=signalbox.fleet={}", host.fleet);
    let make = |labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| format!("--label=signalbox.{label}")).collect();
        let labels = labels.iter().map(String::as_str);
        let made: Vec<&str> = ["create", &fleet].into_iter().chain(labels).chain([IMAGE]).collect();
        docker(&host.address, &made).trim().to_owned()
    };
    let bare = make(&[]);
    let garbled = make(&["run=abc", "fence=1"]);
    let ours = make(&["worker=worker-1"]);
    let unowned = make(&["run=7", "fence=3"]);
    let strangers = make(&["worker=worker-2", "run=8", "fence=1"]);
    let listed = host.engine.list().await.unwrap();
    let about = |container: &String| {
        listed.iter().find(|found| found.container == *container).map(|found| (found.run, found.fence))
    };
    assert_eq!((about(&bare), about(&garbled), about(&ours)), (Some((0, 0)), Some((0, 1)), Some((0, 0))));
    assert_eq!((about(&unowned), about(&strangers)), (Some((7, 3)), None));
    let other_fleet = Docker::connect(Some(&host.address), "test-else", "worker-1").unwrap();
    assert_eq!(other_fleet.list().await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_started_again_behind_our_back_is_told_from_one_that_is_waited_for() {
    let Some(host) = Host::new() else { return };
    let container = host.started(12, "echo up; sleep 1000").await;
    let (engine, waited) = (host.engine.clone(), container.clone());
    let wait = tokio::spawn(async move { engine.wait(&waited).await });
    docker(&host.address, &["restart", "--time", "0", &container]);
    let ended = soon("an answer", wait).await.unwrap();
    // Between its two lives it is over; whoever looks just then sees that.
    let over = Ok(Exit { code: 137, oom: false });
    assert!(ended == Err(Error::Restarted) || ended == over, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_is_refused_with_a_reason_and_can_be_removed() {
    let Some(host) = Host::new() else { return };
    let without = Cell { image: "no-such-image:1".to_owned(), ..host.cell(10, "true") };
    let Err(Error::Refused(reason)) = host.engine.start(&without).await else { panic!("it started") };
    assert_eq!(reason, "it has no image \"no-such-image:1\"");
    assert_eq!(host.engine.list().await.unwrap(), vec![]);

    let cell = host.cell(11, "true");
    fs::remove_dir_all(&cell.gate_dir).unwrap();
    fs::write(&cell.gate_dir, "a file where a folder should be").unwrap();
    assert!(host.engine.start(&cell).await.is_err());
    for left in host.engine.list().await.unwrap() {
        assert_eq!(left.stage, Stage::Created);
        host.engine.remove(&left.container).await.unwrap();
    }
    assert_eq!(host.engine.list().await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_is() {
    let Some(host) = Host::new() else { return };
    let about = host.engine.about().await.unwrap();
    assert!(
        about.sandboxed && about.line.starts_with("Docker ") && about.line.contains("seccomp"),
        "{about:?}"
    );
    assert_eq!(about.claude.as_deref(), Some("9.9.9"));
    eprintln!("{}", about.line);
}

/// Prints how long kill → confirmed takes through the engine, and beside it the floor: a bare kill and wait through the
/// API with nothing of ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_kill_costs_little_more_than_the_apis_own() {
    let Some(host) = Host::new() else { return };
    const ROUNDS: i64 = 7;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let api = host.api().negotiate_version().await.unwrap();
    for round in 0..ROUNDS {
        let container = host.started(100 + round, STUBBORN).await;
        let waiting = {
            let engine = host.engine.clone();
            let c = container.clone();
            tokio::spawn(async move { engine.wait(&c).await })
        };
        let begun = Instant::now();
        host.engine.signal(&container, Signal::Kill).await.unwrap();
        soon("the end", waiting).await.unwrap().unwrap();
        ours.push(begun.elapsed());

        let container = host.started(200 + round, STUBBORN).await;
        let wait = bollard::query_parameters::WaitContainerOptionsBuilder::default()
            .condition("not-running")
            .build();
        let mut waiting = std::pin::pin!(api.wait_container(&container, Some(wait)));
        let begun = Instant::now();
        let kill = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let (killed, _) = tokio::join!(api.kill_container(&container, Some(kill)), waiting.next());
        killed.unwrap();
        bare.push(begun.elapsed());
    }
    ours.sort();
    bare.sort();
    let (ours, bare) = (ours[ours.len() / 2], bare[bare.len() / 2]);
    eprintln!("kill → confirmed: {ours:?}; through the bare API: {bare:?} (medians of {ROUNDS})");
    assert!(ours < bare * 3 + Duration::from_millis(100), "{ours:?} against {bare:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_beside_an_agent_runs_in_its_workspace_and_within_bounds() {
    let Some(host) = Host::new() else { return };
    let container = host.started(301, "echo mine > file; echo up; sleep 60").await;
    let exec = async |argv: &[&str], limit, ms| {
        soon("an answer", host.engine.exec(&container, argv, limit, Duration::from_millis(ms))).await
    };
    let done = exec(&["cat", "file"], 100, 10_000).await.unwrap();
    assert_eq!((done.code, done.stdout.as_slice(), done.cut), (Some(0), b"mine\n".as_slice(), false));
    let done = exec(&["env", "A=b", "id", "-u"], 100, 10_000).await.unwrap();
    assert_eq!(done.stdout, b"1000\n", "as the agent's user");
    let done = exec(&["cat", "/no/such/file"], 100, 10_000).await.unwrap();
    assert!(done.code == Some(1) && !done.stderr.is_empty() && done.stdout.is_empty(), "{done:?}");
    let done = exec(&["env", "no-such-program"], 100, 10_000).await.unwrap();
    assert_eq!(done.code, Some(127));
    let done = exec(&["yes"], 1000, 10_000).await.unwrap();
    assert_eq!((done.code, done.stdout.len(), done.cut), (None, 1000, true));
    let late = exec(&["sleep", "61"], 100, 500).await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    host.engine.signal(&container, Signal::Kill).await.unwrap();
    soon("the end", host.engine.wait(&container)).await.unwrap();
    let after = exec(&["true"], 100, 10_000).await;
    assert!(matches!(after, Err(Error::NotRunning)), "{after:?}");
    host.engine.remove(&container).await.unwrap();
    assert!(matches!(exec(&["true"], 100, 10_000).await, Err(Error::Absent)));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_all_kills_containers_by_the_host_and_waits_for_no_engine() {
    let Some(host) = Host::new() else { return };
    let mut containers = Vec::new();
    for run in 1..=6 {
        let gate_dir = host.dir.join("w1/runs").join(run.to_string());
        fs::create_dir_all(gate_dir.parent().unwrap()).unwrap();
        let cell = host.cell(run, STUBBORN);
        fs::rename(&cell.gate_dir, &gate_dir).unwrap();
        containers.push(host.engine.start(&Cell { gate_dir, ..cell }).await.unwrap());
    }
    fs::write(host.dir.join("w1/lock"), "").unwrap();
    let mut pids = Vec::new();
    for container in &containers {
        let found = host.api().inspect_container(container, None::<InspectContainerOptions>).await.unwrap();
        pids.push(i32::try_from(found.state.unwrap().pid.unwrap()).unwrap());
    }
    let hanging = stop_all::Hanging::at(host.dir.join("engine.sock"));
    let done = stop_all::stop_all(&host.dir, &host.fleet, &hanging.address());
    stop_all::until("all dead", || !pids.iter().any(|pid| stop_all::lives(*pid))).await;
    assert!(!hanging.was_given_up(), "the engine was waited for before the last kill");
    let done = done.await.unwrap();
    let said = stop_all::said(&done);
    assert!(done.status.success() && said.contains("6 stopped, 0 alive"), "{done:?}");
    assert_eq!(said.matches("nothing of it is left; the engine doesn't answer").count(), 6, "{said}");
    for container in &containers {
        assert_eq!(soon("the end", host.engine.wait(container)).await.unwrap().code, 137);
    }
}

/// Asks the engine at this address, and gives what it says.
fn told(address: &str, words: &[&str]) -> String {
    docker(address, words).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_nothing_uses_are_found_with_age_and_size_and_discarded() {
    let Some(host) = Host::new() else { return };
    let (unused, used) = (format!("{}-unused", host.fleet), format!("{}-used", host.fleet));
    let (ours, other) = (format!("signalbox.fleet={}", host.fleet), format!("{}-other", host.fleet));
    for volume in [&unused, &used] {
        told(&host.address, &["volume", "create", "--label", &ours, volume]);
    }
    told(&host.address, &["volume", "create", "--label", "signalbox.fleet=test-else", &other]);
    let holder = told(&host.address, &["create", "-v", &format!("{used}:/workspace"), IMAGE]);
    let place = told(&host.address, &["volume", "inspect", "-f", "{{.Mountpoint}}", &unused]);
    let wrote = fs::write(Path::new(&place).join("work"), [1; 3000]).is_ok();

    let volumes = async || {
        let found = host.engine.leftovers().await.unwrap();
        found.into_iter().filter(|left| left.kind == Kind::Volume).collect::<Vec<Leftover>>()
    };
    let found = volumes().await;
    assert_eq!(found.iter().map(|left| &left.what).collect::<Vec<_>>(), [&unused]);
    assert_eq!(found[0].bytes, wrote.then_some(3000));
    let age = signalbox::clock::now() - found[0].since.unwrap();
    assert!(age < time::Duration::minutes(5), "{age}");

    let in_use = Leftover { what: used.clone(), ..found[0].clone() };
    assert!(matches!(host.engine.discard(&in_use).await, Err(Error::Refused(_))));
    host.engine.discard(&found[0]).await.unwrap();
    assert_eq!(volumes().await, vec![]);
    told(&host.address, &["rm", &holder]);
    assert_eq!(volumes().await.iter().map(|left| &left.what).collect::<Vec<_>>(), [&used]);
    told(&host.address, &["volume", "rm", &used, &other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_image_that_was_replaced_is_found_and_discarded() {
    let Some(host) = Host::new() else { return };
    let name = format!("{}-image:latest", host.fleet);
    let make = || {
        image::make(&host.address, &name, &host.dir.join("root"), &["sh"], &[("entrypoint", "#!/bin/sh\n")])
    };
    let id = || told(&host.address, &["inspect", "-f", "{{.Id}}", &name]);
    make();
    let (old, found) = (id(), async || host.engine.leftovers().await.unwrap());
    assert!(!found().await.iter().any(|left| left.what == old), "it is in use by its name");
    make();
    let left = found().await.into_iter().find(|left| left.what == old).expect("the old one");
    assert_eq!((left.kind, left.detail.as_str()), (Kind::Image, "Claude Code 9.9.9"));
    assert!(left.bytes.is_some_and(|bytes| bytes > 100_000) && left.since.is_some(), "{left:?}");
    host.engine.discard(&left).await.unwrap();
    assert!(!found().await.iter().any(|left| left.what == old));
    told(&host.address, &["rmi", &name]);
}
