-- no-transaction
-- Transcripts lie in partitions by run, so that old ones go by dropping a table and not row by row. Run ids only grow, so a
-- range of runs is a range of time. What was stored before becomes the first partition as it is; no row is written anew.
--
-- The table is read once, to prove that all of it lies below the first bound. Meanwhile everybody reads and writes it; the
-- exclusive locks before and after are held for moments, and not waited for longer than two seconds. Each step finds out
-- whether it is still to be done: if one fails, `signalbox migrate` goes on there.

begin;
set local lock_timeout = '2s';
do $$
declare
    bound bigint;
begin
    if (select relkind from pg_class where oid = 'events'::regclass) = 'r' then
        -- No key to runs any more. What stores an event has just changed its run's row, and no run is ever deleted; but
        -- dropping or adding a table with that key would lock all runs, leases and stops with them.
        alter table events drop constraint if exists events_run_id_fkey;
        alter table events drop constraint if exists events_bound;
        -- Runs begun while the table is read need room below it too.
        select (coalesce(max(id), 0) / 10000 + 2) * 10000 into bound from runs;
        execute format('alter table events add constraint events_bound check (run_id < %s) not valid', bound);
    end if;
end $$;
commit;

begin;
set local lock_timeout = '2s';
do $$
begin
    if (select relkind from pg_class where oid = 'events'::regclass) = 'r' then
        alter table events validate constraint events_bound;
    end if;
end $$;
commit;

begin;
set local lock_timeout = '2s';
do $$
declare
    bound bigint;
begin
    if (select relkind from pg_class where oid = 'events'::regclass) = 'r' then
        select substring(pg_get_constraintdef(oid) from 'run_id < \D*(\d+)')::bigint into strict bound
        from pg_constraint where conrelid = 'events'::regclass and conname = 'events_bound';
        alter table events rename to events_first;
        alter index events_pkey rename to events_first_pkey;
        create table events (
            run_id   bigint not null,
            seq      bigint not null,
            at       timestamptz not null,
            source   text not null constraint events_source check (source in ('stdout', 'stderr')),
            kind     text not null,
            cut      bigint not null default 0,
            payload  text not null,
            primary key (run_id, seq)
        ) partition by range (run_id);
        execute format('alter table events attach partition events_first for values from (minvalue) to (%s)', bound);
        alter table events_first drop constraint events_bound;
        -- On the whole alone: who may use it may not name a part of it, and a part made later needs no grant.
        revoke all on events_first from signalbox_web, signalbox_worker;
        grant select on events to signalbox_web;
        grant select, insert on events to signalbox_worker;
    end if;
end $$;

-- The partitions, as Postgres has them.
create view event_parts as
select c.oid, c.oid::regclass::text as name, c.reltuples::bigint as about,
       coalesce(substring(b.bound from 'FROM \(''?(\d+)')::bigint, 1) as first_run,
       substring(b.bound from 'TO \(''?(\d+)')::bigint as end_run
from pg_inherits i join pg_class c on c.oid = i.inhrelid
     cross join lateral pg_get_expr(c.relpartbound, c.oid) as b (bound)
where i.inhparent = 'events'::regclass and b.bound is not null;

-- What is kept no more. A run that lies in one of these has its row, its receipt and its numbers, and no transcript.
create table dropped_events (
    first_run bigint primary key,
    end_run   bigint not null,
    at        timestamptz not null default now(),
    bytes     bigint not null,
    kept      text not null
);

-- The two things that `serve` and `work` need done to tables. Neither owns one, so that neither can drop, alter or empty
-- what it likes; these run with the rights of the owner, do this and nothing else, and take nothing but numbers.

-- Makes partitions until three lie ready beyond the newest run; says how many it made. Attaching a table that is empty locks
-- nobody out, neither readers nor writers nor a dump.
--
-- There is no partition for what fits nowhere. Each new partition would have to lock and read it first, and what lies in it
-- would never be dropped. Instead, whoever stores events and finds no room makes some by this, and stores them then.
create function events_make_room(runs_a_part bigint default null) returns integer
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '500ms' as $$
declare
    newest bigint;
    upto   bigint;
    span   bigint;
    next   bigint;
    made   integer := 0;
begin
    perform pg_advisory_xact_lock(7268, 1);
    select coalesce(max(id), 0) into newest from runs;
    select end_run, end_run - first_run into upto, span from event_parts order by end_run desc limit 1;
    upto := coalesce(upto, 1);
    -- As large as the newest, unless somebody says.
    span := least(greatest(coalesce(runs_a_part, span, 10000), 100), 1000000);
    while upto <= newest + 3 * span loop
        -- If very much was missed, that is one partition: making hundreds would take longer than anybody waits.
        next := (case when newest - upto > 100 * span then newest else upto end / span + 1) * span;
        execute format('create table %I (like events including all)', 'events_from_' || upto);
        execute format('alter table events attach partition %I for values from (%s) to (%s)',
                       'events_from_' || upto, upto, next);
        upto := next;
        made := made + 1;
    end loop;
    return made;
end $$;

-- Drops the oldest partition that is due, and notes it; gives nothing when none is. Due is one of which every run has ended,
-- either all longer ago than `keep_days`, or all an hour ago while all partitions together are larger than `keep_bytes`.
-- One run that lives keeps its whole partition. It doesn't wait long for its lock, since others would wait behind it.
create function events_drop_due(keep_days integer, keep_bytes bigint)
returns table (first_run bigint, end_run bigint, bytes bigint, kept text)
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '300ms' as $$
declare
    newest bigint := (select max(r.id) from runs r);
    total  bigint;
    part   record;
begin
    if keep_days < 1 or keep_bytes < 1 then
        raise exception 'events are kept for a day and a byte at least' using errcode = 'invalid_parameter_value';
    end if;
    if not pg_try_advisory_xact_lock(7268, 2) then
        return;
    end if;
    if keep_bytes is not null then
        select sum(pg_total_relation_size(p.oid)) into total from event_parts p;
    end if;
    for part in select * from event_parts p where p.end_run <= newest order by p.first_run loop
        continue when exists (
            select from runs r where r.state in ('queued', 'starting', 'running', 'lost')
                                 and r.id >= part.first_run and r.id < part.end_run);
        kept := case
            when keep_days is not null and not exists (
                select from runs r where r.id >= part.first_run and r.id < part.end_run
                                     and r.ended_at > now() - make_interval(days => keep_days))
            then 'for ' || keep_days || case keep_days when 1 then ' day' else ' days' end
            when total > keep_bytes and not exists (
                select from runs r where r.id >= part.first_run and r.id < part.end_run
                                     and r.ended_at > now() - interval '1 hour')
            then 'up to ' || round(keep_bytes / 1e9, 1)::float8 || ' GB in all' end;
        continue when kept is null;
        first_run := part.first_run;
        end_run := part.end_run;
        bytes := pg_total_relation_size(part.oid);
        execute 'drop table ' || part.name;
        insert into dropped_events values (part.first_run, part.end_run, now(), bytes, kept);
        insert into audit (who, what, detail)
        values ('signalbox', 'events dropped',
                format('of runs %s to %s, %s bytes, because they are kept %s', first_run, end_run - 1, bytes, kept));
        return next;
        return;
    end loop;
end $$;

revoke all on function events_make_room, events_drop_due from public;
grant execute on function events_make_room to signalbox_web, signalbox_worker;
grant execute on function events_drop_due to signalbox_web;
grant select on event_parts, dropped_events to signalbox_web;

select events_make_room(10000);
commit;
