//! A worker's next life: it takes over what lives, loses no event, doubles none, and clears away what nobody holds.

use signalbox::model::run::{Outcome, State, Step, StopMode};

use crate::fleet::{Fleet, until};
use crate::scripted::Script;
use crate::wire::{Proxy, Wire};

const SUCCESS: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"done"}"#;

async fn payloads(fleet: &Fleet, run: signalbox::model::run::RunId) -> Vec<String> {
    fleet.events(run).await.into_iter().map(|event| event.payload).collect()
}

#[tokio::test]
async fn a_transcript_goes_on_without_losing_or_doubling_an_event() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { prints: vec!["line 1".into()], ..Script::default() });
    let mut worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let first = fleet.until(run, "heard of", |run| run.events == 1 && run.container.is_some()).await;
    for life in 0..4 {
        if life % 2 == 0 {
            worker.kill()
        } else {
            worker.hand_over().await
        }
        fleet.engine.print(run.0, &format!("line {}", life * 2 + 2));
        worker = fleet.worker("w1").await;
        fleet.engine.print(run.0, &format!("line {}", life * 2 + 3));
        fleet.until(run, "going on", |run| run.events == life * 2 + 3).await;
    }
    fleet.engine.print(run.0, SUCCESS);
    fleet.engine.exit(run.0, 0);
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.container), (Some(Outcome::Succeeded), first.container));
    assert_eq!(over.fence, first.fence + 4);
    let expected: Vec<_> = (1..=9).map(|n| format!("line {n}")).chain([SUCCESS.to_owned()]).collect();
    assert_eq!(payloads(&fleet, run).await, expected);
    assert_eq!(fleet.engine.made(run.0), 1);
}

#[tokio::test]
async fn a_result_heard_in_a_former_life_counts() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { prints: vec![SUCCESS.into()], ..Script::default() });
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until(run, "heard of", |run| run.events == 1).await;
    worker.kill();
    fleet.engine.exit(run.0, 0);
    let _again = fleet.worker("w1").await;
    assert_eq!(fleet.until_over(run).await.outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_stop_wished_between_two_lives_is_obeyed() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.kill();
    fleet.stop(run, StopMode::Force).await;
    assert!(fleet.run(run).await.is_unconfirmed());
    let _again = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::Sigkill));
    until("read", async || fleet.app.queue.commands_waiting("w1").await.unwrap() == Some(0)).await;
}

/// How a run ended whose container was over with this code when its worker's next life found it, and the wish to stop it.
async fn found_over(mode: StopMode, code: i64) -> (Option<Outcome>, Step) {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.kill();
    fleet.stop(run, mode).await;
    fleet.engine.exit(run.0, code);
    let _again = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    (over.outcome, over.evidence.unwrap().step)
}

/// As when Postgres hung while a stop was obeyed, and the worker was killed before it could say so.
#[tokio::test]
async fn an_end_bears_the_mark_of_a_stop_that_a_former_life_obeyed_and_could_not_note() {
    let terminated = Some(Outcome::Terminated);
    assert_eq!(found_over(StopMode::Force, 137).await, (terminated, Step::Sigkill));
    assert_eq!(found_over(StopMode::Graceful, 130).await, (terminated, Step::Sigint));
}

#[tokio::test]
async fn an_end_without_the_mark_of_a_stop_is_its_own() {
    for (mode, code) in [(StopMode::Force, 1), (StopMode::Graceful, 137)] {
        assert_eq!(found_over(mode, code).await, (Some(Outcome::Failed), Step::ByItself));
    }
}

#[tokio::test]
async fn a_run_claimed_and_never_started_goes_back_to_the_queue() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    fleet.claim("w1").await;
    assert_eq!(fleet.run(run).await.state, State::Starting);
    let _worker = fleet.worker("w1").await;
    let running = fleet.until_running(run).await;
    assert_eq!((running.fence, fleet.engine.made(run.0)), (3, 1), "claimed, adopted, claimed again");
    let folder = fleet.parts("w1").settings.dir.join("w1/runs").join(run.to_string());
    assert!(folder.join("prompt").exists() && folder.join("gate.sock").exists(), "nobody cleared it away");
}

#[tokio::test]
async fn a_container_gone_meanwhile_is_no_mystery() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.kill();
    fleet.engine.vanish(run.0);
    let _again = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::Absent));
}

#[tokio::test]
async fn an_engine_that_is_down_at_the_start_is_waited_for_and_the_lease_kept() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let before = fleet.until_running(run).await;
    worker.kill();
    fleet.engine.silent(true);
    let _again = fleet.worker("w1").await;
    let waiting = fleet.until(run, "in trouble", |run| run.trouble.is_some()).await;
    assert!(waiting.fence > before.fence && waiting.state == State::Running);
    fleet.engine.silent(false);
    fleet.until(run, "well again", |run| run.trouble.is_none()).await;
    assert_eq!(fleet.engine.alive(), [run.0]);
}

#[tokio::test]
async fn a_container_that_nobody_holds_is_killed_and_noted() {
    let fleet = Fleet::new().await;
    fleet.engine.plant(777);
    let _worker = fleet.worker("w1").await;
    until("gone", async || fleet.engine.known().is_empty()).await;
    let noted: i64 = sqlx::query_scalar(
        "select count(*) from audit where what = 'stray container killed' and run_id = 777",
    )
    .fetch_one(fleet.app.sql())
    .await
    .unwrap();
    assert_eq!(noted, 1);
}

#[tokio::test]
async fn a_worker_back_too_late_ends_what_lives_though_no_server_is_there_to_call_it_lost() {
    let mut fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.kill();
    fleet.app.stop_server();
    let lapse = "update runs set lease_until = now() - interval '1 s'";
    sqlx::query(lapse).execute(fleet.app.sql()).await.unwrap();
    let _next = fleet.worker("w1").await;
    until("dead", async || fleet.engine.alive().is_empty()).await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::Sigkill));
}

#[tokio::test]
async fn a_time_limit_isnt_told_as_the_delivery_of_a_wish_that_came_later() {
    let fleet = Fleet::new().await;
    sqlx::query("update agents set time_s = 1").execute(fleet.app.sql()).await.unwrap();
    fleet.engine.script(Script {
        ignores: std::collections::BTreeSet::from(["SIGINT", "SIGTERM"]),
        ..Script::default()
    });
    let mut parts = fleet.parts("w1");
    parts.times.ladder.as_mut().unwrap().sigint = std::time::Duration::from_secs(30);
    let _worker = fleet.worker_with(parts).await;
    let run = fleet.start("x").await;
    let cut = fleet.until(run, "being stopped", |run| run.progress.egress_cut_at.is_some()).await;
    assert_eq!(cut.delivered_at(), None, "nobody has wished anything");
    fleet.stop(run, StopMode::Force).await;
    let over = fleet.until_over(run).await;
    let wished = over.stop.as_ref().unwrap().at;
    assert!(over.delivered_at().unwrap() >= wished && over.progress.egress_cut_at.unwrap() < wished);
    assert_eq!(over.outcome, Some(Outcome::TimedOut));
}

#[tokio::test]
async fn a_life_that_begins_while_postgres_is_away_kills_what_no_lease_can_hold_any_more() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.kill();
    let url: url::Url = fleet.app.database_url.parse().unwrap();
    let wire = Proxy::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))).await;
    wire.set(Wire::Cut);
    let mut parts = fleet.parts("w1");
    parts.times.lapse = std::time::Duration::from_secs(2);
    let _next = fleet.begin_at(parts, &wire.url(&fleet.app.database_url), &crate::app::redis_url());
    until("dead", async || fleet.engine.alive().is_empty()).await;
    assert!(!fleet.run(run).await.state.is_over(), "nobody could have written that");
    assert_eq!(fleet.engine.known(), [run.0], "what proves the end is kept");
    wire.set(Wire::Whole);
    fleet.stop(run, StopMode::Force).await;
    let over = fleet.until_over(run).await;
    assert!(over.evidence.unwrap().exit_code == Some(137) && fleet.engine.made(run.0) == 1);
}

#[tokio::test]
async fn a_worker_that_comes_back_to_many_runs_asks_for_one_list() {
    let fleet = Fleet::new().await;
    let mut runs = Vec::new();
    for n in 0..30 {
        let run = fleet.start(&format!("run {n}")).await;
        let lease = fleet.claim("w1").await;
        fleet.app.worker_db.mark_running(&lease, &format!("container-{run}")).await.unwrap();
        fleet.engine.plant(run.0);
        runs.push(run);
    }
    let _worker = fleet.worker("w1").await;
    for run in &runs {
        fleet.until(*run, "adopted", |run| run.fence == 2).await;
        fleet.engine.exit(run.0, 0);
    }
    for run in &runs {
        fleet.until_over(*run).await;
    }
    let listed = fleet.engine.listed();
    assert!(listed <= 8, "the sweep's, the survey's and that of the adoption: {listed}");
}
