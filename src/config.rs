//! Configuration: read once from the environment, refused with one line when it makes no sense.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

/// A configuration that makes no sense, in one line that names the variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct Error {
    variable: &'static str,
    problem: String,
}

/// Where the stores are.
#[derive(Debug, Clone)]
pub struct Stores {
    /// `DATABASE_URL`, or the contents of `DATABASE_URL_FILE`: Postgres, the truth.
    pub database_url: SecretString,
    /// `REDIS_URL`: Redis or Valkey, the nudge.
    pub redis_url: SecretString,
    /// `SIGNALBOX_FLEET`: this installation's name; prefix of Redis keys and container names, so that several can
    /// share a Redis and an engine.
    pub fleet: String,
}

/// What `serve` needs.
#[derive(Debug, Clone)]
pub struct Serve {
    /// The stores.
    pub stores: Stores,
    /// `SIGNALBOX_LISTEN`: where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `SIGNALBOX_ORIGIN`: the public origin; none means the loopback address that is listened on.
    pub origin: Option<Origin>,
    /// `SIGNALBOX_TRUSTED_PROXIES`: whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How long transcripts are kept.
    pub keep: Keep,
    /// `SIGNALBOX_METRICS_TOKEN`, or the contents of `SIGNALBOX_METRICS_TOKEN_FILE`: what scraping `/metrics` takes.
    pub metrics_token: Option<SecretString>,
    /// `SIGNALBOX_VAPID_KEY`, or the contents of `SIGNALBOX_VAPID_KEY_FILE`: the key that push services know us by; none
    /// means the one in Postgres.
    pub push_key: Option<SecretString>,
}

/// How long the events of runs that have ended are kept, and how many runs lie together. What is past it goes a partition at
/// a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// `SIGNALBOX_KEEP_EVENTS_DAYS`: how many days after their end; none means for ever.
    pub days: Option<i32>,
    /// `SIGNALBOX_KEEP_EVENTS_GB`: in bytes, how much they may take together; none means as much as there is room for.
    pub bytes: Option<i64>,
    /// `SIGNALBOX_EVENTS_PART_RUNS`: the events of how many runs lie together.
    pub part_runs: i64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: None, bytes: None, part_runs: 10_000 }
    }
}

/// Which container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Docker's API.
    Docker,
    /// Plain processes, unsandboxed.
    Process,
}

/// What `work` needs.
#[derive(Debug, Clone)]
pub struct Work {
    /// The stores.
    pub stores: Stores,
    /// `SIGNALBOX_WORKER`: this worker's name, unique in the fleet.
    pub name: String,
    /// `SIGNALBOX_CAPACITY`: how many runs at once.
    pub capacity: u16,
    /// `SIGNALBOX_WORK_DIR`: folder of its own, for gate sockets and its lock.
    pub dir: PathBuf,
    /// `SIGNALBOX_ENGINE`: which engine.
    pub engine: EngineKind,
    /// `DOCKER_HOST`: where Docker's API is; none means the usual socket.
    pub docker_host: Option<String>,
    /// `SIGNALBOX_IMAGE`: the image of agents that name none.
    pub image: String,
    /// `SIGNALBOX_CLAUDE`: the CLI's program, for the process engine.
    pub claude: String,
    /// The model API.
    pub model_api: ModelApi,
}

/// Where the model API is, and the key that only the gate ever holds.
#[derive(Debug, Clone)]
pub struct ModelApi {
    /// `ANTHROPIC_BASE_URL`.
    pub base_url: Url,
    /// `ANTHROPIC_API_KEY`, or the contents of `ANTHROPIC_API_KEY_FILE`.
    pub key: SecretString,
    /// Whether it is the scripted stand-in: any base URL on loopback is.
    pub rehearsal: bool,
}

/// A web origin: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: &'static str,
    host: String,
}

impl Origin {
    /// Reads `https://host[:port]`; plain http only for loopback.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL ({error})"))?;
        let host = url.host_str().ok_or_else(|| format!("{text:?} has no host"))?;
        if !(url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty())
        {
            return Err(format!("{text:?} is more than scheme, host and port"));
        }
        let scheme = match url.scheme() {
            "https" => "https",
            "http" if is_loopback(host) => "http",
            "http" => return Err(format!("{text:?} is plain http; only loopback may be")),
            other => return Err(format!("{other:?} is no scheme for a web page")),
        };
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { scheme, host })
    }

    /// The origin of a server that listens on loopback.
    pub fn of_loopback(address: SocketAddr) -> Self {
        Self { scheme: "http", host: address.to_string() }
    }

    /// `host[:port]`, as a `Host` header names it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is https.
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Whether its host is loopback.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host.rsplit_once(':').map_or(self.host.as_str(), |(host, _)| host))
            || is_loopback(&self.host)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The variables that are read. `deploy/env.example` explains each; a test holds the two together.
pub const VARIABLES: &[&str] = &[
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "REDIS_URL",
    "SIGNALBOX_FLEET",
    "SIGNALBOX_LISTEN",
    "SIGNALBOX_ORIGIN",
    "SIGNALBOX_TRUSTED_PROXIES",
    "SIGNALBOX_KEEP_EVENTS_DAYS",
    "SIGNALBOX_KEEP_EVENTS_GB",
    "SIGNALBOX_EVENTS_PART_RUNS",
    "SIGNALBOX_METRICS_TOKEN",
    "SIGNALBOX_METRICS_TOKEN_FILE",
    "SIGNALBOX_VAPID_KEY",
    "SIGNALBOX_VAPID_KEY_FILE",
    "SIGNALBOX_WORKER",
    "SIGNALBOX_CAPACITY",
    "SIGNALBOX_WORK_DIR",
    "SIGNALBOX_ENGINE",
    "DOCKER_HOST",
    "SIGNALBOX_IMAGE",
    "SIGNALBOX_CLAUDE",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_API_KEY_FILE",
    "ANTHROPIC_BASE_URL",
    "SIGNALBOX_LOG",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// The environment: a variable's value, if it is set and not empty.
pub struct Env<'a>(&'a dyn Fn(&str) -> Option<String>);

impl<'a> Env<'a> {
    /// An environment for tests.
    pub fn of(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(lookup)
    }

    fn get(&self, variable: &'static str) -> Option<String> {
        debug_assert!(VARIABLES.contains(&variable), "{variable} isn't listed");
        (self.0)(variable).filter(|value| !value.is_empty())
    }

    fn need(&self, variable: &'static str, example: &str) -> Result<String, Error> {
        self.get(variable)
            .ok_or_else(|| Error { variable, problem: format!("isn't set; for example {example}") })
    }

    /// A secret: the variable's value, or the contents of the file that its twin names.
    fn secret(&self, variable: &'static str, in_file: &'static str) -> Result<Option<String>, Error> {
        match (self.get(variable), self.get(in_file)) {
            (Some(_), Some(_)) => {
                Err(Error { variable, problem: format!("is set, and {in_file} too; keep one") })
            }
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(error) => {
                    Err(Error { variable: in_file, problem: format!("{path:?} can't be read ({error})") })
                }
            },
            (value, None) => Ok(value),
        }
    }

    fn parse<T>(
        &self,
        variable: &'static str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        let value = self.get(variable).unwrap_or_else(|| default.to_owned());
        parse(&value).map_err(|problem| Error { variable, problem })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the environment's one home")]
fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The environment of this process.
pub fn env() -> Env<'static> {
    Env(&process_variable)
}

/// `SIGNALBOX_LOG`: which records are logged, as `tracing` filters are written. Unless set it is `info`, without the line
/// that actix-session has for every stale cookie, or strangers could fill the log.
pub fn log_filter(env: &Env<'_>) -> String {
    env.get("SIGNALBOX_LOG").unwrap_or_else(|| "info,actix_session=error".to_owned())
}

/// `OTEL_EXPORTER_OTLP_ENDPOINT`: where traces are sent, if anywhere.
///
/// # Errors
/// When it makes no sense.
pub fn collector(env: &Env<'_>) -> Result<Option<Url>, Error> {
    let variable = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let Some(url) = env.get(variable) else { return Ok(None) };
    check_url(variable, &url, &["http", "https"])?;
    Ok(Url::parse(&url).ok())
}

impl Stores {
    /// Reads where the stores are.
    ///
    /// # Errors
    /// The first variable that is missing or makes no sense.
    pub fn from_env(env: &Env<'_>) -> Result<Self, Error> {
        Ok(Self {
            database_url: database_url(env)?,
            redis_url: {
                let variable = "REDIS_URL";
                let url = env.need(variable, "redis://127.0.0.1:6379")?;
                check_url(variable, &url, &["redis", "rediss", "unix", "redis+unix"])?;
                url.into()
            },
            fleet: fleet(env)?,
        })
    }
}

/// `DATABASE_URL`, for commands that need nothing else.
///
/// # Errors
/// When it is missing or makes no sense.
pub fn database_url(env: &Env<'_>) -> Result<SecretString, Error> {
    let variable = "DATABASE_URL";
    let url = env.secret(variable, "DATABASE_URL_FILE")?.ok_or_else(|| Error {
        variable,
        problem: "isn't set; for example postgres://user:password@127.0.0.1:5432/signalbox".into(),
    })?;
    check_url(variable, &url, &["postgres", "postgresql"])?;
    Ok(url.into())
}

/// Whether this installation is for this machine alone: `SIGNALBOX_ORIGIN` isn't set, or is loopback.
///
/// # Errors
/// When it is set and makes no sense.
pub fn is_local(env: &Env<'_>) -> Result<bool, Error> {
    match env.get("SIGNALBOX_ORIGIN") {
        Some(text) => Origin::parse(&text)
            .map(|origin| origin.is_loopback())
            .map_err(|problem| Error { variable: "SIGNALBOX_ORIGIN", problem }),
        None => Ok(true),
    }
}

impl Serve {
    /// Reads what `serve` needs.
    ///
    /// # Errors
    /// The first variable that is missing or makes no sense.
    pub fn from_env(env: &Env<'_>) -> Result<Self, Error> {
        let stores = Stores::from_env(env)?;
        let listen: SocketAddr = env.parse("SIGNALBOX_LISTEN", "127.0.0.1:8080", |text| {
            text.parse().map_err(|_| format!("{text:?} is no address; for example 127.0.0.1:8080"))
        })?;
        let origin = match env.get("SIGNALBOX_ORIGIN") {
            Some(text) => Some(
                Origin::parse(&text).map_err(|problem| Error { variable: "SIGNALBOX_ORIGIN", problem })?,
            ),
            None if listen.ip().is_loopback() => None,
            None => {
                let problem = format!(
                    "isn't set, but SIGNALBOX_LISTEN={listen} isn't loopback; for example https://signalbox.example.org"
                );
                return Err(Error { variable: "SIGNALBOX_ORIGIN", problem });
            }
        };
        let trusted_proxies = env.parse("SIGNALBOX_TRUSTED_PROXIES", "", |text| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|_| format!("{part:?} is no IP address"))).collect()
        })?;
        let (keep, metrics_token) = (Keep::from_env(env)?, metrics_token(env)?);
        let push_key = env.secret("SIGNALBOX_VAPID_KEY", "SIGNALBOX_VAPID_KEY_FILE")?.map(SecretString::from);
        Ok(Self { stores, listen, origin, trusted_proxies, keep, metrics_token, push_key })
    }
}

impl Keep {
    fn from_env(env: &Env<'_>) -> Result<Self, Error> {
        let number = |text: &str, range: std::ops::RangeInclusive<i64>| {
            let fits = text.parse().ok().filter(|n| range.contains(n));
            fits.ok_or_else(|| format!("{text:?} is no number from {} to {}", range.start(), range.end()))
        };
        let limit = |variable, most| {
            env.parse(variable, "", |text| match text {
                "" => Ok(None),
                text => number(text, 1..=most).map(Some),
            })
        };
        let days = limit("SIGNALBOX_KEEP_EVENTS_DAYS", 36_500)?;
        Ok(Self {
            days: days.and_then(|days| i32::try_from(days).ok()),
            bytes: limit("SIGNALBOX_KEEP_EVENTS_GB", 1_000_000)?.map(|gb| gb * 1_000_000_000),
            part_runs: env
                .parse("SIGNALBOX_EVENTS_PART_RUNS", "10000", |text| number(text, 100..=1_000_000))?,
        })
    }
}

/// The shortest token that can't be guessed: 32 characters, 128 bits when they are hexadecimal.
const TOKEN_MIN: usize = 32;

fn metrics_token(env: &Env<'_>) -> Result<Option<SecretString>, Error> {
    let variable = "SIGNALBOX_METRICS_TOKEN";
    let Some(token) = env.secret(variable, "SIGNALBOX_METRICS_TOKEN_FILE")? else { return Ok(None) };
    if token.len() < TOKEN_MIN || !token.bytes().all(|c| c.is_ascii_graphic()) {
        let problem = format!(
            "is shorter than {TOKEN_MIN} characters, or holds some that can't stand in a header; for example what \
             `openssl rand -hex 32` prints"
        );
        return Err(Error { variable, problem });
    }
    Ok(Some(token.into()))
}

/// What can be done on a worker's host when everything else is dead.
#[derive(Debug, Clone)]
pub struct Host {
    /// `SIGNALBOX_FLEET`.
    pub fleet: String,
    /// `SIGNALBOX_WORK_DIR`.
    pub work_dir: PathBuf,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
}

impl Host {
    /// Reads where this host's agents are.
    ///
    /// # Errors
    /// The first variable that makes no sense.
    pub fn from_env(env: &Env<'_>) -> Result<Self, Error> {
        Ok(Self { fleet: fleet(env)?, work_dir: work_dir(env)?, docker_host: env.get("DOCKER_HOST") })
    }
}

fn fleet(env: &Env<'_>) -> Result<String, Error> {
    env.parse("SIGNALBOX_FLEET", "signalbox", |name| plain_name(name, 32))
}

fn work_dir(env: &Env<'_>) -> Result<PathBuf, Error> {
    env.parse("SIGNALBOX_WORK_DIR", "/var/lib/signalbox", |text| {
        let dir = PathBuf::from(text);
        if dir.is_absolute() { Ok(dir) } else { Err(format!("{text:?} isn't an absolute path")) }
    })
}

impl Work {
    /// Reads what `work` needs; `hostname` names the worker unless it is named.
    ///
    /// # Errors
    /// The first variable that is missing or makes no sense.
    pub fn from_env(env: &Env<'_>, hostname: &str) -> Result<Self, Error> {
        let stores = Stores::from_env(env)?;
        let engine = env.parse("SIGNALBOX_ENGINE", "docker", |word| match word {
            "docker" => Ok(EngineKind::Docker),
            "process" => Ok(EngineKind::Process),
            other => Err(format!("{other:?} is neither docker nor process")),
        })?;
        if engine == EngineKind::Process && !is_local(env)? {
            let problem =
                "process runs agents unsandboxed, for a first look only; SIGNALBOX_ORIGIN isn't loopback"
                    .into();
            return Err(Error { variable: "SIGNALBOX_ENGINE", problem });
        }
        Ok(Self {
            stores,
            name: env.parse("SIGNALBOX_WORKER", hostname, |name| plain_name(name, 64))?,
            capacity: env.parse("SIGNALBOX_CAPACITY", "4", |text| {
                let fits = text.parse().ok().filter(|n| (1..=256).contains(n));
                fits.ok_or_else(|| format!("{text:?} is no number from 1 to 256"))
            })?,
            dir: work_dir(env)?,
            engine,
            docker_host: env.get("DOCKER_HOST"),
            image: env.parse("SIGNALBOX_IMAGE", "signalbox-agent:latest", |name| Ok(name.to_owned()))?,
            claude: env.parse("SIGNALBOX_CLAUDE", "claude", |path| Ok(path.to_owned()))?,
            model_api: ModelApi::from_env(env)?,
        })
    }
}

impl ModelApi {
    fn from_env(env: &Env<'_>) -> Result<Self, Error> {
        let variable = "ANTHROPIC_BASE_URL";
        let base = env.get(variable).unwrap_or_else(|| "https://api.anthropic.com".to_owned());
        let base_url = Url::parse(&base)
            .map_err(|error| Error { variable, problem: format!("{base:?} is no URL ({error})") })?;
        let rehearsal = base_url.host_str().is_some_and(is_loopback);
        if !(base_url.scheme() == "https" || (base_url.scheme() == "http" && rehearsal)) {
            return Err(Error {
                variable,
                problem: format!("{base:?} must be https; plain http only for loopback"),
            });
        }
        let key = match env.secret("ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY_FILE")? {
            Some(key) => key,
            None if rehearsal => "rehearsal".to_owned(),
            None => {
                let problem = "isn't set, nor ANTHROPIC_API_KEY_FILE".to_owned();
                return Err(Error { variable: "ANTHROPIC_API_KEY", problem });
            }
        };
        if key.is_empty() || !key.bytes().all(|c| c.is_ascii_graphic()) {
            let problem = "is empty, or holds characters that can't stand in a header".to_owned();
            return Err(Error { variable: "ANTHROPIC_API_KEY", problem });
        }
        Ok(Self { base_url, key: key.into(), rehearsal })
    }
}

fn check_url(variable: &'static str, url: &str, schemes: &[&str]) -> Result<(), Error> {
    let problem = |problem: String| Error { variable, problem };
    let parsed = Url::parse(url).map_err(|error| problem(format!("is no URL ({error})")))?;
    if !schemes.contains(&parsed.scheme()) {
        return Err(problem(format!("starts with {:?}, not {:?}", parsed.scheme(), schemes[0])));
    }
    Ok(())
}

fn plain_name(name: &str, max: usize) -> Result<String, String> {
    let good = name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    let starts = name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if good && starts && name.len() <= max {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} isn't a name: letters, digits, dot, dash, underscore, at most {max}"))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn with(pairs: &[(&str, &str)], check: impl FnOnce(&Env<'_>)) {
        let base = [("DATABASE_URL", "postgres://a@127.0.0.1/b"), ("REDIS_URL", "redis://127.0.0.1")];
        let find = |name: &str| {
            let all = pairs.iter().chain(base.iter());
            all.clone().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        check(&Env::of(&find));
    }

    fn serve_error(pairs: &[(&str, &str)]) -> String {
        let mut text = String::new();
        with(pairs, |env| text = Serve::from_env(env).map(|_| ()).map_err(|e| e.to_string()).unwrap_err());
        text
    }

    fn work_error(pairs: &[(&str, &str)]) -> String {
        let mut text = String::new();
        with(pairs, |env| {
            text = Work::from_env(env, "host").map(|_| ()).map_err(|e| e.to_string()).unwrap_err()
        });
        text
    }

    #[test]
    fn nonsense_is_told_in_one_line_that_names_the_variable() {
        for (variable, value) in [
            ("DATABASE_URL", "mysql://x"),
            ("DATABASE_URL", "nonsense"),
            ("REDIS_URL", "http://x"),
            ("SIGNALBOX_LISTEN", "8080"),
            ("SIGNALBOX_ORIGIN", "http://example.org"),
            ("SIGNALBOX_ORIGIN", "https://example.org/x"),
            ("SIGNALBOX_TRUSTED_PROXIES", "10.0.0.0/8"),
            ("SIGNALBOX_FLEET", "a b"),
            ("SIGNALBOX_KEEP_EVENTS_DAYS", "0"),
            ("SIGNALBOX_KEEP_EVENTS_GB", "lots"),
            ("SIGNALBOX_EVENTS_PART_RUNS", "1"),
        ] {
            let text = serve_error(&[(variable, value)]);
            assert!(text.starts_with(&format!("{variable}: ")) && !text.contains('\n'), "{text}");
        }
        let text = serve_error(&[("SIGNALBOX_LISTEN", "0.0.0.0:80")]);
        assert!(text.starts_with("SIGNALBOX_ORIGIN: ") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn traces_go_nowhere_unless_they_are_told_to() {
        with(&[], |env| assert_eq!(collector(env), Ok(None)));
        with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")], |env| {
            assert_eq!(collector(env).unwrap().unwrap().port(), Some(4318));
        });
        with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318")], |env| {
            assert!(collector(env).unwrap_err().to_string().starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: "));
        });
    }

    #[test]
    fn a_metrics_token_that_could_be_guessed_is_refused() {
        for short in ["Zq9", "0123456789abcdef0123456789abcde", "0123456789abcdef 0123456789abcdef"] {
            let text = serve_error(&[("SIGNALBOX_METRICS_TOKEN", short)]);
            assert!(text.starts_with("SIGNALBOX_METRICS_TOKEN: ") && !text.contains(short), "{text}");
        }
        with(&[("SIGNALBOX_METRICS_TOKEN", "0123456789abcdef0123456789abcdef")], |env| {
            assert!(Serve::from_env(env).unwrap().metrics_token.is_some());
        });
        with(&[], |env| assert!(Serve::from_env(env).unwrap().metrics_token.is_none()));
    }

    #[test]
    fn the_process_engine_is_refused_for_a_public_origin() {
        let text =
            work_error(&[("SIGNALBOX_ENGINE", "process"), ("SIGNALBOX_ORIGIN", "https://example.org")]);
        assert!(text.contains("unsandboxed"), "{text}");
    }

    #[test]
    fn a_worker_needs_a_key_unless_it_rehearses() {
        assert!(work_error(&[]).starts_with("ANTHROPIC_API_KEY"));
        assert!(work_error(&[("ANTHROPIC_BASE_URL", "http://example.org")]).contains("https"));
        with(&[("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")], |env| {
            assert!(Work::from_env(env, "host").unwrap().model_api.rehearsal);
        });
        with(&[("ANTHROPIC_API_KEY", "sk-x")], |env| {
            assert!(!Work::from_env(env, "host").unwrap().model_api.rehearsal);
        });
    }

    #[test]
    fn transcripts_are_kept_for_ever_unless_somebody_says_how_long() {
        let keep = |pairs: &[(&str, &str)]| {
            let mut keep = Keep::default();
            with(pairs, |env| keep = Serve::from_env(env).unwrap().keep);
            keep
        };
        assert_eq!(keep(&[]), Keep { days: None, bytes: None, part_runs: 10_000 });
        let said = [
            ("SIGNALBOX_KEEP_EVENTS_DAYS", "30"),
            ("SIGNALBOX_KEEP_EVENTS_GB", "50"),
            ("SIGNALBOX_EVENTS_PART_RUNS", "500"),
        ];
        assert_eq!(keep(&said), Keep { days: Some(30), bytes: Some(50_000_000_000), part_runs: 500 });
    }

    #[test]
    fn secrets_may_come_from_files() {
        let file = std::env::temp_dir().join(format!("signalbox-secret-{}", std::process::id()));
        let path = file.to_str().unwrap();
        std::fs::write(&file, "postgres://a:filed@h/b\n").unwrap();
        with(&[("DATABASE_URL", ""), ("DATABASE_URL_FILE", path)], |env| {
            assert_eq!(database_url(env).unwrap().expose_secret(), "postgres://a:filed@h/b");
        });
        assert!(serve_error(&[("DATABASE_URL_FILE", path)]).contains("keep one"));
        std::fs::remove_file(&file).unwrap();
        let gone = serve_error(&[("DATABASE_URL", ""), ("DATABASE_URL_FILE", path)]);
        assert!(gone.starts_with("DATABASE_URL_FILE: "), "{gone}");
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        with(&[("ANTHROPIC_API_KEY", "sk-secret"), ("DATABASE_URL", "postgres://a:pgsecret@h/b")], |env| {
            let text = format!("{:?}", Work::from_env(env, "host").unwrap());
            assert!(!text.contains("sk-secret") && !text.contains("pgsecret"), "{text}");
        });
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        assert_eq!(Origin::parse("https://a.example").unwrap().host(), "a.example");
        assert_eq!(Origin::parse("http://127.0.0.1:8080/").unwrap().to_string(), "http://127.0.0.1:8080");
        assert!(Origin::parse("http://localhost:1").unwrap().is_loopback());
        assert!(!Origin::parse("https://localhost.evil.example").unwrap().is_loopback());
    }
}
