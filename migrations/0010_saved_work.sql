-- Work that a stop would lose: what was seen of it while the run lived, and what was kept before it was stopped.

alter table runs
    add work_seen_at  timestamptz,
    add work_files    bigint constraint runs_work_files check (work_files >= 0),
    add work_unpushed bigint constraint runs_work_unpushed check (work_unpushed >= 0),
    add work_trouble  text,
    add work_saved_at timestamptz;

create table saved_work (
    run_id   bigint primary key references runs,
    at       timestamptz not null default now(),
    patch    bytea not null constraint saved_work_patch check (octet_length(patch) <= 8388608),
    bytes    bigint generated always as (octet_length(patch)) stored,
    files    bigint not null,
    unpushed bigint not null,
    trouble  text
);

grant select on saved_work to signalbox_web;
grant insert on saved_work to signalbox_worker;
