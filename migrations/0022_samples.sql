-- What the health page draws: one row a part and minute, kept for a day. Whatever isn't known is null, never 0.

create table samples (
    minute      timestamptz not null,
    -- postgres, redis, queue, events, `server NAME`, `worker NAME`.
    part        text not null constraint samples_part_form check (length(part) between 1 and 80),
    -- A store, a worker's engine: how long it took to answer.
    took_ms     real,
    -- A store: its size. A server: its own memory. A worker: memory in use on its host.
    bytes       bigint,
    -- The share of its processors that a worker's host used, or that a server itself did; 1 is all of them.
    cpu         real,
    -- The share of the disk that a worker's folder is on.
    disk        real,
    -- The queue: runs that wait. A server: open streams. A worker: runs that it holds.
    amount      real,
    -- The queue: for how long the oldest waits. Events: how long they take from their printing to this database.
    age_s       real,
    -- A server: what it was asked for since its sample before.
    requests    real,
    -- Minute first: a page reads the newest, and the oldest are deleted.
    primary key (minute, part)
);

grant select, insert, delete on samples to signalbox_web;
grant insert on samples to signalbox_worker;

-- What a worker measured of its host for its last heartbeat, and what it has counted since it started.
alter table workers
    add column cpu          double precision,
    add column memory_used  bigint,
    add column memory_total bigint,
    add column disk_used    bigint,
    add column disk_total   bigint,
    add column engine_ms    double precision,
    add column lag_s        double precision,
    add column gate_calls   bigint not null default 0,
    add column gate_usd     double precision not null default 0,
    add column stops        bigint[] not null default '{}',
    add column stops_s      double precision not null default 0;
-- A stop took from its first wish on; when that was, and no more of it, the worker may know.
grant select (at) on earlier_wishes to signalbox_worker;
