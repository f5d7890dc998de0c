-- People, and their sessions. A session's token is known only to its browser; here is its hash.

create table users (
    id            bigint generated always as identity primary key,
    name          text not null constraint users_name unique
                  constraint users_name_form check (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    role          text not null constraint users_role check (role in ('superuser', 'plain')),
    password_hash text not null,
    disabled_at   timestamptz,
    created_at    timestamptz not null default now()
);

create table sessions (
    token_hash  bytea primary key constraint sessions_hash_length check (octet_length(token_hash) = 32),
    user_id     bigint not null references users on delete cascade,
    created_at  timestamptz not null default now(),
    expires_at  timestamptz not null
);
create index sessions_user on sessions (user_id);
create index sessions_expiry on sessions (expires_at);
