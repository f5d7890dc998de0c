//! A run's way through a worker: claimed once, transcribed, judged; and what waits says why.

use std::time::Duration;

use signalbox::model::event::Kind;
use signalbox::model::run::{Outcome, State, Step, StopMode};

use crate::fleet::{Fleet, until};
use crate::scripted::Script;

const INIT: &str = r#"{"type":"system","subtype":"init","model":"claude-test","tools":["Bash"]}"#;
const SUCCESS: &str = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":2,"duration_ms":900,"result":"done","total_cost_usd":0.25,"usage":{"input_tokens":7,"output_tokens":3}}"#;

fn prints(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test]
async fn a_run_goes_from_the_queue_to_its_result() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script {
        prints: prints(&[INIT, "hello", SUCCESS]),
        exits: Some(0),
        ..Script::default()
    });
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("say hello").await;
    let over = fleet.until_over(run).await;
    assert_eq!(
        (over.outcome, over.evidence.as_ref().unwrap().step),
        (Some(Outcome::Succeeded), Step::ByItself)
    );
    assert_eq!(
        (over.numbers.turns, over.numbers.cost_usd, over.numbers.tokens_in),
        (Some(2), Some(0.25), Some(7))
    );
    assert_eq!(over.model.as_deref(), Some("claude-test"));
    let events = fleet.events(run).await;
    let kinds: Vec<_> = events.iter().map(|event| (event.seq, event.kind)).collect();
    assert_eq!(kinds, [(1, Kind::Init), (2, Kind::Text), (3, Kind::Result)]);
    until("cleaned up", async || fleet.engine.known().is_empty()).await;
}

#[tokio::test]
async fn a_run_without_figures_has_none() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script {
        prints: prints(&["cannot start: no such model"]),
        exits: Some(3),
        ..Script::default()
    });
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Failed));
    assert!(over.reason.unwrap().contains("no such model"));
    assert_eq!(over.numbers, Default::default());
    assert_eq!(over.evidence.unwrap().exit_code, Some(3));
}

#[tokio::test]
async fn two_workers_never_own_one_run() {
    let fleet = Fleet::new().await;
    // They live until they are told to end, so that neither worker can take them all: each has four places.
    fleet.engine.script(Script { prints: prints(&[SUCCESS]), ..Script::default() });
    let (_a, _b) = (fleet.worker("a").await, fleet.worker("b").await);
    let mut runs = Vec::new();
    for n in 0..32 {
        runs.push(fleet.start(&format!("run {n}")).await);
    }
    for all_places in runs.chunks(8) {
        for run in all_places {
            fleet.until_running(*run).await;
        }
        all_places.iter().for_each(|run| fleet.engine.exit(run.0, 0));
    }
    let mut workers = std::collections::BTreeSet::new();
    for run in runs {
        let over = fleet.until_over(run).await;
        assert_eq!((over.outcome, over.fence), (Some(Outcome::Succeeded), 1));
        assert_eq!(fleet.engine.made(run.0), 1, "run {run}");
        workers.insert(over.worker.unwrap());
    }
    assert_eq!(workers.len(), 2, "both took part");
}

#[tokio::test]
async fn a_worker_takes_no_more_than_it_has_room_for_and_the_rest_is_told_why() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let mut runs = Vec::new();
    for n in 0..5 {
        runs.push(fleet.start(&format!("run {n}")).await);
    }
    for run in &runs[..4] {
        fleet.until_running(*run).await;
    }
    let last = fleet.until(runs[4], "told why", |run| run.waits_because.is_some()).await;
    assert_eq!((last.state, last.waits_because.as_deref()), (State::Queued, Some("Every worker is busy.")));
    fleet.engine.exit(runs[0].0, 0);
    fleet.until_running(runs[4]).await;
}

#[tokio::test]
async fn with_the_engine_down_runs_stay_queued_with_the_reason() {
    let fleet = Fleet::new().await;
    fleet.engine.silent(true);
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let waits = fleet.until(run, "told why", |run| run.waits_because.is_some()).await;
    assert_eq!(waits.state, State::Queued);
    assert!(waits.waits_because.unwrap().contains("doesn't answer"));
    fleet.engine.silent(false);
    let running = fleet.until_running(run).await;
    assert_eq!(running.waits_because, None);
}

#[tokio::test]
async fn a_refusal_of_the_engine_is_the_runs_end_and_its_reason() {
    let fleet = Fleet::new().await;
    fleet.engine.refuses(Some("no such image: nope"));
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::NeverStarted));
    assert!(over.reason.unwrap().contains("no such image: nope"));
}

#[tokio::test]
async fn an_answer_lost_on_the_way_starts_no_second_container() {
    let fleet = Fleet::new().await;
    fleet.engine.loses_answers(true);
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    assert_eq!(fleet.engine.made(run.0), 1);
    fleet.stop(run, StopMode::Force).await;
    assert_eq!(fleet.until_over(run).await.outcome, Some(Outcome::Terminated));
}

#[tokio::test]
async fn the_prompt_lies_in_the_runs_folder_and_goes_with_it() {
    let fleet = Fleet::new().await;
    let parts = fleet.parts("w1");
    let runs = parts.settings.dir.join("w1").join("runs");
    let _worker = fleet.worker_with(parts).await;
    let run = fleet.start("$(touch /tmp/x) -p `id`").await;
    fleet.until_running(run).await;
    let dir = runs.join(run.to_string());
    assert_eq!(std::fs::read_to_string(dir.join("prompt")).unwrap(), "$(touch /tmp/x) -p `id`");
    assert!(dir.join("gate.sock").exists());
    fleet.engine.exit(run.0, 1);
    fleet.until_over(run).await;
    until("folder gone", async || !dir.exists()).await;
}

#[tokio::test]
async fn an_agents_time_limit_ends_a_run_and_is_its_outcome() {
    let fleet = Fleet::new().await;
    sqlx::query("update agents set time_s = 1").execute(fleet.app.sql()).await.unwrap();
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.stop), (Some(Outcome::TimedOut), None));
    until("removed", async || fleet.engine.signals(run.0).is_empty()).await;
}

#[tokio::test]
async fn ctrl_c_stops_the_runs_and_says_why() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    worker.stop_runs().await;
    let over = fleet.run(run).await;
    assert_eq!((over.state, over.outcome), (State::Ended, Some(Outcome::Failed)));
    assert!(over.reason.unwrap().contains("shut down"));
    assert!(fleet.engine.alive().is_empty());
}

#[tokio::test]
async fn what_cant_be_stored_ends_its_run_which_blames_no_lease() {
    let fleet = Fleet::new().await;
    let app = &fleet.app;
    app.sql_do(
        "create function refused() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$",
    )
    .await;
    app.sql_do(
        "create trigger refused before insert on events for each row when (new.payload like '%unheard-of%')
         execute function refused()",
    )
    .await;
    let _worker = fleet.worker("w1").await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    fleet.engine.print(run.0, "said before");
    fleet.until(run, "stored", |run| run.events == 1).await;
    fleet.engine.print(run.0, "something unheard-of");
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.events), (Some(Outcome::Failed), 1));
    let reason = over.reason.unwrap();
    assert!(reason.starts_with("Postgres refused what it printed last"), "{reason}");
    assert!(fleet.engine.alive().is_empty());
}

#[tokio::test]
async fn one_process_a_name() {
    let fleet = Fleet::new().await;
    let _first = fleet.worker("w1").await;
    let (ready, _) = tokio::sync::oneshot::channel();
    let second = signalbox::worker::work(fleet.parts("w1"), signalbox::worker::Leave::default(), ready);
    let error = tokio::time::timeout(Duration::from_secs(5), second).await.unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("another worker named w1"), "{error:#}");
}
