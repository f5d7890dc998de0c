-- Bells: where a superuser is called when something needs them. What happened is noted once, told to each bell that
-- listens for it in a ring, and the ring is sent until it is taken or given up.

-- A device that takes pushes (RFC 8030), or an address. Its url, keys and secret are as good as passwords for it.
create table bells (
    id            bigint generated always as identity primary key,
    user_id       bigint not null references users on delete cascade,
    kind          text not null constraint bells_kind check (kind in ('device', 'webhook', 'ntfy', 'slack')),
    name          text not null constraint bells_name check (char_length(name) between 1 and 60),
    -- None when the push service has dropped the device: its next visit brings another one.
    url           text constraint bells_url check (octet_length(url) between 1 and 2000),
    -- By what a device is known when its subscription is another one.
    device        text constraint bells_device check (char_length(device) between 8 and 64),
    p256dh        bytea constraint bells_p256dh check (octet_length(p256dh) = 65),
    auth          bytea constraint bells_auth check (octet_length(auth) = 16),
    secret        text constraint bells_secret check (octet_length(secret) <= 500),
    listens       text[] not null,
    -- What happened before isn't told.
    listens_since timestamptz not null default now(),
    made_at       timestamptz not null default now(),
    seen_at       timestamptz not null default now(),
    -- The last thing that it was told of, and when it was last told of anything.
    told_upto     bigint not null default 0,
    told_at       timestamptz,
    canary_at     timestamptz,
    canary_arrived_at timestamptz,
    arrived_at    timestamptz,
    dropped_at    timestamptz,
    constraint bells_device_is_known check ((kind = 'device') = (device is not null)),
    constraint bells_device_has_keys
        check ((kind = 'device' and url is not null) = (p256dh is not null and auth is not null)),
    constraint bells_only_devices_are_dropped check ((url is null) = (dropped_at is not null)),
    constraint bells_one_a_device unique (user_id, device)
);
create unique index bells_one_a_subscription on bells (url) where kind = 'device';

-- What happened that somebody listens for, once each.
create table happenings (
    id      bigint generated always as identity primary key,
    at      timestamptz not null,
    what    text not null constraint happenings_what check (what in
            ('unconfirmed', 'stuck', 'lost', 'failed', 'over_budget', 'succeeded', 'red_handle', 'worker_silent')),
    -- The run, worker or stop that it happened to; `mark` tells two times apart at which it happened to the same.
    subject text not null,
    mark    text not null default '',
    noted_at timestamptz not null default now(),
    constraint happenings_once unique (what, subject, mark)
);
create index happenings_old on happenings (noted_at);

-- Up to when runs' ends have been looked at; whoever looks has the row locked.
create table lookout (
    one      boolean primary key default true constraint lookout_is_one check (one),
    seen_at  timestamptz not null default now()
);
insert into lookout default values;

-- What is told to a bell: sent until it is taken, or given up. It stays, as the log, when the bell is gone.
create table rings (
    id          bigint generated always as identity primary key,
    bell_id     bigint references bells on delete set null,
    bell_name   text not null,
    bell_kind   text not null,
    user_name   text not null,
    kind        text not null constraint rings_kind check (kind in ('told', 'canary', 'test')),
    told        json not null,
    at          timestamptz not null default now(),
    due_at      timestamptz not null default now(),
    tries       bigint not null default 0,
    taken_at    timestamptz,
    arrived_at  timestamptz,
    given_up_at timestamptz,
    trouble     text,
    constraint rings_end_once check (taken_at is null or given_up_at is null)
);
create index rings_due on rings (due_at) where taken_at is null and given_up_at is null;
create index rings_of_bell on rings (bell_id);

-- The key that push services know this installation by, unless `serve` is given one.
create table push_key (
    one     boolean primary key default true constraint push_key_is_one check (one),
    pkcs8   bytea not null,
    made_at timestamptz not null default now()
);

-- Who is no superuser any more has no bell, whoever wrote that.
create function bells_of_superusers_only() returns trigger language plpgsql as $$
begin
    delete from bells where user_id = new.id;
    return null;
end $$;
create trigger bells_of_superusers_only after update of role, disabled_at on users
    for each row when (new.role <> 'superuser' or new.disabled_at is not null)
    execute function bells_of_superusers_only();

-- Ends in their order, and lost runs by when they were lost.
create index runs_lost on runs (lease_until) where state = 'lost';
create index runs_by_end on runs (ended_at) where ended_at is not null;

grant select, insert, update, delete on bells, happenings, rings to signalbox_web;
grant select, update on lookout to signalbox_web;
grant select, insert on push_key to signalbox_web;
