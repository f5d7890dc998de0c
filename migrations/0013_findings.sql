-- Lost and found: what a worker found on its host that no run accounts for, and what became of it.

create table findings (
    id              bigint generated always as identity primary key,
    worker          text not null references workers,
    kind            text not null constraint findings_kind
                    check (kind in ('container', 'run', 'folder', 'image', 'volume')),
    what            text not null,
    run_id          bigint,
    detail          text not null default '',
    bytes           bigint,
    since           timestamptz,
    found_at        timestamptz not null default now(),
    seen_at         timestamptz not null default now(),
    gone_at         timestamptz,
    wished_by       bigint references users,
    wished_by_name  text,
    wished_at       timestamptz,
    done            text,
    done_by         text,
    done_at         timestamptz
);
create unique index findings_open on findings (worker, kind, what) where gone_at is null;
create index findings_gone on findings (gone_at) where gone_at is not null;

grant select, update on findings to signalbox_web;
grant select, insert, update, delete on findings to signalbox_worker;
