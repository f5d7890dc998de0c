//! Engines and gates against the real thing: a Docker engine at `DOCKER_HOST`, processes, sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that can't go on ends here"
)]

mod bad_engine;
mod docker;
mod gate;
mod image;
mod meter;
mod process;
mod stop_all;
