//! Plain processes: the same promises, by the kernel's table of processes.

use std::time::Duration;

use crate::house::{House, SOON, Wants, until};
use crate::kernel;

async fn plain_house() -> House {
    House::open_with(Wants { plain: true, ..Wants::default() }).await
}

fn living(house: &House) -> usize {
    kernel::of_cells(&house.work_dir()).len()
}

pub(crate) async fn a_plain_run_answers() {
    let house = plain_house().await;
    let run = house.start("What is a lease?").await;
    let page = house.until_ended(run, SOON).await;
    let row = house.row(run).await;
    assert_eq!((page.outcome(), row.exit_code), ("succeeded", Some(0)), "{row:?}");
    assert!(page.data("cost-usd").parse::<f64>().is_ok_and(|cost| cost > 0.0));
    until("alone", SOON, async || living(&house) == 0).await;
}

pub(crate) async fn a_plain_loop_stops_gracefully() {
    let house = plain_house().await;
    let run = house.start("scenario: loop\npause_ms: 5000").await;
    let at_work =
        async || kernel::of_cells(&house.work_dir()).iter().any(|process| process.is(&["sleep", "5"]));
    until("at work", SOON, at_work).await;
    assert!(living(&house) >= 3, "a shim, a CLI and a tool");
    house.terminate(run, "graceful").await;
    house
        .until(run, "over", SOON, |page| {
            let claimed = page.outcome() == "terminated";
            assert!(!claimed || living(&house) == 0, "the page says that it is over, and it runs");
            claimed
        })
        .await;
    let cost = house.row(run).await.cost_usd.is_some_and(|cost| cost > 0.0);
    house
        .until(run, "reckoned", SOON, |page| {
            page.data("cost-usd").parse::<f64>().is_ok_and(|cost| cost > 0.0)
        })
        .await;
    assert_eq!(cost, house.count(run, "result").await == 1, "kept, when there was one");
    assert_eq!(house.row(run).await.end_step.as_deref(), Some("sigint"));
}

pub(crate) async fn a_stubborn_plain_run_dies_whole_by_force() {
    let house = plain_house().await;
    let run = house.start("scenario: stubborn").await;
    house.until_at_work(run, 1).await;
    until("at its worst", SOON, async || living(&house) >= 5).await;
    house.terminate(run, "force").await;
    let page = house.until_ended(run, Duration::from_secs(3)).await;
    assert_eq!(living(&house), 0);
    assert_eq!((page.outcome(), house.row(run).await.end_step.as_deref()), ("terminated", Some("sigkill")));
}

pub(crate) async fn a_plain_run_outlives_its_worker() {
    let mut house = plain_house().await;
    let run = house.start("scenario: loop\nsteps: 10\npause_ms: 300").await;
    house.until_at_work(run, 2).await;
    house.work.take().unwrap().kill();
    assert!(living(&house) >= 2);
    house.start_worker().await;
    let page = house.until_ended(run, SOON).await;
    assert_eq!(page.outcome(), "succeeded", "{:?}", house.row(run).await);
    let (events, row) = (house.events(run).await, house.row(run).await);
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=row.stdout_lines + row.stderr_lines).collect::<Vec<_>>());
    assert_eq!(house.count(run, "tool_use").await, 10, "none lost, none doubled");
    until("alone", SOON, async || living(&house) == 0).await;
}
