//! A stop while the engine is sick, or the processes are: nothing is claimed before it is so, the page says why, and it is
//! made good as soon as it can be.

use signalbox::engine::Error;
use signalbox::model::run::{Cgroup, Outcome, Run, RunId, State, StopMode};

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
