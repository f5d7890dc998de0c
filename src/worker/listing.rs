//! What the engine lists, shared by all who ask at the same time: a worker that comes back to a hundred runs asks once.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::engine::{Engine, Found, Result};

type Answer = Result<Arc<[Found]>>;

/// The last listing, and when it was asked for.
#[derive(Default)]
pub(super) struct Listing(Mutex<Option<(Instant, Answer)>>);

impl Listing {
    /// What the engine lists, asked for no earlier than `since`; also its failure to answer is shared.
    pub(super) async fn since(&self, since: Instant, engine: &dyn Engine) -> Answer {
        let mut last = self.0.lock().await;
        if let Some((asked, answer)) = &*last
            && *asked >= since
        {
            return answer.clone();
        }
        let asked = Instant::now();
        let answer = engine.list().await.map(Arc::from);
        *last = Some((asked, answer.clone()));
        answer
    }
}
