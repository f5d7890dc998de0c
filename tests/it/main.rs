//! The real server on port 0, with a fresh database for each test.

mod access;
mod adopt;
mod app;
mod faults;
mod fleet;
mod headers;
mod ladder;
mod lease;
mod login;
mod scripted;
mod session;
mod wire;
mod worker;
