//! The process between the worker and a CLI in plain processes: it outlives the worker, keeps what double-forks among
//! its own descendants, bridges a loopback port to the gate's socket, and records the end.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid, setsid};

use super::GATE_URL;
use super::folder::{Folder, MARK, Spec};
use super::table::Identity;

/// How many connections to the gate at once.
const CONNECTIONS: usize = 64;

/// Runs the cell in this folder to its end. This is `signalbox cell DIR`, which the process engine starts; there is no
/// use in calling it by hand.
///
/// # Errors
/// When the folder can't be read or written, or the CLI couldn't be started.
pub fn main(dir: &Path) -> anyhow::Result<()> {
    // A session of its own, so that what ends the worker's doesn't end this. Fails only for who leads one already.
    let _ = setsid();
    let folder = Folder::at(dir.to_path_buf());
    let spec = folder.spec()?.with_context(|| format!("{} is no cell", dir.display()))?;
    prctl::set_child_subreaper(true)?;
    // Before there is any other thread, so that none of them gets these. A child starts with none blocked.
    let signals: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
    signals.thread_block()?;

    if !folder.claim(&Identity::of(std::process::id().cast_signed())?)? {
        anyhow::bail!("somebody else has this cell");
    }
    let cli = match begin(&folder, &spec) {
        Ok(cli) => Pid::from_raw(cli.id().cast_signed()),
        Err(error) => {
            folder.refuse(&format!("{error:#}"))?;
            return Err(error);
        }
    };
    folder.set_cli(&Identity::of(cli.as_raw())?)?;
    let code = tend(cli, &signals)?;
    while folder.kill_living(&spec)? > 0 {
        while reap()?.is_some() {}
        thread::sleep(Duration::from_millis(2));
    }
    folder.set_exit(code)?;
    Ok(())
}

fn begin(folder: &Folder, spec: &Spec) -> anyhow::Result<Child> {
    let bridge = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the gate")?;
    let gate_url = format!("http://{}", bridge.local_addr()?);
    let gate_dir = spec.gate_dir.clone();
    thread::spawn(move || serve(&bridge, &gate_dir));

    let (program, arguments) = spec.argv.split_first().context("no command")?;
    let prompt = File::open(spec.gate_dir.join("prompt")).context("the prompt can't be read")?;
    let append = |name: &str| OpenOptions::new().append(true).open(folder.file(name));
    let mut command = Command::new(program);
    // The shim's own environment is nothing but the engine's few variables.
    command
        .args(arguments)
        .envs(spec.environment.iter().map(|(name, value)| (name, value.replace(GATE_URL, &gate_url))))
        .env("HOME", folder.file("home"))
        .env("TMPDIR", folder.file("tmp"))
        .env(MARK, &spec.mark)
        .current_dir(folder.file("workspace"))
        .stdin(prompt)
        .stdout(append("stdout")?)
        .stderr(append("stderr")?)
        .process_group(0);
    if geteuid().is_root() {
        // Or the CLI refuses to skip permissions.
        command.env("IS_SANDBOX", "1");
    }
    command.spawn().with_context(|| format!("{program:?} can't be started"))
}

/// Hands signals on to the CLI, and to it alone, until it is over; gives its exit code.
fn tend(cli: Pid, signals: &SigSet) -> nix::Result<i64> {
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                let mut code = None;
                while let Some(ended) = reap()? {
                    code = code.or(exit_code(cli, ended));
                }
                if let Some(code) = code {
                    return Ok(code);
                }
            }
            // It isn't reaped, so the number is still its own.
            signal @ (Signal::SIGINT | Signal::SIGTERM) => kill(cli, signal)?,
            _ => {}
        }
    }
}

/// One child or foundling that is over.
fn reap() -> nix::Result<Option<WaitStatus>> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
        Ok(ended) => Ok(Some(ended)),
        Err(error) => Err(error),
    }
}

fn exit_code(cli: Pid, ended: WaitStatus) -> Option<i64> {
    match ended {
        WaitStatus::Exited(pid, code) if pid == cli => Some(code.into()),
        WaitStatus::Signaled(pid, signal, _) if pid == cli => Some(128 + i64::from(signal as i32)),
        _ => None,
    }
}

fn serve(bridge: &TcpListener, gate_dir: &Path) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in bridge.incoming() {
        match stream {
            Ok(stream) if open.fetch_add(1, Ordering::SeqCst) < CONNECTIONS => {
                let (gate_dir, open) = (gate_dir.to_path_buf(), open.clone());
                thread::spawn(move || {
                    // A gate that isn't there, or closed, is met as a connection that ends.
                    let _ = cross(stream, gate_dir);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
            Ok(_) => {
                open.fetch_sub(1, Ordering::SeqCst);
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Carries bytes both ways until one side is done.
fn cross(inside: TcpStream, gate_dir: PathBuf) -> io::Result<()> {
    // By way of an open folder, as a socket's path may have 108 bytes at most.
    let dir = File::open(gate_dir)?;
    let outside = UnixStream::connect(format!("/proc/self/fd/{}/gate.sock", dir.as_raw_fd()))?;
    inside.set_nodelay(true)?;
    let (mut from_inside, mut to_outside) = (inside.try_clone()?, outside.try_clone()?);
    let up = thread::spawn(move || {
        let _ = io::copy(&mut from_inside, &mut to_outside);
        let _ = to_outside.shutdown(Shutdown::Both);
    });
    let (mut from_outside, mut to_inside) = (outside, inside);
    let _ = io::copy(&mut from_outside, &mut to_inside);
    let _ = to_inside.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}
