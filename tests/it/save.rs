//! What a stop would lose is seen before it is asked for, and saved before the first signal, where that is wished; and a
//! stop goes on whatever becomes of the saving.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use signalbox::engine::Executed;
use signalbox::engine::process::Processes;
use signalbox::model::run::{Outcome, Run, RunId, State, Step, StopMode};
use signalbox::model::work::{NewStop, Patch};
use tokio::time::Instant;

use crate::app::{TestApp, Wants};
use crate::fleet::{Fleet, until};
use crate::sample::{self, RUNNING};
use crate::wire::{Proxy, Wire};

const COMMIT: &str = "7a70d4b0a4957a361b735285372191c769705920";
const DIFF: &str = "diff --git a/x b/x\n+one\ndiff --git a/y b/y\n+two\n";

/// A container with a repository: two files that aren't committed, one commit that isn't pushed.
fn repository(argv: &[&str]) -> Option<Executed> {
    let has = |word: &str| argv.contains(&word);
    let said = match argv {
        ["find", .., "-prune", "-print0"] => "./.git\0".to_owned(),
        ["find", ..] => String::new(),
        _ if has("--count") => "1\n".to_owned(),
        _ if has("rev-list") => format!("{COMMIT}\n-{COMMIT}\n"),
        _ if has("rev-parse") || has("hash-object") => format!("{COMMIT}\n"),
        _ if has("status") => " M x\0?? y\0".to_owned(),
        _ if has("diff") => DIFF.to_owned(),
        _ => String::new(),
    };
    Some(Executed { code: Some(0), stdout: said.into_bytes(), ..Executed::default() })
}

fn hangs(_: &[&str]) -> Option<Executed> {
    None
}

async fn running(fleet: &Fleet) -> RunId {
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    run
}

fn trouble(run: &Run) -> String {
    run.saved.as_ref().and_then(|saved| saved.trouble.clone()).unwrap_or_default()
}

/// The patch is stored beside the stop, so that it may come a moment later.
async fn until_saved(fleet: &Fleet, run: RunId) -> Run {
    fleet.until(run, "saved", |run| run.saved.is_some()).await
}

#[tokio::test]
async fn work_is_saved_before_the_first_signal_and_kept_with_the_run() {
    let fleet = Fleet::new().await;
    let ada = fleet.app.superuser().await;
    fleet.engine.exec(repository);
    // It outlives SIGINT, so that the log can be read.
    fleet.engine.script(crate::scripted::Script { ignores: ["SIGINT"].into(), ..Default::default() });
    let _worker = fleet.worker("w1").await;
    let run = running(&fleet).await;
    fleet.save_and_stop(run, StopMode::Graceful).await;
    fleet.until(run, "on the first rung", |run| run.progress.step == Some(Step::Sigint)).await;
    let log = fleet.engine.log(run.0);
    let signal = log.iter().position(|entry| entry == "SIGINT").expect("a signal");
    let last = log.iter().rposition(|entry| entry.contains(" diff ")).expect("a patch");
    assert!(last < signal, "{log:#?}");
    for entry in log.iter().filter(|entry| entry.contains("git ")) {
        for flag in
            ["-c core.fsmonitor= ", "-c core.hooksPath=/dev/null", "GIT_OPTIONAL_LOCKS=0", "--no-pager"]
        {
            assert!(entry.contains(flag) || entry.starts_with("find"), "{flag} isn't in {entry}");
        }
    }
    let over = fleet.until_over(run).await;
    let saved = over.saved.clone().expect("it was saved");
    assert_eq!((saved.files, saved.unpushed, saved.bytes), (2, 1, DIFF.len() as i64));
    assert_eq!((over.outcome, saved.trouble), (Some(Outcome::Terminated), None));
    assert!(saved.at >= over.stop.unwrap().at);

    let page = ada.get(&format!("/runs/{run}")).await;
    let what = format!("2 files changed with 1 unpushed commit; {} bytes.", DIFF.len());
    for said in ["Work saved", &what, "Download the patch"] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    let patch = ada.get(&format!("/runs/{run}/work.patch")).await;
    assert_eq!((patch.status, patch.body.as_str()), (200, DIFF));
    assert_eq!(patch.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        patch.header("content-disposition"),
        Some(format!("attachment; filename=\"run-{run}.patch\"").as_str())
    );
    assert_eq!(patch.header("x-content-type-options"), Some("nosniff"));
    let other = fleet.start("y").await;
    assert_eq!(ada.get(&format!("/runs/{other}/work.patch")).await.status, 404);
}

#[tokio::test]
async fn a_stop_goes_on_when_saving_takes_too_long_and_leases_go_on_meanwhile() {
    let fleet = Fleet::new().await;
    fleet.engine.exec(hangs);
    let mut parts = fleet.parts("w1");
    parts.times.save = Duration::from_secs(1);
    parts.times.renewal = Duration::from_millis(100);
    let _worker = fleet.worker_with(parts).await;
    let run = running(&fleet).await;
    let began = Instant::now();
    fleet.save_and_stop(run, StopMode::Force).await;
    let saving = fleet.until(run, "saving", |run| run.delivered_at().is_some()).await;
    assert!(saving.progress.egress_cut_at.is_some(), "the gate is closed before anything is saved");
    assert!(saving.is_saving() && fleet.engine.signals(run.0).is_empty());
    let lease = saving.lease_until;
    fleet.until(run, "renewed", |run| run.lease_until > lease && run.is_saving()).await;
    let over = fleet.until_over(run).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::Sigkill));
    let saved = until_saved(&fleet, run).await;
    assert!(trouble(&saved).contains("After 1 s the stop went on."), "{:?}", saved.saved);
    let ada = fleet.app.superuser().await;
    assert!(ada.get(&format!("/runs/{run}")).await.body.contains("Work not saved"));
}

#[tokio::test]
async fn force_without_saving_does_not_wait_for_what_is_being_saved() {
    let fleet = Fleet::new().await;
    fleet.engine.exec(hangs);
    let _worker = fleet.worker("w1").await;
    for first in [StopMode::Graceful, StopMode::Force] {
        let run = running(&fleet).await;
        fleet.save_and_stop(run, first).await;
        fleet.until(run, "saving", |run| run.delivered_at().is_some()).await;
        // The same wish again changes nothing.
        fleet.save_and_stop(run, first).await;
        assert!(fleet.run(run).await.is_saving() && fleet.engine.signals(run.0).is_empty());
        let began = Instant::now();
        fleet.stop(run, StopMode::Force).await;
        let over = fleet.until_over(run).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(over.evidence.unwrap().step, Step::Sigkill);
        assert!(trouble(&until_saved(&fleet, run).await).contains("by force was wished meanwhile"));
    }
}

#[tokio::test]
async fn a_worker_that_is_cut_off_does_not_go_on_saving() {
    let fleet = Fleet::new().await;
    fleet.engine.exec(hangs);
    let url: url::Url = fleet.app.database_url.parse().unwrap();
    let wire = Proxy::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))).await;
    let mut parts = fleet.parts("w1");
    parts.times.renewal = Duration::from_millis(200);
    parts.times.fence = Duration::from_secs(2);
    let redis = crate::app::redis_url();
    let worker = fleet.worker_at(parts, &wire.url(&fleet.app.database_url), &redis).await;
    let run = running(&fleet).await;
    fleet.save_and_stop(run, StopMode::Graceful).await;
    fleet.until(run, "saving", |run| run.delivered_at().is_some()).await;
    wire.set(Wire::Cut);
    let began = Instant::now();
    until("stopped by itself", async || fleet.engine.alive().is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    wire.set(Wire::Whole);
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Terminated), Step::Sigkill));
    worker.hand_over().await;
}

#[tokio::test]
async fn what_ends_while_it_is_saved_keeps_its_own_outcome() {
    let fleet = Fleet::new().await;
    fleet.engine.exec(hangs);
    let _worker = fleet.worker("w1").await;
    let run = running(&fleet).await;
    fleet.save_and_stop(run, StopMode::Graceful).await;
    fleet.until(run, "saving", |run| run.delivered_at().is_some()).await;
    fleet.engine.exit(run.0, 3);
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.evidence.unwrap().step), (Some(Outcome::Failed), Step::ByItself));
    assert!(trouble(&until_saved(&fleet, run).await).contains("was over before it was done"));
}

#[tokio::test]
async fn a_stop_goes_on_where_git_is_not_there_or_nothing_can_be_run() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("w1").await;
    for says in ["it has no programs", "Git isn’t there."] {
        let run = running(&fleet).await;
        fleet.save_and_stop(run, StopMode::Graceful).await;
        let over = fleet.until_over(run).await;
        assert_eq!(over.outcome, Some(Outcome::Terminated));
        assert!(trouble(&until_saved(&fleet, run).await).contains(says), "{:?}", over.saved);
        fleet.engine.exec(|argv| {
            let code = if argv.contains(&"git") { 127 } else { 0 };
            Some(Executed { code: Some(code), ..Executed::default() })
        });
    }
}

#[tokio::test]
async fn a_wish_that_met_no_worker_is_saved_by_its_next_life() {
    let fleet = Fleet::new().await;
    fleet.engine.exec(repository);
    let worker = fleet.worker("w1").await;
    let run = running(&fleet).await;
    worker.kill();
    fleet.save_and_stop(run, StopMode::Graceful).await;
    let _again = fleet.worker("w1").await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.outcome, over.saved.map(|saved| saved.files)), (Some(Outcome::Terminated), Some(2)));
    let queued = fleet.app.db.wish_stop(&fleet.by, run, &NewStop::new(StopMode::Force)).await.unwrap();
    assert!(queued.over);
}

#[tokio::test]
async fn the_question_says_what_a_stop_would_lose() {
    let fleet = Fleet::new().await;
    fleet.engine.exec(repository);
    let worker = fleet.worker("w1").await;
    let run = running(&fleet).await;
    let ada = fleet.app.superuser().await;
    let question = format!("/runs/{run}/terminate");
    let page = ada.get(&question).await;
    assert!(page.body.contains("<b>2 files uncommitted, 1 commit unpushed</b>"), "{}", page.body);
    assert!(page.body.contains("name=\"save\"") && page.body.contains("<dt>Spent</dt><dd>not said yet</dd>"));

    // A worker that is dead answers nothing: the page says what was known, and doesn't keep anybody waiting.
    worker.kill();
    sqlx::query("update runs set work_seen_at = now() - interval '4 min'")
        .execute(fleet.app.sql())
        .await
        .unwrap();
    let began = Instant::now();
    let page = ada.get(&question).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(
        page.body.contains("2 files uncommitted") && page.body.contains(">4 min ago</time>"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn the_question_does_not_wait_for_a_container_or_a_redis_that_hangs() {
    let fleet = Fleet::new().await;
    fleet.engine.exec(hangs);
    let _worker = fleet.worker("w1").await;
    let run = running(&fleet).await;
    let ada = fleet.app.superuser().await;
    let began = Instant::now();
    let page = ada.get(&format!("/runs/{run}/terminate")).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(page.body.contains("<dt>Work</dt><dd>not known</dd>"), "{}", page.body);
    let seen = "its own deadline ends the look, and is said";
    fleet.until(run, seen, |run| run.work.as_ref().is_some_and(|work| work.trouble.is_some())).await;

    let (_listener, hung) = crate::app::hung_server();
    for redis in [format!("redis://127.0.0.1:{hung}"), "redis://127.0.0.1:1".to_owned()] {
        let app = TestApp::start_with(Wants { redis_url: Some(redis), ..Wants::default() }).await;
        let ada = app.superuser().await;
        sample::worker(&app, "arm-1", 0).await;
        let run = sample::run(&app, RUNNING).await;
        let began = Instant::now();
        let page = ada.get(&format!("/runs/{run}/terminate")).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(page.status == 200 && page.body.contains("Save the work first"));
    }
}

#[tokio::test]
async fn a_patch_is_stored_once_under_its_lease_and_workers_read_none() {
    let fleet = Fleet::new().await;
    let run = fleet.start("x").await;
    let lease = fleet.claim("w1").await;
    let patch = |text: &str| Patch { bytes: text.into(), files: 1, ..Patch::default() };
    let db = &fleet.app.worker_db;
    db.save_work(&lease, &patch("first")).await.unwrap();
    db.save_work(&lease, &patch("second")).await.unwrap();
    assert_eq!(fleet.app.db.saved_patch(&fleet.by, run).await.unwrap(), b"first");
    for statement in ["select * from saved_work", "update saved_work set files = 0", "delete from saved_work"]
    {
        let mut one = fleet.app.sql().begin().await.unwrap();
        sqlx::query("set local role signalbox_worker").execute(&mut *one).await.unwrap();
        let refused = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *one).await;
        assert!(refused.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn a_save_that_makes_no_sense_changes_nothing() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let run = sample::run(&app, RUNNING).await;
    let path = format!("/runs/{run}/terminate");
    assert_eq!(ada.post(&path, &[("save", "on")]).await.status, 422);
    assert_eq!(app.db.run(&app.proof().await, RunId(run)).await.unwrap().stop, None);
    let again = ada.post(&path, &[("save", "yes"), ("reason", &"r".repeat(501))]).await;
    assert!(again.status == 422 && again.body.contains("value=\"yes\" checked"), "{}", again.body);
    assert_eq!(ada.post(&path, &[("save", "yes")]).await.status, 303);
    let stop = app.db.run(&app.proof().await, RunId(run)).await.unwrap().stop.unwrap();
    assert!(stop.save);
    assert!(ada.get("/audit").await.body.contains("graceful; save the work first"));
    let queued = sample::run(&app, &[]).await;
    assert_eq!(ada.post(&format!("/runs/{queued}/terminate"), &[("save", "yes")]).await.status, 303);
    let over = app.db.run(&app.proof().await, RunId(queued)).await.unwrap();
    assert!(over.state == State::Ended && !over.stop.unwrap().save, "there is nothing to save");
    let page = ada.get(&format!("/runs/{run}")).await;
    assert!(page.body.contains("Work not saved yet") && page.body.contains("Force stop"), "{}", page.body);
}

/// An agent that makes a repository in its workspace, another one inside it, and leaves all kinds of work behind.
const AGENT: &str = r#"#!/bin/sh
[ "$1" = --version ] && { echo '9.9.9 (Claude Code)'; exit; }
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
mkdir repo && cd repo && git init -q .
echo one > one; echo gone > gone; echo '*.log' > .gitignore; git add . && git commit -qm known
git update-ref refs/remotes/origin/main HEAD
echo two > two; git add . && git commit -qm unpushed
git config core.fsmonitor "touch $PWD/../../../../../fooled; false" && git config diff.external false
echo more >> one; rm gone; echo new > 'with
newline'; printf 'a\000b' > binary; echo x > a.log; head -c 1100000 /dev/zero > large
git init -q inner && echo i > inner/i
cd .. && echo loose > loose && echo up
trap 'exit 0' INT TERM; while :; do sleep 0.1; done
"#;

fn git(dir: &Path, arguments: &[&str]) -> String {
    let done = Command::new("git").args(arguments).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn agent_in(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir).unwrap();
    let claude = dir.join("claude");
    std::fs::write(&claude, AGENT).unwrap();
    std::fs::set_permissions(&claude, std::fs::Permissions::from_mode(0o755)).unwrap();
    claude
}

#[tokio::test]
async fn a_real_repository_comes_back_from_its_patch() {
    let fleet = Fleet::new().await;
    let mut parts = fleet.parts("w1");
    let dir = parts.settings.dir.clone();
    let claude = agent_in(&dir).display().to_string();
    let engine =
        Processes::new(&dir.join("w1"), &claude).with_shim(Path::new(env!("CARGO_BIN_EXE_signalbox")));
    parts.engine = Arc::new(engine);
    let _worker = fleet.worker_with(parts).await;
    let run = fleet.start("x").await;
    fleet.until(run, "up", |run| run.events > 0).await;

    let workspace = dir.join("w1/cells").join(run.to_string()).join("workspace");
    let index = workspace.join("repo/.git/index");
    let before = std::fs::read(&index).unwrap();
    let ada = fleet.app.superuser().await;
    let question = format!("/runs/{run}/terminate");
    let seen = "<b>7 files uncommitted, 1 commit unpushed</b>";
    until("seen", async || ada.get(&question).await.body.contains(seen)).await;
    assert_eq!(std::fs::read(&index).unwrap(), before, "the agent's index is the agent's");

    fleet.save_and_stop(run, StopMode::Graceful).await;
    let over = fleet.until_over(run).await;
    assert_eq!((over.state, over.outcome), (State::Ended, Some(Outcome::Terminated)), "{:?}", over.reason);
    let saved = until_saved(&fleet, run).await.saved.unwrap();
    assert_eq!((saved.files, saved.unpushed), (7, 1), "{saved:?}");
    assert!(
        saved.trouble.as_deref().unwrap().contains("Left out for its size (1 MiB and more): repo/large.")
    );

    let patch = fleet.app.db.saved_patch(&fleet.by, run).await.unwrap();
    let again = dir.join("again");
    std::fs::create_dir_all(again.join("repo")).unwrap();
    for (name, text) in [("one", "one\n"), ("gone", "gone\n"), (".gitignore", "*.log\n")] {
        std::fs::write(again.join("repo").join(name), text).unwrap();
    }
    std::fs::write(dir.join("work.patch"), patch).unwrap();
    git(&again, &["apply", "../work.patch"]);
    let read = |name: &str| std::fs::read_to_string(again.join(name)).ok();
    assert_eq!(read("repo/one").as_deref(), Some("one\nmore\n"));
    assert_eq!(read("repo/two").as_deref(), Some("two\n"));
    assert_eq!(read("repo/with\nnewline").as_deref(), Some("new\n"));
    assert_eq!(read("repo/binary").as_deref(), Some("a\0b"));
    assert_eq!(read("repo/inner/i").as_deref(), Some("i\n"));
    assert_eq!(read("loose").as_deref(), Some("loose\n"));
    assert_eq!((read("repo/gone"), read("repo/a.log"), read("repo/large")), (None, None, None));
    assert!(!dir.join("fooled").exists(), "its own programs were not run");
}
