//! A stand-in for the model API: it tells scripted scenarios to Claude Code, for rehearsal and for tests.

mod api;
mod conversation;
mod record;
mod scenario;
mod script;
mod wire;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Parser;

/// Plays the model API on a loopback address; `tests/standin/README.md` says how.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Refuse every request that doesn't carry this API key.
    #[arg(long)]
    key: Option<String>,
    /// Append what was asked and how it ended to this file, a JSON object a line.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Read scenarios from this folder before the built-in ones.
    #[arg(long)]
    scenarios: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(
        args.listen.ip().is_loopback(),
        "{} is not a loopback address; the stand-in has no business anywhere else",
        args.listen
    );
    let scenarios = scenario::Shelf::open(args.scenarios.as_deref())?;
    let recorder = record::Recorder::open(args.record.as_deref())?;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("listening on {}", args.listen))?;
    let address = listener.local_addr()?;
    let standin = api::Standin { key: args.key, scenarios, recorder };

    actix_web::rt::System::new().block_on(async move {
        let server = api::serve(listener, standin)?;
        say_ready(address)?;
        server.await.context("serving")
    })
}

fn say_ready(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "ready: http://{address}")?;
    out.flush()
}
