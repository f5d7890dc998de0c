-- Stuck: what a run is in the middle of, how long its agent may be so, and how long its calls usually take.

alter table runs
    -- What its output says that it is in: kept by the worker as it stores events, as it was when a stop was wished.
    add activity json,
    -- The longest that a call like the one it is in has taken.
    add usual_s  bigint;

alter table agents
    add quiet_s     bigint not null default 600 constraint agents_quiet check (quiet_s between 60 and 86400),
    add call_s      bigint not null default 1800 constraint agents_call check (call_s between 60 and 604800),
    add limited_s   bigint not null default 300 constraint agents_limited check (limited_s between 60 and 86400),
    add same_calls  bigint not null default 10 constraint agents_same_calls check (same_calls between 3 and 1000),
    add errors      bigint not null default 8 constraint agents_errors check (errors between 2 and 1000),
    add stops_stuck boolean not null default false;

-- How long calls have taken that took over a minute: the longest of each, and of each agent the newest few hundred.
create table usual_calls (
    agent_id  bigint not null references agents,
    tool      text not null,
    gist      text not null,
    longest_s bigint not null constraint usual_calls_longest check (longest_s >= 60),
    at        timestamptz not null default now(),
    primary key (agent_id, tool, gist)
);
create index usual_calls_newest on usual_calls (agent_id, at desc);

grant update (quiet_s, call_s, limited_s, same_calls, errors, stops_stuck) on agents to signalbox_web;
grant select, insert, update, delete on usual_calls to signalbox_worker;
