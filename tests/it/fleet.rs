//! A fleet for tests: the real server, real stores, a scripted engine, and workers that can be killed.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use signalbox::config::{self, Env};
use signalbox::db::{Db, Lease, Role, Superuser};
use signalbox::model::event::Event;
use signalbox::model::run::{LadderTimes, NewRun, Run, RunId, StopMode};
use signalbox::model::work::NewStop;
use signalbox::model::worker::{HostFacts, Place};
use signalbox::queue::{Command, Notice, Queue};
use signalbox::worker::{self, Leave, Parts, Times};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::app::{TestApp, Wants};
use crate::scripted::Scripted;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Fleet {
    pub(crate) app: TestApp,
    pub(crate) engine: Scripted,
    pub(crate) by: Superuser,
    dir: PathBuf,
}

/// A worker with a runtime of its own, so that it can be killed between two instructions.
pub(crate) struct Working {
    runtime: Option<Runtime>,
    leave: Leave,
    over: tokio::sync::oneshot::Receiver<anyhow::Result<()>>,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        Self::with(Wants::default()).await
    }

    pub(crate) async fn with(wants: Wants) -> Self {
        let app = TestApp::start_with(wants).await;
        let by = app.proof().await;
        let dir = std::env::temp_dir().join(&app.fleet);
        Self { app, engine: Scripted::default(), by, dir }
    }

    pub(crate) fn parts(&self, name: &str) -> Parts {
        let variables = |variable: &str| {
            Some(match variable {
                "DATABASE_URL" => "postgres://unused".to_owned(),
                "REDIS_URL" => "redis://unused".to_owned(),
                "ANTHROPIC_BASE_URL" => "http://127.0.0.1:9".to_owned(),
                "SIGNALBOX_WORK_DIR" => self.dir.display().to_string(),
                "SIGNALBOX_WORKER" => name.to_owned(),
                _ => return None,
            })
        };
        let ladder = LadderTimes {
            sigint: Duration::from_millis(400),
            sigterm: Duration::from_millis(300),
            sigkill: Duration::from_millis(200),
            linger: Duration::from_secs(30),
        };
        Parts {
            db: self.app.worker_db.clone(),
            queue: self.app.queue.clone(),
            engine: Arc::new(self.engine.of(name)),
            settings: config::Work::from_env(&Env::of(&variables), "unused").unwrap(),
            times: Times { ladder: Some(ladder), ..Times::default() },
        }
    }

    pub(crate) async fn worker(&self, name: &str) -> Working {
        self.worker_with(self.parts(name)).await
    }

    /// Starts a worker; its handles on the stores are made anew, inside its own runtime.
    pub(crate) async fn worker_with(&self, parts: Parts) -> Working {
        let (url, redis) = (self.app.database_url.clone(), self.app.redis_url.clone());
        self.worker_at(parts, &url, &redis).await
    }

    pub(crate) async fn worker_at(&self, parts: Parts, database_url: &str, redis_url: &str) -> Working {
        let (mut working, is_ready) = self.begin(parts, database_url, redis_url);
        tokio::select! {
            is_ready = is_ready => is_ready.expect("the worker is ready"),
            over = &mut working.over => panic!("the worker ended: {over:?}"),
        }
        working
    }

    /// Starts a worker that may not be ready for a long time.
    pub(crate) fn begin_at(&self, parts: Parts, database_url: &str, redis_url: &str) -> Working {
        self.begin(parts, database_url, redis_url).0
    }

    fn begin(
        &self,
        mut parts: Parts,
        database_url: &str,
        redis_url: &str,
    ) -> (Working, tokio::sync::oneshot::Receiver<()>) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let leave = Leave::default();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let (done, over) = tokio::sync::oneshot::channel();
        let (told, fleet) = (leave.clone(), self.app.fleet.clone());
        let (database_url, redis_url) = (database_url.to_owned(), redis_url.to_owned());
        runtime.spawn(async move {
            parts.db = Db::new(&database_url, Role::Worker, 5).unwrap();
            parts.queue = Queue::new(&redis_url, &fleet).unwrap();
            let _ = done.send(worker::work(parts, told, ready).await);
        });
        (Working { runtime: Some(runtime), leave, over }, is_ready)
    }

    /// Accepts a run and tells the workers, as the page does.
    pub(crate) async fn start(&self, prompt: &str) -> RunId {
        let new = NewRun::parse("claude-code", prompt, "", None).unwrap();
        let run = self.app.db.start_run(&self.by, &new, None).await.unwrap().run;
        let _ = self.app.queue.notice(Notice::Queued(run)).await;
        run
    }

    /// Claims the oldest queued run for a worker that isn't there.
    pub(crate) async fn claim(&self, worker: &str) -> Lease {
        let (facts, place) = (HostFacts::default(), self.place(worker));
        self.app.worker_db.heartbeat(worker, &place.seat, &facts, true).await.unwrap();
        self.app.worker_db.claim(&place, &[0; 32]).await.unwrap().expect("a run is queued").lease
    }

    /// Where a worker of this name has its runs.
    pub(crate) fn place(&self, worker: &str) -> Place {
        let folder = self.dir.join(worker);
        std::fs::create_dir_all(&folder).unwrap();
        Place { worker: worker.to_owned(), seat: worker::seat::seat(&folder).unwrap(), engine: None }
    }

    /// This worker hasn't been heard of for longer than a lease, and what it held has lapsed.
    pub(crate) async fn falls_silent(&self, worker: &str) {
        for statement in [
            "update workers set heard_at = now() - interval '31 s' where name = $1",
            "update runs set lease_until = now() - interval '1 s'
             where worker = $1 and state in ('starting', 'running')",
        ] {
            sqlx::query(statement).bind(worker).execute(self.app.sql()).await.unwrap();
        }
    }

    /// Wishes a stop and tells the worker, as the page does.
    pub(crate) async fn stop(&self, run: RunId, mode: StopMode) {
        self.wish(run, &NewStop::new(mode)).await;
    }

    /// The same, with the work saved first.
    pub(crate) async fn save_and_stop(&self, run: RunId, mode: StopMode) {
        self.wish(run, &NewStop { save: true, ..NewStop::new(mode) }).await;
    }

    async fn wish(&self, run: RunId, stop: &NewStop<'_>) {
        let stopped = self.app.db.wish_stop(&self.by, run, stop).await.unwrap();
        if let Some((worker, mode)) = stopped.tell {
            let save = stopped.save;
            let command = if save { Command::SaveAndStop(run, mode) } else { Command::Stop(run, mode) };
            let _ = self.app.queue.command(&worker, command, None).await;
        }
    }

    /// What a click that stops many has in common, when nothing about it matters.
    pub(crate) fn click(mode: StopMode) -> signalbox::db::Click<'static> {
        signalbox::db::Click { once: None, mode, reason: "", device: None, address: None }
    }

    pub(crate) async fn run(&self, run: RunId) -> Run {
        self.app.db.run(&self.by, run).await.unwrap()
    }

    pub(crate) async fn events(&self, run: RunId) -> Vec<Event> {
        self.app.db.events_tail(&self.by, run, None, 10_000).await.unwrap()
    }

    /// Waits until a run is so.
    pub(crate) async fn until(&self, run: RunId, what: &str, so: impl Fn(&Run) -> bool) -> Run {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A store that a test has just put back may hang up once more.
            let found = self.app.db.run(&self.by, run).await;
            match found {
                Ok(found) if so(&found) => return found,
                Ok(_) | Err(signalbox::db::Error::Unavailable(_)) => {}
                Err(ref error) => panic!("{error}"),
            }
            assert!(Instant::now() < deadline, "run {run} isn't {what}: {found:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_running(&self, run: RunId) -> Run {
        use signalbox::model::run::State;
        self.until(run, "running", |run| run.state == State::Running).await
    }

    pub(crate) async fn until_over(&self, run: RunId) -> Run {
        self.until(run, "over", |run| run.state.is_over()).await
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, so: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "not {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Working {
    /// `kill -9`: nothing of it runs another instruction.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// SIGTERM: leaves its runs to its next life.
    pub(crate) async fn hand_over(mut self) {
        self.leave.hand_over.cancel();
        (&mut self.over).await.unwrap().unwrap();
    }

    /// Ctrl-C: stops its runs.
    pub(crate) async fn stop_runs(mut self) {
        self.leave.stop_runs.cancel();
        self.leave.hand_over.cancel();
        (&mut self.over).await.unwrap().unwrap();
    }

    /// Waits until it ends by itself, and gives what it says.
    pub(crate) async fn ended(mut self) -> anyhow::Result<()> {
        (&mut self.over).await.unwrap()
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own, since it waits until every task is dropped, its locks with it.
            let ended = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5)));
            ended.join().unwrap();
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.end();
    }
}
