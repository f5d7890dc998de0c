//! The real server on port 0, with a fresh database for each test.

mod access;
mod app;
mod audit;
mod events;
mod headers;
mod health;
mod login;
mod pages;
mod runs;
mod sample;
mod session;
mod workers;
