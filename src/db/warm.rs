//! Connections kept warm for the statements that every page waits for. The pool makes a round trip of its own each time it takes a
//! connection back, and lends it to whichever thread comes next, though only the thread that opened it hears its answers at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgRow, Postgres};
use sqlx::query::Map;
use sqlx::{ConnectOptions, Connection, Executor, IntoArguments};

use super::{DEADLINE, TRUSTED_IDLE};

/// How long one is used; then another is opened, as the pool does.
const USED_FOR: Duration = Duration::from_secs(600);
/// How often one must be missed before another is opened; who asks seldom is served well enough by the pool.
const MISSED: usize = 16;
/// How many each thread keeps. More than that would only wait for the same processors.
const EACH: usize = 4;

/// The warm connections, and the pool behind them.
#[derive(Clone)]
pub(super) struct Warm(Arc<Shared>);

struct Shared {
    pool: PgPool,
    options: PgConnectOptions,
    set_up: &'static str,
    most: usize,
    missed: AtomicUsize,
    idle: Mutex<Vec<Kept>>,
    /// The threads that have opened those that there are, those in use too.
    homes: Mutex<Vec<ThreadId>>,
}

struct Kept {
    connection: PgConnection,
    home: Home,
    opened: Instant,
    used: Instant,
}

/// Where a connection is counted, until it is dropped.
struct Home(ThreadId, Weak<Shared>);

impl Drop for Home {
    fn drop(&mut self) {
        let Some(warm) = self.1.upgrade() else { return };
        let mut homes = locked(&warm.homes);
        if let Some(place) = homes.iter().position(|home| *home == self.0) {
            homes.swap_remove(place);
        }
    }
}

impl Warm {
    /// At most `most` besides those of the pool. Each is `set_up` when it is opened.
    pub(super) fn new(pool: PgPool, options: PgConnectOptions, set_up: &'static str, most: usize) -> Self {
        let (missed, idle, homes) = Default::default();
        Self(Arc::new(Shared { pool, options, set_up, most, missed, idle, homes }))
    }

    /// All rows of a statement that only reads: over a warm connection when one is free, else over one of the pool. What fails
    /// or is given up halfway takes its connection with it.
    pub(super) async fn all<O, F, A>(&self, query: Map<'_, Postgres, F, A>) -> sqlx::Result<Vec<O>>
    where
        F: FnMut(PgRow) -> sqlx::Result<O> + Send,
        O: Send + Unpin,
        A: Send + IntoArguments<Postgres>,
    {
        let Some(mut lent) = self.lend().await else { return query.fetch_all(&self.0.pool).await };
        let rows = query.fetch_all(&mut lent.connection).await?;
        self.keep(lent);
        Ok(rows)
    }

    /// Closes those that aren't in use.
    pub(super) fn close(&self) {
        // Each counts itself out as it is dropped.
        drop(std::mem::take(&mut *locked(&self.0.idle)));
    }

    async fn lend(&self) -> Option<Kept> {
        while let Some(mut kept) = self.take() {
            if kept.used.elapsed() < TRUSTED_IDLE || kept.connection.ping().await.is_ok() {
                return Some(kept);
            }
        }
        self.miss();
        None
    }

    /// Opens one more when it has been missed for long enough, for those who come later: nobody waits for it.
    fn miss(&self) {
        let missed = self.0.missed.fetch_add(1, Ordering::Relaxed) + 1;
        if !missed.is_multiple_of(MISSED) {
            return;
        }
        let Some(home) = self.settle() else { return };
        let warm = self.clone();
        tokio::spawn(async move {
            let opened = tokio::time::timeout(DEADLINE, warm.open()).await;
            // Where none can be had, the pool says why.
            if let Ok(Ok(connection)) = opened {
                let now = Instant::now();
                warm.keep(Kept { connection, home, opened: now, used: now });
            }
        });
    }

    async fn open(&self) -> sqlx::Result<PgConnection> {
        let mut connection = self.0.options.connect().await?;
        connection.execute(self.0.set_up).await?;
        Ok(connection)
    }

    /// The one that this thread used last.
    fn take(&self) -> Option<Kept> {
        let (mut idle, here) = (locked(&self.0.idle), thread::current().id());
        let place = idle.iter().rposition(|kept| kept.home.0 == here)?;
        Some(idle.remove(place))
    }

    /// Room for one more of this thread, if there is any.
    fn settle(&self) -> Option<Home> {
        let (mut homes, here) = (locked(&self.0.homes), thread::current().id());
        let own = homes.iter().filter(|home| **home == here).count();
        if own >= EACH || homes.len() >= self.0.most {
            return None;
        }
        homes.push(here);
        Some(Home(here, Arc::downgrade(&self.0)))
    }

    fn keep(&self, kept: Kept) {
        if kept.opened.elapsed() < USED_FOR && !self.0.pool.is_closed() {
            locked(&self.0.idle).push(Kept { used: Instant::now(), ..kept });
        }
    }
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
