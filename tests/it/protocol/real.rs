//! The same steps through `Db`, and the rows as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use signalbox::db::{Batch, Db, Error, Lease, Settlement, Superuser};
use signalbox::model::event::{Event, Kind, Source};
use signalbox::model::run::{Evidence, NewRun, Outcome, RunId, Step as Rung, StopMode, StopProgress};
use signalbox::model::work::NewStop;
use signalbox::model::worker::{HostFacts, Place};
use time::OffsetDateTime;

use super::reference::{Answer, Run};
use super::{Step, WORKERS};
use crate::app::TestApp;
use crate::sample;

pub(super) struct Real<'a> {
    app: &'a TestApp,
    db: &'a Db,
    by: Superuser,
    runs: Vec<RunId>,
    leases: Vec<Lease>,
}

#[derive(sqlx::FromRow)]
struct Row {
    state: String,
    wish_mode: Option<String>,
    worker: Option<String>,
    fence: i64,
    lapsed: bool,
    events: i64,
    stored: i64,
    outcome: Option<String>,
    audit: Vec<i64>,
    refused: i64,
}

fn evidence(step: Rung) -> Evidence {
    let confirmed_at = OffsetDateTime::UNIX_EPOCH;
    Evidence { container: None, exit_code: Some(137), step, confirmed_at, cgroup: None }
}

fn worker(name: &str) -> usize {
    WORKERS.iter().position(|worker| *worker == name).unwrap()
}

/// The word, as the reference writes it.
fn word(word: &str) -> &'static str {
    let words = ["queued", "starting", "running", "lost", "ended", "terminated", "failed"];
    words.into_iter().find(|known| *known == word).unwrap()
}

fn answer(done: Result<(), Error>) -> Answer {
    match done {
        Ok(()) => Answer::Done(true),
        Err(Error::Fenced(_)) => Answer::Fenced,
        Err(Error::Conflict(_)) => Answer::Conflict,
        Err(Error::Broken(_)) => Answer::Broken,
        Err(other) => panic!("{other}"),
    }
}

fn place(worker: usize) -> Place {
    sample::place(WORKERS[worker])
}

impl<'a> Real<'a> {
    /// Without the runs of the case before.
    pub(super) async fn new(app: &'a TestApp) -> Self {
        sqlx::raw_sql("delete from events; delete from earlier_wishes; delete from runs")
            .execute(app.sql())
            .await
            .unwrap();
        for name in WORKERS {
            app.worker_db
                .heartbeat(name, &sample::place(name).seat, &HostFacts::default(), true)
                .await
                .unwrap();
        }
        Self { app, db: &app.worker_db, by: app.proof().await, runs: Vec::new(), leases: Vec::new() }
    }

    pub(super) async fn take(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Start => {
                let new = NewRun::parse("claude-code", "x", "", None).unwrap();
                self.runs.push(self.app.db.start_run(&self.by, &new, None).await.unwrap().run);
                Answer::Done(true)
            }
            Step::Claim(worker) => {
                let claimed = self.db.claim(&place(worker), &[0; 32]).await.unwrap();
                self.granted(claimed.map(|claimed| claimed.lease))
            }
            Step::Adopt(worker, run) => {
                let Some(run) = self.run(run) else { return Answer::Nothing };
                let adopted = self.db.adopt(&place(worker), run).await.unwrap();
                self.granted(adopted.map(|adopted| adopted.lease))
            }
            Step::Renew(worker, oldest) => {
                let mut chosen = BTreeMap::new();
                for lease in self.leases.iter().filter(|lease| lease.worker() == WORKERS[worker]) {
                    let kept = chosen.entry(lease.run()).or_insert(lease);
                    *kept = if oldest { kept } else { lease };
                }
                let chosen: Vec<Lease> = chosen.into_values().cloned().collect();
                let renewed = self.db.renew(WORKERS[worker], &chosen).await.unwrap();
                self.numbers(renewed.into_iter().map(|renewed| renewed.run))
            }
            Step::LoseLapsed => {
                let lost = self.app.db.lose_lapsed().await.unwrap();
                self.numbers(lost)
            }
            Step::WishStop(run, mode) => {
                let Some(run) = self.run(run) else { return Answer::Nothing };
                self.wish_stop(run, mode).await
            }
            Step::Lapse(run) => {
                let Some(run) = self.run(run) else { return Answer::Nothing };
                let lapse = "update runs set lease_until = now() - interval '1 s'
                             where id = $1 and state in ('starting', 'running')";
                sqlx::query(lapse).bind(run.0).execute(self.app.sql()).await.unwrap();
                Answer::Done(true)
            }
            Step::SettleLost(worker, run, early) => {
                let Some(run) = self.run(run) else { return Answer::Nothing };
                let ago = Duration::from_secs(if early { 3600 } else { 0 });
                let proof = evidence(Rung::Absent);
                let progress = StopProgress::default();
                let settlement =
                    Settlement { own: None, reason: "x", evidence: &proof, ago, progress: &progress };
                let settled = self.db.settle_lost(WORKERS[worker], run, &settlement).await;
                Answer::Done(settled.unwrap())
            }
            Step::MarkRunning(lease)
            | Step::Progress(lease)
            | Step::Trouble(lease)
            | Step::Append(lease, ..)
            | Step::Release(lease)
            | Step::End(lease, _) => {
                let lease = self.leases.get(lease % self.leases.len().max(1)).cloned();
                let Some(lease) = lease else { return Answer::Nothing };
                answer(self.write(step, &lease).await)
            }
        }
    }

    async fn write(&self, step: &Step, lease: &Lease) -> Result<(), Error> {
        match *step {
            Step::MarkRunning(_) => self.db.mark_running(lease, "c").await,
            Step::Progress(_) => self.db.progress(lease, &StopProgress::default()).await,
            Step::Trouble(_) => self.db.trouble(lease, Some("x")).await,
            Step::Release(_) => self.db.release(lease, "x").await,
            Step::End(_, true) => {
                self.db.end(lease, Outcome::Terminated, "x", &evidence(Rung::Sigkill), None).await.map(drop)
            }
            Step::Append(_, n, off) => {
                let stored = sqlx::query_scalar("select events from runs where id = $1").bind(lease.run().0);
                let first: i64 = stored.fetch_one(self.app.sql()).await.map(|n: i64| n + 1 + off).unwrap();
                let event = |seq| Event {
                    seq,
                    at: OffsetDateTime::UNIX_EPOCH,
                    source: Source::Stdout,
                    kind: Kind::Text,
                    cut: 0,
                    payload: "x".into(),
                };
                let events = (first..first + n).map(event).collect();
                self.db.append(lease, &Batch { events, ..Batch::default() }).await.map(drop)
            }
            _ => self.db.end(lease, Outcome::Failed, "x", &evidence(Rung::ByItself), None).await.map(drop),
        }
    }

    async fn wish_stop(&self, run: RunId, mode: StopMode) -> Answer {
        let stopped = self.app.db.wish_stop(&self.by, run, &NewStop::new(mode)).await.unwrap();
        let tell = stopped.tell.map(|(name, mode)| (worker(&name), mode));
        Answer::Wished { fresh: stopped.fresh, over: stopped.over, tell }
    }

    fn granted(&mut self, lease: Option<Lease>) -> Answer {
        let granted = lease.is_some();
        self.leases.extend(lease);
        Answer::Done(granted)
    }

    fn run(&self, number: usize) -> Option<RunId> {
        self.runs.get(number % self.runs.len().max(1)).copied()
    }

    fn numbers(&self, runs: impl IntoIterator<Item = RunId>) -> Answer {
        let number = |run| self.runs.iter().position(|known| *known == run).unwrap();
        let mut numbers: Vec<usize> = runs.into_iter().map(number).collect();
        numbers.sort_unstable();
        Answer::Runs(numbers)
    }

    /// Every run, as the database has it.
    pub(super) async fn rows(&self) -> Vec<Run> {
        let rows: Vec<Row> = sqlx::query_as(
            "select state, wish_mode, worker, fence, coalesce(lease_until < now() and state <> 'lost', false) as lapsed,
                    events, (select count(*) from events e where e.run_id = r.id) as stored, outcome, refused,
                    (select array_agg((select count(*) from audit a where a.run_id = r.id and a.what = w))
                     from unnest(array['run started', 'stop wished', 'run lost', 'stopped by itself']) w) as audit
             from runs r order by id",
        )
        .fetch_all(self.app.sql())
        .await
        .unwrap();
        let run = |row: Row| {
            assert_eq!(row.events, row.stored, "events counted and stored");
            Run {
                state: word(&row.state),
                wish: row.wish_mode.map(|mode| mode.parse().unwrap()),
                worker: row.worker.as_deref().map(worker),
                fence: row.fence,
                lapsed: row.lapsed,
                events: row.events,
                outcome: row.outcome.as_deref().map(word),
                audit: row.audit.try_into().unwrap(),
                refused: row.refused,
            }
        };
        rows.into_iter().map(run).collect()
    }
}
