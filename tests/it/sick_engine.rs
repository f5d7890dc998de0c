//! A stop while the engine is sick, or the processes are: nothing is claimed before it is so, the page says why, and it is
//! made good as soon as it can be.

use std::time::Duration;

use signalbox::engine::Error;
use signalbox::model::run::{Cgroup, Outcome, Run, RunId, State, Step, StopMode};

use crate::fleet::{Fleet, Working, until};
use crate::scripted::Odd;

async fn running(fleet: &Fleet) -> (Working, RunId) {
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    (worker, run)
}

/// What holds as long as nothing is proven.
fn is_unproven(run: &Run) {
    assert!(run.is_unconfirmed() && run.state == State::Running, "{run:?}");
    assert!(run.outcome.is_none() && run.evidence.is_none(), "{run:?}");
}

#[tokio::test]
async fn an_engine_that_answers_a_kill_with_an_error_has_killed_nobody_and_is_asked_again() {
    let answers: [(Odd, Option<&str>); 4] = [
        (|| Error::Unavailable("500 Internal Server Error".into()), Some("500 Internal Server Error")),
        (|| Error::Refused("400: no such signal".into()), Some("no such signal")),
        // As 409 and 404 are heard; it lives all the same.
        (|| Error::NotRunning, None),
        (|| Error::Absent, None),
    ];
    for (answer, why) in answers {
        let fleet = Fleet::new().await;
        let (_worker, run) = running(&fleet).await;
        fleet.engine.answers(Some(("signal", answer)));
        fleet.stop(run, StopMode::Force).await;
        let tried = |run: &Run| {
            let said = run.progress.trouble.as_deref().unwrap_or_default();
            run.progress.egress_cut_at.is_some()
                && run.progress.next_at.is_some()
                && said.contains(why.unwrap_or_default())
        };
        let between = fleet.until(run, "tried", tried).await;
        is_unproven(&between);
        let tries = between.progress.next_at;
        let again = fleet.until(run, "tried again", |run| run.progress.next_at > tries).await;
        is_unproven(&again);
        assert_eq!(fleet.engine.alive(), [run.0], "{:?}", answer());
        fleet.engine.answers(None);
        assert_eq!(fleet.until_over(run).await.outcome, Some(Outcome::Terminated), "{:?}", answer());
        assert!(fleet.engine.alive().is_empty());
    }
}

#[tokio::test]
async fn an_engine_that_kills_and_cant_say_what_became_of_it_is_asked_until_it_can() {
    let answers: [Odd; 2] =
        [|| Error::Unavailable("half an answer".into()), || Error::Refused("page not found".into())];
    for answer in answers {
        let fleet = Fleet::new().await;
        let (_worker, run) = running(&fleet).await;
        fleet.engine.answers(Some(("inspect", answer)));
        fleet.stop(run, StopMode::Force).await;
        until("killed", async || fleet.engine.alive().is_empty()).await;
        let between = fleet.until(run, "in trouble", |run| run.trouble.is_some()).await;
        is_unproven(&between);
        fleet.engine.answers(None);
        let over = fleet.until_over(run).await;
        assert_eq!((over.outcome, over.trouble), (Some(Outcome::Terminated), None), "{:?}", answer());
    }
}

#[tokio::test]
async fn what_cannot_be_killed_leaves_the_stop_unconfirmed_until_it_is_gone() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    let (_worker, run) = running(&fleet).await;
    fleet.engine.survivors(2);
    fleet.engine.undying(true);
    fleet.stop(run, StopMode::Force).await;
    let outlived = |run: &Run| run.trouble.as_deref().is_some_and(|why| why.contains("2 of its processes"));
    let between = fleet.until(run, "outlived", outlived).await;
    is_unproven(&between);
    assert!(fleet.engine.alive().is_empty(), "the engine has reported the end of the first process");
    let page = fleet.app.superuser().await.get(&format!("/runs/{run}")).await.body;
    assert!(page.contains("2 of its processes outlived the container"), "{page}");
    assert!(page.contains("unconfirmed") || page.contains("Unconfirmed"), "{page}");
    fleet.engine.survivors(0);
    let over = fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Terminated));
    let evidence = over.evidence.unwrap();
    assert_eq!((evidence.exit_code, evidence.cgroup), (Some(137), Some(Cgroup::Gone)));
}

/// A worker that lets its engine be for this long after a failed start.
async fn patient(fleet: &Fleet, pause: Duration) -> Working {
    let mut parts = fleet.parts("w1");
    parts.times.pause = pause;
    fleet.worker_with(parts).await
}

async fn until_all_wait(fleet: &Fleet, runs: &[RunId], why: &str) {
    for run in runs {
        let told = |run: &Run| {
            run.state == State::Queued && run.waits_because.as_deref().is_some_and(|said| said.contains(why))
        };
        fleet.until(*run, "told why it waits", told).await;
    }
}

#[tokio::test]
async fn an_engine_that_can_start_nothing_burns_no_run_and_is_tried_one_by_one() {
    let fleet = Fleet::new().await;
    let mut runs = Vec::new();
    for n in 0..6 {
        runs.push(fleet.start(&format!("run {n}")).await);
    }
    fleet.engine.stillborn(|_| true);
    let _worker = patient(&fleet, Duration::from_millis(200)).await;
    until_all_wait(&fleet, &runs, "no space left on device").await;
    let tries = || runs.iter().map(|run| fleet.engine.made(run.0)).sum::<usize>();
    let before = tries();
    assert!(before <= 4, "no more than the worker has room for: {before}");
    until("tried again", async || tries() > before).await;
    until_all_wait(&fleet, &runs, "no space left on device").await;
    until("cleared away", async || fleet.engine.known().is_empty()).await;
    fleet.engine.stillborn(|_| false);
    until("as many as there is room for", async || fleet.engine.alive().len() == 4).await;
    for run in fleet.engine.alive() {
        fleet.until_running(RunId(run)).await;
        fleet.engine.exit(run, 0);
    }
    for run in &runs {
        let begun = |run: &Run| run.state == State::Running || run.state.is_over();
        fleet.until(*run, "begun", begun).await;
    }
}

#[tokio::test]
async fn an_engine_that_answers_a_start_with_an_error_starts_nothing_and_is_asked_again() {
    let answers: [Odd; 3] = [
        || Error::Unavailable("500: containerd is dead".into()),
        || Error::Absent,
        // As 409 is heard, where there is no such container.
        || Error::Exists,
    ];
    for answer in answers {
        let fleet = Fleet::new().await;
        fleet.engine.answers(Some(("start", answer)));
        let _worker = patient(&fleet, Duration::from_millis(200)).await;
        let run = fleet.start("x").await;
        let why = match answer() {
            Error::Unavailable(why) => why,
            other => other.to_string(),
        };
        until_all_wait(&fleet, &[run], &why).await;
        assert_eq!(fleet.engine.made(run.0), 0);
        fleet.engine.answers(None);
        assert_eq!(fleet.until_running(run).await.waits_because, None);
        assert_eq!(fleet.engine.made(run.0), 1, "{:?}", answer());
    }
}

#[tokio::test]
async fn a_run_that_never_starts_holds_up_no_other_and_ends_with_the_reason() {
    let fleet = Fleet::new().await;
    let never = fleet.start("never").await;
    fleet.engine.stillborn(move |run| run == never.0);
    let _worker = patient(&fleet, Duration::from_millis(20)).await;
    until_all_wait(&fleet, &[never], "no space left on device").await;
    for n in 0..3 {
        let other = fleet.start(&format!("run {n}")).await;
        fleet.until_running(other).await;
    }
    let over = fleet.until_over(never).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::NeverStarted));
    let reason = over.reason.unwrap();
    assert!(reason.contains("no space left on device") && reason.contains("it was tried"), "{reason}");
    assert!(fleet.engine.made(never.0) >= 5);
    assert!(!fleet.engine.known().contains(&never.0));
}

#[tokio::test]
async fn a_container_that_can_be_neither_started_nor_removed_keeps_its_run_from_the_queue() {
    let fleet = Fleet::new().await;
    fleet.engine.stillborn(|_| true);
    fleet.engine.keeps(true);
    let _worker = patient(&fleet, Duration::from_millis(200)).await;
    let run = fleet.start("x").await;
    let stuck = |run: &Run| run.trouble.as_deref().is_some_and(|why| why.contains("it keeps what it has"));
    let between = fleet.until(run, "in trouble", stuck).await;
    assert_eq!(between.state, State::Starting);
    fleet.engine.stillborn(|_| false);
    let asked = fleet.engine.listed();
    until("looked for again", async || fleet.engine.listed() > asked + 1).await;
    assert_eq!((fleet.run(run).await.state, fleet.engine.made(run.0)), (State::Starting, 1));
    fleet.engine.keeps(false);
    fleet.until_running(run).await;
    assert_eq!((fleet.engine.made(run.0), fleet.engine.alive()), (2, vec![run.0]));
}

#[tokio::test]
async fn what_lives_though_the_engine_never_started_it_is_killed_and_not_given_back() {
    let fleet = Fleet::new().await;
    fleet.engine.on_host();
    fleet.engine.stillborn(|_| true);
    fleet.engine.survivors(1);
    let _worker = patient(&fleet, Duration::from_millis(200)).await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::HostKill));
    assert_eq!(fleet.engine.made(run.0), 1);
}

#[tokio::test]
async fn an_engine_that_cant_list_is_asked_until_it_can() {
    let answers: [Odd; 2] =
        [|| Error::Unavailable("500 Internal Server Error".into()), || Error::Refused("409: busy".into())];
    for answer in answers {
        let fleet = Fleet::new().await;
        let (worker, run) = running(&fleet).await;
        worker.kill();
        fleet.engine.answers(Some(("list", answer)));
        let _next = fleet.worker("w1").await;
        let between = fleet.until(run, "in trouble", |run| run.trouble.is_some()).await;
        assert_eq!(between.state, State::Running, "{:?}", answer());
        fleet.stop(run, StopMode::Force).await;
        let tried = |run: &Run| run.progress.trouble.is_some();
        is_unproven(&fleet.until(run, "tried", tried).await);
        assert_eq!(fleet.engine.alive(), [run.0]);
        fleet.engine.answers(None);
        assert_eq!(fleet.until_over(run).await.outcome, Some(Outcome::Terminated), "{:?}", answer());
        assert_eq!(fleet.engine.made(run.0), 1);
    }
}

#[tokio::test]
async fn a_container_that_wont_go_is_said_to_be_there_until_it_is_removed() {
    let answers: [Odd; 2] =
        [|| Error::Unavailable("500: device or resource busy".into()), || Error::Refused("409: busy".into())];
    for answer in answers {
        let fleet = Fleet::new().await;
        let (_worker, run) = running(&fleet).await;
        fleet.engine.answers(Some(("remove", answer)));
        fleet.stop(run, StopMode::Force).await;
        let over =
            fleet.until(run, "said to be there", |run| run.state.is_over() && run.trouble.is_some()).await;
        assert_eq!(over.outcome, Some(Outcome::Terminated), "its end is proven all the same");
        let page = fleet.app.superuser().await.get(&format!("/runs/{run}")).await.body;
        assert!(page.contains("still there") && page.contains("busy"), "{page}");
        assert_eq!(fleet.engine.known(), [run.0]);
        fleet.engine.answers(None);
        until("removed", async || fleet.engine.known().is_empty()).await;
        let over = fleet.until(run, "not said any more", |run| run.trouble.is_none()).await;
        assert_eq!(over.outcome, Some(Outcome::Terminated), "{:?}", answer());
        let page = fleet.app.superuser().await.get("/found").await.body;
        assert!(page.contains("Removed: it was over."), "{page}");
    }
}
