//! All SQL. The pool is private to this module; what others get are methods that ask who is asking.

mod agents;
mod audit;
mod bells;
mod checkup;
mod choices;
mod devices;
mod events;
mod findings;
mod fleet;
mod handle;
mod host_stop;
mod kept;
mod lease;
mod lines;
mod look;
mod metered;
mod metrics;
mod receipts;
mod rings;
mod runs;
mod samples;
mod seed;
mod seek;
mod sessions;
mod stops;
mod stuck;
mod users;
mod walk;
mod warm;
mod work;
mod workers;

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor};
use warm::Warm;

pub use audit::AuditLine;
pub use bells::{Bell, NewBell, RingLine};
pub use checkup::{Checkup, checkup};
pub use choices::Choices;
pub use devices::Subscription;
pub use events::Batch;
pub use fleet::{Signed, Standing};
pub use handle::{GatesClosed, Keeper};
pub use kept::{Dropped, Kept, Part};
pub use lease::{Adopted, Claimed, Held, Lease, Renewed, Settlement};
pub use lines::{Front, LINES, Listed, SECTION};
pub use metrics::{Figures, MetricsReader, MetricsToken, WorkerFigures};
pub use receipts::Matches;
pub use rings::DueRing;
pub use runs::{Started, Stopped};
pub use samples::{Sample, Sampled};
pub use seed::{Seed, SeedPlan};
pub use seek::{Looked, Way};
pub use sessions::SessionHash;
pub use stops::{Begun, Click, Tell, Written};
pub use users::{Credentials, Superuser, UserLine, Visitor};
pub use workers::{FleetNow, QueueDepth};

/// The longest that any statement may keep its caller waiting, connecting included. Pages must answer
/// within 2 s whatever Postgres does; this leaves them the rest.
const DEADLINE: Duration = Duration::from_millis(1200);

/// How long a connection may lie unused before it is asked whether it still lives.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The schema, step by step, as this program knows it.
static MIGRATIONS: Migrator = sqlx::migrate!();

/// Whose rights a process has in Postgres; see `migrations/0007_roles.sql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `serve`, and the commands that manage people.
    Web,
    /// `work`.
    Worker,
}

/// A handle on the database; cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: PgPool,
    /// For what every page waits for.
    warm: Warm,
}

/// What can go wrong with a statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// The row isn't in a state that allows this; the text says which state it met.
    #[error("{0}")]
    Conflict(String),
    /// A name that is in use already.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// The lease is gone: its run is held under a newer fence, or by nobody.
    #[error("the lease on run {0} is gone")]
    Fenced(i64),
    /// No partition takes these rows: none is made yet, or it was dropped.
    #[error("no partition takes these events")]
    NoRoom,
    /// Postgres doesn't answer, or not in time.
    #[error("Postgres doesn't answer: {0}")]
    Unavailable(String),
    /// Anything else: a defect of ours.
    #[error("database: {0}")]
    Broken(#[source] sqlx::Error),
    /// A row that the model can't read: a defect of ours.
    #[error("database row: {0}")]
    Unreadable(#[from] crate::model::UnknownWord),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::RowNotFound => Self::NotFound,
            E::Io(_) | E::PoolTimedOut | E::PoolClosed | E::Tls(_) | E::WorkerCrashed | E::Protocol(_) => {
                Self::Unavailable(error.to_string())
            }
            E::Database(db) => match (db.constraint(), db.code().as_deref()) {
                (Some("users_name"), Some("23505")) => Self::Taken("this name"),
                // What a constraint refuses names it; a row that no partition takes is refused by none.
                (None, Some("23514")) => Self::NoRoom,
                (_, Some(code)) if is_worth_another_try(code) => Self::Unavailable(db.message().to_owned()),
                _ => Self::Broken(error),
            },
            _ => Self::Broken(error),
        }
    }
}

/// Whether a refusal is about Postgres' own state and not about what was asked: class 57: shutting down, crashed, starting
/// up; 53: out of connections, disk, memory; 58: its disk; XX: its own defects; 08: connection; 55P03: lock not available;
/// 40P01: deadlock; 40001: not serializable; 25006: read-only. (PostgreSQL manual, appendix A)
fn is_worth_another_try(code: &str) -> bool {
    ["57", "53", "58", "XX", "08"].iter().any(|class| code.starts_with(class))
        || ["55P03", "40P01", "40001", "25006"].contains(&code)
}

/// The result of every method here.
pub type Result<T> = std::result::Result<T, Error>;

tokio::task_local! {
    /// How long what this task asks may still take.
    static LEFT: Cell<Duration>;
    /// Whether the audit has its row for what this task was asked, and didn't do.
    static NOTED: Cell<bool>;
}

/// Lets all statements of `work` take no longer than this, together.
pub async fn together<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    NOTED.scope(Cell::new(false), LEFT.scope(Cell::new(limit), work)).await
}

/// Whether the audit has its row for what this task was asked, and didn't do.
pub fn is_noted() -> bool {
    NOTED.try_with(Cell::get).unwrap_or(false)
}

/// Says that it has.
fn noted() {
    // Most tasks answer nobody.
    let _ = NOTED.try_with(|noted| noted.set(true));
}

/// How long what this task asks may still take.
pub fn left() -> Duration {
    LEFT.try_with(Cell::get).unwrap_or(DEADLINE)
}

/// Runs statements within the deadline.
async fn within<T>(work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    let limit = left().min(DEADLINE);
    let began = Instant::now();
    let done = tokio::time::timeout(limit, work).await;
    // Most tasks have no limit on the whole.
    let _ = LEFT.try_with(|left| left.set(left.get().saturating_sub(began.elapsed())));
    match done {
        Ok(done) => done.map_err(Error::from),
        Err(_) => Err(Error::Unavailable(format!("no answer within {} ms", limit.as_millis()))),
    }
}

impl Db {
    /// Makes a pool of at most `size` connections, and as many that are kept warm. Nothing is connected yet, so that a process can
    /// start, and say what is wrong, while Postgres is away.
    ///
    /// # Errors
    /// [`Error::Broken`] when the URL can't be read.
    pub fn new(url: &str, role: Role, size: u32) -> Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let options = options
            .application_name(match role {
                Role::Web => "signalbox serve",
                Role::Worker => "signalbox work",
            })
            .log_statements(tracing::log::LevelFilter::Off);
        // A statement that we have given up is given up by Postgres too; else those that wait for a lock pile up there, a
        // connection each, and are carried out when nobody wants them any more. To compile a statement takes longer than any of
        // ours.
        let set_role = match role {
            Role::Web => "set role signalbox_web; set statement_timeout = '1200ms'; set jit = off",
            Role::Worker => "set role signalbox_worker; set statement_timeout = '1200ms'; set jit = off",
        };
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(DEADLINE)
            .idle_timeout(Duration::from_secs(300))
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute(set_role).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options.clone());
        let warm = Warm::new(pool.clone(), options, set_role, size as usize);
        Ok(Self { pool, warm })
    }

    /// Brings the schema up to date, as the owner that the URL names.
    ///
    /// # Errors
    /// That Postgres doesn't answer within 10 s, or its own words when it refuses.
    pub async fn migrate(url: &str) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        // A lock that somebody else holds isn't waited for any longer than a connection.
        let options = url
            .parse::<PgConnectOptions>()?
            .application_name("signalbox migrate")
            .options([("lock_timeout", "10s")]);
        let mut connection = match tokio::time::timeout(PATIENCE, options.connect()).await {
            Ok(connected) => connected.map_err(Error::from)?,
            Err(_) => anyhow::bail!("Postgres doesn't answer: no connection within {} s", PATIENCE.as_secs()),
        };
        MIGRATIONS.run(&mut connection).await?;
        // So that `signalbox doctor` can say from any login whether the schema is up to date.
        connection.execute("grant select on _sqlx_migrations to signalbox_web, signalbox_worker").await?;
        connection.close().await?;
        Ok(())
    }

    /// Asks Postgres for a sign of life.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is none in time.
    pub async fn ping(&self) -> Result<()> {
        within(sqlx::query!("select 1 as one").fetch_one(&self.pool)).await.map(drop)
    }

    /// Closes every connection, as far as Postgres lets us go within the deadline: whoever leaves must not wait for one
    /// that hangs, holding runs under leases that nobody renews any more.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(DEADLINE, self.pool.close()).await;
        self.warm.close();
    }
}

#[cfg(test)]
mod tests {
    use super::is_worth_another_try;

    #[test]
    fn what_postgres_suffers_from_is_tried_again_and_what_we_did_wrong_isnt() {
        for code in ["57P01", "53100", "58030", "XX000", "XX001", "08006", "55P03", "40P01", "40001", "25006"]
        {
            assert!(is_worth_another_try(code), "{code}");
        }
        for code in ["23505", "42501", "22021", "40002", "25001", "5"] {
            assert!(!is_worth_another_try(code), "{code}");
        }
    }
}
