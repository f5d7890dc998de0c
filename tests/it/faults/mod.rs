//! Faults of the stores, the server and its host. Under each: an answer within 2 s, no false "terminated", recovery within
//! 5 s of the part's return, nothing lost, nothing doubled. The table in `docs/operations.md` names each of these tests.

pub(crate) mod host;
pub(crate) mod own;
mod postgres;
mod redis;
mod server;
mod table;
mod wishes;

use std::time::Duration;

use signalbox::model::run::{Outcome, Run, RunId, StopMode};
use tokio::time::Instant;

use crate::app::{Answer, Browser};
use crate::fleet::Fleet;

/// A page answers within this, whatever happens.
const SOON: Duration = Duration::from_secs(2);
/// All is well again this long after the part is back.
const BACK: Duration = Duration::from_secs(5);

/// Every page that a superuser opens.
const PAGES: [&str; 7] = ["/", "/runs/1", "/workers", "/health", "/agents", "/audit", "/account"];

/// Asks, and wants an answer soon.
async fn soon(what: &str, ask: impl Future<Output = Answer>) -> Answer {
    let began = Instant::now();
    let answer = ask.await;
    assert!(began.elapsed() < SOON, "{what} took {:?}", began.elapsed());
    answer
}

/// Opens every page at once; gives their answers.
async fn pages(browser: &Browser) -> Vec<(&'static str, Answer)> {
    let asked = PAGES.map(async |page| (page, soon(page, browser.get(page)).await));
    futures_util::future::join_all(asked).await
}

/// Sends the form that starts a run, and wants an answer soon.
async fn start(browser: &Browser, prompt: &str, once: &str) -> Answer {
    let form = [("agent", "claude-code"), ("prompt", prompt), ("title", ""), ("once", once)];
    soon("a start", browser.post("/runs", &form)).await
}

/// Sends the form that stops a run, and wants an answer soon.
async fn stop(browser: &Browser, run: RunId, mode: &str, reason: &str) -> Answer {
    let form = [("mode", mode), ("reason", reason)];
    soon("a stop", browser.post(&format!("/runs/{run}/terminate"), &form)).await
}

/// The number in the answer to a start.
fn started(answer: &Answer) -> RunId {
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.header("location").unwrap().strip_prefix("/runs/").unwrap().parse().unwrap()
}

/// Waits until a page is there again.
async fn until_back(browser: &Browser, page: &str) {
    let began = Instant::now();
    while soon(page, browser.get(page)).await.status != 200 {
        assert!(began.elapsed() < BACK, "{page} isn't back within {BACK:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Fleet {
    /// Waits until a run is over, within [`BACK`].
    async fn over_by_then(&self, run: RunId) -> Run {
        let began = Instant::now();
        let over = self.until_over(run).await;
        assert!(began.elapsed() < BACK, "run {run} was over after {:?}", began.elapsed());
        over
    }

    /// The rows of the audit about a run, but for clicks that changed nothing any more.
    async fn audit(&self, run: RunId) -> Vec<String> {
        let rows = sqlx::query_scalar(
            "select what from audit where run_id = $1 and what not in ('stop wished again', 'stop wished too late')
             order by id",
        )
        .bind(run.0);
        rows.fetch_all(self.app.sql()).await.unwrap()
    }

    /// A stopped run: one container there ever was, dead now; one row a deed.
    async fn assert_stopped_once(&self, run: &Run) {
        assert_eq!(run.outcome, Some(Outcome::Terminated), "{:?}", run.reason);
        assert!(!self.engine.alive().contains(&run.id.0), "the container lives");
        assert!(self.engine.made(run.id.0) <= 1, "one container");
        assert_eq!(self.audit(run.id).await, ["run started", "stop wished"]);
        assert_eq!(run.stop.as_ref().map(|stop| stop.mode), Some(StopMode::Force));
    }
}
