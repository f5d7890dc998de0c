//! `signalbox migrate`: the schema, as the owner that `DATABASE_URL` names.

use secrecy::ExposeSecret;

use super::{Failure, block_on, say};
use crate::config;
use crate::db::Db;

pub(super) fn run() -> Result<(), Failure> {
    let url = config::database_url(&config::env())?;
    block_on(async {
        Db::migrate(url.expose_secret()).await?;
        say::line("The schema is up to date.");
        Ok(())
    })
}
