//! What every test stands on: a server of its own, started the way production starts it, on a database of its own;
//! and three visitors with one way to ask.

use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use signalbox::bell::{Reach, Ringer};
use signalbox::config::{Keep, Origin};
use signalbox::db::{Db, MetricsToken, Role, SessionHash, Visitor};
use signalbox::queue::Queue;
use signalbox::web::{self, Site};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use url::Url;

/// The password of everybody here.
pub(crate) const PASSWORD: &str = "a quiet room with levers";

/// Its hash, with parameters that cost nothing.
pub(crate) const CHEAP_HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$kVm+zQDCKwNzbJeQah3acA$BFAhNkhPr3zTQNUU95y3+ZVqPsKkznjAWHE2BKlhMdE";

/// Its hash, with the parameters that production has.
pub(crate) const REAL_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$963zEgLsXgOkgroNncfQ6Q$3ZBYaKPKufA8P1CsjJp60NGsplH2/96m0oVH3VlhkBk";

/// A server, its database and its stores.
pub(crate) struct TestApp {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The database, with the rights of `serve`.
    pub(crate) db: Db,
    /// The database, with the rights of `work`.
    pub(crate) worker_db: Db,
    /// The queue that the server uses.
    pub(crate) queue: Queue,
    /// The fleet's name: the prefix of everything in Redis.
    pub(crate) fleet: String,
    /// The URL of the test's own database.
    pub(crate) database_url: String,
    /// Where its Redis is.
    pub(crate) redis_url: String,
    postgres: String,
    sql: PgPool,
    shutdown: CancellationToken,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

/// What a test may want otherwise.
#[derive(Default)]
pub(crate) struct Wants {
    /// Another database for the server than the test's own.
    pub(crate) database_url: Option<String>,
    /// Another Postgres to make the test's database on.
    pub(crate) postgres: Option<String>,
    /// The server's way to the test's database, when it isn't the straight one.
    pub(crate) way: Option<SocketAddr>,
    /// Another Redis.
    pub(crate) redis_url: Option<String>,
    /// A public origin; otherwise it is the loopback address.
    pub(crate) origin: Option<&'static str>,
    /// How far bells are rung.
    pub(crate) reach: Option<Reach>,
    /// Proxies whose word counts.
    pub(crate) trusted_proxies: Vec<std::net::IpAddr>,
    /// How long transcripts are kept; for ever unless it says.
    pub(crate) keep: Keep,
    /// What scraping takes; otherwise nobody can.
    pub(crate) metrics_token: Option<&'static str>,
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the stores are")]
fn variable(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// Where tests have their databases.
pub(crate) fn postgres_url() -> String {
    variable("DATABASE_URL", "postgres://postgres@127.0.0.1:5599/postgres")
}

pub(crate) fn redis_url() -> String {
    variable("REDIS_URL", "redis://127.0.0.1:6399")
}

fn url_of(server: &str, database: &str) -> String {
    let mut url: Url = server.parse().unwrap();
    url.set_path(database);
    url.into()
}

/// This URL, by way of another address.
pub(crate) fn by_way_of(url: &str, address: SocketAddr) -> String {
    let mut url: Url = url.parse().unwrap();
    url.set_host(Some(&address.ip().to_string())).unwrap();
    url.set_port(Some(address.port())).unwrap();
    url.into()
}

async fn maintenance(server: &str) -> PgConnection {
    PgConnection::connect(&url_of(server, "postgres")).await.unwrap()
}

async fn execute(connection: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.unwrap();
}

fn random() -> String {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A database with the schema and nothing in it, copied from one that is made once for each set of migrations.
async fn fresh_database(server: &str) -> String {
    let migrations = sqlx::migrate!();
    let version: String = migrations
        .iter()
        .flat_map(|migration| migration.checksum.iter().take(4))
        .fold(0_u64, |all, byte| all.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte))
        .to_string();
    let (template, database) = (format!("it_template_{version}"), format!("it_{}", random()));
    let mut connection = maintenance(server).await;
    sqlx::query("select pg_advisory_lock(7268)").execute(&mut connection).await.unwrap();
    let there = sqlx::query("select 1 from pg_database where datname = $1 and datistemplate").bind(&template);
    if there.fetch_optional(&mut connection).await.unwrap().is_none() {
        execute(&mut connection, format!("drop database if exists {template}")).await;
        execute(&mut connection, format!("create database {template}")).await;
        Db::migrate(&url_of(server, &template)).await.unwrap();
        execute(&mut connection, format!("alter database {template} is_template true")).await;
    }
    execute(&mut connection, format!("create database {database} template {template}")).await;
    database
}

impl TestApp {
    /// A server with everything it needs.
    pub(crate) async fn start() -> Self {
        Self::start_with(Wants::default()).await
    }

    /// A server with something different about it.
    pub(crate) async fn start_with(wants: Wants) -> Self {
        let postgres = wants.postgres.unwrap_or_else(postgres_url);
        let (database, fleet) = (fresh_database(&postgres).await, format!("it-{}", random()));
        let database_url = url_of(&postgres, &database);
        let straight = wants.database_url.unwrap_or_else(|| database_url.clone());
        let served_url = wants.way.map_or(straight.clone(), |way| by_way_of(&straight, way));
        let redis = wants.redis_url.unwrap_or_else(redis_url);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let site = Site {
            db: Db::new(&served_url, Role::Web, 5).unwrap(),
            queue: Queue::new(&redis, &fleet).unwrap(),
            origin: wants
                .origin
                .map_or_else(|| Origin::of_loopback(address), |it| Origin::parse(it).unwrap()),
            ringer: Ringer::new(&format!("http://{address}"), wants.reach.unwrap_or(Reach::Local), None),
            trusted_proxies: wants.trusted_proxies,
            keep: wants.keep,
            name: "it".to_owned(),
            metrics: wants.metrics_token.map(|token| MetricsToken::new(&token.into())),
        };
        let shutdown = CancellationToken::new();
        let told = shutdown.clone();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(web::serve(listener, site, told))
        });
        let app = Self {
            address,
            db: Db::new(&database_url, Role::Web, 5).unwrap(),
            worker_db: Db::new(&database_url, Role::Worker, 5).unwrap(),
            queue: Queue::new(&redis, &fleet).unwrap(),
            fleet,
            redis_url: redis,
            postgres,
            sql: PgPoolOptions::new().max_connections(3).connect_lazy(&database_url).unwrap(),
            database_url,
            shutdown,
            server: Some(server),
        };
        app.add_user("ada", "superuser", CHEAP_HASH).await;
        app.add_user("pat", "plain", CHEAP_HASH).await;
        app
    }

    /// The database as its owner, to arrange what a test needs.
    pub(crate) fn sql(&self) -> &PgPool {
        &self.sql
    }

    /// Does this in the database, as its owner.
    pub(crate) async fn sql_do(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.sql).await.unwrap();
    }

    /// Adds somebody whose password is [`PASSWORD`].
    pub(crate) async fn add_user(&self, name: &str, role: &str, hash: &str) {
        let added = sqlx::query("insert into users (name, role, password_hash) values ($1, $2, $3)");
        added.bind(name).bind(role).bind(hash).execute(&self.sql).await.unwrap();
    }

    /// Somebody who isn't signed in.
    pub(crate) fn anonymous(&self) -> Browser {
        Browser::new(self.address)
    }

    /// Pat, who is signed in and sees nothing.
    pub(crate) async fn plain(&self) -> Browser {
        self.signed_in("pat").await
    }

    /// Ada, who sees everything.
    pub(crate) async fn superuser(&self) -> Browser {
        self.signed_in("ada").await
    }

    /// Somebody who has signed in through the form.
    pub(crate) async fn signed_in(&self, name: &str) -> Browser {
        let browser = self.anonymous();
        browser.sign_in(name).await;
        browser
    }

    /// The proof that Ada is a superuser, for calls past the pages.
    pub(crate) async fn proof(&self) -> signalbox::db::Superuser {
        let id = sqlx::query_scalar("select id from users where name = 'ada'").fetch_one(&self.sql);
        let session = SessionHash([7; 32]);
        // A second proof finds the session that the first one began.
        let _ = self.db.begin_session(&session, id.await.unwrap(), time::Duration::hours(1)).await;
        match self.db.visitor(&session).await.unwrap() {
            Some(Visitor::Superuser(by)) => by,
            other => panic!("Ada is {other:?}"),
        }
    }
}

impl TestApp {
    /// Tells the server to leave, and doesn't wait.
    pub(crate) fn tell_to_leave(&self) {
        self.shutdown.cancel();
    }

    /// Ends the server; the database and the queue stay.
    pub(crate) fn stop_server(&mut self) {
        self.shutdown.cancel();
        if let Some(server) = self.server.take() {
            server.join().unwrap().unwrap();
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let (server, url, fleet) = (self.server.take(), self.database_url.clone(), self.fleet.clone());
        let postgres = self.postgres.clone();
        // A thread of its own, because the test's runtime stands still while something is dropped.
        let tidy = std::thread::spawn(move || {
            if let Some(server) = server {
                let _ = server.join();
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let database = url.rsplit('/').next().unwrap_or_default();
                let mut connection = maintenance(&postgres).await;
                execute(&mut connection, format!("drop database if exists {database} with (force)")).await;
                forget(&fleet).await;
            });
        });
        let _ = tidy.join();
    }
}

/// Takes a fleet's keys out of Redis.
async fn forget(fleet: &str) {
    let client = redis::Client::open(redis_url()).unwrap();
    let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return };
    let keys = redis::cmd("KEYS").arg(format!("{fleet}:*")).query_async::<Vec<String>>(&mut connection).await;
    for key in keys.unwrap_or_default() {
        let _ = redis::cmd("DEL").arg(key).query_async::<()>(&mut connection).await;
    }
}

/// A visitor: keeps the cookie, follows no redirect, sends what it is told byte for byte.
pub(crate) struct Browser {
    address: SocketAddr,
    cookie: Mutex<Option<String>>,
}

/// A request, as it will be sent.
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The headers, names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Request {
    /// A request with nothing but its method and target.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// With this header too; `host` and `cookie` take the place of the browser's own.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// With this form as its body.
    pub(crate) fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body = form.into_bytes();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(has, _)| has == name)
    }
}

impl Answer {
    /// The header's value, the first if there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(has, _)| has == name).map(|(_, value)| value.as_str())
    }

    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
        let mut answer = Self::head(&bytes[..end]);
        let chunked = answer.header("transfer-encoding") == Some("chunked");
        let body = if chunked { dechunked(&bytes[end + 4..]) } else { bytes[end + 4..].to_vec() };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer
    }

    /// An answer's head.
    pub(crate) fn head(bytes: &[u8]) -> Self {
        let head = String::from_utf8_lossy(bytes).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { status, headers, body: String::new() }
    }
}

fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    whole
}

impl Browser {
    /// A browser with no cookie.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, cookie: Mutex::new(None) }
    }

    /// `name=value` of its cookie.
    pub(crate) fn cookie(&self) -> Option<String> {
        self.cookie.lock().unwrap().clone()
    }

    /// Another browser with this cookie.
    pub(crate) fn with_cookie(&self, cookie: Option<String>) -> Self {
        Self { address: self.address, cookie: Mutex::new(cookie) }
    }

    /// Where it goes.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The origin of its pages.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Opens a page.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::new("GET", path)).await
    }

    /// Sends a form from one of our own pages.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(Request::new("POST", path).header("origin", &self.origin()).form(fields)).await
    }

    /// Signs in through the form.
    pub(crate) async fn sign_in(&self, name: &str) {
        let answer = self.post("/login", &[("name", name), ("password", PASSWORD)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.body);
    }

    /// Sends a request and reads the whole answer, within five seconds.
    pub(crate) async fn send(&self, request: Request) -> Answer {
        let answer = Answer::read(&self.exchange(&self.bytes(&request)).await);
        assert!(request.method != "HEAD" || answer.body.is_empty());
        self.keep_cookie(&answer);
        answer
    }

    /// Sends a request and reads the answer's head, for answers that may not end.
    pub(crate) async fn send_for_head(&self, request: Request) -> Answer {
        let whole_head = |bytes: &[u8]| bytes.windows(4).any(|four| four == b"\r\n\r\n");
        let mut answer = self.exchange_until(&self.bytes(&request), whole_head).await;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        answer.truncate(end + 4);
        let answer = Answer::read(&answer);
        self.keep_cookie(&answer);
        answer
    }

    /// A request as it goes over the wire, with this browser's cookie.
    pub(crate) fn bytes(&self, request: &Request) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", request.method, request.target);
        if !request.has("host") {
            text += &format!("host: {}\r\n", self.address);
        }
        if let Some(cookie) = self.cookie().filter(|_| !request.has("cookie")) {
            text += &format!("cookie: {cookie}\r\n");
        }
        if !request.body.is_empty() || !["GET", "HEAD"].contains(&request.method.as_str()) {
            text += &format!("content-length: {}\r\n", request.body.len());
        }
        for (name, value) in &request.headers {
            text += &format!("{name}: {value}\r\n");
        }
        [text.as_bytes(), b"\r\n", &request.body].concat()
    }

    /// Sends these bytes and reads until the server closes, within five seconds.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        self.exchange_until(bytes, |_| false).await
    }

    /// Sends these bytes and reads until the server closes or `enough` is there, within five seconds.
    pub(crate) async fn exchange_until(&self, bytes: &[u8], enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let talk = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            // A server that answers before it has read everything may close early.
            let _ = stream.write_all(bytes).await;
            let mut answer = Vec::new();
            while stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) && !enough(&answer) {}
            answer
        };
        tokio::time::timeout(Duration::from_secs(5), talk).await.expect("an answer within five seconds")
    }

    fn keep_cookie(&self, answer: &Answer) {
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let gone = cookie.contains("Max-Age=0");
            let pair = cookie.split(';').next().map(str::to_owned);
            *self.cookie.lock().unwrap() = if gone { None } else { pair };
        }
    }
}

/// An address that takes connections and never answers.
pub(crate) fn hung_server() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}
