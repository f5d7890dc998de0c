-- What is over stays over, and a fence only grows, whoever writes. Writes under an old fence are refused, and counted.

alter table runs add refused bigint not null default 0;

create function runs_stay_as_they_ended() returns trigger language plpgsql as $$
begin
    raise exception 'run % is over, and its fence only grows', old.id using errcode = 'check_violation',
        constraint = 'runs_stay_as_they_ended';
end $$;
create trigger runs_stay_as_they_ended before update on runs for each row
    when ((old.state = 'ended' and (new.state <> 'ended' or new.outcome is distinct from old.outcome
                                    or new.confirmed_at is distinct from old.confirmed_at))
          or new.fence < old.fence)
    execute function runs_stay_as_they_ended();
