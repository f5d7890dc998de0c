//! The last resort: `signalbox stop-all` on a worker's host, with everything else dead.

use std::path::PathBuf;

use crate::house::{House, SOON, Wants, home, random, signalbox, until};
use crate::kernel;
use crate::variable;
use crate::wire::{Is, Wire};

pub(crate) async fn with_everything_dead_the_host_stops_its_own_agents() {
    let host = variable("DOCKER_HOST").expect("DOCKER_HOST");
    let target = host.strip_prefix("unix://").expect("this test wants an engine at a Unix socket");
    let socket: PathBuf = home().join(format!("{}.sock", random()));
    let wire = Wire::between_sockets(&socket, target.as_ref());
    let engine = Some(format!("unix://{}", socket.display()));
    let mut house = House::open_with(Wants { engine, ..Wants::default() }).await;
    let other = House::open().await;
    let runs = [house.start("scenario: stubborn").await, house.start("scenario: loop").await];
    let bystander = other.start("scenario: loop").await;
    let containers = [house.container(runs[0]).await, house.container(runs[1]).await];
    let spared = other.container(bystander).await;
    house.until_at_work(runs[1], 1).await;

    house.serve.take().unwrap().kill();
    house.work.take().unwrap().kill();
    wire.set(Is::Hanging);
    let mut command = signalbox(&["stop-all", "--reason", "it is burning"]);
    command.env_clear();
    for name in ["SIGNALBOX_WORK_DIR", "SIGNALBOX_FLEET", "DOCKER_HOST"] {
        command.env(name, house.variable_of_worker(name));
    }
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    for (run, container) in runs.iter().zip(&containers) {
        assert!(kernel::of_container(container).is_empty());
        let receipt = said.lines().find(|line| line.starts_with(&format!("run {run}  {}", &container[..12])));
        let receipt = receipt.unwrap_or_else(|| panic!("no receipt of run {run} in {said}"));
        assert!(receipt.contains("nothing of it is left"), "{receipt}");
        assert!(receipt.contains("the engine doesn't answer"), "{receipt}");
    }
    assert!(!kernel::of_container(&spared).is_empty(), "another installation's agents aren't ours to stop");

    // When the worker is back it says what was done here, and takes nothing until it is told to.
    wire.set(Is::Whole);
    house.restart_server().await;
    house.start_worker().await;
    for run in runs {
        let page = house.until_ended(run, SOON * 2).await;
        assert_eq!(page.outcome(), "failed", "nobody had wished it: {:?}", house.row(run).await);
    }
    let noted = async || {
        let count =
            "select count(*) from audit where what = 'stopped by stop-all' and detail like '%it is burning%'";
        sqlx::query_scalar::<_, i64>(count).fetch_one(house.sql()).await.unwrap() == 2
    };
    until("noted", SOON, noted).await;
    let waiting = house.start("still there?").await;
    let held = house.until(waiting, "told why it waits", SOON, |page| page.body.contains("drained")).await;
    assert!(held.is("queued"));
    house.until_clear().await;
}
