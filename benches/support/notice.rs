//! A notice through Redis to a bare listener: the floor under all that a page's stream does.

use signalbox::model::run::RunId;
use signalbox::queue::{Notice, Notices, Queue};

use super::{Sample, env, timed};

/// Both ends, of a fleet of their own: no server listens to it.
pub(crate) struct Bare {
    queue: Queue,
    notices: Notices,
    runtime: tokio::runtime::Runtime,
}

impl Bare {
    pub(crate) fn new() -> Self {
        let queue = Queue::new(&env("REDIS_URL"), "bare").expect("a URL");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
        let notices = runtime.block_on(queue.notices()).expect("listens");
        Self { queue, notices, runtime }
    }

    /// Milliseconds until a notice has come, the median of a few: the first one after a silence wakes everybody.
    pub(crate) fn ms(&mut self) -> f64 {
        let mut one = || {
            timed(|| {
                self.runtime.block_on(async {
                    self.queue.notice(Notice::Changed(RunId(1))).await.expect("tells");
                    self.notices.next().await.expect("hears")
                })
            })
        };
        Sample((0..9).map(|_| one().0).collect()).median()
    }
}
