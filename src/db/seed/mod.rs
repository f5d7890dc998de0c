//! Believable runs and events in bulk, for measuring and for pictures. Signs in as the owner that the URL names.

mod runs;
mod spent;
mod transcripts;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};

use super::{Error, Result};

/// Runs written by one statement, and then their events by another; some seconds of work, so that progress can be told.
const CHUNK: i64 = 20_000;

/// With fewer events than this for each run, the newest runs have all of them.
const SPARSE: i64 = 8;
/// How many events a run then has on average.
const USUAL: i64 = 84;
/// From so many events on, one run has a twentieth of all.
const MANY: i64 = 1_000_000;

/// How many of the newest runs have it noted how their cost grew. Some eleven points each: for all of them it would be more than
/// all events are, and no page reads but those of its own run.
const CURVES: i64 = 100_000;

/// How much to make.
#[derive(Debug, Clone, Copy)]
pub struct SeedPlan {
    /// How many runs, asked for over the last year, the newest few still alive.
    pub runs: i64,
    /// How many events in all, shared out among all runs if there are enough.
    pub events: i64,
}

impl SeedPlan {
    /// How many of the newest runs are alive.
    fn alive(self) -> i64 {
        (self.runs / 10).min(60)
    }

    /// The newest run that has ended: the one with very many events, if there are many.
    fn largest(self) -> Option<i64> {
        (self.events >= MANY && self.runs > 1).then(|| self.runs - self.alive())
    }

    /// The first and the last run with events: those that haven't started have none, nor older ones if there are too few.
    fn with_events(self) -> (i64, i64) {
        let last = self.runs - (self.alive() + 4) / 5;
        let many = if self.events >= last * SPARSE { last } else { (self.events / USUAL).max(1) };
        (last - many.min(last) + 1, last)
    }
}

/// Two connections that fill the database: while one writes runs, the other writes the events of those before.
pub struct Seed {
    connection: PgConnection,
    beside: PgConnection,
}

impl Seed {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer within 2 s.
    pub async fn connect(url: &str) -> Result<Self> {
        let options = url.parse::<PgConnectOptions>()?.application_name("signalbox seed");
        let options = options.log_statements(tracing::log::LevelFilter::Off);
        let both = async { tokio::try_join!(options.connect(), options.connect()) };
        match tokio::time::timeout(std::time::Duration::from_secs(2), both).await {
            Ok(connected) => {
                connected.map(|(connection, beside)| Self { connection, beside }).map_err(Error::from)
            }
            Err(_) => Err(Error::Unavailable("no connection within 2 s".into())),
        }
    }

    /// Whether there are runs already.
    ///
    /// # Errors
    /// [`Error::Broken`] when there is no schema.
    pub async fn holds_runs(&mut self) -> Result<bool> {
        Ok(sqlx::query_scalar("select exists (select 1 from runs)").fetch_one(&mut self.connection).await?)
    }

    /// Fills the database; says through `progress` how many runs and events are there. The same plan gives the same draw.
    /// Gives the run with very many events, if there is one.
    ///
    /// # Errors
    /// Postgres's own words.
    pub async fn fill(&mut self, plan: SeedPlan, mut progress: impl FnMut(i64, i64)) -> Result<Option<i64>> {
        let (connection, beside) = (&mut self.connection, &mut self.beside);
        for connection in [&mut *connection, &mut *beside] {
            // Half the time goes into looking up the same few agents, users and workers again and again; they are there,
            // the statements below have just read them. Only a superuser of Postgres may skip it; others wait a little.
            drop(connection.execute("set session_replication_role = replica").await);
            connection.execute("set synchronous_commit = off; set work_mem = '256MB'").await?;
        }
        connection.execute("select setseed(0.42)").await?;
        connection.execute(PEOPLE_AND_WORKERS).await?;
        let before = newest(connection).await?;
        share_out(connection, plan).await?;
        let (mut first, mut events, mut written, mut upto) = (1, 0, before, before);
        while first <= plan.runs || written < upto {
            let last = plan.runs.min(first + CHUNK - 1);
            let (next, lines) = tokio::try_join!(
                write_runs(connection, first, last, plan),
                write_events(beside, written, upto)
            )?;
            events += lines;
            progress(last, events);
            (first, written, upto) = (last + 1, upto, next);
        }
        connection.execute(runs::ALIVE).await?;
        sqlx::query(spent::SPENT).bind(upto - plan.runs.min(CURVES)).execute(&mut *connection).await?;
        connection.execute(AUDIT).await?;
        connection.execute(WORDS).await?;
        for table in [
            "vacuum analyze runs",
            "vacuum analyze run_words",
            "vacuum analyze events",
            "vacuum analyze spent",
            "vacuum analyze audit",
        ] {
            connection.execute(table).await?;
        }
        Ok(plan.largest().map(|largest| before + largest))
    }
}

/// The number of the newest run.
async fn newest(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select coalesce(max(id), 0) from runs").fetch_one(connection).await?)
}

/// Writes runs, and makes room for their events; gives the number of the newest.
async fn write_runs(connection: &mut PgConnection, first: i64, last: i64, plan: SeedPlan) -> Result<i64> {
    if first <= last {
        sqlx::query(runs::RUNS).bind(first).bind(last).bind(plan.runs).execute(&mut *connection).await?;
        connection.execute("select events_make_room()").await?;
    }
    newest(connection).await
}

/// Writes the events of the runs after one, up to another; gives how many there were.
async fn write_events(connection: &mut PgConnection, after: i64, upto: i64) -> Result<i64> {
    let written = sqlx::query(transcripts::EVENTS).bind(after).bind(upto).execute(connection).await?;
    Ok(written.rows_affected().cast_signed())
}

/// Says how many events each run has.
async fn share_out(connection: &mut PgConnection, plan: SeedPlan) -> Result<()> {
    let (first, last) = plan.with_events();
    let of_largest = plan.largest().map_or(0, |_| plan.events / 20);
    connection.execute(transcripts::LINES).await?;
    let share = sqlx::query(transcripts::SHARE).bind(first).bind(last).bind(plan.events - of_largest);
    share.bind(plan.largest()).bind(of_largest).execute(&mut *connection).await?;
    connection.execute("analyze seed_lines").await?;
    Ok(())
}

/// Three workers that speak and one that has fallen silent; more agents; somebody to have asked, who can't sign in.
const PEOPLE_AND_WORKERS: &str = "
    insert into users (name, role, password_hash, disabled_at) values ('seed', 'plain', '!', now())
    on conflict on constraint users_name do nothing;

    insert into agents (name, about, memory_mib, milli_cpus, pids, time_s)
    values ('reviewer', 'Reads open changes and says what it would do otherwise.', 1024, 1000, 256, 3600),
           ('nightly', 'Goes over the whole repository when nobody else is there.', 4096, 4000, 1024, 14400),
           ('scribe', 'Keeps documentation and change logs true.', 1024, 1000, 256, 7200)
    on conflict on constraint agents_name do nothing;
    insert into recipes select id, version, image, model, memory_mib, milli_cpus, pids, time_s from agents
    on conflict (agent_id, version) do nothing;

    insert into workers (name, version, arch, page_size, kernel, engine, engine_ok, sandboxed, claude, rehearsal,
                         capacity, started_at, heard_at)
    select name, '0.1.0', arch, 4096, kernel, 'Docker 27.5.1, API 1.47', true, true, '2.1.330', true,
           16, now() - interval '9 days', now() - silence
    from (values ('dock-1', 'x86_64',  '6.1.0-31-amd64', interval '2 seconds'),
                 ('dock-2', 'x86_64',  '6.1.0-31-amd64', interval '4 seconds'),
                 ('dock-3', 'aarch64', '6.1.0-31-arm64', interval '1 second'),
                 ('dock-4', 'x86_64',  '6.1.0-29-amd64', interval '3 hours')) w (name, arch, kernel, silence)
    on conflict (name) do update set heard_at = excluded.heard_at;";

/// The words of all runs, which no trigger has kept; their index is made when they are there.
const WORDS: &str = "
    drop index run_words_words;
    insert into run_words (run_id, words)
    select id, words_of_run(id, title, prompt, result, reason) from runs on conflict do nothing;
    create index run_words_words on run_words using gin (words) with (fastupdate = off)";

/// The audit of the newest runs, in the order it would have grown.
const AUDIT: &str = "
    insert into audit (at, who, what, run_id, detail, address)
    select at, who, what, run_id, detail, '198.51.100.7' from (
        select asked_at as at, asked_by_name as who, 'run started' as what, id as run_id, title as detail
        from (select * from runs order by id desc limit 5000) newest
        union all
        select wish_at, wish_by_name, 'stop wished', id, wish_mode
        from (select * from runs order by id desc limit 5000) newest where wish = 'stop') a
    order by at";

#[cfg(test)]
mod tests {
    use super::SeedPlan;

    #[test]
    fn events_are_shared_out_among_all_or_the_newest() {
        let plan = |runs, events| SeedPlan { runs, events };
        assert_eq!(plan(1_000_000, 20_000_000).with_events(), (1, 999_988));
        assert_eq!(plan(1_000_000, 20_000_000).largest(), Some(999_940));
        assert_eq!(plan(300, 2000).with_events(), (272, 294));
        assert_eq!(plan(300, 2000).largest(), None);
        assert_eq!(plan(1, 100).with_events(), (1, 1));
        assert_eq!(plan(50, 0).with_events(), (49, 49));
    }
}
