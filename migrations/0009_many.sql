-- Many runs stopped by one click, the held queue, drained workers, and the red handle.

-- One click that stops many. The row is the truth: every run that it names shall stop, though its wishes may still
-- be on their way; whoever comes by goes on writing them until `written_at`.
create table stops (
    id              bigint generated always as identity primary key,
    kind            text not null constraint stops_kind check (kind in ('selected', 'filter', 'everything')),
    filter          text,
    takes_queued    boolean not null,
    upto            bigint not null,
    mode            text not null constraint stops_mode check (mode in ('graceful', 'force')),
    reason          text not null,
    once            text constraint stops_once unique,
    by_id           bigint not null references users,
    by_name         text not null,
    at              timestamptz not null default now(),
    device          text,
    address         text,

    queued          bigint not null default 0,
    over            bigint not null default 0,
    written_at      timestamptz,

    gates_opened_at timestamptz,
    gates_opened_by text,
    released_at     timestamptz,
    released_by     text,

    constraint stops_filter_is_named check ((kind = 'filter') = (filter is not null))
);
create index stops_open on stops (id) where written_at is null;

-- Its runs, and what the wish met: nothing yet, a run held or lost, one whose stop was wished before, one still queued
-- (over at once), one that was over. No key to runs: checking it would wait for whoever has a run locked.
create table stop_runs (
    stop_id  bigint not null references stops,
    run_id   bigint not null,
    met      text not null default 'pending'
             constraint stop_runs_met check (met in ('pending', 'wished', 'repeated', 'queued', 'over')),
    primary key (stop_id, run_id)
);
-- Those that can still change; the others are counted in `stops`.
create index stop_runs_unsettled on stop_runs (stop_id, run_id) where met in ('pending', 'wished', 'repeated');

-- What stands for the whole fleet until somebody takes it back: one row. Claims share a lock on it, so that whoever
-- changes it knows that nothing is being claimed meanwhile.
create table fleet (
    one             boolean primary key default true constraint fleet_is_one check (one),
    held_at         timestamptz,
    held_by         text,
    held_why        text,
    gates_closed_at timestamptz,
    gates_closed_by text,
    -- The stop of the red handle, until it has been left.
    handle          bigint references stops,
    -- Runs up to this one aren't claimed: a stop that takes them in is still being written.
    stopping_upto   bigint,
    constraint fleet_hold_is_signed check ((held_at is null) = (held_by is null)),
    constraint fleet_gates_are_signed check ((gates_closed_at is null) = (gates_closed_by is null)),
    -- While gates are closed nothing may start.
    constraint fleet_closed_is_held check (gates_closed_at is null or (held_at is not null and handle is not null))
);
insert into fleet default values;

alter table workers
    add drained_at      timestamptz,
    add drained_by      text,
    add drained_why     text,
    add gates_closed_at timestamptz,
    add constraint workers_drain_is_signed check ((drained_at is null) = (drained_by is null));

grant select, insert, update on stops, stop_runs to signalbox_web;
grant select, update on fleet to signalbox_web;
grant update (drained_at, drained_by, drained_why) on workers to signalbox_web;
-- A lock needs the right to change a column; this one can't be changed to anything else.
grant select, update (one) on fleet to signalbox_worker;
