//! The survey: what is on this host and no run accounts for, once at the start and every minute; and the clearing away of
//! what the superuser doesn't want any more.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::{Worker, sweep};
use crate::engine::Signal;
use crate::engine::weight::weigh;
use crate::model::found::{Kind, Leftover};
use crate::model::run::RunId;

/// Between two surveys.
const EVERY: Duration = Duration::from_secs(60);
/// Between two looks for what should be cleared away.
const LOOK: Duration = Duration::from_secs(2);

/// Surveys, for ever.
pub(super) async fn surveys(worker: &Worker) {
    loop {
        if let Err(error) = survey(worker).await {
            tracing::warn!(%error, "no survey");
        }
        sleep(EVERY).await;
    }
}

/// Clears away what is wished to be, for ever.
pub(super) async fn clearings(worker: &Worker) {
    loop {
        sleep(LOOK).await;
        if let Err(error) = clear(worker).await {
            tracing::debug!(%error, "can't look for what should be cleared away");
        }
    }
}

async fn survey(worker: &Worker) -> anyhow::Result<()> {
    let (db, engine) = (&worker.parts.db, &worker.parts.engine);
    // In this order, so that what begins or ends meanwhile is held in one of them.
    let found = engine.list().await?;
    let mut held: HashSet<RunId> = worker.roster.held().into_iter().collect();
    held.extend(db.held_by(&worker.place()).await?.into_iter().filter(|run| !run.lost).map(|run| run.run));
    held.extend(worker.roster.held());
    let mut leftovers = engine.leftovers().await?;
    for container in found.iter().filter(|container| !held.contains(&RunId(container.run))) {
        let (since, bytes) = engine.weigh(&container.container).await;
        leftovers.push(Leftover {
            kind: Kind::Container,
            what: container.container.clone(),
            run: sweep::named(container),
            detail: sweep::made(container),
            bytes,
            since,
        });
    }
    let with: Vec<i64> = found.iter().map(|container| container.run).collect();
    for (run, since) in db.runs_without(worker.name(), &with).await? {
        leftovers.push(Leftover {
            kind: Kind::Run,
            what: run.to_string(),
            run: Some(run),
            detail: "The engine has no container for it.".to_owned(),
            bytes: None,
            since: Some(since),
        });
    }
    let runs = runs_folder(worker);
    leftovers.extend(tokio::task::spawn_blocking(move || folders(&runs, &held)).await?);
    db.report_found(worker.name(), &leftovers).await?;
    Ok(())
}

fn runs_folder(worker: &Worker) -> PathBuf {
    worker.dir().join("runs")
}

/// Runs' folders that nobody uses.
fn folders(runs: &Path, held: &HashSet<RunId>) -> Vec<Leftover> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let unused = entries.filter_map(|entry| {
        let run = RunId(entry.file_name().to_str()?.parse().ok()?);
        (!held.contains(&run)).then(|| (run, entry.path()))
    });
    unused
        .map(|(run, path)| Leftover {
            kind: Kind::Folder,
            what: path.display().to_string(),
            run: Some(run),
            detail: String::new(),
            bytes: weigh(&path),
            since: fs::metadata(&path).and_then(|meta| meta.modified()).ok().map(SystemTime::into),
        })
        .collect()
}

async fn clear(worker: &Worker) -> anyhow::Result<()> {
    let db = &worker.parts.db;
    let wished = db.to_be_cleared(worker.name()).await?;
    for (finding, leftover) in &wished {
        let (done, gone) = match clear_away(worker, leftover).await {
            Ok(done) => (done.to_owned(), true),
            Err(error) => (format!("It can't be cleared away: {error}"), false),
        };
        db.cleared(worker.name(), *finding, &done, gone).await?;
    }
    Ok(())
}

async fn clear_away(worker: &Worker, leftover: &Leftover) -> anyhow::Result<&'static str> {
    let engine = &worker.parts.engine;
    // What is wished may be in use again by now.
    let in_use = leftover.run.is_some_and(|run| worker.roster.held().contains(&run));
    anyhow::ensure!(!in_use, "a run that is held uses it");
    match leftover.kind {
        Kind::Container => {
            let kill = engine.signal(&leftover.what, Signal::Kill);
            let (by_engine, by_host) = tokio::join!(kill, engine.kill_by_host(&leftover.what));
            tracing::debug!(?by_engine, ?by_host, "killed what was left over");
            match tokio::time::timeout(crate::engine::DEADLINE, engine.wait(&leftover.what)).await {
                Ok(Ok(_) | Err(crate::engine::Error::Absent)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => anyhow::bail!("it is still alive"),
            }
            engine.remove(&leftover.what).await?;
            Ok("Killed and removed.")
        }
        Kind::Folder => {
            let path = PathBuf::from(&leftover.what);
            anyhow::ensure!(
                path.parent() == Some(&runs_folder(worker)),
                "it isn't a run's folder of this worker"
            );
            tokio::fs::remove_dir_all(path).await?;
            Ok("Removed.")
        }
        Kind::Image | Kind::Volume => {
            engine.discard(leftover).await?;
            Ok("Removed.")
        }
        Kind::Run => anyhow::bail!("only its end settles a run"),
    }
}
