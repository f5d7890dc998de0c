-- The views of the runs: what each filter walks along, and the words that a search finds.

alter table runs
    -- What the CLI said in the end, its first words.
    add result    text constraint runs_result_length check (char_length(result) <= 2000),
    -- How dear it is, in powers of ten dollars. It changes seldom, where the figures that it rests on change all the time.
    add cost_tier smallint generated always as (case
        when coalesce(cost_usd, metered_usd) >= 100 then 3
        when coalesce(cost_usd, metered_usd) >= 10 then 2
        when coalesce(cost_usd, metered_usd) >= 1 then 1
        else 0 end) stored;

create index runs_by_agent on runs (agent_id, id desc);
create index runs_by_worker on runs (worker, id desc);
create index runs_by_who on runs (asked_by_name, id desc);
create index runs_by_time on runs (asked_at);
create index runs_over_1 on runs (id desc) where cost_tier >= 1;
create index runs_over_10 on runs (id desc) where cost_tier >= 2;
create index runs_over_100 on runs (id desc) where cost_tier >= 3;
create index runs_living on runs (id desc) where state in ('queued', 'starting', 'running');
create index runs_gone_wrong on runs (ended_at) where outcome in ('failed', 'over_budget');

-- The words of each run: of its title, the beginning of its prompt, its result and why it ended so. In a table of their own, so
-- that what changes all the time in a run doesn't drag them along.
--
-- '#N' stands for the N-th 16,384 runs. A search asks for one such stretch after the other, the newest first, so that a word that
-- is everywhere costs no more than its stretch.
create table run_words (
    run_id bigint primary key,
    words  tsvector not null
);
-- Words are what stands between blanks and signs, and the parts of camelCase besides. `model::search` splits what is searched for
-- in the same way.
create function words_of(text text) returns tsvector language sql immutable parallel safe as $$
    select to_tsvector('simple', plain)
        || case when plain ~ '[[:lower:][:digit:]][[:upper:]]'
                then strip(to_tsvector('simple',
                         regexp_replace(plain, '([[:lower:][:digit:]])([[:upper:]])', '\1 \2', 'g')))
                else '' end
    from translate(text, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32)) plain
$$;

-- A prompt may be long; what is searched is its first 20,000 characters.
create function words_of_run(id bigint, title text, prompt text, result text, reason text) returns tsvector
    language sql immutable parallel safe as $$
    select array_to_tsvector(array['#' || (id >> 14)])
        || words_of(concat_ws(' ', title, left(prompt, 20000), result, reason))
$$;

-- Whoever writes a run has its words kept, and needs no right to them.
create function runs_keep_words() returns trigger language plpgsql security definer set search_path from current as $$
begin
    insert into run_words (run_id, words)
    values (new.id, words_of_run(new.id, new.title, new.prompt, new.result, new.reason))
    on conflict (run_id) do update set words = excluded.words;
    return null;
end $$;
create trigger runs_keep_words after insert on runs for each row execute function runs_keep_words();
create trigger runs_keep_words_anew after update of title, prompt, result, reason on runs for each row
    when ((new.title, new.result, new.reason) is distinct from (old.title, old.result, old.reason)
          or new.prompt is distinct from old.prompt)
    execute function runs_keep_words();

insert into run_words (run_id, words) select id, words_of_run(id, title, prompt, result, reason) from runs;
-- Without a list of what is pending, which each search would have to go through.
create index run_words_words on run_words using gin (words) with (fastupdate = off);

-- A stop of all that match goes by these too.
alter table stops
    add agent  text,
    add worker text,
    add who    text;

grant select on run_words to signalbox_web;
