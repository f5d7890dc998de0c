//! The health page: what is dead shows as dead, and the page comes all the same; and the samples that it draws.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use signalbox::db::Sampled;
use signalbox::model::worker::{HostFacts, Load, Room};
use sqlx::Row;

use crate::app::{Answer, Browser, TestApp, Wants};
use crate::fleet::until;
use crate::sample::{self, RUNNING, STOP, attribute, attributes};

/// The part of a page that is about this.
fn part<'a>(page: &'a Answer, name: &str) -> &'a str {
    let start = page.body.find(&format!(" data-part=\"{name}\"")).unwrap_or_else(|| panic!("no {name}"));
    page.body[start..].split("</section>").next().unwrap()
}

/// The page with its workers on it: on a busy machine a first look may find Postgres too slow.
async fn shows_workers(browser: &Browser) -> Answer {
    let shows = |page: &Answer| {
        page.body.contains(" data-part=\"Worker arm-1\"") && !page.body.contains("nothing is drawn")
    };
    until_shown(browser, "answered", shows).await
}

/// Opens the page again and again until it is so; what was seen may be a few seconds old.
async fn until_shown(browser: &Browser, what: &str, so: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = browser.get("/health").await;
        if so(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "not {what}: {}", page.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn all_is_well_when_it_is() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let page = until_shown(&ada, "well", |page| page.body.contains("All is well.")).await;
    assert_eq!(attribute(&page, "data-well"), "true");
    assert_eq!(
        attributes(&page, "data-part"),
        ["Postgres", "Redis", "Queue", "Events", "Server it", "Worker arm-1"]
    );
    assert_eq!(page.body.matches("Measured at").count(), 6);
}

#[tokio::test]
async fn what_needs_a_human_comes_first() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let page = ada.get("/health").await;
    assert_eq!(attribute(&page, "data-well"), "false");
    assert!(page.body.contains("No worker is alive"));
    sample::worker(&app, "arm-1", 20).await;
    sample::run(&app, &[RUNNING, STOP].concat()).await;
    let both = |page: &Answer| {
        page.body.contains("One stop is unconfirmed.") && page.body.contains("Worker arm-1 is silent.")
    };
    until_shown(&ada, "both said", both).await;
    sample::worker(&app, "arm-2", 20).await;
    let all = |page: &Answer| page.body.contains("Two workers (arm-1, arm-2) are silent.");
    until_shown(&ada, "said in one sentence", all).await;
}

#[tokio::test]
async fn a_dead_redis_shows_as_dead_within_two_seconds() {
    // Nobody listens there; and the other takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in ["127.0.0.1:1".to_owned(), mute.local_addr().unwrap().to_string()] {
        let wants = Wants { redis_url: Some(format!("redis://{address}")), ..Wants::default() };
        let app = TestApp::start_with(wants).await;
        let ada = app.superuser().await;
        for n in 0..20 {
            sample::worker(&app, &format!("arm-{n}"), 0).await;
        }
        let began = Instant::now();
        let page = ada.get("/health").await;
        assert!(began.elapsed() < Duration::from_secs(2), "{address}: {:?}", began.elapsed());
        assert_eq!(page.status, 200);
        assert!(page.body.contains("data-part=\"Redis\" data-well=\"false\""), "{}", page.body);
        assert!(page.body.contains("Redis doesn’t answer"));
        let well = |page: &Answer| page.body.contains("data-part=\"Postgres\" data-well=\"true\"");
        until_shown(&ada, "well but for Redis", well).await;
    }
}

#[tokio::test]
async fn something_else_where_a_workers_commands_belong_is_said_with_what_becomes_of_it() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let client = redis::Client::open(app.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}:commands:arm-1", app.fleet);
    let _: () = redis::cmd("SET").arg(&key).arg("x").query_async(&mut redis).await.unwrap();
    let said = |page: &Answer| page.body.contains("where the commands of worker arm-1 belong");
    let page = until_shown(&ada, "said", said).await;
    assert!(page.body.contains("it deletes that by itself within seconds"), "{}", page.body);
    assert!(part(&page, "Worker arm-1").contains("<dd>unknown, something else lies there</dd>"));
    assert!(
        page.body.contains("data-part=\"Redis\" data-well=\"true\"") && !page.body.contains("Redis doesn’t")
    );
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
    let page = until_shown(&ada, "well again", |page| page.body.contains("All is well.")).await;
    assert!(!said(&page) && part(&page, "Worker arm-1").contains("<dt>Commands waiting</dt><dd>0</dd>"));
}

#[tokio::test]
async fn what_was_never_measured_is_unknown_and_nothing_is_drawn_of_it() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    let page = shows_workers(&ada).await;
    let worker = part(&page, "Worker arm-1");
    for name in ["Processor", "Memory", "Disk"] {
        assert!(worker.contains(&format!("<dt>{name}</dt><dd>unknown</dd>")), "{name} in {worker}");
    }
    assert!(worker.contains("no data yet") && !worker.contains("<path"), "{worker}");
    assert!(!page.body.contains(">0 %<"));
}

#[tokio::test]
async fn a_silent_workers_last_words_are_not_taken_for_what_is() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    for (name, silent_s) in [("arm-1", 0), ("arm-2", 60)] {
        sample::worker(&app, name, silent_s).await;
    }
    app.sql_do("update workers set cpu = 0.25, memory_used = 1048576, memory_total = 4194304").await;
    let page = shows_workers(&ada).await;
    let alive = part(&page, "Worker arm-1");
    assert!(alive.contains("<dd>25 %</dd>") && alive.contains("<dd>1.0 MiB of 4.0 MiB</dd>"), "{alive}");
    let silent = part(&page, "Worker arm-2");
    assert!(silent.contains("<dt>Processor</dt><dd>unknown</dd>") && !silent.contains("25 %"), "{silent}");
}

#[tokio::test]
async fn plots_draw_what_was_measured_and_leave_out_what_was_not() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    app.sql_do(
        "insert into samples (minute, part, took_ms, bytes)
         select date_trunc('minute', now()) - make_interval(mins => n), 'worker arm-1', 1 + n % 3, 1048576
         from generate_series(0, 50) n where n not between 20 and 29",
    )
    .await;
    // Older than a day, and of a part that isn't on the page.
    app.sql_do(
        "insert into samples (minute, part, took_ms)
         select date_trunc('minute', now()) - interval '2 days', 'worker arm-1', 5000
         union all select date_trunc('minute', now()), 'worker gone', 5000",
    )
    .await;
    let drawn = |page: &Answer| {
        page.body.contains(" data-part=\"Worker arm-1\"") && part(page, "Worker arm-1").contains("<path")
    };
    let page = until_shown(&ada, "drawn", drawn).await;
    assert!(!page.body.contains("nothing is drawn"));
    let worker = part(&page, "Worker arm-1");
    assert!(worker.contains("<title>Engine, last hour: lowest 1.0 ms, highest 3.0 ms at "), "{worker}");
    // Ten, and one more when a minute has ended since.
    assert!(worker.contains("Nothing is known of 1"), "{worker}");
    assert!(worker.contains("<title>Engine, last day: lowest"), "{worker}");
    let line = worker.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(line.matches('M').count(), 2, "a gap is no line: {line}");
    assert!(!page.body.contains("5.0 s"), "{}", page.body);
    assert_eq!(page.body.matches(" role=\"img\"").count(), page.body.matches("<title>").count() - 1);
}

async fn count(app: &TestApp, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(app.sql()).await.unwrap()
}

#[tokio::test]
async fn a_server_leaves_samples_of_the_stores_and_of_itself() {
    let app = TestApp::start().await;
    until("sampled", async || count(&app, "select count(*) from samples").await >= 5).await;
    let rows = sqlx::query("select part, took_ms, bytes, amount, age_s from samples order by part");
    let rows = rows.fetch_all(app.sql()).await.unwrap();
    let parts: Vec<String> = rows.iter().map(|row| row.get("part")).collect();
    assert_eq!(parts, ["events", "postgres", "queue", "redis", "server it"]);
    for (row, known) in rows.iter().zip([[false; 2], [true; 2], [false; 2], [true; 2], [false, true]]) {
        let (took, bytes): (Option<f32>, Option<i64>) = (row.get("took_ms"), row.get("bytes"));
        assert_eq!([took.is_some(), bytes.is_some()], known, "{:?}", row.get::<String, _>("part"));
    }
    assert_eq!(rows[2].get::<Option<f32>, _>("amount"), Some(0.0));
    assert_eq!(rows[0].get::<Option<f32>, _>("age_s"), None, "no worker has said anything");
    let ada = app.superuser().await;
    let drawn = |page: &Answer| page.status == 200 && part(page, "Redis").contains("<path");
    until_shown(&ada, "drawn", drawn).await;
}

#[tokio::test]
async fn two_servers_leave_one_sample_a_minute_and_none_is_kept_for_longer_than_a_day() {
    let app = TestApp::start().await;
    app.sql_do(
        "insert into samples (minute, part, amount)
         select date_trunc('minute', now()) - make_interval(hours => n), 'queue', n from generate_series(1, 48) n",
    )
    .await;
    let sampled =
        |server: &str, postgres_ms| Sampled { server: server.into(), postgres_ms, ..Sampled::default() };
    // Twice, in case a minute ends between the two.
    for _ in 0..2 {
        for server in ["it", "other"] {
            app.db.sample(&sampled(server, 1.0)).await.unwrap();
        }
    }
    let doubled = "select count(*) from (select 1 from samples where minute > now() - interval '10 min'
                                         group by minute, part having count(*) > 1) d";
    assert_eq!(count(&app, doubled).await, 0);
    assert!(count(&app, "select count(*) from samples where part = 'postgres'").await <= 2);
    assert!(count(&app, "select count(*) from samples where part = 'server other'").await >= 1);
    assert_eq!(count(&app, "select count(*) from samples where minute < now() - interval '1 day'").await, 0);
    assert_eq!(
        count(&app, "select count(*) from samples where minute < now() - interval '50 min'").await,
        23
    );
}

#[tokio::test]
async fn a_worker_leaves_a_sample_with_its_heartbeat_and_can_do_no_more_with_them() {
    let app = TestApp::start().await;
    let facts = |cpu| HostFacts {
        engine_ok: true,
        load: Load {
            cpu: Some(cpu),
            memory: Some(Room { used: 1 << 30, total: 4 << 30 }),
            disk: Some(Room { used: 1, total: 4 }),
            engine_ms: Some(7.0),
            lag_s: Some(0.031),
        },
        ..HostFacts::default()
    };
    for cpu in [0.5, 0.75] {
        app.worker_db.heartbeat("arm-1", "seat", &facts(cpu), false).await.unwrap();
    }
    assert!(app.worker_db.heartbeat("arm-1", "another", &facts(1.0), false).await.is_err());
    let rows =
        sqlx::query("select cpu, took_ms, bytes, disk, age_s from samples where part = 'worker arm-1'");
    let rows = rows.fetch_all(app.sql()).await.unwrap();
    assert!(!rows.is_empty() && rows.len() <= 2, "the first of each minute: {}", rows.len());
    assert_eq!((rows[0].get::<f32, _>("cpu"), rows[0].get::<f32, _>("took_ms")), (0.5, 7.0));
    assert_eq!((rows[0].get::<i64, _>("bytes"), rows[0].get::<f32, _>("disk")), (1 << 30, 0.25));
    let ada = app.superuser().await;
    let page = shows_workers(&ada).await;
    let worker = part(&page, "Worker arm-1");
    for shown in
        ["<dd>75 %</dd>", "<dd>1.0 GiB of 4.0 GiB</dd>", "<dd>answers in 7.0 ms</dd>", "<dd>31 ms</dd>"]
    {
        assert!(worker.contains(shown), "{shown} in {worker}");
    }
    assert!(part(&page, "Events").contains("<dd>31 ms</dd>"));
    for (refused, role) in [
        ("select 1 from samples", "signalbox_worker"),
        ("delete from samples", "signalbox_worker"),
        ("update samples set cpu = 0", "signalbox_web"),
    ] {
        let mut one = app.sql().begin().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("set local role {role}"))).execute(&mut *one).await.unwrap();
        let error = sqlx::query(refused).execute(&mut *one).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{refused}");
    }
}

#[tokio::test]
async fn many_who_ask_at_once_are_shown_one_look_and_a_moment_later_another() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let times = |page: &Answer| {
        let at = page.body.split("Measured at <time datetime=\"").skip(1);
        at.map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let pages = join_all((0..8).map(|_| ada.get("/health"))).await;
    // On a busy machine one may have waited too long for the database.
    let answered: Vec<&Answer> = pages.iter().filter(|page| page.status == 200).collect();
    assert!(answered.len() > 1, "{pages:?}");
    let seen: BTreeSet<Vec<String>> = answered.into_iter().map(times).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let first = seen.into_iter().next().unwrap();
    until_shown(&ada, "looked at again", |page| page.status == 200 && times(page) != first).await;
}
