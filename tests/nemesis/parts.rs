//! What Signalbox leans on, as processes of our own that can be killed and frozen: Postgres, Redis, a container engine.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::kin;

/// How long a part may take until it answers.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// Every process of a world has this in its environment, so that it is found again.
pub(crate) const MARK: &str = "SIGNALBOX_NEMESIS_DIR";

/// A part that runs.
pub(crate) struct Part {
    name: &'static str,
    child: Child,
    make: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
}

impl Part {
    pub(crate) fn start(
        name: &'static str,
        dir: &Path,
        make: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Self {
        let make = Box::new(make);
        let log = dir.join("log").join(format!("{name}.log"));
        Self { child: spawn(make(), dir, &log), name, make, log }
    }

    /// Starts it again, after [`Self::kill`].
    pub(crate) fn again(&mut self, dir: &Path) {
        self.child = spawn((self.make)(), dir, &self.log);
    }

    /// Its own process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// It and its children, in any order.
    pub(crate) fn pids(&self) -> Vec<i32> {
        kin::with_children([self.child.id().cast_signed()])
    }

    /// SIGKILL, to all of it.
    pub(crate) fn kill(&mut self) {
        let kin = self.pids();
        // Without its head nothing new is made.
        let _ = self.child.kill();
        kin::signal(&kin, Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// SIGSTOP, to all of it; gives those that are to be continued.
    pub(crate) fn freeze(&self) -> Vec<i32> {
        let kin = self.pids();
        kin::signal(&kin, Signal::SIGSTOP);
        kin
    }

    /// SIGTERM, and a while for it.
    pub(crate) async fn leave(&mut self, within: Duration) {
        kin::signal(&[self.child.id().cast_signed()], Signal::SIGTERM);
        let deadline = Instant::now() + within;
        while Instant::now() < deadline && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            sleep(Duration::from_millis(50)).await;
        }
        self.kill();
    }

    /// Waits until it answers. One that gives up at its start, because something of its former life isn't gone yet, is
    /// started again.
    pub(crate) async fn up<F: Future<Output = bool>>(&mut self, dir: &Path, mut answers: impl FnMut() -> F) {
        let deadline = Instant::now() + UP_WITHIN;
        while !answers().await {
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(Instant::now() < deadline, "{} doesn't answer:\n{}", self.name, log());
            sleep(Duration::from_millis(50)).await;
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                self.again(dir);
            }
        }
    }
}

fn spawn(mut command: Command, dir: &Path, log: &Path) -> Child {
    let words = OpenOptions::new().create(true).append(true).open(log).unwrap();
    command.env(MARK, dir).stdin(Stdio::null()).stdout(words.try_clone().unwrap()).stderr(words);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A port that nobody listens on now, below those that the kernel hands out itself.
pub(crate) fn free_port() -> u16 {
    loop {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).unwrap();
        let port = 20_000 + u16::from_le_bytes(bytes) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The folder of the newest Postgres's programs.
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.flatten().map(|entry| entry.path()).max_by_key(number)?;
    Some(newest.join("bin")).filter(|bin| bin.join("postgres").exists())
}

/// As Postgres's own user, since it refuses to be root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command
}

/// A new Postgres, on this port; its superuser is `signalbox`.
pub(crate) fn postgres(dir: &Path, port: u16, password: &str) -> Part {
    let programs = postgres_programs().expect("Postgres");
    let (data, secret) = (dir.join("postgres"), dir.join("password"));
    fs::create_dir(&data).unwrap();
    fs::write(&secret, password).unwrap();
    for path in [&data, &secret] {
        assert!(Command::new("chown").arg("postgres:").arg(path).status().unwrap().success());
    }
    let made = as_postgres(&programs.join("initdb"))
        .arg("-D")
        .arg(&data)
        .arg(format!("--pwfile={}", secret.display()))
        // Not SCRAM, whose thousands of rounds take an unoptimised client so long that it isn't in time for anything.
        .args(["--username=signalbox", "--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Part::start("postgres", dir, move || {
        let mut command = as_postgres(&programs.join("postgres"));
        command.arg("-D").arg(&data).arg("-c").arg(format!("port={port}"));
        // What it has said is written survives its death, though not that of the machine.
        for option in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"] {
            command.arg("-c").arg(option);
        }
        command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        command
    })
}

/// A new Redis, on this port, that keeps nothing over its end.
pub(crate) fn redis(dir: &Path, port: u16, password: &str) -> Part {
    let config = dir.join("redis.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {}\nsave \"\"\nappendonly no\nset-proc-title no\n",
        dir.display()
    );
    fs::write(&config, text).unwrap();
    Part::start("redis", dir, move || {
        let mut command = Command::new("redis-server");
        command.arg(&config);
        command
    })
}

/// A mount namespace that outlives the engines in it, as a host's does; the system's containerd is out of sight there. It
/// is ready when this comes back.
pub(crate) fn den(dir: &Path) -> Part {
    let den = Part::start("den", dir, || {
        let mut command = Command::new("unshare");
        let script = "[ ! -d /run/containerd ] || mount -t tmpfs -o mode=711 tmpfs /run/containerd; exec sleep 1000000";
        command.args(["--mount", "--propagation", "slave", "sh", "-c", script]);
        command
    });
    let comm = format!("/proc/{}/comm", den.pid());
    let deadline = std::time::Instant::now() + UP_WITHIN;
    while fs::read_to_string(&comm).unwrap().trim_end() != "sleep" {
        assert!(std::time::Instant::now() < deadline, "the den isn't ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    den
}

/// A new engine in that den, without a network.
pub(crate) fn engine(dir: &Path, den: i32) -> Part {
    fs::write(dir.join("daemon.json"), "{}").unwrap();
    let dir = dir.to_owned();
    Part::start("dockerd", &dir.clone(), move || {
        let at = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{den}/ns/mnt")).arg("dockerd");
        command.args(["--config-file", &at("daemon.json"), "--data-root", &at("docker")]);
        command.args(["--exec-root", &at("x"), "--pidfile", &at("pid")]);
        command.args(["-H", &format!("unix://{}", at("engine.sock"))]);
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        command
    })
}
