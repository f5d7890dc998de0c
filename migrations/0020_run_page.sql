-- What the page of a run leans on: which recipe it was made by, which runs are retries of it, how its cost grew.

-- A recipe is what a run is made of. What changes it makes a new version; a run names the one that it was claimed with.
alter table agents add version integer not null default 1;

create table recipes (
    agent_id   bigint not null references agents,
    version    integer not null,
    image      text,
    model      text,
    memory_mib bigint not null,
    milli_cpus bigint not null,
    pids       bigint not null,
    time_s     bigint not null,
    primary key (agent_id, version)
);
insert into recipes select id, version, image, model, memory_mib, milli_cpus, pids, time_s from agents;

create function agents_are_versioned() returns trigger language plpgsql as $$
begin
    new.version := old.version + 1;
    return new;
end $$;
create trigger agents_are_versioned before update on agents for each row
    when ((new.image, new.model, new.memory_mib, new.milli_cpus, new.pids, new.time_s)
          is distinct from (old.image, old.model, old.memory_mib, old.milli_cpus, old.pids, old.time_s))
    execute function agents_are_versioned();

create function agents_keep_recipes() returns trigger language plpgsql as $$
begin
    insert into recipes values (new.id, new.version, new.image, new.model, new.memory_mib, new.milli_cpus, new.pids, new.time_s)
    on conflict (agent_id, version) do nothing;
    return null;
end $$;
create trigger agents_keep_recipes after insert or update on agents for each row
    execute function agents_keep_recipes();

alter table runs
    add recipe      integer,
    -- The first event that is an error, of those that came since this column is there.
    add first_error bigint;

-- Whoever claims a run, also a worker of the version before.
create function runs_name_their_recipe() returns trigger language plpgsql as $$
begin
    new.recipe := (select version from agents where id = new.agent_id);
    return new;
end $$;
create trigger runs_name_their_recipe before update of state on runs for each row
    when (old.state = 'queued' and new.state = 'starting')
    execute function runs_name_their_recipe();

create index runs_retries on runs (retry_of, id desc) where retry_of is not null;

-- What a run had taken by then. A slot is the longer the older the run is, so that a run of days has no more than some
-- hundreds, and one of seconds has a few.
create table spent (
    run_id     bigint not null references runs,
    slot       integer not null,
    at         timestamptz not null,
    usd        double precision,
    tokens_in  bigint not null,
    tokens_out bigint not null,
    primary key (run_id, slot)
);

grant select, insert on recipes to signalbox_web;
grant select on recipes to signalbox_worker;
grant select on spent to signalbox_web;
grant select, insert, update on spent to signalbox_worker;
