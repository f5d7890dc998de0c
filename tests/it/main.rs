//! The real server on port 0, with a fresh database for each test.

mod access;
mod adopt;
mod app;
mod cli;
mod fleet;
mod headers;
mod incognito;
mod ladder;
mod layers;
mod lease;
mod login;
mod scripted;
mod session;
mod wire;
mod worker;
