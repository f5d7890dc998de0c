//! The pages.
//!
//! A request passes, from the outside in: the headers and the log ([`headers`]), the known hosts ([`origin`]), the
//! routes below. What isn't public, or the way out, lies in one scope behind [`guard::require_superuser`], which asks who it is, may
//! they, and does it come from our own page, before the body is read and before routing tells anything.

mod account;
mod address;
mod again;
mod agents;
mod assets;
mod audit;
mod bell;
mod bells;
mod clip;
mod counts;
mod curve;
mod device;
mod diff;
mod download;
mod error;
mod filter;
mod find;
mod fleet;
mod form;
mod found;
mod glance;
mod guard;
mod handle;
mod headers;
mod health;
mod hold;
mod inert;
mod kept;
mod ladder;
mod lamp;
mod leave;
mod listing;
mod live;
mod login;
mod markup;
mod measure;
mod memory;
mod metrics;
mod origin;
mod own;
mod page;
mod part;
mod patience;
mod pick;
mod receipt;
mod refusal;
mod retention;
mod ringing;
mod row;
mod run;
mod runs;
mod server;
mod session;
mod show;
mod spent;
mod spread;
mod stop;
mod stops;
mod terminate;
mod throttle;
mod tint;
mod transcript;
mod turns;
mod work;
mod workers;

use std::net::IpAddr;

use actix_web::guard::{Any, Get, Guard, Head, Post};
use actix_web::middleware::from_fn;
use actix_web::web::{ServiceConfig, get, post, resource, scope, to};

use crate::bell::Ringer;
use crate::config::{Keep, Origin};
use crate::db::{Db, MetricsToken};
use crate::queue::Queue;

pub use server::{Shared, serve};

/// What the pages need from outside.
#[derive(Clone)]
pub struct Site {
    /// The truth.
    pub db: Db,
    /// The nudge.
    pub queue: Queue,
    /// The public origin.
    pub origin: Origin,
    /// Who rings bells.
    pub ringer: Ringer,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How long transcripts are kept.
    pub keep: Keep,
    /// This server's name, for its own samples.
    pub name: String,
    /// What scraping takes; without it nobody can.
    pub metrics: Option<MetricsToken>,
}

/// Every route there is.
pub fn routes(shared: &Shared) -> impl FnOnce(&mut ServiceConfig) {
    let shared = shared.clone();
    move |app| {
        shared.hand_out(app);
        let sessions = || session::middleware(&shared.site);

        // public(): a method or a file that isn't named here is not found here, and so falls to the guarded scope.
        app.service(resource("/healthz").guard(read()).to(server::alive))
            .service(resource("/manifest.webmanifest").guard(read()).to(assets::manifest))
            .service(resource("/static/{version}/{file}").guard(read()).guard(assets::Known).to(assets::file))
            .service(resource("/login").guard(read()).to(login::form))
            .service(
                resource("/login")
                    .guard(Post())
                    .app_data(form::limit(login::FORM_MAX))
                    .wrap(sessions())
                    .wrap(from_fn(origin::require_ours))
                    .to(login::sign_in),
            );

        // metrics(): for whoever shows the token, and who needs no session then. For everybody else there is no such page, as
        // with any other that isn't there.
        app.service(
            resource("/metrics")
                .guard(Get())
                .guard(metrics::Shown(shared.site.metrics.clone()))
                .to(metrics::show),
        );

        // signed_in(): whoever is, may leave.
        app.service(
            resource("/logout")
                .guard(Post())
                .wrap(from_fn(guard::require_signed_in))
                .wrap(sessions())
                .to(login::sign_out),
        );

        // superuser(): everything else, also what doesn't exist. Only targets without a slash in front (`OPTIONS *`) get
        // past the scope; whatever they ask for, nobody is proven to be a superuser there.
        app.default_service(to(page::nothing_here)).service(
            scope("")
                .service(resource("/").route(get().to(runs::index)))
                .service(
                    resource("/runs").app_data(form::limit(runs::FORM_MAX)).route(post().to(runs::start)),
                )
                .service(resource("/runs/new").route(get().to(runs::form)))
                .service(resource("/runs/{id}").route(get().to(run::show)))
                .service(
                    resource("/runs/{id}/terminate")
                        .route(get().to(terminate::confirm))
                        .route(post().to(terminate::terminate)),
                )
                .service(resource("/runs/{id}/find").route(get().to(find::find)))
                .service(resource("/runs/{id}/events/{seq}").route(get().to(download::event)))
                .service(resource("/runs/{id}/transcript.jsonl").route(get().to(download::transcript)))
                .service(
                    resource("/runs/{id}/again").route(get().to(again::ask)).route(post().to(again::start)),
                )
                .service(resource("/runs/{id}/work.patch").route(get().to(work::patch)))
                .service(
                    resource("/stops")
                        .app_data(form::limit(stops::FORM_MAX))
                        .route(get().to(stops::index))
                        .route(post().to(stops::wish)),
                )
                .service(resource("/stops/new").route(get().to(pick::confirm)))
                .service(resource("/stops/{id}").route(get().to(stop::show)))
                .service(resource("/handle").route(get().to(handle::ask)).route(post().to(handle::pull)))
                .service(resource("/handle/leave").route(get().to(leave::show)))
                .service(resource("/handle/gates").route(post().to(leave::open_gates)))
                .service(resource("/handle/queue").route(post().to(leave::release)))
                .service(resource("/hold").route(get().to(hold::ask)).route(post().to(hold::hold)))
                .service(resource("/hold/release").route(post().to(hold::release)))
                .service(resource("/workers").route(get().to(workers::index)))
                .service(resource("/found").route(get().to(found::index)))
                .service(resource("/found/{id}").route(post().to(found::clear)))
                .service(resource("/workers/{name}/drain").route(post().to(hold::drain)))
                .service(resource("/workers/{name}/undrain").route(post().to(hold::undrain)))
                .service(resource("/health").route(get().to(health::index)))
                .service(resource("/kept").route(get().to(kept::index)))
                .service(resource("/agents").route(get().to(agents::index)))
                .service(
                    resource("/agents/{name}/ladder")
                        .route(get().to(ladder::form))
                        .route(post().to(ladder::keep)),
                )
                .service(resource("/live/runs").route(get().to(live::runs)))
                .service(resource("/live/runs/{id}").route(get().to(live::run)))
                .service(resource("/live/stops/{id}").route(get().to(live::stop)))
                .service(resource("/live/handle/leave").route(get().to(live::leave)))
                .service(resource("/live/workers").route(get().to(live::workers)))
                .service(resource("/live/health").route(get().to(live::health)))
                .service(
                    resource("/agents/{name}/patience")
                        .route(get().to(patience::form))
                        .route(post().to(patience::keep)),
                )
                .service(resource("/audit").route(get().to(audit::index)))
                .service(resource("/account").route(get().to(account::index)))
                .service(resource("/account/password").route(post().to(account::change_password)))
                .service(resource("/account/sessions").route(post().to(account::end_sessions)))
                .service(
                    resource("/account/bells").route(get().to(bells::index)).route(post().to(bells::add)),
                )
                .service(resource("/account/bells/rings").route(get().to(bells::rings)))
                .service(resource("/account/bells/device").route(post().to(bell::add_device)))
                .service(resource("/account/bells/device/renew").route(post().to(bell::renew_device)))
                .service(resource("/account/bells/arrived").route(post().to(bell::arrived)))
                .service(resource("/account/bells/{id}").route(post().to(bell::change)))
                .service(resource("/account/bells/{id}/test").route(post().to(bell::test)))
                .service(resource("/account/bells/{id}/remove").route(post().to(bell::remove)))
                .default_service(to(page::nothing_here))
                .wrap(from_fn(guard::require_superuser))
                .wrap(sessions()),
        );
    }
}

fn read() -> impl Guard {
    Any(Get()).or(Head())
}
