//! Believable runs and events in bulk, for measuring and for pictures. Signs in as the owner that the URL names.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};

use super::{Error, Result};

/// Runs written by one statement; some seconds of work, so that progress can be told.
const CHUNK: i64 = 50_000;

/// How much to make.
#[derive(Debug, Clone, Copy)]
pub struct SeedPlan {
    /// How many runs, asked for over the last year, the newest few still alive.
    pub runs: i64,
    /// How many events in all; the newest runs have theirs first, older ones go without.
    pub events: i64,
}

/// A connection that fills the database.
pub struct Seed {
    connection: PgConnection,
}

impl Seed {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer within 2 s.
    pub async fn connect(url: &str) -> Result<Self> {
        let options = url.parse::<PgConnectOptions>()?.application_name("signalbox seed");
        let options = options.log_statements(tracing::log::LevelFilter::Off);
        match tokio::time::timeout(std::time::Duration::from_secs(2), options.connect()).await {
            Ok(connected) => Ok(Self { connection: connected? }),
            Err(_) => Err(Error::Unavailable("no connection within 2 s".into())),
        }
    }

    /// Whether there are runs already.
    ///
    /// # Errors
    /// [`Error::Broken`] when there is no schema.
    pub async fn holds_runs(&mut self) -> Result<bool> {
        Ok(sqlx::query_scalar("select exists (select 1 from runs)").fetch_one(&mut self.connection).await?)
    }

    /// Fills the database; says through `progress` how many runs are there. The same plan gives the same draw.
    ///
    /// # Errors
    /// Postgres's own words.
    pub async fn fill(&mut self, plan: SeedPlan, mut progress: impl FnMut(i64)) -> Result<()> {
        let connection = &mut self.connection;
        // Half the time goes into looking up the same few agents, users and workers again and again; they are there,
        // the statements below have just read them. Only a superuser of Postgres may skip it; others wait a little.
        drop(connection.execute("set session_replication_role = replica").await);
        connection
            .execute("set synchronous_commit = off; set work_mem = '256MB'; select setseed(0.42)")
            .await?;
        connection.execute(PEOPLE_AND_WORKERS).await?;
        let mut first = 1;
        while first <= plan.runs {
            let last = plan.runs.min(first + CHUNK - 1);
            sqlx::query(RUNS).bind(first).bind(last).bind(plan.runs).execute(&mut *connection).await?;
            progress(last);
            first = last + 1;
        }
        connection.execute(WORDS).await?;
        sqlx::query(EVENTS).bind(plan.events).bind(plan.runs).execute(&mut *connection).await?;
        sqlx::query(COUNTS).bind(plan.events).execute(&mut *connection).await?;
        connection.execute(ALIVE).await?;
        connection.execute(AUDIT).await?;
        for table in [
            "vacuum analyze runs",
            "vacuum analyze run_words",
            "vacuum analyze events",
            "vacuum analyze audit",
        ] {
            connection.execute(table).await?;
        }
        Ok(())
    }
}

/// Three workers that speak and one that has fallen silent; somebody to have asked, who can't sign in.
const PEOPLE_AND_WORKERS: &str = "
    insert into users (name, role, password_hash, disabled_at) values ('seed', 'plain', '!', now())
    on conflict on constraint users_name do nothing;

    insert into workers (name, version, arch, page_size, kernel, engine, engine_ok, sandboxed, claude, rehearsal,
                         capacity, started_at, heard_at)
    select name, '0.1.0', arch, 4096, kernel, 'Docker 27.5.1, API 1.47', true, true, '2.1.330', true,
           16, now() - interval '9 days', now() - silence
    from (values ('dock-1', 'x86_64',  '6.1.0-31-amd64', interval '2 seconds'),
                 ('dock-2', 'x86_64',  '6.1.0-31-amd64', interval '4 seconds'),
                 ('dock-3', 'aarch64', '6.1.0-31-arm64', interval '1 second'),
                 ('dock-4', 'x86_64',  '6.1.0-29-amd64', interval '3 hours')) w (name, arch, kernel, silence)
    on conflict (name) do update set heard_at = excluded.heard_at;";

/// Runs $1 to $2 of $3. A fleet that has grown over a year: durations, turns and costs are log-normal (medians 200 s,
/// 11 turns, 0.35 dollars); of those that ended 86 in 100 succeeded, 9 failed, 3 were terminated, the rest ran out of time
/// or money. At most sixty of the newest are alive. After SIGINT the CLI exits with 0, as in `tests/samples`. Leases last a
/// day, so that pictures don't age while they are taken.
const RUNS: &str = r#"
    with fixed as (
        select (select id from agents order by id limit 1) as agent_id,
               u.id as asked_by, u.name as asked_by_name, least($3 / 10, 60) as alive
        from users u order by (u.role = 'superuser') desc, u.id limit 1),
    drawn as (
        select i, $3 - i as rank, random() as luck, random() as place, random() as key,
               exp(5.30 + 1.10 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as seconds,
               exp(2.40 + 0.70 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as turns,
               exp(-1.05 + 1.20 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as cost,
               (array['Fix the flaky test of', 'Bring the dependencies up to date in', 'Find out why CI is slow in',
                      'Write the missing tests for', 'Review the open changes of', 'Make the error messages clear in',
                      'Look for leaks of memory in', 'Bring the documentation up to date for',
                      'Find what nobody uses in', 'Answer the new reports about', 'Measure the start of',
                      'Take the warnings out of'])[1 + floor(random() * 12)] || ' ' ||
               (array['billing', 'the importer', 'search', 'the mobile site', 'sign-in', 'the scheduler', 'reports',
                      'webhooks', 'the parser', 'exports', 'the catalogue', 'notifications', 'the mailer',
                      'invoices', 'the crawler', 'uploads'])[1 + floor(random() * 16)] as title
        from generate_series($1::bigint, $2::bigint) i),
    placed as (
        select d.*, f.agent_id, f.asked_by, f.asked_by_name,
               case when rank >= alive then 'ended'
                    when rank < alive * 0.15 then 'queued'
                    when rank < alive * 0.20 then 'starting'
                    when rank < alive * 0.90 then 'running'
                    else 'lost' end as state,
               case when luck < 0.86 then 'succeeded' when luck < 0.95 then 'failed' when luck < 0.98 then 'terminated'
                    when luck < 0.992 then 'timed_out' else 'over_budget' end as outcome,
               least(seconds, 14400) * interval '1 second' as took,
               case when rank < alive then now() - rank * interval '31 seconds'
                    else now() - interval '7 hours' - interval '364 days' * (1 - sqrt(i / $3::float8)) end as asked_at
        from drawn d cross join fixed f),
    timed as (
        select p.*, asked_at + (0.4 + 2 * place) * interval '1 second' as started,
               case state when 'ended' then case outcome when 'timed_out' then interval '4 hours' else took end end as ran,
               case when state = 'ended' then outcome = 'terminated'
                    else state in ('running', 'lost') and rank % 9 = 0 end as stopped,
               case state when 'ended' then not (outcome = 'terminated' and luck > 0.965) else false end as told
        from placed p)
    insert into runs (agent_id, title, prompt, asked_by, asked_by_name, asked_at, state,
                      wish, wish_mode, wish_by, wish_by_name, wish_at, wish_reason,
                      worker, fence, lease_until, container, started_at, ended_at, trouble,
                      delivered_at, egress_cut_at, stop_step, stop_step_at, stop_trouble, stop_next_at,
                      outcome, reason, exit_code, end_step, confirmed_at,
                      turns, tokens_in, tokens_out, cost_usd, duration_ms, model, result)
    select agent_id, title, title || '. Say in the end what you changed and how you checked it.',
           asked_by, asked_by_name, asked_at, state,
           case when stopped then 'stop' else 'run' end,
           case when stopped then case when told then 'graceful' else 'force' end end,
           case when stopped then asked_by end,
           case when stopped then asked_by_name end,
           case when stopped then started + coalesce(ran, interval '10 seconds') - interval '1.2 seconds' end,
           case when stopped then '' end,
           case when state = 'lost' then 'dock-4' when state <> 'queued' then 'dock-' || 1 + floor(place * 3) end,
           case state when 'queued' then 0 when 'lost' then 2 else 1 end,
           case state when 'queued' then null when 'ended' then null when 'lost' then now() - interval '3 hours'
                      else now() + interval '1 day' end,
           case when state not in ('queued', 'starting') then md5(key::text) || md5(i::text) end,
           case when state not in ('queued', 'starting') then started end,
           started + ran,
           case state when 'lost' then 'Worker dock-4 fell silent.' end,
           case when stopped then started + coalesce(ran, interval '10 seconds') - interval '1.1 seconds' end,
           case when stopped then started + coalesce(ran, interval '10 seconds') - interval '1.1 seconds' end,
           case when stopped then case when told then 'sigint' else 'sigkill' end end,
           case when stopped then started + coalesce(ran, interval '10 seconds') - interval '1 second' end,
           case when stopped and state <> 'ended' then 'The container engine doesn''t answer.' end,
           case when stopped and state <> 'ended' then now() + interval '1 day' end,
           case state when 'ended' then outcome end,
           case when state = 'ended' then case outcome
               when 'failed' then 'The CLI ended with exit code 1.'
               when 'timed_out' then 'It ran for 4 hours, its agent''s limit.'
               when 'over_budget' then 'It spent what it may.' end end,
           case when state = 'ended' then case outcome
               when 'failed' then 1 when 'terminated' then case when told then 0 else 137 end
               else 0 end end,
           case when state = 'ended' then case outcome
               when 'terminated' then case when told then 'sigint' else 'sigkill' end
               when 'timed_out' then 'sigint' when 'over_budget' then 'sigint' else 'by_itself' end end,
           started + ran + interval '30 milliseconds',
           case when told then 1 + floor(turns) end,
           case when told then 9000 + floor(turns * 21000 * (0.5 + place)) end,
           case when told then 60 + floor(turns * 380 * (0.5 + luck)) end,
           case when told then round(cost::numeric, 4)::float8 end,
           case when told then floor(extract(epoch from ran) * 1000) end,
           case when state not in ('queued', 'starting') then 'claude-sonnet-4-5' end,
           case when told and outcome = 'succeeded' then
               (array['Done: ', 'All tests pass. ', 'Two findings, one fixed. ', 'Nothing to change. '])[1 + floor(luck * 4)]
               || (1 + floor(turns / 3)) || ' files changed in src/' || (array['web', 'db', 'model', 'worker'])[1 + floor(place * 4)]
               || '/file' || floor(key * 5000) || '.rs.' end
    from timed order by i"#;

/// Transcripts for the newest runs until $1 events are there: an init line, then texts, tool calls and their results by
/// turns, and a result line with the run's own figures for those that gave one. The median run has 55 lines.
const EVENTS: &str = r#"
    with wanted as (
        select id, started_at, coalesce(ended_at, now()) as until, state, cost_usd, turns, duration_ms, tokens_in,
               tokens_out, model, outcome, title,
               (3 + exp(4.0 + 0.9 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())))::bigint as lines
        from runs where started_at is not null and events = 0
        order by id desc limit least($1 / 4 + 1, $2)),
    counted as (select *, sum(lines) over (order by id desc) as upto from wanted),
    cut as (select *, least(lines, $1 - (upto - lines))::bigint as n from counted where upto - lines < $1)
    insert into events (run_id, seq, at, source, kind, payload)
    select id, seq, started_at + (until - started_at) * (seq::float8 / (n + 1)), 'stdout',
           case when seq = 1 then 'init' when seq = n and cost_usd is not null then 'result'
                when seq % 3 = 2 then 'assistant' when seq % 3 = 0 then 'tool_use' else 'tool_result' end,
           case when seq = 1 then format(
                    '{"type":"system","subtype":"init","session_id":"%s","model":"%s","cwd":"/workspace","tools":["Bash","Read","Edit","Grep"]}',
                    md5(id::text)::uuid, model)
                when seq = n and cost_usd is not null then format(
                    '{"type":"result","subtype":"%s","is_error":%s,"num_turns":%s,"duration_ms":%s,"total_cost_usd":%s,"result":"%s","usage":{"input_tokens":%s,"output_tokens":%s}}',
                    case outcome when 'succeeded' then 'success' else 'error_during_execution' end,
                    case outcome when 'succeeded' then 'false' else 'true' end,
                    turns, duration_ms, cost_usd, 'Done: ' || title || '. All checks pass.', tokens_in, tokens_out)
                when seq % 3 = 2 then format(
                    '{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"%s"}]}}',
                    (array['Let me look at how this is put together first.', 'The test waits for a clock instead of a condition.',
                           'That explains it: the second caller finds the list empty.', 'I will change the smallest thing that helps.',
                           'Now the tests once more, all of them.', 'Two places lean on this; I will check both.'])[1 + (id + seq) % 6])
                when seq % 3 = 0 then format(
                    '{"type":"assistant","message":{"role":"assistant","content":[{"type":"tool_use","id":"toolu_%s_%s","name":"Bash","input":{"command":"%s"}}]}}',
                    id, seq,
                    (array['git log --oneline -20', 'cargo test --workspace 2>&1 | tail -40', 'rg -n ''deadline'' src',
                           'ls -la', 'sed -n 1,120p src/lib.rs', 'git diff --stat'])[1 + (id + seq) % 6])
                else format(
                    '{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_%s_%s","content":"%s"}]}}',
                    id, seq - 1,
                    (array['test result: ok. 214 passed; 0 failed; finished in 3.41s', 'src/queue.rs:41: let deadline = start + patience;',
                           '4 files changed, 31 insertions(+), 12 deletions(-)', 'total 48\ndrwxr-xr-x 9 agent agent 4096 src',
                           'error[E0382]: borrow of moved value: `parts`', 'a1b2c3d Wait for the condition'])[1 + (id + seq) % 6])
           end
    from cut cross join lateral generate_series(1, n) seq order by id, seq"#;

/// What the runs know of their transcripts. $1 is how many events were made.
const COUNTS: &str = "
    update runs r set events = e.n, stdout_lines = e.n, last_event_at = e.last_at
    from (select run_id, count(*) as n, max(at) as last_at from events where $1 > 0 group by run_id) e
    where r.id = e.run_id and r.events = 0";

/// What those that live are in: two of three in a call; one of eight has said nothing for three quarters of an hour, the others
/// speak for a day, as their leases last.
const ALIVE: &str = r#"
    update runs set
        asked_at = asked_at - quiet, started_at = started_at - quiet,
        last_event_at = case when id % 8 = 0 then now() - interval '45 minutes' else now() + interval '1 day' end,
        activity = case when id % 3 <> 0 then json_build_object('open', json_build_array(json_build_object(
            'id', 'a', 'tool', 'Bash', 'gist', (array['cargo test', 'make', 'git log -p', 'npm run build'])[1 + id % 4],
            'since', to_char(greatest(started_at, now() - (1 + id % 9) * interval '1 minute') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))) end
    from (select id as quiet_id, case when id % 8 = 0 then interval '46 minutes' else interval '0' end as quiet from runs
          where state = 'running') q
    where id = quiet_id"#;

/// The words of all runs, which no trigger has kept; their index is made when they are there.
const WORDS: &str = "
    drop index run_words_words;
    insert into run_words (run_id, words)
    select id, words_of_run(id, title, prompt, result, reason) from runs on conflict do nothing;
    create index run_words_words on run_words using gin (words) with (fastupdate = off)";

/// The audit of the newest runs, in the order it would have grown.
const AUDIT: &str = "
    insert into audit (at, who, what, run_id, detail, address)
    select at, who, what, run_id, detail, '198.51.100.7' from (
        select asked_at as at, asked_by_name as who, 'run started' as what, id as run_id, title as detail
        from (select * from runs order by id desc limit 5000) newest
        union all
        select wish_at, wish_by_name, 'stop wished', id, wish_mode
        from (select * from runs order by id desc limit 5000) newest where wish = 'stop') a
    order by at";
