//! The real server on port 0, with a fresh database for each test.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on ends here")]

mod access;
mod adopt;
mod agents;
mod app;
mod audit;
mod cli;
mod crashes;
mod earlier;
mod events;
mod faults;
mod fleet;
mod found;
mod handle;
mod headers;
mod health;
mod hold;
mod incognito;
mod ladder;
mod layers;
mod lease;
mod live;
mod login;
mod metered;
mod model;
mod notes;
mod pages;
mod places;
mod protocol;
mod receipt;
mod runs;
mod sample;
mod save;
mod scripted;
mod session;
mod sick_engine;
mod sse;
mod stops;
mod stuck;
mod views;
mod wire;
mod worker;
mod workers;
