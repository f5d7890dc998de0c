//! A floor: a bare actix server in a process of its own, with a page, and a stream that says to all who watch what it is told.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]
#![expect(clippy::disallowed_methods, reason = "benches are told by the environment what to do")]

use std::convert::Infallible;
use std::process::Command;

use actix_web::web::{Bytes, Data, get, post};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::stream::{self, StreamExt};
use tokio::sync::broadcast::Sender;

/// Where it listens; who has this variable is the floor.
const LISTEN: &str = "SIGNALBOX_BENCH_BARE";

/// This program, as the floor.
pub(crate) fn command(listen: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.env(LISTEN, listen);
    command
}

/// Is the floor, if this process is meant to, and never comes back then.
pub(crate) fn serve_if_meant() {
    let Ok(listen) = std::env::var(LISTEN) else { return };
    let listener = std::net::TcpListener::bind(listen).expect("a port");
    super::support::say(&format!("ready: http://{}", listener.local_addr().expect("bound")));
    let all = Data::new(Sender::<Bytes>::new(64));
    let app = move || {
        App::new()
            .app_data(all.clone())
            .route("/healthz", get().to(async || "ok"))
            .route("/live", get().to(watch))
            .route("/tell", post().to(tell))
    };
    let served = HttpServer::new(app).workers(2).listen(listener).expect("listens").run();
    actix_web::rt::System::new().block_on(served).expect("serves");
    std::process::exit(0);
}

async fn watch(all: Data<Sender<Bytes>>) -> HttpResponse {
    let first = stream::iter([Bytes::from_static(b"data: \"main\":\n\n")]);
    let rest = stream::unfold(all.subscribe(), async |mut rest| Some((rest.recv().await.ok()?, rest)));
    HttpResponse::Ok().content_type("text/event-stream").streaming(first.chain(rest).map(Ok::<_, Infallible>))
}

async fn tell(all: Data<Sender<Bytes>>, said: Bytes) -> HttpResponse {
    let _ = all.send(said);
    HttpResponse::Ok().body("told")
}
