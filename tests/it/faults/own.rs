//! Stores and programs of a test's own, which it may kill, freeze and starve.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

/// A port that nobody uses now.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn temp_dir(what: &str) -> PathBuf {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).unwrap();
    let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let dir = std::env::temp_dir().join(format!("signalbox-it-{what}-{name}"));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Waits until something is so, without a runtime.
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// A process; it is killed when the test is over, whatever becomes of the test.
pub(crate) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) {
        self.0.wait().unwrap();
    }

    /// `kill -9`, and waits for the end.
    pub(super) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Redis with nothing in it.
pub(super) struct OwnRedis {
    port: u16,
    dir: PathBuf,
    process: Option<Process>,
}

impl OwnRedis {
    pub(super) fn start() -> Self {
        let mut redis = Self { port: free_port(), dir: temp_dir("redis"), process: None };
        redis.start_again();
        redis
    }

    /// Where it was, and empty.
    pub(super) fn start_again(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        self.process = Some(Process::start(command.arg(&self.dir).stdout(Stdio::null())));
        wait_until("listening", || listens(self.port));
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// A command, past everybody.
    pub(super) async fn tell(&self, words: &[&str]) {
        self.tell_as("", words).await;
    }

    /// A command, with this password.
    pub(super) async fn tell_as(&self, password: &str, words: &[&str]) {
        let url = format!("redis://:{password}@127.0.0.1:{}", self.port);
        let url = if password.is_empty() { self.url() } else { url };
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let _: redis::Value =
            redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap();
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.process = None;
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A Postgres of its own, with its data where the test wants them.
pub(super) struct OwnPostgres {
    port: u16,
    dir: PathBuf,
    options: Vec<String>,
    process: Option<Process>,
}

impl OwnPostgres {
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these options.
    pub(super) fn start_with(options: &[&str]) -> Self {
        Self::start_at(temp_dir("postgres"), options)
    }

    /// In this folder, with these options.
    pub(super) fn start_at(dir: PathBuf, options: &[&str]) -> Self {
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).unwrap();
        }
        let mut init = program("initdb");
        init.args(["--username=postgres", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8"]);
        let made = init.arg("--wal-segsize=1").arg("-D").arg(dir.join("data")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut postgres = Self { port: free_port(), dir, options, process: None };
        postgres.start_again();
        postgres
    }

    /// Where it was, with the data that it had.
    pub(super) fn start_again(&mut self) {
        // What `kill -9` leaves behind may be the number of somebody else by now.
        let _ = fs::remove_file(self.dir.join("data/postmaster.pid"));
        let mut command = program("postgres");
        command.arg("-D").arg(self.dir.join("data")).arg("-p").arg(self.port.to_string());
        let common =
            ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "min_wal_size=2MB"];
        for option in common.iter().copied().chain(self.options.iter().map(String::as_str)) {
            command.args(["-c", option]);
        }
        command.stdout(Stdio::null()).stderr(fs::File::create(self.dir.join("log")).unwrap());
        self.process = Some(Process::start(&mut command));
        let log = self.dir.join("log");
        let ready = "ready to accept connections";
        wait_until("ready", || fs::read_to_string(&log).unwrap_or_default().contains(ready));
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// All its processes: the first, and those that it has made.
    fn processes(&self) -> Vec<Pid> {
        let first = self.process.as_ref().unwrap().pid();
        std::iter::once(first).chain(children(first)).collect()
    }

    /// `kill -9` of all of it.
    pub(super) fn kill(&mut self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        self.process = None;
    }

    pub(super) fn signal_all(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = kill(pid, signal);
        }
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.signal_all(Signal::SIGCONT);
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The processes whose parent this is.
fn children(parent: Pid) -> Vec<Pid> {
    let of = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before it may hold anything but is in parentheses.
        let ppid: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        (ppid == parent.as_raw()).then(|| Pid::from_raw(pid))
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.ok()?)).collect()
}

/// Whom Postgres's programs run as when we are root, since they refuse to be root.
fn unprivileged() -> Option<(u32, u32)> {
    let find = |name| User::from_name(name).ok().flatten();
    let user = geteuid().is_root().then(|| find("postgres").or_else(|| find("nobody")).expect("some user"));
    user.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

/// One of Postgres's programs: of the newest version in Debian's place, else the one on the path.
fn program(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin").join(name)).filter(|it| it.exists()).max();
    let mut command = Command::new(newest.unwrap_or_else(|| PathBuf::from(name)));
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
    command
}

/// The program under test, with nothing but these variables; gives what stands in its `ready:` line.
pub(super) fn signalbox(command: &str, variables: &[(&str, String)]) -> (Process, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    program.arg(command).env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
    let mut process = Process::start(program.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let line = lines.next().expect("a line").unwrap();
    (process, line.strip_prefix("ready: ").expect("the line is ready: …").to_owned())
}

/// A folder that goes with the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(what: &str) -> Self {
        Self(temp_dir(what))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
