//! Invented transcripts: lines as the CLI prints them.

/// How many events each run has, as `share_out` fills it in.
pub(super) const LINES: &str = "
    drop table if exists seed_lines;
    create temporary table seed_lines (i bigint primary key, lines bigint not null)";

/// Shares $3 events out among the runs from $1 to $2: three for each, where there are as many, and the rest log-normal, so that
/// a few have ten times as many as most. Run $4 has $5 instead. Rounding as it goes, so that all together are exactly as many.
pub(super) const SHARE: &str = "
    insert into seed_lines
    with drawn as (
        select i, exp(0.9 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as weight
        from generate_series($1::bigint, $2::bigint) i where i is distinct from $4::bigint),
    fixed as (select least(3, $3::bigint / greatest(count(*), 1)) as each, count(*) as runs from drawn),
    counted as (select i, sum(weight) over (order by i) as upto from drawn),
    rounded as (
        select i, each, floor(($3 - each * runs) * (upto / max(upto) over ()))::bigint as upto from counted, fixed)
    select i, each + upto - lag(upto, 1, 0::bigint) over (order by i) from rounded
    union all select $4, $5::bigint where $4 is not null";

/// The events of the runs after $1, up to $2, as many as each says that it has: an init line, then texts, tool calls and their
/// results by turns, a plain line now and then, and a result line with the run's own figures for those that gave one. One
/// result in seventeen is a failure, and one in forty some screens long.
pub(super) const EVENTS: &str = r#"
    with told as (
        select id, started_at, coalesce(ended_at, now()) - started_at as span, cost_usd, turns, duration_ms, tokens_in,
               tokens_out, model, outcome, title, events as n
        from runs where id > $1 and id <= $2 and events > 0 order by id),
    lines as (
        select told.*, seq, id * 7 + seq * 13 as dice,
               case when seq = 1 then 'init' when seq = n and cost_usd is not null then 'result'
                    when seq % 97 = 50 then 'text' when seq % 3 = 2 then 'assistant' when seq % 3 = 0 then 'tool_use'
                    else 'tool_result' end as kind
        from told cross join lateral generate_series(1, n) seq)
    insert into events (run_id, seq, at, source, kind, payload)
    select id, seq, started_at + span * (seq::float8 / (n + 1)), 'stdout', kind,
           case kind
               when 'assistant' then
                    '{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"' ||
                    (array['Let me look at how this is put together first.', 'The test waits for a clock instead of a condition.',
                           'That explains it: the second caller finds the list empty.', 'I will change the smallest thing that helps.',
                           'Now the tests once more, all of them.', 'Two places lean on this; I will check both.',
                           'It fails only when both run at once. I will make the order certain instead of likely, and write a test that would have caught it.',
                           'Before I change anything: what do the last commits say about this file?'])[1 + dice % 8] || '"}]}}'
               when 'tool_use' then
                    '{"type":"assistant","message":{"role":"assistant","content":[{"type":"tool_use","id":"toolu_' || id || '_' || seq ||
                    (array['","name":"Bash","input":{"command":"git log --oneline -20"}}]}}',
                           '","name":"Bash","input":{"command":"cargo test --workspace 2>&1 | tail -40","description":"All tests"}}]}}',
                           '","name":"Grep","input":{"pattern":"deadline","path":"src","output_mode":"content"}}]}}',
                           '","name":"Read","input":{"file_path":"/workspace/src/queue.rs","offset":1,"limit":120}}]}}',
                           '","name":"Edit","input":{"file_path":"/workspace/src/queue.rs","old_string":"let deadline = start;","new_string":"let deadline = start + patience;"}}]}}',
                           '","name":"Bash","input":{"command":"git diff --stat"}}]}}',
                           '","name":"TodoWrite","input":{"todos":[{"content":"Find the race","status":"completed"},{"content":"Write the test","status":"in_progress"}]}}]}}'])[1 + dice % 7]
               when 'tool_result' then
                    '{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_' || id || '_' || seq - 1 ||
                    case when dice % 17 = 0 then '","is_error":true,"content":"error[E0382]: borrow of moved value: `parts`\n  --> src/queue.rs:41:18\nexit code 101"}]}}'
                         when dice % 40 = 1 then '","content":"' || repeat('test queue::a_second_caller_waits_for_the_first ... ok\n', 10 + (dice % 60)::integer) || 'test result: ok"}]}}'
                         else (array['","content":"test result: ok. 214 passed; 0 failed; finished in 3.41s"}]}}',
                           '","content":"src/queue.rs:41: let deadline = start + patience;\nsrc/queue.rs:97: // no deadline here yet"}]}}',
                           '","content":"4 files changed, 31 insertions(+), 12 deletions(-)"}]}}',
                           '","content":"total 48\ndrwxr-xr-x 9 agent agent 4096 src\n-rw-r--r-- 1 agent agent 1204 Cargo.toml"}]}}',
                           '","content":"The file /workspace/src/queue.rs has been updated."}]}}',
                           '","content":"a1b2c3d Wait for the condition\n9f8e7d6 Give the second caller its turn"}]}}'])[1 + dice % 6] end
               when 'text' then 'warning: unused variable: `patience` in src/queue.rs'
               when 'init' then format(
                    '{"type":"system","subtype":"init","session_id":"%s","model":"%s","cwd":"/workspace","tools":["Bash","Read","Edit","Grep","TodoWrite"],"claude_code_version":"2.1.330"}',
                    md5(id::text)::uuid, model)
               else format(
                    '{"type":"result","subtype":"%s","is_error":%s,"num_turns":%s,"duration_ms":%s,"total_cost_usd":%s,"result":"%s","usage":{"input_tokens":%s,"output_tokens":%s}}',
                    case outcome when 'succeeded' then 'success' else 'error_during_execution' end,
                    case outcome when 'succeeded' then 'false' else 'true' end,
                    turns, duration_ms, cost_usd, 'Done: ' || title || '. All checks pass.', tokens_in, tokens_out)
           end
    from lines"#;
