//! A look at the database from outside the pool and without its role, for when something is wrong with either.

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use time::OffsetDateTime;

use super::{Error, Result};

/// A checkup takes no longer than this, whatever Postgres does.
const DEADLINE: Duration = Duration::from_secs(2);

/// What a look at the database found.
#[derive(Debug, Clone)]
pub struct Checkup {
    /// Postgres's own version.
    pub version: String,
    /// What Postgres's clock said.
    pub clock: OffsetDateTime,
    /// How many of this program's migrations are still to come; none when this login may not know.
    pub pending: Option<usize>,
    /// How many superusers may sign in; none when this login may not know, or there is no schema.
    pub superusers: Option<i64>,
}

/// Looks at the database that the URL names.
///
/// # Errors
/// [`Error::Unavailable`] when it doesn't answer within 2 s, [`Error::Broken`] when it refuses.
pub async fn checkup(url: &str) -> Result<Checkup> {
    let look = async {
        let options = url.parse::<PgConnectOptions>()?.application_name("signalbox doctor");
        let mut connection = options.log_statements(tracing::log::LevelFilter::Off).connect().await?;
        let found = look(&mut connection).await?;
        connection.close().await?;
        Ok(found)
    };
    match tokio::time::timeout(DEADLINE, look).await {
        Ok(found) => found,
        Err(_) => Err(Error::Unavailable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

async fn look(connection: &mut PgConnection) -> Result<Checkup> {
    let (version, clock): (String, OffsetDateTime) =
        sqlx::query_as("select current_setting('server_version'), clock_timestamp()")
            .fetch_one(&mut *connection)
            .await?;
    let pending = known(pending(connection)).await?;
    let superusers = known(
        sqlx::query_scalar("select count(*) from users where role = 'superuser' and disabled_at is null")
            .fetch_one(connection),
    )
    .await?;
    Ok(Checkup { version, clock, pending, superusers })
}

async fn pending(connection: &mut PgConnection) -> sqlx::Result<usize> {
    let begun: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?;
    let done: Vec<i64> = if begun {
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(connection).await?
    } else {
        Vec::new()
    };
    Ok(super::MIGRATIONS.iter().filter(|migration| !done.contains(&migration.version)).count())
}

/// None where this login may not look (42501), or where there is nothing to look at (42P01).
async fn known<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<Option<T>> {
    match answer.await {
        Ok(value) => Ok(Some(value)),
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42501" | "42P01")) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
