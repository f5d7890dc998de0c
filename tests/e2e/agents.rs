//! Agents that don't want to die, or can't be talked to: each is a shell script in a real cell.

use std::time::Duration;

use crate::house::{House, SOON, until};
use crate::kernel;

const RESULT: &str =
    r#"echo '{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1}'"#;

/// Starts a script and waits until it says "up".
async fn up(house: &House, script: &str) -> (i64, String) {
    let run = house.start(script).await;
    let container = house.container(run).await;
    let says_up = async || house.events(run).await.iter().any(|event| event.payload == "up");
    until("up", SOON, says_up).await;
    (run, container)
}

/// Stops a run by force: dead, proven and written within two seconds, and nothing of it left.
async fn dies_whole(house: &House, run: i64, container: &str) {
    house.terminate(run, "force").await;
    let page = house.until_ended(run, Duration::from_secs(5)).await;
    let row = house.row(run).await;
    assert_eq!(page.outcome(), "terminated", "{row:?}");
    let took = row.confirmed_at.unwrap() - row.wish_at.unwrap();
    assert!(took < time::Duration::seconds(2), "proven after {took}");
    assert!(kernel::of_container(container).is_empty());
    house.until_clear().await;
}

pub(crate) async fn one_that_ignores_signals_and_hides_its_children_dies_whole() {
    let house = House::of_scripts().await;
    let child = "trap \"\" INT TERM HUP; while :; do sleep 1; done";
    let script = format!(
        "(setsid sh -c '{child}' >/dev/null 2>&1 &); (setsid sh -c '({child}) &' >/dev/null 2>&1 &)
         trap '' INT TERM HUP; echo up; while :; do sleep 1; done"
    );
    let (run, container) = up(&house, &script).await;
    until("with its children", SOON, async || kernel::of_container(&container).len() >= 5).await;
    dies_whole(&house, run, &container).await;
}

pub(crate) async fn one_that_forks_without_end_dies_whole() {
    let house = House::of_scripts().await;
    sqlx::query("update agents set milli_cpus = 300").execute(house.sql()).await.unwrap();
    let script = "echo up; exec 2>/dev/null; f() { f & f & while :; do :; done; }; (f) & while :; do :; done";
    let (run, container) = up(&house, script).await;
    until("many", SOON, async || kernel::of_container(&container).len() >= 40).await;
    dies_whole(&house, run, &container).await;
}

pub(crate) async fn one_that_closes_its_output_is_stopped_like_any_other() {
    let house = House::of_scripts().await;
    let (run, container) =
        up(&house, "echo up; exec >&- 2>&-; trap '' INT TERM; while :; do sleep 1; done").await;
    dies_whole(&house, run, &container).await;
}

pub(crate) async fn one_that_floods_its_output_is_dead_and_proven_within_two_seconds() {
    let house = House::of_scripts().await;
    let script =
        "echo up; yes 'the quick report goes on and on, and nobody reads it' | head -c 1000000000; sleep 600";
    let (run, container) = up(&house, script).await;
    until("flooding", SOON, async || house.row(run).await.events > 5000).await;
    dies_whole(&house, run, &container).await;
}

pub(crate) async fn one_that_ends_during_the_stop_keeps_its_own_word() {
    let house = House::of_scripts().await;
    let script =
        format!("trap '{}; exit 0' INT; echo up; while :; do sleep 0.1; done", RESULT.replace('\'', "'\\''"));
    let (run, _) = up(&house, &script).await;
    house.terminate(run, "graceful").await;
    let page = house.until_ended(run, SOON).await;
    let row = house.row(run).await;
    assert_eq!(page.outcome(), "succeeded", "{row:?}");
    assert!(row.reason.unwrap().contains("although it was being stopped"));
}

pub(crate) async fn one_that_lives_on_after_its_result_is_stopped_and_marked() {
    let house = House::of_scripts().await;
    sqlx::query("update agents set linger_ms = 1000").execute(house.sql()).await.unwrap();
    let (run, container) = up(&house, &format!("echo up; {RESULT}; while :; do sleep 0.1; done")).await;
    let page = house.until_ended(run, SOON).await;
    let row = house.row(run).await;
    assert_eq!((page.outcome(), page.data("wish")), ("succeeded", "run"), "{row:?}");
    assert!(row.reason.unwrap().contains("didn't exit after its result"));
    assert!(kernel::of_container(&container).is_empty());
}
