-- What a run cost is the larger of what its CLI says and what its gate saw: an agent could write the CLI's word, and make itself
-- cheap with it.

alter table runs drop column cost_tier;
alter table runs
    add cost_tier smallint generated always as (case
        when greatest(cost_usd, metered_usd) >= 100 then 3
        when greatest(cost_usd, metered_usd) >= 10 then 2
        when greatest(cost_usd, metered_usd) >= 1 then 1
        else 0 end) stored;

create index runs_over_1 on runs (id desc) where cost_tier >= 1;
create index runs_over_10 on runs (id desc) where cost_tier >= 2;
create index runs_over_100 on runs (id desc) where cost_tier >= 3;
