//! Engines and gates against the real thing: a Docker engine at `DOCKER_HOST`, processes, sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]
#![expect(clippy::print_stderr, reason = "figures and skips are for whoever runs the tests")]

mod bad_engine;
mod docker;
mod gate;
mod process;
