//! Signalbox: the control room for a fleet of autonomous Claude Code agents.
//!
//! ```text
//! main → cli → web ────┐
//!         └─→ worker ─┼→ db → model        arrows are the only allowed `use crate::…`
//!             │       └→ queue → model     web and worker never name each other
//!             └→ engine, gate              config, telemetry, shutdown, clock, host, password, bell: leaves
//! ```
//!
//! Web and worker meet only in Postgres (the truth) and Redis (the nudge). Only the worker touches a
//! container engine. `tests/it/layers.rs` holds the code to the diagram.

pub mod bell;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod engine;
pub mod gate;
pub mod host;
pub mod incognito;
pub mod model;
pub mod password;
pub mod queue;
pub mod shutdown;
pub mod telemetry;
pub mod web;
pub mod worker;
