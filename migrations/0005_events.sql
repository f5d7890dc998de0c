-- Transcripts. A run's events are numbered in the order the engine kept its output.

create table events (
    run_id   bigint not null references runs,
    seq      bigint not null,
    at       timestamptz not null,
    source   text not null constraint events_source check (source in ('stdout', 'stderr')),
    kind     text not null,
    cut      bigint not null default 0,
    payload  text not null,
    primary key (run_id, seq)
);
