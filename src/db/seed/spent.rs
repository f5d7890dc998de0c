//! Invented growth: what a run had taken by then, as its gate would have noted it.

/// The runs after $1: each has called the model as often as it says, at even intervals; of very many calls two hundred are
/// noted. A call reads all that was said before, so of what is read, and of what it costs, two thirds grow with the square of
/// the calls, and one with the calls, as what is written does. Of what falls into one slot the last stays, as a gate writes it,
/// and the last of all is what the run says that it has taken.
pub(super) const SPENT: &str = "
    insert into spent (run_id, slot, at, usd, tokens_in, tokens_out)
    with told as (
        select id, started_at, extract(epoch from metered_at - started_at)::float8 as seconds, metered_usd,
               metered_in + metered_cache_write + metered_cache_read as read, metered_out, least(metered_calls, 200) as calls
        from runs where id > $1 and started_at is not null and metered_at > started_at and metered_calls > 0),
    drawn as (
        select told.*, k, k::float8 / calls as x, seconds * k / calls as after
        from told cross join lateral generate_series(1, calls) k)
    select distinct on (id, slot) id, slot, started_at + after * interval '1 second', metered_usd * ((x + 2 * x * x) / 3),
           read * ((x + 2 * x * x) / 3), metered_out * x
    from drawn cross join lateral (select floor(2 * sqrt(after))::integer as slot) s
    order by id, slot, k desc";
