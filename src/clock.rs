//! The one place that asks the machine for the time of day.

use time::OffsetDateTime;

/// Now, in UTC. Everything else takes the time as an argument or lets Postgres say `now()`.
#[expect(clippy::disallowed_methods, reason = "this is the clock's one home")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
