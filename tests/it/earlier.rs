//! Every wish to stop a run is kept, with what was delivered of it, also when a heavier one has taken its place.

use std::collections::BTreeSet;

use signalbox::clock;
use signalbox::db::Settlement;
use signalbox::model::run::{Evidence, Outcome, Run, RunId, Step, StopMode, StopProgress};
use signalbox::model::wish::{Taken, Weight};

use crate::app::{Browser, Request};
use crate::fleet::Fleet;
use crate::sample::{self, RUNNING, STOP};
use crate::scripted::Script;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                      Version/18.1 Mobile/15E148 Safari/604.1";

async fn wish(browser: &Browser, run: RunId, user_agent: &str, form: &[(&str, &str)]) {
    let request = Request::new("POST", &format!("/runs/{run}/terminate"))
        .header("origin", &browser.origin())
        .header("user-agent", user_agent)
        .form(form);
    assert_eq!(browser.send(request).await.status, 303);
}

/// Ada and Grace, signed in.
async fn two_people(fleet: &Fleet) -> (Browser, Browser) {
    let ada = fleet.app.superuser().await;
    let hash: String = sqlx::query_scalar("select password_hash from users where name = 'ada'")
        .fetch_one(fleet.app.sql())
        .await
        .unwrap();
    fleet.app.add_user("grace", "superuser", &hash).await;
    (ada, fleet.app.signed_in("grace").await)
}

/// Who, from which device and why, of every wish in its order.
fn told(run: &Run) -> Vec<(&str, Option<&str>, &str, StopMode)> {
    let wishes = run.earlier.iter().chain(&run.stop);
    wishes.map(|wish| (wish.by.as_str(), wish.device.as_deref(), wish.reason.as_str(), wish.mode)).collect()
}

fn taken(mode: StopMode) -> StopProgress {
    let taken = vec![Taken { weight: Weight::of(mode, false), at: clock::now() }];
    StopProgress { taken, ..StopProgress::default() }
}

#[tokio::test]
async fn a_receipt_keeps_both_wishes_and_what_was_delivered_of_each() {
    let fleet = Fleet::new().await;
    let (ada, grace) = two_people(&fleet).await;
    fleet.engine.script(Script { ignores: BTreeSet::from(["SIGINT", "SIGTERM"]), ..Script::default() });
    let mut parts = fleet.parts("w1");
    parts.times.ladder = None;
    let _worker = fleet.worker_with(parts).await;
    let run = fleet.start("x").await;
    fleet.until_running(run).await;
    wish(&ada, run, IPHONE, &[("mode", "graceful"), ("reason", "enough")]).await;
    let first = fleet.until(run, "delivered", |run| run.delivered_at().is_some()).await;
    wish(&grace, run, FIREFOX, &[("mode", "force"), ("reason", "it burns")]).await;
    let over = fleet.until_over(run).await;
    let expected = [
        ("ada", Some("iPhone, Safari"), "enough", StopMode::Graceful),
        ("grace", Some("Linux, Firefox"), "it burns", StopMode::Force),
    ];
    assert_eq!(told(&over), expected);
    assert_eq!(over.earlier[0].delivered_at, first.delivered_at(), "the first delivery stays");
    for wish in over.earlier.iter().chain(&over.stop) {
        assert!(wish.delivered_at.unwrap() >= wish.at, "{wish:?}");
        assert_eq!(wish.delivered_to.as_deref(), Some("w1"));
    }
    let page = ada.get(&format!("/runs/{run}")).await.body;
    let mut at = 0;
    for said in [
        "<b>Wished</b>",
        "Stop gracefully, by ada, from iPhone, Safari: “enough”",
        "<b>Delivered <span class=\"plus\">+ ",
        "w1 took it.",
        "Egress cut at",
        "<b>Wished</b>",
        "Stop by force, by grace, from Linux, Firefox: “it burns”",
        "<b>Delivered <span class=\"plus\">+ ",
        "w1 took it.",
        "<b>Proven",
    ] {
        at += page[at..].find(said).unwrap_or_else(|| panic!("{said:?} isn't after {at} in {page}"));
        at += said.len();
    }
}

#[tokio::test]
async fn a_wish_is_never_delivered_before_it_is_wished() {
    let fleet = Fleet::new().await;
    let (ada, grace) = two_people(&fleet).await;
    let run = fleet.start("x").await;
    let lease = fleet.claim("w1").await;
    let db = &fleet.app.worker_db;
    let page = async || ada.get(&format!("/runs/{run}")).await.body;
    wish(&ada, run, IPHONE, &[("mode", "graceful")]).await;
    let graceful = taken(StopMode::Graceful);
    wish(&grace, run, FIREFOX, &[("mode", "force")]).await;
    assert!(page().await.contains("The next wish took its place."));
    // The worker had taken the first, and says so late.
    db.progress(&lease, &graceful).await.unwrap();
    let between = fleet.run(run).await;
    assert_eq!((between.delivered_at(), between.earlier[0].delivered_at.is_some()), (None, true));
    assert!(page().await.contains("Not delivered yet"));
    let both = StopProgress { taken: [graceful.taken, taken(StopMode::Force).taken].concat(), ..graceful };
    db.progress(&lease, &both).await.unwrap();
    let after = fleet.run(run).await;
    assert_eq!(after.earlier[0].delivered_at, between.earlier[0].delivered_at);
    assert!(after.delivered_at().unwrap() >= after.stop.unwrap().at);

    // One that looks only now finds the heavier.
    let late = fleet.start("y").await;
    let lease = fleet.claim("w1").await;
    wish(&ada, late, IPHONE, &[("mode", "graceful")]).await;
    wish(&grace, late, FIREFOX, &[("mode", "force")]).await;
    db.progress(&lease, &taken(StopMode::Force)).await.unwrap();
    let found = fleet.run(late).await;
    assert_eq!(found.earlier[0].delivered_at, found.delivered_at());
    let page = ada.get(&format!("/runs/{late}")).await.body;
    assert!(page.contains("Delivered with the next") && page.contains("w1 took it."), "{page}");
}

#[tokio::test]
async fn what_a_lost_runs_worker_had_taken_is_noted_when_it_settles() {
    let fleet = Fleet::new().await;
    let (ada, grace) = two_people(&fleet).await;
    let run = fleet.start("x").await;
    fleet.claim("w1").await;
    wish(&ada, run, IPHONE, &[("mode", "graceful")]).await;
    let mut progress = taken(StopMode::Graceful);
    wish(&grace, run, FIREFOX, &[("mode", "force")]).await;
    progress.taken.extend(taken(StopMode::Force).taken);
    let lapse = "update runs set lease_until = now() - interval '1 s'";
    sqlx::query(lapse).execute(fleet.app.sql()).await.unwrap();
    fleet.app.worker_db.lose_lapsed().await.unwrap();
    let evidence = Evidence {
        container: None,
        exit_code: None,
        step: Step::Absent,
        confirmed_at: clock::now(),
        cgroup: None,
    };
    let ago = std::time::Duration::ZERO;
    let settlement = Settlement { own: None, reason: "over", evidence: &evidence, ago, progress: &progress };
    assert!(fleet.app.worker_db.settle_lost("w1", run, &settlement).await.unwrap());
    let over = fleet.run(run).await;
    assert_eq!(over.outcome, Some(Outcome::Terminated));
    let taken: Vec<_> = over.earlier.iter().chain(&over.stop).map(|wish| wish.delivered_at).collect();
    // Postgres keeps microseconds.
    let told: Vec<_> = progress.taken.iter().map(|taken| taken.at).collect();
    assert_eq!(taken.len(), 2);
    for (taken, told) in taken.into_iter().zip(told) {
        assert!((taken.unwrap() - told).abs() < time::Duration::MILLISECOND);
    }
}

#[tokio::test]
async fn stops_of_many_and_the_red_handle_keep_what_was_wished_before_them() {
    let fleet = Fleet::new().await;
    let (_, grace) = two_people(&fleet).await;
    sample::worker(&fleet.app, "arm-1", 0).await;
    let wished = [RUNNING, STOP, &[("wish_device", "'iPhone, Safari'")]].concat();
    let run = RunId(sample::run(&fleet.app, &wished).await);
    let saving = RunId(sample::run(&fleet.app, &[&wished[..], &[("wish_save", "true")]].concat()).await);
    let before = fleet.run(run).await;
    let one = run.to_string();
    let form = [("runs", &*one), ("mode", "force"), ("reason", "many")];
    assert_eq!(grace.post("/stops", &form).await.status, 303);
    let first = ("ada", Some("iPhone, Safari"), "enough", StopMode::Graceful);
    let after = fleet.run(run).await;
    assert_eq!(told(&after)[0], first);
    assert_eq!((told(&after)[1].0, told(&after)[1].2), ("grace", "many"));
    assert_eq!(after.earlier, before.stop.into_iter().collect::<Vec<_>>(), "nothing of it is changed");

    assert_eq!(grace.post("/handle", &[("reason", "all")]).await.status, 303);
    let pulled = fleet.run(saving).await;
    assert_eq!((told(&pulled)[0], pulled.earlier[0].save), (first, true));
    assert_eq!((told(&pulled)[1].0, told(&pulled)[1].2), ("grace", "all"));
    assert_eq!(fleet.run(run).await.earlier.len(), 1, "what holds already is wished no second time");
    let page = grace.get(&format!("/runs/{saving}")).await.body;
    assert!(page.contains("by ada, from iPhone, Safari: “enough”") && page.contains("“all”"), "{page}");
}

#[tokio::test]
async fn the_database_weighs_wishes_as_the_model_does() {
    let app = crate::app::TestApp::start().await;
    for mode in [StopMode::Graceful, StopMode::Force] {
        for save in [false, true] {
            let weight: i16 = sqlx::query_scalar("select wish_weight($1, $2)")
                .bind(mode.word())
                .bind(save)
                .fetch_one(app.sql())
                .await
                .unwrap();
            assert_eq!(weight, Weight::of(mode, save).number(), "{mode} {save}");
        }
    }
}
