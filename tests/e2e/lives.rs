//! Processes that are killed, frozen or sent away in the middle: runs go on, or are stopped; none is doubled.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::engine::Printed;
use crate::house::{House, SOON, Stored, until};
use crate::kernel;

/// What is stored is what was printed, line by line, numbered without a gap.
pub(crate) fn assert_is_what_was_printed(stored: &[Stored], printed: &Printed) {
    let numbers: Vec<i64> = stored.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=stored.len() as i64).collect::<Vec<_>>());
    for (source, lines) in [("stdout", &printed.stdout), ("stderr", &printed.stderr)] {
        let kept: Vec<_> = stored.iter().filter(|event| event.source == source).collect();
        for (n, (event, line)) in kept.iter().zip(lines).enumerate() {
            assert!(event.cut > 0 || event.payload == *line, "{source} {n}: {event:?} isn't {line}");
        }
        assert_eq!(kept.len(), lines.len(), "lines of {source}");
    }
}

pub(crate) async fn a_worker_killed_in_the_middle_goes_on_without_a_gap() {
    let mut house = House::open().await;
    let run = house.start("scenario: loop\nsteps: 14\npause_ms: 300").await;
    let container = house.container(run).await;
    let printed = house.witness().follow(&container);
    for calls in [2, 6] {
        house.until_at_work(run, calls).await;
        house.work.take().unwrap().kill();
        // It goes on without anybody to listen, so that there is something to catch up with.
        let before = house.witness().printed(&container).await.stdout.len();
        until("going on", SOON, async || house.witness().printed(&container).await.stdout.len() > before + 3)
            .await;
        house.start_worker().await;
    }
    let page = house.until_ended(run, SOON).await;
    let row = house.row(run).await;
    assert_eq!(
        (page.outcome(), row.container.as_deref()),
        ("succeeded", Some(container.as_str())),
        "{row:?}"
    );
    assert!(row.metered_usd > Some(0.0) && row.metered_partly, "at least that much: {row:?}");
    let events = house.events(run).await;
    assert_is_what_was_printed(&events, &printed.await.unwrap());
    assert_eq!((row.events, row.stdout_lines + row.stderr_lines), (events.len() as i64, events.len() as i64));
    assert_eq!(house.witness().deaths().len(), 1, "there was one container, and it died once");
}

pub(crate) async fn a_server_killed_in_the_middle_is_missed_by_no_run_and_no_session() {
    let mut house = House::open().await;
    let run = house.start("scenario: loop\nsteps: 8\npause_ms: 300").await;
    house.until_at_work(run, 2).await;
    let before = house.row(run).await;
    house.serve.take().unwrap().kill();
    until("going on", SOON, async || house.row(run).await.events > before.events + 3).await;
    house.restart_server().await;
    // The same cookie.
    let page = house.until_ended(run, SOON).await;
    let row = house.row(run).await;
    assert_eq!((page.outcome(), row.container), ("succeeded", before.container));
}

pub(crate) async fn a_worker_frozen_past_its_lease_loses_the_run_and_stops_it_when_it_is_back() {
    let mut house = House::open().await;
    let run = house.start("scenario: loop").await;
    let container = house.container(run).await;
    house.until_at_work(run, 2).await;

    house.worker().signal(Signal::SIGSTOP);
    house.until(run, "lost", Duration::from_secs(45), |page| page.is("lost")).await;
    assert!(house.witness().alive().await.contains(&container), "nobody could stop it");
    let printed = house.witness().printed(&container).await;

    house.worker().signal(Signal::SIGCONT);
    let page = house.until_ended(run, Duration::from_secs(15)).await;
    let row = house.row(run).await;
    assert_eq!(page.outcome(), "failed", "{row:?}");
    // Postgres answered all the time.
    let blames = |what: &str| row.reason.as_deref().is_some_and(|reason| reason.contains(what));
    assert!(blames("worker") && !blames("Postgres"), "{row:?}");
    let deaths = house.witness().deaths();
    assert_eq!((deaths.len(), deaths[0].exit_code), (1, 137));
    assert!(row.confirmed_at.unwrap() >= deaths[0].at);
    assert!(kernel::of_container(&container).is_empty());
    house.until_clear().await;

    // What was stored is where the transcript stops: nothing came in under the old lease, nothing twice.
    let events = house.events(run).await;
    assert!(events.len() < printed.stdout.len() + printed.stderr.len());
    let heard = |source: &str, lines: &[String]| {
        let count = events.iter().filter(|event| event.source == source).count();
        lines.iter().take(count).cloned().collect()
    };
    let heard =
        Printed { stdout: heard("stdout", &printed.stdout), stderr: heard("stderr", &printed.stderr) };
    assert_is_what_was_printed(&events, &heard);
}

pub(crate) async fn ctrl_c_stops_the_runs() {
    let mut house = House::open().await;
    let runs = [house.start("scenario: loop").await, house.start("scenario: stubborn").await];
    for run in runs {
        house.until_at_work(run, 1).await;
    }
    house.worker().signal(Signal::SIGINT);
    let status = house.worker().ended(Duration::from_secs(12)).await;
    assert!(status.success(), "{status}");
    assert_eq!(house.witness().containers().await, Vec::<String>::new());
    for run in runs {
        let (page, row) = (house.page(run).await, house.row(run).await);
        assert_eq!((page.data("state"), page.outcome()), ("ended", "failed"), "{row:?}");
        assert!(row.reason.as_deref().is_some_and(|reason| reason.contains("shut down")), "{row:?}");
    }
    assert_eq!(house.witness().deaths().len(), 2);
}

pub(crate) async fn sigterm_leaves_the_runs_to_the_next_life() {
    let mut house = House::open().await;
    let run = house.start("scenario: loop\nsteps: 10\npause_ms: 300").await;
    let container = house.container(run).await;
    let printed = house.witness().follow(&container);
    house.until_at_work(run, 2).await;
    house.worker().signal(Signal::SIGTERM);
    let status = house.worker().ended(Duration::from_secs(5)).await;
    assert!(status.success(), "{status}");
    assert!(house.witness().alive().await.contains(&container));
    house.start_worker().await;
    let page = house.until_ended(run, SOON).await;
    assert_eq!((page.outcome(), house.row(run).await.container), ("succeeded", Some(container)));
    assert_is_what_was_printed(&house.events(run).await, &printed.await.unwrap());
}
