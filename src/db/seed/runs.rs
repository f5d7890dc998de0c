//! Invented runs.

/// Runs $1 to $2 of $3, with as many events as `seed_lines` says. A fleet that has grown over a year: durations, turns and
/// costs are log-normal (medians 200 s, 11 turns, 0.35 dollars), turns a third of the events where there are any; of those
/// that ended 86 in 100 succeeded, 9 failed, 3 were terminated, the rest ran out of time or money. One agent has most of
/// them, and one worker half. At most sixty of the newest are alive. After SIGINT the CLI exits with 0, as in `tests/samples`.
/// Leases last a day, so that pictures don't age while they are taken.
pub(super) const RUNS: &str = r#"
    with fixed as (
        select (select array_agg(id order by id) from agents) as agents,
               u.id as asked_by, u.name as asked_by_name, least($3 / 10, 60) as alive
        from users u order by (u.role = 'superuser') desc, u.id limit 1),
    drawn as (
        select i, $3 - i as rank, random() as luck, random() as place, random() as key, random() as skew,
               exp(5.30 + 1.10 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as seconds,
               exp(2.40 + 0.70 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as turns,
               0.032 * exp(0.80 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as cost_of_turn,
               (array['Fix the flaky test of', 'Bring the dependencies up to date in', 'Find out why CI is slow in',
                      'Write the missing tests for', 'Review the open changes of', 'Make the error messages clear in',
                      'Look for leaks of memory in', 'Bring the documentation up to date for',
                      'Find what nobody uses in', 'Answer the new reports about', 'Measure the start of',
                      'Take the warnings out of', 'Split the largest module of', 'Say what the last incident showed of',
                      'Move to the new client in', 'Cut the cost of', 'Find the query that hurts in',
                      'Translate the last texts of', 'Rehearse the restore of', 'Take the old flag out of'])[1 + floor(random() * 20)]
               || ' ' ||
               (array['billing', 'the importer', 'search', 'the mobile site', 'sign-in', 'the scheduler', 'reports',
                      'webhooks', 'the parser', 'exports', 'the catalogue', 'notifications', 'the mailer',
                      'invoices', 'the crawler', 'uploads', 'the ledger', 'image resizing', 'the gateway', 'feature flags',
                      'the admin pages', 'rate limits', 'the test harness', 'geocoding', 'the nightly job', 'payments',
                      'the audit trail', 'shipping', 'translations', 'the sandbox', 'permissions', 'the data import',
                      'backups', 'the public API'])[1 + floor(random() * 34)]
               || (array['', '', '', '', '', ' before the release', ' after the last change', ', second try',
                         ' for the new region', ' on arm64'])[1 + floor(random() * 10)] as title,
               array_to_string((array['Say in the end what you changed and how you checked it.',
                      'Touch nothing outside this module.', 'If a test fails that has nothing to do with it, say so and go on.',
                      'Keep the commits small, one idea each.', 'Look at the last ten commits first; somebody was here on Tuesday.',
                      'No new dependencies.', 'When you are not sure, stop and ask instead of guessing.',
                      'The numbers that matter are p99 and the resident memory after an hour.',
                      'There is a deadline beside each call; keep it that way.', 'Write down what you did not do.'])
                   [1 + floor(random() * 9) : 10], ' ') as wants
        from generate_series($1::bigint, $2::bigint) i),
    placed as (
        select d.i, d.rank, d.luck, d.place, d.key, d.title, d.wants, coalesce(l.lines, 0) as lines,
               case when l.lines > 0 then least(1 + l.lines / 3, 900) else 1 + floor(turns) end as turns, cost_of_turn,
               f.asked_by, f.asked_by_name,
               f.agents[1 + floor(least(power(skew, 3) * 4, cardinality(f.agents) - 1))::integer] as agent_id,
               'dock-' || case when place < 0.5 then 1 when place < 0.8 then 2 else 3 end as dock,
               case when rank >= alive then 'ended'
                    when rank < alive * 0.15 then 'queued'
                    when rank < alive * 0.20 then 'starting'
                    when rank < alive * 0.90 then 'running'
                    else 'lost' end as state,
               case when luck < 0.86 then 'succeeded' when luck < 0.95 then 'failed' when luck < 0.98 then 'terminated'
                    when luck < 0.992 then 'timed_out' else 'over_budget' end as outcome,
               least(greatest(seconds, coalesce(l.lines, 0) * 0.4), 14100) * interval '1 second' as took,
               case when rank < alive then now() - rank * interval '31 seconds'
                    else now() - interval '7 hours' - interval '364 days' * (1 - sqrt(i / $3::float8)) end as asked_at
        from drawn d cross join fixed f left join seed_lines l using (i)),
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
                      turns, tokens_in, tokens_out, cost_usd, duration_ms, model,
                      recipe, metered_at, metered_calls, metered_in, metered_cache_read, metered_out, metered_usd,
                      events, stdout_lines, last_event_at, result)
    select agent_id, title, title || E'.\n\n' || wants,
           asked_by, asked_by_name, asked_at, state,
           case when stopped then 'stop' else 'run' end,
           case when stopped then case when told then 'graceful' else 'force' end end,
           case when stopped then asked_by end,
           case when stopped then asked_by_name end,
           case when stopped then started + coalesce(ran, interval '10 seconds') - interval '1.2 seconds' end,
           case when stopped then '' end,
           case when state = 'lost' then 'dock-4' when state <> 'queued' then dock end,
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
           case when told then turns end,
           case when told then 9000 + floor(turns * 21000 * (0.5 + place)) end,
           case when told then 60 + floor(turns * 380 * (0.5 + luck)) end,
           case when told then round((turns * cost_of_turn)::numeric, 4)::float8 end,
           case when told then floor(extract(epoch from ran) * 1000) end,
           case when state not in ('queued', 'starting') then 'claude-sonnet-4-5' end,
           case when state <> 'queued' then (select version from agents a where a.id = agent_id) end,
           case when has_begun then until end,
           case when has_begun then turns else 0 end,
           case when has_begun then 9000 + floor(turns * 1000 * (0.5 + place)) else 0 end,
           case when has_begun then floor(turns * 20000 * (0.5 + place)) else 0 end,
           case when has_begun then 60 + floor(turns * 380 * (0.5 + luck)) else 0 end,
           case when has_begun then round((turns * cost_of_turn)::numeric, 6)::float8 end,
           lines, lines, case when lines > 0 then started + (until - started) * (lines::float8 / (lines + 1)) end,
           case when told and outcome = 'succeeded' then
               (array['Done: ', 'All tests pass. ', 'Two findings, one fixed. ', 'Nothing to change. '])[1 + floor(luck * 4)]
               || (1 + floor(turns / 3)) || ' files changed in src/' || (array['web', 'db', 'model', 'worker'])[1 + floor(place * 4)]
               || '/file' || floor(key * 5000) || '.rs.' end
    from timed cross join lateral (
        select coalesce(started + ran, now()) as until, state not in ('queued', 'starting') as has_begun) t
    order by i"#;

/// What those that live are in: two of three in a call; one of eight has said nothing for three quarters of an hour, the others
/// speak for a day, as their leases last.
pub(super) const ALIVE: &str = r#"
    update runs set
        asked_at = asked_at - quiet, started_at = started_at - quiet,
        last_event_at = case when id % 8 = 0 then now() - interval '45 minutes' else now() + interval '1 day' end,
        activity = case when id % 3 <> 0 then json_build_object('open', json_build_array(json_build_object(
            'id', 'a', 'tool', 'Bash', 'gist', (array['cargo test', 'make', 'git log -p', 'npm run build'])[1 + id % 4],
            'since', to_char(greatest(started_at, now() - (1 + id % 9) * interval '1 minute') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))) end
    from (select id as quiet_id, case when id % 8 = 0 then interval '46 minutes' else interval '0' end as quiet from runs
          where state = 'running') q
    where id = quiet_id"#;
