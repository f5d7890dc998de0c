//! The server: from a bound socket to its shutdown.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer};
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::fleet::Fleet;
use super::health::Health;
use super::live::Hub;
use super::origin::{self, Ours};
use super::own::Own;
use super::runs::Drawings;
use super::throttle::Throttle;
use super::{Site, headers, memory, retention, ringing, routes, spread};
use crate::password::Passwords;
use crate::queue::Notice;

/// How long a request may take to send its head.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How many bytes of an answer wait to be written before more of it is asked for. A connection keeps room for as many as
/// ever waited: streams whose reader is slow for a moment would keep eight times as much by default.
const GATHERED: usize = 4096;

/// How many seconds open requests are given at shutdown.
const GRACE_S: u64 = 5;

/// How often leases that have lapsed are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the threads of one server share, and the handlers ask for by its type.
#[derive(Clone)]
pub struct Shared {
    pub(crate) site: Data<Site>,
    ours: Data<Ours>,
    fleet: Data<Fleet>,
    drawings: Data<Drawings>,
    counts: Data<Counts>,
    own: Data<Own>,
    health: Data<Health>,
    throttle: Data<Throttle>,
    passwords: Data<Passwords>,
    hub: Data<Hub>,
}

impl Shared {
    /// For a server that listens there.
    pub fn new(site: Site, listens: SocketAddr) -> Self {
        let (site, fleet, ours) =
            (Data::new(site.clone()), Data::default(), Ours::new(&site.origin, listens));
        let counts = Data::<Counts>::default();
        let own = Data::new(Own::new(&counts));
        let health = Data::new(Health::new(&site, &own));
        Self {
            hub: Data::new(Hub::new(&site, &fleet, &health)),
            counts,
            own,
            health,
            ours: Data::new(ours),
            site,
            fleet,
            drawings: Data::default(),
            throttle: Data::default(),
            passwords: Data::default(),
        }
    }

    /// Hands it to the handlers.
    pub(crate) fn hand_out(&self, app: &mut ServiceConfig) {
        app.app_data(self.site.clone())
            .app_data(self.ours.clone())
            .app_data(self.fleet.clone())
            .app_data(self.drawings.clone())
            .app_data(self.counts.clone())
            .app_data(self.own.clone())
            .app_data(self.health.clone())
            .app_data(self.throttle.clone())
            .app_data(self.passwords.clone())
            .app_data(self.hub.clone());
    }
}

/// Serves the pages on a socket that the caller has bound, until `shutdown`.
///
/// # Errors
/// When the server can't start.
pub async fn serve(listener: TcpListener, site: Site, shutdown: CancellationToken) -> std::io::Result<()> {
    let shared = Shared::new(site.clone(), listener.local_addr()?);
    let (hub, own) = (shared.hub.clone(), shared.own.clone());
    let server = HttpServer::new(move || {
        App::new()
            .configure(routes(&shared))
            .wrap(from_fn(origin::require_known_host))
            .wrap(from_fn(headers::outermost))
    })
    .workers(2)
    .client_request_timeout(HEAD_WITHIN)
    .h1_write_buffer_size(GATHERED)
    .shutdown_timeout(GRACE_S)
    .disable_signals()
    .listen(listener)?
    .run();

    let handle = server.handle();
    let stop = async {
        shutdown.cancelled().await;
        handle.stop(true).await;
    };
    // Together they are large: on the heap once, else on the stack of whoever hands them on, several times over.
    let (served, ..) = tokio::join!(
        server,
        stop,
        Box::pin(lose_lapsed(&site, &shutdown)),
        Box::pin(spread::go_on(&site, &shutdown)),
        Box::pin(retention::go_on(&site, &shutdown)),
        Box::pin(own.go_on(&site, &shutdown)),
        Box::pin(ringing::go_on(&site, &shutdown)),
        Box::pin(hub.into_inner().go_on(&shutdown)),
        memory::go_on(&shutdown)
    );
    served
}

/// Says that the server is there, and nothing else.
pub(crate) async fn alive() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok")
}

/// Finds runs whose worker fell silent, also when no other worker is left to notice.
async fn lose_lapsed(site: &Site, shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match site.db.lose_lapsed().await {
            Ok(lost) => {
                for run in lost {
                    tracing::warn!(%run, "run lost");
                    // The page finds out by itself, only later.
                    let _ = site.queue.notice(Notice::Changed(run)).await;
                }
            }
            Err(error) => tracing::debug!(%error, "lapsed leases can't be looked for"),
        }
    }
}
