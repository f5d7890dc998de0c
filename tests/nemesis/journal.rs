//! The database's own journal: every change of a run's row, and which process made it. Each process says who it is as
//! it connects.

use sqlx::{AssertSqlSafe, PgPool, Row as _};
use url::Url;

use crate::history::{Change, Ms, Pen, Record, Row};

/// Written by triggers, so that nothing that changes a row gets past it.
const JOURNAL: &str = "
create schema nemesis;
create table nemesis.changes (
    n bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    life text, run bigint, fence bigint, state text, wish text, mode text, save boolean, worker text, container text,
    lease_until timestamptz, outcome text, confirmed_at timestamptz, events bigint,
    refused bigint, rest text);
create function nemesis.note() returns trigger language plpgsql security definer set search_path = nemesis as $$
begin
    insert into changes (life, run, fence, state, wish, mode, save, worker, container, lease_until, outcome, confirmed_at,
                         events, refused, rest)
    values (coalesce(current_setting('nemesis.life', true), ''), new.id, new.fence, new.state, new.wish, new.wish_mode,
            new.wish_save, new.worker, new.container, new.lease_until, new.outcome, new.confirmed_at, new.events,
            new.refused, md5((to_jsonb(new) - 'refused')::text));
    return null;
end $$;
create trigger nemesis after insert or update on public.runs for each row execute function nemesis.note();
";

/// Makes it.
pub(crate) async fn make(sql: &PgPool) {
    sqlx::raw_sql(JOURNAL).execute(sql).await.unwrap();
}

/// The same address, saying who calls.
pub(crate) fn signed(url: &str, life: &str) -> String {
    let mut url: Url = url.parse().unwrap();
    url.query_pairs_mut().append_pair("options[nemesis.life]", life);
    url.into()
}

/// The same address by another port of loopback.
pub(crate) fn by(url: &str, port: u16) -> String {
    let mut url: Url = url.parse().unwrap();
    url.set_port(Some(port)).unwrap();
    url.into()
}

/// Milliseconds since 1970, of a column.
fn ms(column: &str) -> String {
    format!("(extract(epoch from {column}) * 1000)::bigint as {column}")
}

/// Writes all that the database holds into the history.
pub(crate) async fn copy(sql: &PgPool, pen: &Pen) {
    changes(sql, pen).await;
    rows(sql, pen).await;
    let lines = "select run_id, seq, source, left(payload, 200) as text from events order by run_id, seq";
    for row in sqlx::query(lines).fetch_all(sql).await.unwrap() {
        pen.write(&Record::Line {
            run: row.get("run_id"),
            seq: row.get("seq"),
            source: row.get("source"),
            text: row.get("text"),
        });
    }
    let audit = format!("select {}, who, what, run_id from audit order by id", ms("at"));
    for row in sqlx::query(AssertSqlSafe(audit)).fetch_all(sql).await.unwrap() {
        let (at, who, did, run): (Ms, _, _, _) =
            (row.get("at"), row.get("who"), row.get("what"), row.get("run_id"));
        pen.write(&Record::Audit { at, who, did, run });
    }
}

async fn changes(sql: &PgPool, pen: &Pen) {
    let columns = [ms("at"), ms("lease_until"), ms("confirmed_at")].join(", ");
    let changes = format!(
        "select n, life, run, fence, state, wish, mode, save, worker, container, outcome, events, refused, rest, {columns}
         from nemesis.changes order by n"
    );
    for row in sqlx::query(AssertSqlSafe(changes)).fetch_all(sql).await.unwrap() {
        pen.write(&Record::Change(Change {
            n: row.get("n"),
            at: row.get("at"),
            life: row.get("life"),
            run: row.get("run"),
            fence: row.get("fence"),
            state: row.get("state"),
            wish: row.get("wish"),
            mode: row.get("mode"),
            save: row.get("save"),
            worker: row.get("worker"),
            container: row.get("container"),
            lease_until: row.get("lease_until"),
            outcome: row.get("outcome"),
            confirmed: row.get("confirmed_at"),
            events: row.get("events"),
            refused: row.get("refused"),
            rest: row.get("rest"),
        }));
    }
}

async fn rows(sql: &PgPool, pen: &Pen) {
    let columns = [ms("wish_at"), ms("ended_at"), ms("egress_cut_at"), ms("confirmed_at")].join(", ");
    let rows = format!(
        "select id, once, prompt, state, wish, wish_mode, worker, fence, container, outcome, reason, end_step,
                exit_code, events, {columns} from runs order by id"
    );
    for row in sqlx::query(AssertSqlSafe(rows)).fetch_all(sql).await.unwrap() {
        pen.write(&Record::Row(Row {
            run: row.get("id"),
            once: row.get("once"),
            play: row.get("prompt"),
            state: row.get("state"),
            wish: row.get("wish"),
            mode: row.get("wish_mode"),
            wish_at: row.get("wish_at"),
            worker: row.get("worker"),
            fence: row.get("fence"),
            container: row.get("container"),
            ended: row.get("ended_at"),
            cut: row.get("egress_cut_at"),
            outcome: row.get("outcome"),
            reason: row.get("reason"),
            step: row.get("end_step"),
            exit: row.get("exit_code"),
            confirmed: row.get("confirmed_at"),
            events: row.get("events"),
        }));
    }
}
