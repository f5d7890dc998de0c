-- Workers, and what each found on its host.

create table workers (
    name        text primary key constraint workers_name_form check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    version     text not null,
    arch        text not null,
    page_size   bigint not null,
    kernel      text not null,
    engine      text not null,
    engine_ok   boolean not null,
    sandboxed   boolean not null,
    claude      text,
    rehearsal   boolean not null,
    capacity    integer not null,
    started_at  timestamptz not null default now(),
    heard_at    timestamptz not null default now()
);
