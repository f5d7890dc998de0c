//! How long transcripts are kept: in partitions that are made ahead, and dropped whole when they are past their time; what
//! else is known of their runs stays.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use signalbox::config::Keep;
use signalbox::db::{Batch, Db, Error};
use signalbox::model::event::{Event, Kind, Source};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::app::{TestApp, Wants, postgres_url};
use crate::fleet::{Fleet, until};
use crate::sample::{self, LOST, RUNNING, STOP, attributes};

/// The columns of a run that somebody stopped, so long ago.
fn over(ago: &'static str) -> Vec<(&'static str, &'static str)> {
    let columns = [
        ("state", "'ended'"),
        ("outcome", "'terminated'"),
        ("end_step", "'sigint'"),
        ("confirmed_at", ago),
        ("ended_at", ago),
        ("cost_usd", "0.42"),
    ];
    [&columns[..], STOP].concat()
}

const LONG_AGO: &str = "now() - interval '40 days'";

/// The next run has this number.
async fn goes_on_at(app: &TestApp, id: i64) {
    let set = sqlx::query("select setval(pg_get_serial_sequence('runs', 'id'), $1, false)");
    set.bind(id).execute(app.sql()).await.unwrap();
}

/// Adds a run with this number and one event.
async fn run_at(app: &TestApp, id: i64, columns: &[(&str, &str)]) {
    goes_on_at(app, id).await;
    assert_eq!(sample::run(app, columns).await, id);
    app.db.make_room(None).await.unwrap();
    sample::events(app, id, &[("stdout", "text", "hello")]).await;
}

async fn number(app: &TestApp, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(app.sql()).await.unwrap()
}

/// What is known of a run without its transcript.
async fn known(app: &TestApp, run: i64) -> String {
    let row = sqlx::query_scalar("select to_jsonb(r)::text from runs r where id = $1");
    row.bind(run).fetch_one(app.sql()).await.unwrap()
}

fn batch(seq: i64) -> Batch {
    let (at, source, kind) = (time::OffsetDateTime::UNIX_EPOCH, Source::Stdout, Kind::Text);
    Batch {
        events: vec![Event { seq, at, source, kind, cut: 0, payload: format!("line {seq}") }],
        ..Batch::default()
    }
}

#[tokio::test]
async fn transcripts_past_their_time_go_and_receipts_figures_and_audit_stay() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    run_at(&app, 19_998, &over(LONG_AGO)).await;
    run_at(&app, 20_001, &over(LONG_AGO)).await;
    app.db.note_at_the_door("ada", "knocked", None).await.unwrap();
    let before = (known(&app, 19_998).await, number(&app, "select count(*) from audit").await);

    assert_eq!(app.db.drop_due(Some(41), None).await.unwrap(), None, "a day before it is kept");
    assert!(ada.get("/runs/19998").await.body.contains("hello"));
    let dropped = app.db.drop_due(Some(39), None).await.unwrap().expect("it is due");
    assert_eq!((dropped.first, dropped.last, dropped.kept.as_str()), (1, 19_999, "for 39 days"));
    assert!(dropped.bytes > 0);
    assert_eq!(app.db.drop_due(Some(39), None).await.unwrap(), None, "the newest still takes what comes");

    assert_eq!((known(&app, 19_998).await, number(&app, "select count(*) from audit").await - 1), before);
    let page = ada.get("/runs/19998").await.body;
    for said in ["Its transcript was dropped on 20", "(kept for 39 days)", "id=\"receipt\"", "$0.42"] {
        assert!(page.contains(said), "{said} isn't in {page}");
    }
    assert!(!page.contains("hello"));
    let neighbour = ada.get("/runs/20001").await.body;
    assert!(neighbour.contains("hello") && !neighbour.contains("was dropped"));
    let audit = ada.get("/audit").await.body;
    assert!(audit.contains("events dropped") && audit.contains("of runs 1 to 19999, "), "{audit}");
}

#[tokio::test]
async fn a_run_that_was_silent_is_not_said_to_have_been_dropped() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    goes_on_at(&app, 19_998).await;
    sample::run(&app, &over(LONG_AGO)).await;
    run_at(&app, 20_001, &over(LONG_AGO)).await;
    app.db.drop_due(Some(30), None).await.unwrap().expect("it is due");
    assert!(ada.get("/runs/19998").await.body.contains("Nothing was said."));
}

#[tokio::test]
async fn one_run_that_lives_keeps_its_whole_partition() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    sample::worker(&app, "arm-1", 0).await;
    run_at(&app, 19_990, &over(LONG_AGO)).await;
    for (id, lives) in [(19_991, &[][..]), (19_992, RUNNING), (19_993, LOST)] {
        run_at(&app, id, lives).await;
    }
    run_at(&app, 20_001, &over(LONG_AGO)).await;
    let end =
        "update runs set state = 'ended', outcome = 'failed', end_step = 'by_itself', confirmed_at = now(),
               ended_at = now() - interval '40 days' where id = $1";
    for living in [19_991, 19_992, 19_993] {
        assert_eq!(app.db.drop_due(Some(30), None).await.unwrap(), None, "run {living} lives");
        assert_eq!(app.db.drop_due(None, Some(1)).await.unwrap(), None, "run {living} lives");
        let page = ada.get("/kept").await.body;
        assert!(
            page.contains(&format!("stays while <a href=\"/runs/{living}\">run {living}</a> lives")),
            "{page}"
        );
        sqlx::query(end).bind(living).execute(app.sql()).await.unwrap();
    }
    assert!(app.db.drop_due(Some(30), None).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_too_much_goes_oldest_first_and_nothing_that_has_just_ended() {
    let app = TestApp::start().await;
    run_at(&app, 19_998, &over("now() - interval '2 hours'")).await;
    run_at(&app, 20_001, &over("now() - interval '2 hours'")).await;
    run_at(&app, 30_001, &over("now() - interval '50 minutes'")).await;
    run_at(&app, 40_001, &over("now() - interval '10 minutes'")).await;
    assert_eq!(app.db.drop_due(None, None).await.unwrap(), None, "without a rule nothing goes");
    assert_eq!(app.db.drop_due(None, Some(1 << 30)).await.unwrap(), None, "there is room");
    let dropped = app.db.drop_due(None, Some(1)).await.unwrap().expect("there is too much");
    assert_eq!((dropped.first, dropped.last), (1, 19_999));
    assert_eq!(dropped.kept, "up to 0 GB in all");
    assert_eq!(app.db.drop_due(Some(1), Some(1)).await.unwrap().map(|next| next.first), Some(20_000));
    assert_eq!(app.db.drop_due(None, Some(1)).await.unwrap(), None, "output may still be on its way");
    assert!(app.db.drop_due(Some(0), None).await.is_err() && app.db.drop_due(None, Some(0)).await.is_err());
}

#[tokio::test]
async fn transcripts_go_on_over_a_boundary_and_where_nobody_made_room() {
    let fleet = Fleet::new().await;
    let (app, db) = (&fleet.app, &fleet.app.worker_db);
    goes_on_at(app, 19_999).await;
    let (last, first) = (fleet.start("x").await, fleet.start("y").await);
    assert_eq!((last.0, first.0), (19_999, 20_000));
    let (old, new) = (fleet.claim("w1").await, fleet.claim("w1").await);
    db.append(&old, &batch(1)).await.unwrap();
    db.append(&new, &batch(1)).await.unwrap();
    assert_eq!(number(app, "select count(distinct tableoid) from events").await, 2);

    goes_on_at(app, 75_000).await;
    let far = fleet.start("z").await;
    app.sql_do("drop table events_from_20000, events_from_30000").await;
    let raw = "insert into events (run_id, seq, at, source, kind, payload)
               values (75000, 1, now(), 'stdout', 'text', 'x')";
    let refused = sqlx::query(raw).execute(app.sql()).await.unwrap_err().to_string();
    assert!(refused.contains("no partition"), "{refused}");
    let lease = fleet.claim("w1").await;
    db.append(&lease, &batch(1)).await.unwrap();
    db.append(&lease, &batch(2)).await.unwrap();
    assert_eq!(fleet.events(far).await.len(), 2);
    assert_eq!(fleet.run(far).await.events, 2);

    db.append(&old, &batch(2)).await.unwrap();
    app.sql_do("drop table events_first").await;
    assert!(
        matches!(db.append(&old, &batch(3)).await, Err(Error::NoRoom)),
        "what was dropped isn't begun anew"
    );
    assert_eq!(fleet.run(last).await.events, 2, "all of a batch is stored or nothing");
}

#[tokio::test]
async fn room_is_made_once_by_however_many_and_without_a_gap() {
    let app = TestApp::start().await;
    goes_on_at(&app, 20_150).await;
    sample::run(&app, &[]).await;
    let (web, worker) = (&app.db, &app.worker_db);
    // One may wait for the others longer than its deadline.
    let make = async |db: &Db, runs| until("made", async || db.make_room(runs).await.is_ok()).await;
    tokio::join!(make(web, Some(100)), make(worker, Some(100)), make(web, None), make(worker, None));
    assert_eq!(app.db.make_room(None).await.unwrap(), 0);
    let gaps = "select count(*) from (select first_run, lag(end_run) over (order by first_run) as upto from event_parts) p
                where first_run <> upto";
    assert_eq!(number(&app, gaps).await, 0);
    let ready = "select count(*) from event_parts where first_run > (select max(id) from runs)";
    let before = number(&app, ready).await;
    assert!(before >= 3, "{before}");
    goes_on_at(&app, 5_000_000_000).await;
    sample::run(&app, &[]).await;
    let many = app.db.make_room(Some(100)).await.unwrap();
    assert!((3..10).contains(&many), "{many} for a leap");
    assert_eq!((number(&app, gaps).await, number(&app, ready).await >= 3), (0, true));
}

#[tokio::test]
async fn a_worker_makes_room_by_itself() {
    let fleet = Fleet::new().await;
    goes_on_at(&fleet.app, 120_000).await;
    sample::run(&fleet.app, &over(LONG_AGO)).await;
    let ready = "select count(*) from event_parts where first_run > 120000";
    assert_eq!(number(&fleet.app, ready).await, 0);
    let _worker = fleet.worker("w1").await;
    until("made", async || number(&fleet.app, ready).await >= 3).await;
}

#[tokio::test]
async fn a_server_with_a_rule_drops_by_itself_and_one_without_doesnt() {
    let app = TestApp::start().await;
    run_at(&app, 19_998, &over(LONG_AGO)).await;
    run_at(&app, 20_001, &over(LONG_AGO)).await;
    let dropped = "select count(*) from dropped_events";
    let url = Some(app.database_url.clone());
    let _keeps = TestApp::start_with(Wants { database_url: url.clone(), ..Wants::default() }).await;
    assert_eq!(number(&app, dropped).await, 0);
    let keep = Keep { days: Some(30), ..Keep::default() };
    let _drops = TestApp::start_with(Wants { database_url: url, keep, ..Wants::default() }).await;
    until("dropped", async || number(&app, dropped).await == 1).await;
}

#[tokio::test]
async fn who_is_in_the_table_isnt_waited_for_and_the_drop_comes_later() {
    let app = TestApp::start().await;
    run_at(&app, 19_998, &over(LONG_AGO)).await;
    run_at(&app, 20_001, &over(LONG_AGO)).await;
    let mut reader = app.sql().begin().await.unwrap();
    sqlx::query("select count(*) from events").execute(&mut *reader).await.unwrap();
    let began = Instant::now();
    assert!(matches!(app.db.drop_due(Some(30), None).await, Err(Error::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    goes_on_at(&app, 60_000).await;
    sample::run(&app, &[]).await;
    assert!(app.db.make_room(None).await.unwrap() > 0, "room is made beside whoever reads");
    reader.rollback().await.unwrap();
    assert!(app.db.drop_due(Some(30), None).await.unwrap().is_some());
}

#[tokio::test]
async fn neither_role_can_drop_or_empty_what_it_likes() {
    let app = TestApp::start().await;
    run_at(&app, 19_998, &over(LONG_AGO)).await;
    run_at(&app, 20_001, &over(LONG_AGO)).await;
    let as_role = async |role: &str, statement: &str| {
        let mut transaction = app.sql().begin().await.unwrap();
        let set = format!("set local role {role}");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *transaction).await.unwrap();
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await;
        transaction.rollback().await.unwrap();
        done.map(drop).map_err(|error| error.to_string())
    };
    for role in ["signalbox_worker", "signalbox_web"] {
        for statement in [
            "drop table events",
            "drop table events_first",
            "alter table events detach partition events_first",
            "truncate events",
            "truncate events_first",
            "delete from events",
            "update events set payload = ''",
            "select * from events_first",
            "delete from dropped_events",
            "insert into dropped_events values (1, 2, now(), 3, 'for nothing')",
            "create table events_of_mine partition of events for values from (900000) to (900001)",
        ] {
            let refused = as_role(role, statement).await.expect_err(statement);
            assert!(refused.contains("permission denied") || refused.contains("must be owner"), "{refused}");
        }
        as_role(role, "select events_make_room()").await.unwrap();
        as_role(role, "select * from events").await.unwrap();
    }
    let insert = "insert into events (run_id, seq, at, source, kind, payload) values (20005, 1, now(), 'stdout', 'text', '')";
    as_role("signalbox_worker", insert).await.unwrap();
    as_role("signalbox_web", insert).await.unwrap_err();
    let drop = "select * from events_drop_due(30, null)";
    assert!(as_role("signalbox_worker", drop).await.unwrap_err().contains("permission denied"));
    as_role("signalbox_web", drop).await.unwrap();
}

#[tokio::test]
async fn the_page_says_what_is_kept_and_what_went() {
    let app = TestApp::start_with(Wants {
        keep: Keep { days: Some(365), bytes: Some(50_000_000_000), ..Keep::default() },
        ..Wants::default()
    })
    .await;
    let ada = app.superuser().await;
    let empty = ada.get("/kept").await.body;
    assert!(
        empty.contains("No run has begun yet.") && empty.contains("No transcript has ever been dropped.")
    );
    run_at(&app, 19_998, &over(LONG_AGO)).await;
    run_at(&app, 20_001, &over(LONG_AGO)).await;
    run_at(&app, 30_001, &over(LONG_AGO)).await;
    let page = ada.get("/kept").await;
    assert_eq!(attributes(&page, "data-part"), ["30,000–39,999", "20,000–29,999", "1–19,999"]);
    for said in ["for 365 days after", "50 GB in all", "runs 1–19,999, not before 20", "takes what comes"] {
        assert!(page.body.contains(said), "{said} isn't in {}", page.body);
    }
    app.db.drop_due(Some(30), None).await.unwrap().expect("it is due");
    let page = ada.get("/kept").await;
    assert_eq!(attributes(&page, "data-dropped"), ["1–19,999"]);
    assert_eq!(attributes(&page, "data-part").len(), 2);
    assert!(ada.get("/health").await.body.contains("href=\"/kept\""));
}

/// A database as it was before there were partitions, with what a test wants in it; gives its URL.
async fn before_partitions(name: &str, content: &'static str) -> String {
    let server = postgres_url();
    let (base, _) = server.rsplit_once('/').unwrap();
    let mut maintenance = PgConnection::connect(&server).await.unwrap();
    for statement in [format!("drop database if exists {name}"), format!("create database {name}")] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut maintenance).await.unwrap();
    }
    let url = format!("{base}/{name}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut migrator = sqlx::migrate!();
    migrator.migrations = Cow::Owned(migrator.iter().filter(|it| it.version < 21).cloned().collect());
    migrator.run(&mut connection).await.unwrap();
    sqlx::raw_sql(content).execute(&mut connection).await.unwrap();
    url
}

#[tokio::test]
async fn what_was_stored_before_is_the_first_partition_as_it_is() {
    const CONTENT: &str = "
        insert into users (name, role, password_hash) values ('ada', 'superuser', '!');
        insert into runs (agent_id, title, prompt, asked_by, asked_by_name) select 1, 'A run', 'x', 1, 'ada'
        from generate_series(1, 12000);
        insert into events (run_id, seq, at, source, kind, payload)
        select id, 1, now(), 'stdout', 'text', 'line' from runs;";
    // Also where an earlier try came half-way, and fewer runs fit below its bound than there are by now.
    const HALF: &str = "alter table events add constraint events_bound check (run_id < 10000) not valid";
    for (name, half) in [("it_before_partitions", "select 1"), ("it_half_way", HALF)] {
        let url = before_partitions(name, CONTENT).await;
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(half).execute(&mut connection).await.unwrap();
        let file = "select pg_relation_filenode($1::regclass)::bigint";
        let file_of = async |connection: &mut PgConnection, table: &'static str| -> i64 {
            sqlx::query_scalar(file).bind(table).fetch_one(connection).await.unwrap()
        };
        let before = file_of(&mut connection, "events").await;
        Db::migrate(&url).await.unwrap();
        Db::migrate(&url).await.unwrap();
        assert_eq!(file_of(&mut connection, "events_first").await, before, "no row was written anew");
        let parts: Vec<(i64, i64)> = sqlx::query_as("select first_run, end_run from event_parts order by 1")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        assert_eq!(parts, [(1, 30_000), (30_000, 40_000), (40_000, 50_000)], "{name}");
        let stored: i64 =
            sqlx::query_scalar("select count(*) from events").fetch_one(&mut connection).await.unwrap();
        assert_eq!(stored, 12_000);
        connection.close().await.unwrap();
        let mut maintenance = PgConnection::connect(&postgres_url()).await.unwrap();
        let drop = format!("drop database {name} with (force)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut maintenance).await.unwrap();
    }
}
