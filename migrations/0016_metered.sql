-- What a run's gate has metered: tokens as the model API counts them, and dollars by its list prices.

alter table runs
    add metered_at             timestamptz,
    add metered_calls          bigint not null default 0,
    add metered_in             bigint not null default 0,
    add metered_cache_write    bigint not null default 0,
    add metered_cache_write_1h bigint not null default 0,
    add metered_cache_read     bigint not null default 0,
    add metered_out            bigint not null default 0,
    add metered_usd            double precision constraint runs_metered_usd check (metered_usd >= 0),
    -- Something that a call took was not seen, or has no price: the figures are the least that it can be.
    add metered_partly         boolean not null default false,
    add metered_unpriced       boolean not null default false;
