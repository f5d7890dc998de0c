//! A cell's folder: all that is known of a run in plain processes, and what it proves.
//!
//! ```text
//! spec.json   what to run; 0600, as it holds the gate's token
//! shim.json   the shim's identity: whoever makes this file first may start the run, or make sure that nobody does
//! cli.json    the CLI's identity
//! refused     why it couldn't be started
//! exit.json   its exit code; written when nothing of it is left
//! stdout stderr shim.log home/ tmp/ workspace/
//! ```

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::table::{self, Identity};
use crate::engine::{Exit, Status};

/// The variable that marks every process of a cell.
pub(super) const MARK: &str = "SIGNALBOX_CELL";

/// What a death by SIGKILL looks like; also said of a cell that is over and left no word.
const KILLED: i64 = 137;

/// How old a folder under a passing name is when nobody works on it any more.
const LEFT_BEHIND: Duration = Duration::from_secs(600);

/// What the shim runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) run: i64,
    pub(super) fence: i64,
    /// No other cell has the same.
    pub(super) mark: String,
    pub(super) argv: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) gate_dir: PathBuf,
}

#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes a cell's folder in one step; `AlreadyExists` when there is one.
    pub(super) fn make(cells: &Path, spec: &Spec) -> io::Result<Self> {
        let passing = Self::at(cells.join(format!(".new-{}", spec.run)));
        sweep(cells)?;
        remove_all(&passing.path)?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for inner in ["home", "tmp", "workspace"] {
            builder.create(passing.path.join(inner))?;
        }
        passing.write("spec.json", &serde_json::to_vec(spec)?)?;
        for stream in ["stdout", "stderr", "shim.log"] {
            passing.write(stream, b"")?;
        }
        let folder = Self::at(cells.join(spec.run.to_string()));
        match fs::rename(&passing.path, &folder.path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                remove_all(&passing.path)?;
                Err(ErrorKind::AlreadyExists.into())
            }
            done => done.map(|()| folder),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn spec(&self) -> io::Result<Option<Spec>> {
        self.read("spec.json")
    }

    pub(super) fn shim(&self) -> io::Result<Option<Identity>> {
        self.read("shim.json")
    }

    pub(super) fn cli(&self) -> io::Result<Option<Identity>> {
        self.read("cli.json")
    }

    pub(super) fn set_cli(&self, cli: &Identity) -> io::Result<()> {
        self.write("cli.json", &serde_json::to_vec(cli)?)
    }

    pub(super) fn refusal(&self) -> io::Result<Option<String>> {
        self.read("refused")
    }

    pub(super) fn refuse(&self, why: &str) -> io::Result<()> {
        self.write("refused", &serde_json::to_vec(why)?)
    }

    pub(super) fn set_exit(&self, code: i64) -> io::Result<()> {
        self.write("exit.json", &serde_json::to_vec(&code)?)
    }

    /// Takes the right to start this cell; false when it is taken.
    pub(super) fn claim(&self, own: &Identity) -> io::Result<bool> {
        let passing = format!(".shim.json.{}", own.pid);
        self.write(&passing, &serde_json::to_vec(own)?)?;
        let linked = fs::hard_link(self.file(&passing), self.file("shim.json"));
        fs::remove_file(self.file(&passing))?;
        match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Everything of this cell that lives, but for the shim.
    pub(super) fn living(&self, spec: &Spec) -> io::Result<Vec<Identity>> {
        table::kin(self.shim()?.as_ref(), &format!("{MARK}={}", spec.mark))
    }

    /// Sends SIGKILL to everything of this cell but the shim; says to how many.
    pub(super) fn kill_living(&self, spec: &Spec) -> io::Result<usize> {
        let living = self.living(spec)?;
        Ok(living.iter().filter(|process| process.send(Signal::SIGKILL)).count())
    }

    /// What can be said of the cell. It is over when nothing of it lives, whatever its files say.
    pub(super) fn status(&self) -> io::Result<Status> {
        let Some(spec) = self.spec()? else { return Ok(Status::Absent) };
        let shim = self.shim()?;
        if shim.as_ref().is_some_and(Identity::is_alive) || !self.living(&spec)?.is_empty() {
            return Ok(Status::Alive);
        }
        if shim.is_none() || self.refusal()?.is_some() {
            return Ok(Status::Created);
        }
        // Read last: the shim writes it before it ends.
        let code = self.read("exit.json")?.unwrap_or(KILLED);
        Ok(Status::Exited(Exit { code, oom: false }))
    }

    /// Whether it is worth asking [`Folder::status`] for an end, which costs a look at every process of the machine.
    pub(super) fn may_be_over(&self) -> bool {
        !matches!(self.shim(), Ok(Some(shim)) if shim.is_alive())
    }

    /// Removes it all.
    pub(super) fn remove(&self) -> io::Result<()> {
        let Some(name) = self.path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
        // Out of sight first, since the rest may take long.
        let passing = self.path.with_file_name(format!(".gone-{name}"));
        remove_all(&passing)?;
        fs::rename(&self.path, &passing)?;
        remove_all(&passing)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.file(name)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let passing = self.file(&format!(".{name}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&passing)?;
        file.write_all(bytes)?;
        fs::rename(passing, self.file(name))
    }
}

/// Removes what a worker that died left half made or half removed.
fn sweep(cells: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cells) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let is_passing = entry.file_name().to_string_lossy().starts_with('.');
        let age = || entry.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok();
        if is_passing && age().is_some_and(|age| age > LEFT_BEHIND) {
            remove_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder with all in it; one that is gone is fine.
fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
