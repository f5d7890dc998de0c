-- Each wish to stop a run is kept for ever. The run's own columns hold the one that holds now; those that a heavier one took
-- the place of are here, each with who took it and when.

-- How heavily a wish weighs: one that follows another is the heavier. `model::wish::Weight` says the same.
create function wish_weight(mode text, save boolean) returns smallint language sql immutable as $$
    select (case when mode = 'graceful' then 0 when mode = 'force' and save then 1 when mode = 'force' then 2 end)::smallint
$$;

create table earlier_wishes (
    run_id       bigint not null references runs,
    at           timestamptz not null,
    mode         text not null constraint earlier_wishes_mode check (mode in ('graceful', 'force')),
    by_name      text not null,
    reason       text,
    device       text,
    save         boolean not null,
    delivered_at timestamptz,
    delivered_to text,
    primary key (run_id, at)
);

-- Whoever writes a heavier wish, also a `serve` of the version before: what stood there is kept, and the new one hasn't been
-- delivered to anybody yet.
create function runs_keep_earlier_wishes() returns trigger language plpgsql as $$
begin
    insert into earlier_wishes (run_id, at, mode, by_name, reason, device, save, delivered_at, delivered_to)
    values (old.id, old.wish_at, old.wish_mode, old.wish_by_name, old.wish_reason, old.wish_device, old.wish_save,
            old.delivered_at, old.delivered_to);
    new.delivered_at := null;
    new.delivered_to := null;
    return new;
end $$;
create trigger runs_keep_earlier_wishes before update on runs for each row
    when (old.wish = 'stop'
          and (new.wish_mode, new.wish_save) is distinct from (old.wish_mode, old.wish_save))
    execute function runs_keep_earlier_wishes();

grant select, insert on earlier_wishes to signalbox_web;
-- A worker says what it took; who wished it is no business of its own.
grant select (run_id, mode, save, delivered_at), update (delivered_at, delivered_to) on earlier_wishes to signalbox_worker;

-- A hold that stood before the red handle was pulled isn't the handle's to release.
alter table fleet add hold_stood boolean not null default false;
alter table stops add hold_kept boolean not null default false;
