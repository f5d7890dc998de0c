-- Runs: what is wished, what is, and what proves it.

create table runs (
    id              bigint generated always as identity primary key,
    agent_id        bigint not null references agents,
    title           text not null constraint runs_title_length check (char_length(title) between 1 and 200),
    prompt          text not null constraint runs_prompt_length check (octet_length(prompt) between 1 and 262144),
    once            text constraint runs_once unique,
    retry_of        bigint references runs,
    asked_by        bigint not null references users,
    asked_by_name   text not null,
    asked_at        timestamptz not null default now(),

    state           text not null default 'queued'
                    constraint runs_state check (state in ('queued', 'starting', 'running', 'ended', 'lost')),

    wish            text not null default 'run' constraint runs_wish check (wish in ('run', 'stop')),
    wish_mode       text constraint runs_wish_mode check (wish_mode in ('graceful', 'force')),
    wish_by         bigint references users,
    wish_by_name    text,
    wish_at         timestamptz,
    wish_reason     text,

    worker          text references workers,
    fence           bigint not null default 0,
    lease_until     timestamptz,
    gate_token_hash bytea,
    container       text,
    started_at      timestamptz,
    ended_at        timestamptz,
    waits_because   text,
    trouble         text,

    delivered_at    timestamptz,
    egress_cut_at   timestamptz,
    stop_step       text,
    stop_step_at    timestamptz,
    stop_trouble    text,
    stop_next_at    timestamptz,

    outcome         text constraint runs_outcome
                    check (outcome in ('succeeded', 'failed', 'terminated', 'timed_out', 'over_budget')),
    reason          text,
    exit_code       bigint,
    end_step        text,
    confirmed_at    timestamptz,

    turns           bigint,
    tokens_in       bigint,
    tokens_out      bigint,
    cost_usd        double precision,
    duration_ms     bigint,
    model           text,

    events          bigint not null default 0,
    stdout_lines    bigint not null default 0,
    stderr_lines    bigint not null default 0,
    last_event_at   timestamptz,

    constraint runs_stop_is_signed
        check (wish = 'run' or (wish_mode is not null and wish_by_name is not null and wish_at is not null)),
    constraint runs_held_under_a_lease
        check (state not in ('starting', 'running') or (worker is not null and lease_until is not null and fence > 0)),
    constraint runs_end_has_evidence
        check ((state = 'ended') = (outcome is not null)
           and (state = 'ended') = (confirmed_at is not null and end_step is not null and ended_at is not null)),
    constraint runs_terminated_was_wished
        check (outcome is distinct from 'terminated' or wish = 'stop')
);

-- Each list is a walk along one of these, in the order it is shown.
create index runs_by_state on runs (state, id desc);
create index runs_by_outcome on runs (outcome, id desc) where outcome is not null;
create index runs_unconfirmed on runs (id desc) where wish = 'stop' and state <> 'ended';
create index runs_queue on runs (id) where state = 'queued' and wish = 'run';
create index runs_held on runs (worker, id) where state in ('starting', 'running', 'lost');
create index runs_leases on runs (lease_until) where state in ('starting', 'running');
