//! Wishes at bad moments: before the start, in the middle of it, twice, a hundred at once, after the end, for nothing, from
//! two people.

use futures_util::future::join_all;
use signalbox::model::run::{Outcome, RunId, State, Step};

use super::{soon, start, started, stop};
use crate::fleet::{Fleet, until};

#[tokio::test]
async fn a_stop_before_the_start_is_the_end_and_no_worker_ever_takes_it() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let run = started(&start(&ada, "x", "once").await);
    assert_eq!(stop(&ada, run, "force", "").await.status, 303);
    let over = fleet.run(run).await;
    fleet.assert_stopped_once(&over).await;
    assert_eq!(over.evidence.unwrap().step, Step::NeverStarted);
    let _worker = fleet.worker("w1").await;
    let next = started(&start(&ada, "y", "once-2").await);
    fleet.until_running(next).await;
    assert_eq!((fleet.engine.made(run.0), fleet.run(run).await.fence), (0, 0));
}

#[tokio::test]
async fn a_stop_between_claim_and_start_leaves_no_container_alive() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    fleet.engine.hangs(true);
    let run = started(&start(&ada, "x", "once").await);
    fleet.until(run, "claimed", |run| run.state == State::Starting).await;
    assert_eq!(stop(&ada, run, "force", "").await.status, 303);
    let waits = fleet.until(run, "delivered", |run| run.delivered_at().is_some()).await;
    assert!(waits.is_unconfirmed() && waits.progress.egress_cut_at.is_some());
    fleet.engine.hangs(false);
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
}

#[tokio::test]
async fn a_hundred_stops_of_one_run_at_once_are_one_wish() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = started(&start(&ada, "x", "once").await);
    fleet.until_running(run).await;
    let answers = join_all((0..100).map(|_| stop(&ada, run, "force", ""))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    // A machine with much else to do may tell some of them to try again.
    assert!(statuses.iter().all(|status| [303, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&303), "{statuses:?}");
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
}

#[tokio::test]
async fn a_hundred_runs_stopped_at_once_are_a_hundred_ends() {
    let fleet = Fleet::new().await;
    let mut parts = fleet.parts("w1");
    parts.settings.capacity = 100;
    let _worker = fleet.worker_with(parts).await;
    let ada = fleet.app.superuser().await;
    let mut runs = Vec::new();
    for n in 0..100 {
        runs.push(started(&start(&ada, "x", &format!("once-{n}")).await));
    }
    until("all alive", async || fleet.engine.alive().len() == 100).await;
    for run in &runs {
        fleet.until_running(*run).await;
    }
    for answer in join_all(runs.iter().map(|run| stop(&ada, *run, "force", ""))).await {
        assert_eq!(answer.status, 303, "{}", answer.body);
    }
    for run in &runs {
        let over = fleet.over_by_then(*run).await;
        fleet.assert_stopped_once(&over).await;
    }
}

#[tokio::test]
async fn a_stop_after_the_end_changes_nothing() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = started(&start(&ada, "x", "once").await);
    fleet.until_running(run).await;
    fleet.engine.exit(run.0, 3);
    let before = fleet.until_over(run).await;
    assert_eq!(before.outcome, Some(Outcome::Failed));
    for mode in ["graceful", "force"] {
        assert_eq!(stop(&ada, run, mode, "").await.status, 303);
    }
    let after = fleet.run(run).await;
    assert_eq!((after.outcome, after.stop, after.evidence), (before.outcome, None, before.evidence));
    assert_eq!(fleet.audit(run).await, ["run started"]);
}

#[tokio::test]
async fn a_stop_whose_run_ends_while_its_row_is_waited_for_came_too_late() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    let run = started(&start(&ada, "x", "once").await);
    for ends in [true, false] {
        let mut other = fleet.app.sql().begin().await.unwrap();
        let change = match ends {
            false => "update runs set title = 'changed' where id = $1",
            true => {
                "update runs set state = 'ended', outcome = 'failed', end_step = 'by_itself', confirmed_at = now(),
                        ended_at = now() where id = $1"
            }
        };
        let run = if ends { run } else { started(&start(&ada, "y", "twice").await) };
        sqlx::query(change).bind(run.0).execute(&mut *other).await.unwrap();
        let waits = async {
            let blocked = "select exists (select from pg_stat_activity where wait_event_type = 'Lock'
                             and datname = current_database())";
            until("waited for", async || {
                sqlx::query_scalar(blocked).fetch_one(fleet.app.sql()).await.unwrap()
            })
            .await;
            other.commit().await.unwrap();
        };
        let (stopped, ()) = tokio::join!(stop(&ada, run, "force", ""), waits);
        assert_eq!(stopped.status, 303);
        let said: Vec<String> =
            sqlx::query_scalar("select what from audit where run_id = $1 and what <> 'run started'")
                .bind(run.0)
                .fetch_all(fleet.app.sql())
                .await
                .unwrap();
        assert_eq!(said, [if ends { "stop wished too late" } else { "stop wished" }]);
    }
}

#[tokio::test]
async fn a_stop_of_no_run_is_told_and_noted_as_refused() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    for run in [RunId(4711), RunId(0), RunId(-1), RunId(i64::MAX)] {
        assert_eq!(stop(&ada, run, "force", "").await.status, 404, "{run}");
        assert!(fleet.audit(run).await.is_empty());
    }
    let noted: Vec<String> = sqlx::query_scalar(
        "select detail from audit where what = 'stop refused' and run_id is null order by id",
    )
    .fetch_all(fleet.app.sql())
    .await
    .unwrap();
    assert!(noted.contains(&"there is no run 4711".to_owned()), "{noted:?}");
    let beyond = "/runs/99999999999999999999/terminate";
    assert_eq!(soon(beyond, ada.post(beyond, &[("mode", "force")])).await.status, 404);
}

#[tokio::test]
async fn two_people_who_stop_a_run_at_once_are_told_who_did() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let hash: String = sqlx::query_scalar("select password_hash from users where name = 'ada'")
        .fetch_one(fleet.app.sql())
        .await
        .unwrap();
    fleet.app.add_user("grace", "superuser", &hash).await;
    let (ada, grace) = (fleet.app.superuser().await, fleet.app.signed_in("grace").await);
    for n in 0..5 {
        let run = started(&start(&ada, "x", &format!("once-{n}")).await);
        fleet.until_running(run).await;
        let (one, two) = tokio::join!(stop(&ada, run, "force", "mine"), stop(&grace, run, "force", "hers"));
        assert_eq!((one.status, two.status), (303, 303));
        let over = fleet.over_by_then(run).await;
        fleet.assert_stopped_once(&over).await;
        let said = over.stop.unwrap();
        let who: String =
            sqlx::query_scalar("select who from audit where run_id = $1 and what = 'stop wished'")
                .bind(run.0)
                .fetch_one(fleet.app.sql())
                .await
                .unwrap();
        assert_eq!(who, said.by, "the audit and the run name the same person");
        assert_eq!(said.reason, if said.by == "ada" { "mine" } else { "hers" });
    }
}
