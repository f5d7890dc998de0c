//! Memory that many have used and nobody uses any more goes back to the system.

use std::hint::black_box;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often. What was freed a second before is given back.
const EVERY: Duration = Duration::from_secs(5);
/// Large enough to be a piece of its own.
const LARGE: usize = 16 * 1024 * 1024;

/// The program's allocator keeps what was freed until something large is; where nothing large ever is, it keeps it for good. So
/// now and then something large is taken, which costs nothing as long as it isn't written to, and freed.
pub(super) async fn go_on(shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}
