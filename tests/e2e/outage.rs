//! What the worker leans on goes away: the engine freezes or dies, Postgres is out of reach.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::browser::RunPage;
use crate::house::{House, SOON, Wants, home, postgres, random, until};
use crate::kernel;
use crate::variable;
use crate::wire::{Is, Wire};

/// A house whose worker reaches the engine by a wire of ours.
async fn house_on_a_wire() -> (House, Wire) {
    let host = variable("DOCKER_HOST").expect("DOCKER_HOST");
    let target = host.strip_prefix("unix://").expect("this test wants an engine at a Unix socket");
    let path: PathBuf = home().join(format!("{}.sock", random()));
    let wire = Wire::between_sockets(&path, target.as_ref());
    let engine = Some(format!("unix://{}", path.display()));
    (House::open_with(Wants { engine, ..Wants::default() }).await, wire)
}

pub(crate) async fn a_frozen_engine_leaves_a_stop_unconfirmed_though_the_host_has_killed_it_until_it_thaws() {
    let (house, wire) = house_on_a_wire().await;
    let run = house.start("scenario: loop\npause_ms: 200").await;
    let container = house.container(run).await;
    house.until_at_work(run, 3).await;

    wire.set(Is::Hanging);
    let asked = Instant::now();
    house.terminate(run, "force").await;
    let within = Duration::from_secs(3).saturating_sub(asked.elapsed());
    let page = house.until(run, "explained", within, |page| page.body.contains("engine doesn")).await;
    assert!(page.is_unconfirmed() && page.is("running"), "{:?}", house.row(run).await);

    // The host has killed it behind a closed gate; the page claims nothing before the engine's word.
    let cut = house.row(run).await.egress_cut_at.expect("the gate is closed");
    assert!(cut - house.row(run).await.wish_at.unwrap() < time::Duration::SECOND);
    until("killed by the host", Duration::from_secs(2), async || kernel::of_container(&container).is_empty())
        .await;
    let before = house.requests();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(house.requests(), before);
    let page = house.page(run).await;
    assert!(page.is_unconfirmed() && page.body.contains("engine doesn"), "{:?}", house.row(run).await);

    wire.set(Is::Whole);
    let page = house.until_ended(run, Duration::from_secs(5)).await;
    let row = house.row(run).await;
    assert_eq!(page.outcome(), "terminated", "{row:?}");
    // The engine may have taken in what it was asked while it hung.
    assert!(["host_kill", "sigkill"].contains(&row.end_step.as_deref().unwrap()), "{row:?}");
    assert!(row.confirmed_at.unwrap() >= house.witness().deaths()[0].at);
    assert!(kernel::of_container(&container).is_empty());
    house.until_clear().await;
}

pub(crate) async fn without_an_engine_runs_wait_and_say_why_and_then_start_by_themselves() {
    let (house, wire) = house_on_a_wire().await;
    wire.set(Is::Cut);
    // The first is claimed before anybody knows. What the engine made of it can't be known either until it answers.
    let early = house.start("early").await;
    let explained = |page: &RunPage| page.body.contains("the container engine");
    let page = house.until(early, "explained", SOON, explained).await;
    assert!(!page.is("running") && !page.is("ended"), "{:?}", house.row(early).await);
    until("known to be down", SOON, async || {
        sqlx::query_scalar("select not engine_ok from workers").fetch_one(house.sql()).await.unwrap()
    })
    .await;
    let late = house.start("late").await;
    let page = house.until(late, "explained", SOON, explained).await;
    assert!(page.is("queued"), "{:?}", house.row(late).await);

    wire.set(Is::Whole);
    for run in [early, late] {
        let page = house.until_ended(run, SOON).await;
        assert_eq!(page.outcome(), "succeeded", "{:?}", house.row(run).await);
    }
    assert_eq!(house.witness().deaths().len(), 2, "each has run once");
}

pub(crate) async fn without_postgres_a_worker_stops_its_containers_before_the_lease_lapses() {
    let (wire, port) = Wire::to_port(postgres()).await;
    let house = House::open_with(Wants { postgres_port: Some(port), ..Wants::default() }).await;
    let run = house.start("scenario: loop").await;
    let container = house.container(run).await;
    house.until_at_work(run, 2).await;

    wire.set(Is::Cut);
    let cut = Instant::now();
    let dead = async || !house.witness().alive().await.contains(&container);
    until("dead", Duration::from_secs(30), dead).await;
    let lived = cut.elapsed();
    // The last renewal was up to ten seconds before the cut.
    assert!(lived > Duration::from_secs(8) && lived < Duration::from_secs(22), "{lived:?}");
    assert!(kernel::of_container(&container).is_empty());
    assert!(!house.page(run).await.is("ended"), "nobody could have written that");

    wire.set(Is::Whole);
    let page = house.until_ended(run, Duration::from_secs(15)).await;
    let row = house.row(run).await;
    assert_eq!(page.outcome(), "failed", "{row:?}");
    assert!(row.reason.as_deref().is_some_and(|reason| reason.contains("Postgres")), "{row:?}");
    assert_eq!((row.exit_code, house.witness().deaths().len()), (Some(137), 1));
}
