//! A program of ours beside a run in plain processes: in its workspace and environment, and found with the rest of the run
//! when that is ended.

use std::ffi::OsString;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::folder::{Folder, MARK};
use super::{handed_on, look};
use crate::engine::{Error, Executed, Result, Status};

/// Runs it to its end, or until it has said more than `limit` bytes. Dropping this ends it.
pub(super) async fn run(folder: &Folder, argv: &[&str], limit: usize) -> Result<Executed> {
    let seen = folder.clone();
    let (status, spec) = look(move || Ok((seen.status()?, seen.spec()?))).await?;
    let (Status::Alive, Some(spec)) = (&status, spec) else {
        return Err(if status == Status::Absent { Error::Absent } else { Error::NotRunning });
    };
    let (program, arguments) =
        argv.split_first().ok_or_else(|| Error::Refused("there is no program to run".to_owned()))?;
    let own: [(&str, OsString); 3] = [
        ("HOME", folder.file("home").into()),
        ("TMPDIR", folder.file("tmp").into()),
        (MARK, spec.mark.into()),
    ];
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(handed_on())
        .envs(own)
        .current_dir(folder.file("workspace"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::Refused(format!("{program} can't be started: {error}")))?;
    let mut group = Group(child.id());
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::Unavailable("its output can't be read".to_owned()));
    };
    let mut done = Executed::default();
    let (mut from_out, mut from_err) = (vec![0; 64 << 10], vec![0; 4 << 10]);
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        tokio::select! {
            read = out.read(&mut from_out), if out_open => match read.map_err(broken)? {
                0 => out_open = false,
                n if done.take_stdout(&from_out[..n], limit) => {}
                _ => return Ok(done),
            },
            read = err.read(&mut from_err), if err_open => match read.map_err(broken)? {
                0 => err_open = false,
                n => done.take_stderr(&from_err[..n]),
            },
        }
    }
    done.code = child.wait().await.map_err(broken)?.code().map(i64::from);
    // Its number may be another's from here on.
    group.0 = None;
    Ok(done)
}

fn broken(error: std::io::Error) -> Error {
    Error::Unavailable(error.to_string())
}

/// Whatever the program started in its group ends with it.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Gone already is what it should be.
            let _ = killpg(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL);
        }
    }
}
