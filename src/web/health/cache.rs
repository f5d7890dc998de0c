//! The health as it was seen last. Whoever asks within a few seconds gets the same; those who ask while somebody looks wait
//! for that look.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::Data;

use super::history::Day;
use super::{Seen, look};
use crate::db::Superuser;
use crate::web::Site;
use crate::web::error::{Error, Result};
use crate::web::own::Own;

/// How old it may be.
const FRESH_FOR: Duration = Duration::from_secs(3);

/// What is remembered between two looks.
pub(crate) struct Health {
    site: Data<Site>,
    own: Data<Own>,
    known: Mutex<Option<(Instant, Arc<Seen>)>>,
    /// Whoever looks holds it.
    day: Arc<tokio::sync::Mutex<Day>>,
}

impl Health {
    pub(crate) fn new(site: &Data<Site>, own: &Data<Own>) -> Self {
        Self { site: site.clone(), own: own.clone(), known: Mutex::default(), day: Arc::default() }
    }

    fn known(&self) -> Option<Arc<Seen>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(at, _)| at.elapsed() < FRESH_FOR).map(|(_, seen)| Arc::clone(seen))
    }

    /// What was seen a moment ago, or is now. A look goes on when whoever asked for it has left.
    pub(crate) async fn seen(self: &Arc<Self>, by: &Superuser) -> Result<Arc<Seen>> {
        if let Some(seen) = self.known() {
            return Ok(seen);
        }
        let (this, by) = (Arc::clone(self), by.clone());
        let looked = tokio::spawn(async move {
            let mut day = Arc::clone(&this.day).lock_owned().await;
            if let Some(seen) = this.known() {
                return seen;
            }
            let asked = Instant::now();
            let seen = Arc::new(look(&this.site, &this.own, &by, &mut day).await);
            *this.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, Arc::clone(&seen)));
            seen
        });
        looked.await.map_err(|error| Error::Internal(error.into()))
    }
}
