//! The real server on port 0, with a fresh database for each test.

mod access;
mod app;
mod headers;
mod login;
mod session;
