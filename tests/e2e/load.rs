//! Runs that want too much: memory, and words.

use std::time::Duration;

use crate::house::{House, SOON};
use crate::lives::assert_is_what_was_printed;

async fn house_with_little_memory() -> House {
    let house = House::open().await;
    sqlx::query("update agents set memory_mib = 512").execute(house.sql()).await.unwrap();
    house
}

pub(crate) async fn a_tool_that_eats_all_memory_harms_nobody_else() {
    let house = house_with_little_memory().await;
    let greedy = house.start("scenario: tool\ncommand: tail /dev/zero").await;
    let other = house.start("scenario: loop\nsteps: 5\npause_ms: 300").await;
    house.until_ended(greedy, SOON * 2).await;
    assert_eq!(house.until_ended(other, SOON).await.outcome(), "succeeded");
    // The kernel took the tool and left the CLI, which says so, or took all of it.
    let (row, events) = (house.row(greedy).await, house.events(greedy).await);
    let told = events.iter().any(|event| event.kind == "tool_result" && event.payload.contains("137"));
    assert!(told || row.reason.as_deref().is_some_and(|reason| reason.contains("memory")), "{row:?}");
    house.until_clear().await;
    assert_eq!(house.until_ended(house.start("still there?").await, SOON).await.outcome(), "succeeded");
}

pub(crate) async fn a_run_that_dies_for_want_of_memory_says_so() {
    let house = house_with_little_memory().await;
    // The kernel is told to take the CLI first, of which the shell is a child.
    let command = "echo 1000 > /proc/$PPID/oom_score_adj; tail /dev/zero";
    let run = house.start(&format!("scenario: tool\ncommand: {command}")).await;
    let page = house.until_ended(run, SOON).await;
    let row = house.row(run).await;
    assert_eq!(
        (page.outcome(), row.exit_code, row.end_step.as_deref()),
        ("failed", Some(137), Some("by_itself")),
        "{row:?}"
    );
    assert!(row.reason.as_deref().is_some_and(|reason| reason.contains("memory")), "{row:?}");
}

pub(crate) async fn a_flood_of_words_is_cut_with_marks_and_ends() {
    let house = House::open().await;
    let run = house.start("scenario: flood").await;
    let printed = house.witness().follow(&house.container(run).await);
    let page = house.until_ended(run, SOON * 2).await;
    assert_eq!(page.outcome(), "succeeded", "{:?}", house.row(run).await);
    let (events, printed) = (house.events(run).await, printed.await.unwrap());
    assert_is_what_was_printed(&events, &printed);
    assert!(printed.stdout.iter().any(|line| line.len() > 4 << 20), "it was a flood");
    let cut: Vec<_> = events.iter().filter(|event| event.cut > 0).collect();
    assert!(cut.len() >= 2 && cut.iter().all(|event| event.payload.len() <= 256 * 1024), "{}", cut.len());
    assert!(page.body.contains("bytes were cut off") && page.body.len() < 1 << 20, "{}", page.body.len());
}

pub(crate) async fn a_flood_from_a_tool_ends() {
    let house = House::open().await;
    let command = "yes 'the quick report goes on and on' | head -c 50000000";
    let run = house.start(&format!("scenario: tool\ncommand: {command}")).await;
    let printed = house.witness().follow(&house.container(run).await);
    let page = house.until_ended(run, Duration::from_secs(90)).await;
    assert_eq!(page.outcome(), "succeeded", "{:?}", house.row(run).await);
    assert_is_what_was_printed(&house.events(run).await, &printed.await.unwrap());
    house.until_clear().await;
}
