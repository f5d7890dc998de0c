-- The audit: who did what, when. It only grows.

create table audit (
    id       bigint generated always as identity primary key,
    at       timestamptz not null default now(),
    who      text not null,
    what     text not null,
    run_id   bigint,
    detail   text not null default '',
    address  text
);
create index audit_by_run on audit (run_id, id desc) where run_id is not null;

create function audit_only_grows() returns trigger language plpgsql as $$
begin
    raise exception 'the audit only grows' using errcode = 'insufficient_privilege';
end $$;
create trigger audit_only_grows before update or delete on audit
    for each row execute function audit_only_grows();
create trigger audit_is_not_emptied before truncate on audit
    for each statement execute function audit_only_grows();
