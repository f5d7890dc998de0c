//! The other consoles and queues beside which we are measured: programs in `benches/peers` that say `ready:` and end with their
//! input; some answer a line with a line.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::say;

/// Where they are installed.
pub(crate) struct Peers {
    folder: PathBuf,
}

impl Peers {
    /// Installs what is missing and says all versions.
    pub(crate) fn install() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dev = std::env::var_os("SIGNALBOX_DEV_DIR").map_or_else(|| root.join(".dev"), PathBuf::from);
        let folder = std::path::absolute(dev).expect("a path").join("peers");
        let mut install = Command::new(root.join("benches/peers/install"));
        let done = install.arg(&folder).stderr(Stdio::inherit()).output().expect("runs");
        assert!(done.status.success(), "the peers can't be installed");
        say(String::from_utf8_lossy(&done.stdout).trim_end());
        Self { folder }
    }

    /// Starts one of them; says so when it doesn't.
    pub(crate) fn start(&self, name: &str, command: &[&str], env: &[(&str, &str)]) -> Option<Peer> {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let [program, arguments @ ..] = command else { panic!("a program") };
        // One that isn't on the path is a file of ours.
        let file = self.folder.join(program);
        let program = if file.exists() { file } else { PathBuf::from(program) };
        let mut command = Command::new(program);
        command.args(arguments).envs(env.iter().copied()).current_dir(&self.folder);
        command.env("PORT", port.to_string()).env("TMPDIR", std::env::temp_dir());
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let peer = started.ok().and_then(Peer::once_ready);
        if peer.is_none() {
            say(&format!("{name}: not measured; it doesn't start"));
        }
        peer
    }
}

/// One that runs.
pub(crate) struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// What followed `ready:`.
    pub(crate) ready: String,
}

impl Peer {
    fn once_ready(mut child: Child) -> Option<Self> {
        let (input, output) = (child.stdin.take(), child.stdout.take()?);
        let lines = BufReader::new(output).lines();
        let mut peer = Self { child, input, lines, ready: String::new() };
        loop {
            let line = peer.lines.next()?.ok()?;
            if let Some(ready) = line.strip_prefix("ready:") {
                peer.ready = ready.trim().to_owned();
                return Some(peer);
            }
        }
    }

    /// Says a line and takes the answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().expect("open"), "{line}").expect("listens");
        self.lines.next().expect("a peer has ended").expect("text")
    }

    /// Has it do once what it does, which it answers with milliseconds.
    pub(crate) fn ms(&mut self) -> f64 {
        self.ask("").parse().expect("milliseconds")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends what it has started.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
