//! Memory that many have used and nobody uses any more goes back to the system.

use std::hint::black_box;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often. What was freed a second before is given back.
const EVERY: Duration = Duration::from_secs(5);

/// The program's allocator looks for what it can give back when a thread ends, and hardly ever else: a server that has grown
/// quiet would keep all that its busiest hour took. So now and then a thread does nothing and ends.
pub(super) async fn go_on(shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        // Where no thread can be started, the next one does it.
        let _ =
            std::thread::Builder::new().name("memory".to_owned()).spawn(|| drop(black_box(Box::new(0_u8))));
    }
}
