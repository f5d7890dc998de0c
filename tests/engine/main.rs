//! Engines and gates against the real thing: a Docker engine at `DOCKER_HOST`, processes, sockets.

mod bad_engine;
mod docker;
mod process;
