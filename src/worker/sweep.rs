//! The sweep: containers of ours that nobody holds are killed and removed, and lost runs settled by the engine's word.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Worker, ladder};
use crate::clock;
use crate::db::{Held, Settlement};
use crate::engine::{Exit, Found, Left, Signal, Stage, Status};
use crate::model::found::{Kind, Leftover};
use crate::model::run::{Cgroup, Evidence, Outcome, RunId, Step, StopProgress};
use crate::queue::Notice;

/// The run that a container names.
pub(super) fn named(found: &Found) -> Option<RunId> {
    (found.run > 0).then_some(RunId(found.run))
}

/// How it was made, as far as it says.
pub(super) fn made(found: &Found) -> String {
    match found.fence {
        1.. => format!("made under fence {}", found.fence),
        _ => "Its labels don’t say under which lease it was made.".to_owned(),
    }
}

/// Between two looks for what no lease can hold.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at everything the engine holds of ours.
///
/// # Errors
/// When the engine or Postgres doesn't answer; the next sweep tries again.
pub(super) async fn sweep(worker: &Arc<Worker>) -> anyhow::Result<()> {
    // In this order: a run that ends meanwhile is in the roster, and left alone. Claims wait for us.
    let known: HashSet<RunId> = worker.roster.held().into_iter().collect();
    let found = worker.parts.engine.list().await;
    let held = worker.parts.db.held_by(&worker.place()).await?;
    let is_held = |run: RunId| known.contains(&run) || held.iter().any(|held| held.run == run && !held.lost);
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            kill_by_host_alone(worker, is_held).await;
            return Err(error.into());
        }
    };
    let lost = |run: RunId| held.iter().find(|held| held.run == run && held.lost);
    for container in &found {
        let run = RunId(container.run);
        // A run that is held and not known will be adopted at the next look.
        if is_held(run) || worker.removals.has(&container.container) {
            continue;
        }
        if let Err(error) = lay_to_rest(worker, container, lost(run)).await {
            tracing::warn!(%run, %error, "a container that nobody holds stays for now");
        }
    }
    for run in held.iter().filter(|held| held.lost && !known.contains(&held.run)) {
        let is_listed = found.iter().any(|container| container.run == run.run.0);
        if !is_listed && let Err(error) = settle_absent(worker, run).await {
            tracing::warn!(run = %run.run, %error, "a lost run can't be settled yet");
        }
    }
    Ok(())
}

/// Settles a lost run of which the engine lists no container. What was claimed at another seat, or for another engine, stays
/// lost: this engine's silence says nothing of it.
async fn settle_absent(worker: &Worker, lost: &Held) -> anyhow::Result<()> {
    if !lost.here || !worker.is_engine_of(lost.engine.as_deref()).await? {
        return Ok(());
    }
    // One empty answer isn't proof while its processes can be seen.
    if let Some(container) = worker.parts.engine.find_by_host(&worker.run_dir(lost.run)).await? {
        tracing::warn!(run = %lost.run, container, "the engine doesn't list what lives");
        return Ok(worker.parts.engine.kill_by_host(&container).await?);
    }
    settle(worker, lost.run, None, Step::Absent, "The engine says that its container is gone.").await
}

/// Kills what nobody holds by this host alone, as long as the engine says nothing. What proves the ends waits for the engine.
async fn kill_by_host_alone(worker: &Worker, is_held: impl Fn(RunId) -> bool) {
    let engine = &worker.parts.engine;
    let cells = engine.cells_by_host(&worker.parts.settings.dir).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "nor can this host be looked at");
        Vec::new()
    });
    for cell in cells {
        let Some(run) = worker.run_of(&cell.folder).filter(|run| !is_held(*run)) else { continue };
        tracing::warn!(%run, container = cell.container, "killing what nobody holds, by this host alone");
        match engine.kill_by_host(&cell.container).await {
            Ok(()) => worker.remember_killed(&cell.container),
            Err(error) => tracing::warn!(%run, %error, "it can't be killed"),
        }
    }
}

/// Kills what this worker may hold no lease on any more, as long as Postgres can't be asked: a life that begins while it is
/// away knows of no lease, and by then each has lapsed. Nothing is removed or said to be over; that waits for Postgres.
pub(super) async fn orphans(worker: &Worker) {
    loop {
        sleep(LOOK).await;
        if worker.deaf_for() < worker.parts.times.lapse {
            continue;
        }
        let known = worker.roster.held();
        let Ok(found) = worker.parts.engine.list().await else {
            kill_by_host_alone(worker, |run| known.contains(&run)).await;
            continue;
        };
        let living = found.iter().filter(|container| container.stage == Stage::Alive);
        for container in living.filter(|container| !known.contains(&RunId(container.run))) {
            tracing::warn!(
                run = container.run,
                container = container.container,
                "killing what no lease can hold"
            );
            let engine = &worker.parts.engine;
            let (sent, by_host) = tokio::join!(
                engine.signal(&container.container, Signal::Kill),
                engine.kill_by_host(&container.container)
            );
            if sent.is_ok() || by_host.is_ok() {
                worker.remember_killed(&container.container);
            }
        }
    }
}

/// Kills what lives, and removes it once the engine says that it is over.
async fn lay_to_rest(worker: &Worker, found: &Found, lost: Option<&Held>) -> anyhow::Result<()> {
    let engine = &worker.parts.engine;
    let run = RunId(found.run);
    let mut killed = worker.has_killed(&found.container);
    if found.stage == Stage::Alive {
        tracing::warn!(%run, container = found.container, "killing a container that nobody holds");
        let (sent, by_host) = tokio::join!(
            engine.signal(&found.container, Signal::Kill),
            engine.kill_by_host(&found.container)
        );
        match sent {
            Ok(()) => killed = true,
            Err(_) if by_host.is_ok() => killed = true,
            Err(crate::engine::Error::NotRunning | crate::engine::Error::Absent) => {}
            Err(error) => return Err(error.into()),
        }
        if killed {
            // It may take longer than this look at it.
            worker.remember_killed(&found.container);
        }
        tokio::time::timeout(crate::engine::DEADLINE, engine.wait(&found.container)).await??;
    }
    let exit = match engine.inspect(&found.container).await? {
        Status::Alive => anyhow::bail!("it is still alive"),
        Status::Exited(exit) => Some(exit),
        Status::Created | Status::Absent => {
            // Before anything is said of it: until it is gone, a start that somebody asked for may still come through.
            engine.remove(&found.container).await?;
            None
        }
    };
    let cgroup = match engine.left(&found.container).await {
        Left::Alive(n) => {
            engine.kill_by_host(&found.container).await?;
            anyhow::bail!("{n} of its processes outlived it; killed by the host")
        }
        Left::Empty => Cgroup::Empty,
        Left::Gone => Cgroup::Gone,
        Left::Unseen => Cgroup::Unseen,
        Left::Unread => anyhow::bail!("this host couldn't look whether it left processes behind"),
    };
    if let Some(lost) = lost {
        // A worker that couldn't reach Postgres may have begun to stop it, and not said so.
        let tried = lost.step.or_else(|| lost.stop.map(ladder::first));
        let stopped = tried.zip(exit).and_then(|(step, exit)| ladder::found_behind(step, exit.code));
        let (step, reason) = match (killed, exit) {
            (true, _) => {
                (Step::Sigkill, "Its worker had lost the lease; it was stopped when the worker came back.")
            }
            (false, Some(_)) if let Some(step) = stopped => {
                (step, "It was stopped; its worker had lost the lease before that could be written.")
            }
            (false, Some(_)) => {
                (Step::ByItself, "Its worker had lost the lease; it was over when the worker came back.")
            }
            (false, None) => (Step::NeverStarted, "Its worker had lost the lease before it started."),
        };
        let evidence = exit.map(|exit| (found.container.clone(), exit, cgroup));
        settle(worker, run, evidence, step, reason).await?;
    }
    if killed {
        let db = &worker.parts.db;
        let named = named(found);
        db.note_of_worker(worker.name(), "stray container killed", named, &found.container).await?;
    }
    engine.remove(&found.container).await?;
    worker.forget_killed(&found.container);
    let leftover = Leftover {
        kind: Kind::Container,
        what: found.container.clone(),
        run: named(found),
        detail: made(found),
        bytes: None,
        since: None,
    };
    let done = if killed { "Killed and removed: nobody held it." } else { "Removed: it was over." };
    worker.parts.db.cleared_by_itself(worker.name(), &leftover, done).await?;
    Ok(())
}

async fn settle(
    worker: &Worker,
    run: RunId,
    over: Option<(String, Exit, Cgroup)>,
    step: Step,
    reason: &str,
) -> anyhow::Result<()> {
    let (container, exit_code, cgroup) = match over {
        Some((container, exit, cgroup)) => (Some(container), Some(exit.code), Some(cgroup)),
        None => (None, None, None),
    };
    let evidence = Evidence { container, exit_code, step, confirmed_at: clock::now(), cgroup };
    // A stop that was wished after it had ended by itself has nothing to do with its end.
    let own = (step == Step::ByItself).then_some(Outcome::Failed);
    let none = StopProgress::default();
    let settlement = Settlement { own, reason, evidence: &evidence, ago: Duration::ZERO, progress: &none };
    if worker.parts.db.settle_lost(worker.name(), run, &settlement).await? {
        tracing::info!(%run, %step, "a lost run is settled");
        worker.tell(Notice::Changed(run));
    }
    Ok(())
}
