//! Floors: bare actix pages over the same database, without a session, a guard or a layout.

use actix_web::{App, HttpResponse, HttpServer, web};
use askama::Template;
use sqlx::Row;
use sqlx::postgres::{PgPool, PgPoolOptions};

#[derive(Template)]
#[template(
    source = "<!doctype html><title>Runs</title><ul>{% for row in rows %}<li>{{ row.0 }} {{ row.1 }} {{ row.2 }}</li>{% endfor %}</ul>",
    ext = "html",
    config = "benches/support/askama.toml"
)]
struct List {
    rows: Vec<(i64, String, String)>,
}

/// One statement over the same index, one template.
async fn list(pool: web::Data<PgPool>) -> HttpResponse {
    let rows = sqlx::query("select id, title, state from runs order by id desc limit 51")
        .fetch_all(pool.get_ref())
        .await
        .expect("rows");
    let rows = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    HttpResponse::Ok().content_type("text/html").body(List { rows }.render().expect("renders"))
}

/// The guard's statement, as it finds somebody.
async fn ask(pool: &PgPool) {
    sqlx::query(
        "select u.id, u.name, u.role from sessions s join users u on u.id = s.user_id
         where s.token_hash = (select token_hash from sessions limit 1) and s.expires_at > now() and u.disabled_at is null",
    )
    .fetch_one(pool)
    .await
    .expect("somebody");
}

/// Bytes that our own pages gave: as they are, and behind the guard's statement.
#[derive(Clone)]
pub(crate) struct Given {
    /// A page that is nothing but guarded.
    pub(crate) nothing: web::Bytes,
    /// The runs.
    pub(crate) runs: web::Bytes,
}

fn page(bytes: &web::Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("text/html").body(bytes.clone())
}

async fn asked_nothing(pool: web::Data<PgPool>, given: web::Data<Given>) -> HttpResponse {
    ask(&pool).await;
    page(&given.nothing)
}

async fn asked_runs(pool: web::Data<PgPool>, given: web::Data<Given>) -> HttpResponse {
    ask(&pool).await;
    page(&given.runs)
}

async fn nothing(given: web::Data<Given>) -> HttpResponse {
    page(&given.nothing)
}

/// Serves them; gives their address.
pub(crate) fn serve(database_url: String, given: Given) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let pool = PgPoolOptions::new()
                .test_before_acquire(false)
                .connect(&database_url)
                .await
                .expect("connects");
            let (pool, given) = (web::Data::new(pool), web::Data::new(given));
            let app = move || {
                App::new()
                    .app_data(pool.clone())
                    .app_data(given.clone())
                    .route("/", web::get().to(list))
                    .route("/nothing", web::get().to(nothing))
                    .route("/asked/nothing", web::get().to(asked_nothing))
                    .route("/asked/runs", web::get().to(asked_runs))
            };
            HttpServer::new(app).workers(2).listen(listener).expect("listens").run().await
        })
    });
    url
}
