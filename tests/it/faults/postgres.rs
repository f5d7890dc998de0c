//! Postgres killed, frozen, hanging up, out of connections, locked, full, and a connection that is cut when all is done
//! and nobody told: pages say so soon, runs go on or are stopped, and nothing is written twice.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use signalbox::model::run::{Outcome, RunId, State};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::own::{Folder, OwnPostgres};
use super::{BACK, PAGES, pages, soon, start, started, stop, until_back};
use crate::app::{Browser, TestApp, Wants};
use crate::fleet::{Fleet, until};
use crate::scripted::Script;
use crate::wire::{Proxy, Wire};

const SUCCESS: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"done"}"#;

/// While Postgres doesn't answer, every page says so soon; nothing is claimed.
async fn pages_say_so(ada: &Browser, run: RunId) {
    for (page, answer) in pages(ada).await {
        assert_eq!(answer.status, 503, "{page}");
        assert!(answer.body.contains("The database doesn&#39;t answer."), "{page}: {}", answer.body);
    }
    assert_eq!(stop(ada, run, "force", "").await.status, 503);
    assert_eq!(start(ada, "while it is away", "away").await.status, 503);
    assert_eq!(soon("/healthz", ada.get("/healthz")).await.status, 200);
}

/// A fleet on a Postgres of its own, under a fault that lets nobody through.
async fn pages_say_so_and_the_run_goes_on(
    fault: impl AsyncFnOnce(&mut OwnPostgres),
    repair: impl AsyncFnOnce(&mut OwnPostgres),
) {
    let mut postgres = OwnPostgres::start();
    let fleet = Fleet::with(Wants { postgres: Some(postgres.url()), ..Wants::default() }).await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    let before = fleet.until_running(run).await;

    fault(&mut postgres).await;
    pages_say_so(&ada, run).await;
    assert_eq!(fleet.engine.alive(), [run.0], "nobody was told to stop it, and the lease holds");

    repair(&mut postgres).await;
    for page in PAGES {
        until_back(&ada, page).await;
    }
    let after = fleet.until_running(run).await;
    assert_eq!((after.fence, after.container), (before.fence, before.container));
    if after.stop.is_none() {
        assert_eq!(stop(&ada, run, "force", "").await.status, 303);
    }
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
    // The start that wasn't answered was done once or not at all; sent again, it is the same.
    let again = started(&start(&ada, "while it is away", "away").await);
    assert_eq!(count(&fleet.app, "select count(*) from runs where once = 'away'").await, 1);
    fleet.until_running(again).await;
    assert_eq!(fleet.engine.made(again.0), 1);
}

async fn count(app: &TestApp, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(app.sql()).await.unwrap()
}

#[tokio::test]
async fn postgres_killed_and_restarted_finds_everything_as_it_was() {
    let kill = async |postgres: &mut OwnPostgres| postgres.kill();
    pages_say_so_and_the_run_goes_on(kill, async |postgres| postgres.start_again()).await;
}

#[tokio::test]
async fn postgres_frozen_keeps_nobody_waiting() {
    let freeze = async |postgres: &mut OwnPostgres| postgres.signal_all(Signal::SIGSTOP);
    let thaw = async |postgres: &mut OwnPostgres| postgres.signal_all(Signal::SIGCONT);
    pages_say_so_and_the_run_goes_on(freeze, thaw).await;
}

#[tokio::test]
async fn postgres_out_of_connections_says_so_and_recovers() {
    let postgres = OwnPostgres::start_with(&["max_connections=20"]);
    let fleet = Fleet::with(Wants { postgres: Some(postgres.url()), ..Wants::default() }).await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    // Takes every place, those that the server had too.
    let hang_up = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and application_name like 'signalbox%'";
    let mut hogs = Vec::new();
    let mut theirs = 1_i64;
    while theirs > 0 {
        while let Ok(hog) = PgConnection::connect(&fleet.app.database_url).await {
            hogs.push(hog);
        }
        theirs = sqlx::query_scalar(hang_up).fetch_one(&mut hogs[0]).await.unwrap();
    }
    pages_say_so(&ada, run).await;
    drop(hogs);
    until_back(&ada, "/").await;
    assert_eq!(stop(&ada, run, "force", "").await.status, 303);
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
}

#[tokio::test]
async fn backends_terminated_in_a_loop_lose_and_double_nothing() {
    let fleet = Fleet::new().await;
    fleet.engine.script(Script { prints: vec!["line 1".into()], ..Script::default() });
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let mut owner = PgConnection::connect(&fleet.app.database_url).await.unwrap();
    let hang_up = async {
        loop {
            let statement = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and application_name like 'signalbox%'";
            sqlx::query(statement).execute(&mut owner).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    };
    let live = async {
        for n in 0..2 {
            let once = format!("once-{n}");
            let run = tried(async || start(&ada, "x", &once).await).await;
            let run = started(&run);
            fleet.until(run, "running", |run| run.state == State::Running && run.events == 1).await;
            for line in 2..=20 {
                fleet.engine.print(run.0, &format!("line {line}"));
            }
            tried(async || stop(&ada, run, "force", "").await).await;
            // The fault goes on.
            let over = fleet.until_over(run).await;
            fleet.assert_stopped_once(&over).await;
            let over = fleet.until(run, "whole", |run| run.events == 20).await;
            assert_eq!(over.outcome, Some(Outcome::Terminated));
        }
    };
    tokio::select! { () = hang_up => {}, () = live => {} }
    assert_eq!(count(&fleet.app, "select count(*) from runs").await, 2);
}

/// Asks again, as a person does, as long as the answer is that the database doesn't answer.
async fn tried(ask: impl AsyncFn() -> crate::app::Answer) -> crate::app::Answer {
    let deadline = Instant::now() + BACK;
    loop {
        let answer = ask().await;
        if answer.status != 503 {
            assert_eq!(answer.status, 303, "{}", answer.body);
            return answer;
        }
        assert!(Instant::now() < deadline, "still {}", answer.body);
    }
}

#[tokio::test]
async fn tables_that_are_locked_leave_every_page_an_answer() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let run = started(&start(&ada, "x", "once").await);
    // Nobody gets past these locks; the guard still does.
    let mut locks = app.sql().begin().await.unwrap();
    let lock = "lock table runs, workers, agents, audit in access exclusive mode";
    sqlx::query(lock).execute(&mut *locks).await.unwrap();
    pages_say_so_but_health(&ada, run).await;
    locks.rollback().await.unwrap();
    until_back(&ada, "/").await;
    assert_eq!(stop(&ada, run, "force", "").await.status, 303);
    assert_eq!(count(&app, "select count(*) from audit where what = 'stop wished'").await, 1);
}

/// `/health` measures, and shows what it found.
async fn pages_say_so_but_health(ada: &Browser, run: RunId) {
    for (page, answer) in pages(ada).await {
        assert!(answer.status == 503 || page == "/health", "{page}: {}", answer.status);
    }
    assert_eq!(stop(ada, run, "force", "").await.status, 503);
}

#[tokio::test]
async fn a_pool_exhausted_by_a_locked_row_answers_and_postgres_gives_up_what_we_gave_up() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let (run, other) = (fleet.start("x").await, fleet.start("y").await);
    fleet.until_running(run).await;
    fleet.until_running(other).await;
    let mut lock = fleet.app.sql().begin().await.unwrap();
    sqlx::query("select 1 from runs where id = $1 for update").bind(run.0).execute(&mut *lock).await.unwrap();
    // More than the pool has connections, all of them after the one row.
    let wishes = join_all((0..20).map(|_| stop(&ada, run, "force", ""))).await;
    assert!(wishes.iter().all(|answer| answer.status == 503));
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                   and application_name = 'signalbox serve' and wait_event_type = 'Lock'";
    until("given up", async || count(&fleet.app, waiting).await == 0).await;
    // The worker's renewals wait too, and the run lives: the lease holds for longer.
    assert_eq!(stop(&ada, other, "force", "").await.status, 303);
    let over = fleet.over_by_then(other).await;
    fleet.assert_stopped_once(&over).await;
    assert_eq!(fleet.engine.alive(), [run.0]);
    lock.rollback().await.unwrap();
    let held = fleet.run(run).await;
    assert_eq!((held.stop, held.fence), (None, 1), "what was given up isn't done later");
    assert_eq!(stop(&ada, run, "force", "").await.status, 303);
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
}

/// A wire to the database, for the server, for the worker, or for both.
async fn fleet_on_a_wire() -> (Fleet, Proxy) {
    let wire = Proxy::to_store(&crate::app::postgres_url()).await;
    (Fleet::with(Wants { way: Some(wire.address), ..Wants::default() }).await, wire)
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_after_the_commit_is_one_run() {
    let (fleet, wire) = fleet_on_a_wire().await;
    let ada = fleet.app.superuser().await;
    wire.lose_answer_to("do this once");
    let answer = start(&ada, "do this once", "form-1").await;
    assert!(wire.has_lost_it());
    assert_eq!(answer.status, 503, "nobody knows whether it was done");
    assert_eq!(count(&fleet.app, "select count(*) from runs").await, 1, "it was");
    assert_eq!(started(&start(&ada, "do this once", "form-1").await), RunId(1));
    assert_eq!(count(&fleet.app, "select count(*) from runs").await, 1);
    assert_eq!(fleet.audit(RunId(1)).await, ["run started"]);
}

#[tokio::test]
async fn a_stop_whose_answer_was_lost_after_the_commit_is_one_wish_and_is_obeyed() {
    let (fleet, wire) = fleet_on_a_wire().await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    wire.lose_answer_to("it loops like mad");
    assert_eq!(stop(&ada, run, "force", "it loops like mad").await.status, 503);
    assert!(wire.has_lost_it());
    assert_eq!(stop(&ada, run, "force", "it loops like mad").await.status, 303);
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
}

#[tokio::test]
async fn a_worker_whose_answers_are_lost_again_and_again_writes_each_line_and_each_end_once() {
    let fleet = Fleet::new().await;
    let wire = Proxy::to_store(&fleet.app.database_url).await;
    let url = crate::app::by_way_of(&fleet.app.database_url, wire.address);
    let _worker = fleet.worker_at(fleet.parts("w1"), &url, &fleet.app.redis_url).await;
    fleet.engine.script(Script { prints: vec!["line 1".into()], ..Script::default() });
    let run = fleet.start("x").await;
    fleet.until(run, "heard of", |run| run.events == 1).await;
    // Each batch holds the words of its lines; the end holds its reason.
    for line in 2..=6 {
        let words = format!("line {line}");
        wire.lose_answer_to(&words);
        fleet.engine.print(run.0, &words);
        until("lost", async || wire.has_lost_it()).await;
    }
    wire.lose_answer_to("Finished its work.");
    fleet.engine.print(run.0, SUCCESS);
    fleet.engine.exit(run.0, 0);
    let over = fleet.until_over(run).await;
    assert!(wire.has_lost_it());
    assert_eq!((over.outcome, over.fence), (Some(Outcome::Succeeded), 1));
    fleet.until(run, "whole", |run| run.events == 7).await;
    let lines: Vec<String> = fleet.events(run).await.into_iter().map(|event| event.payload).collect();
    let printed: Vec<String> = (1..=6).map(|n| format!("line {n}")).chain([SUCCESS.to_owned()]).collect();
    assert_eq!(lines, printed);
    assert_eq!(fleet.audit(run).await, ["run started"]);
}

#[tokio::test]
async fn a_slow_or_dripping_or_breaking_wire_keeps_nobody_waiting_and_nothing_is_doubled() {
    let (fleet, wire) = fleet_on_a_wire().await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let slow = Wire::Slow(Duration::from_millis(100));
    for (n, weather) in [slow, Wire::Dripping, Wire::Short(3_000)].into_iter().enumerate() {
        let once = format!("once-{n}");
        wire.set(weather);
        let begun = start(&ada, "x", &once).await;
        assert!([303, 503].contains(&begun.status), "{weather:?}: {}", begun.status);
        for (page, answer) in pages(&ada).await {
            let status = answer.status;
            assert!([200, 404, 503].contains(&status), "{weather:?} {page}: {status}");
        }
        wire.set(Wire::Whole);
        until_back(&ada, "/").await;
        let run = started(&start(&ada, "x", &once).await);
        fleet.until_running(run).await;
        wire.set(weather);
        let wished = stop(&ada, run, "force", "").await;
        assert!([303, 503].contains(&wished.status), "{weather:?}: {}", wished.status);
        wire.set(Wire::Whole);
        until_back(&ada, "/").await;
        stop(&ada, run, "force", "").await;
        let over = fleet.over_by_then(run).await;
        fleet.assert_stopped_once(&over).await;
    }
    assert_eq!(count(&fleet.app, "select count(*) from runs").await, 3);
}

/// A file system that holds little; it goes with the test.
struct Small(Folder);

impl Small {
    /// None where this user may not mount one.
    fn mount(mib: u32) -> Option<Self> {
        let folder = Folder::new("small");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(folder.path());
        let mounted = geteuid().is_root() && mount.status().is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.path().join("filler")
    }

    /// Until there is no room.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.filler()).unwrap();
        let block = [1_u8; 4096];
        while std::io::Write::write_all(&mut filler, &block).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmount = |path: &Path| Command::new("umount").args(["-l"]).arg(path).status();
        let _ = unmount(self.0.path());
    }
}

#[tokio::test]
async fn a_full_disk_under_postgres_is_said_and_nothing_is_half_written() {
    // Without the right to mount, there is no disk to fill: the wires above stand in for it.
    let Some(disk) = Small::mount(160) else { return };
    let folder = disk.0.path().join("postgres");
    std::fs::create_dir(&folder).unwrap();
    let postgres = OwnPostgres::start_at(folder, &["wal_keep_size=0", "max_wal_size=4MB"]);
    let fleet = Fleet::with(Wants { postgres: Some(postgres.url()), ..Wants::default() }).await;
    let _worker = fleet.worker("w1").await;
    let ada = fleet.app.superuser().await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    disk.fill();
    // What can't be compressed, so that it needs room.
    let mut bytes = vec![0; 120_000];
    let mut refused = 0;
    for n in 0..12 {
        getrandom::fill(&mut bytes).unwrap();
        let prompt: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = start(&ada, &prompt, &format!("large-{n}")).await;
        assert!([303, 503].contains(&answer.status), "{}: {}", answer.status, answer.body);
        refused += u16::from(answer.status == 503);
    }
    assert!(refused > 0, "there was room");
    assert!(fleet.engine.alive().contains(&run.0));
    for (page, answer) in pages(&ada).await {
        let status = answer.status;
        assert!([200, 503].contains(&status), "{page}: {status}");
    }
    disk.empty();
    until_back(&ada, "/").await;
    tried(async || stop(&ada, run, "force", "").await).await;
    let over = fleet.over_by_then(run).await;
    fleet.assert_stopped_once(&over).await;
    let half = "select count(*) from runs r where 1 <> (select count(*) from audit a
                where a.run_id = r.id and a.what = 'run started')";
    assert_eq!(count(&fleet.app, half).await, 0, "a run and its row in the audit are one");
    drop((fleet, postgres));
}
