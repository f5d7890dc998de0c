//! A program of ours as a process: started, heard, signalled, killed; its words kept in files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// How long a program may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running program. It is killed when the test is over, whatever becomes of the test.
pub(crate) struct Program {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Program {
    /// Starts it with nothing but these variables, its words going to `NAME.out` and `NAME.err` in `logs`.
    pub(crate) fn start(mut command: Command, variables: &[(&str, String)], logs: &Path, name: &str) -> Self {
        let (out, err) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Self { child: command.spawn().unwrap(), out, err }
    }

    /// Waits for its `ready: …` line; gives what stands there.
    pub(crate) async fn ready(&mut self) -> String {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let said = fs::read_to_string(&self.out).unwrap_or_default();
            if let Some(line) = said.lines().find_map(|line| line.strip_prefix("ready: ")) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            let late = Instant::now() > deadline;
            assert!(ended.is_none() && !late, "not ready ({ended:?}): {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it hasn't ended within {within:?}: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that it said.
    pub(crate) fn log(&self) -> String {
        [&self.out, &self.err].map(|file| fs::read_to_string(file).unwrap_or_default()).concat()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
