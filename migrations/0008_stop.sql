-- What a stop needs: how long each rung is given, the device a wish came from, what the host itself saw.

alter table agents
    add sigint_ms  bigint not null default 10000 constraint agents_sigint check (sigint_ms between 0 and 120000),
    add sigterm_ms bigint not null default 5000 constraint agents_sigterm check (sigterm_ms between 0 and 60000),
    add sigkill_ms bigint not null default 2000 constraint agents_sigkill check (sigkill_ms between 500 and 10000),
    add linger_ms  bigint not null default 30000 constraint agents_linger check (linger_ms between 1000 and 3600000);

alter table runs
    add wish_device    text,
    add wish_save      boolean not null default false,
    add delivered_to   text,
    add host_killed_at timestamptz,
    add cgroup         text constraint runs_cgroup check (cgroup in ('empty', 'gone', 'unseen'));

-- Ends that were written before nobody had looked.
update runs set cgroup = 'unseen' where state = 'ended' and container is not null;
