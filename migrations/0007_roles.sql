-- Two roles, so that the worker can't read what it doesn't need. `serve` and `work` take theirs with
-- `set role` as they connect; in production each signs in as a login of its own that is a member of one.

do $$
begin
    create role signalbox_web nologin;
exception when duplicate_object or unique_violation then null;
end $$;
do $$
begin
    create role signalbox_worker nologin;
exception when duplicate_object or unique_violation then null;
end $$;

grant select, insert, update on users to signalbox_web;
grant select, insert, delete on sessions to signalbox_web;
grant select on agents, workers, events to signalbox_web;
grant select, insert, update on runs to signalbox_web;
grant select, insert on audit to signalbox_web;

grant select on agents to signalbox_worker;
grant select, insert, update on workers to signalbox_worker;
grant select, update on runs to signalbox_worker;
grant select, insert on events to signalbox_worker;
grant insert on audit to signalbox_worker;
