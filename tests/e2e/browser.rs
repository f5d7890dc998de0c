//! The superuser's browser: signs in, opens pages, sends forms, reads what a run's page says.

use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use tokio::time::{Instant, sleep};

/// How long a store may be out of reach on a machine with too much to do.
const STORES_BACK_WITHIN: Duration = Duration::from_secs(10);

/// Keeps the cookie, follows no redirect.
pub(crate) struct Browser {
    client: reqwest::Client,
    origin: String,
    cookie: Mutex<Option<String>>,
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

impl Browser {
    pub(crate) fn new(origin: &str) -> Self {
        // Asked for even where nothing is encrypted. An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Self { client, origin: origin.to_owned(), cookie: Mutex::new(None) }
    }

    /// Opens a page.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    /// Opens a page, if anybody answers.
    pub(crate) async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        self.send(self.client.get(self.url(path))).await
    }

    /// Opens a page that must be there. One that has to do without a store for a moment is asked for again, as a person
    /// would.
    pub(crate) async fn page(&self, path: &str) -> String {
        let deadline = Instant::now() + STORES_BACK_WITHIN;
        loop {
            let answer = self.get(path).await;
            match answer.status {
                200 => return answer.body,
                503 if Instant::now() < deadline => sleep(Duration::from_millis(100)).await,
                status => panic!("{path}: {status} {:?} {}", answer.location, answer.body),
            }
        }
    }

    /// Sends a form from one of our own pages.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.try_post(path, fields).await.unwrap()
    }

    /// Sends a form, if anybody answers.
    pub(crate) async fn try_post(&self, path: &str, fields: &[(&str, &str)]) -> reqwest::Result<Answer> {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.client.post(self.url(path)).header(ORIGIN, &self.origin);
        self.send(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)).await
    }

    /// Signs in through the form.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) {
        let answer = self.post("/login", &[("name", name), ("password", password)]).await;
        assert_eq!((answer.status, answer.location.as_deref()), (303, Some("/")), "{}", answer.body);
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let cookie = self.cookie.lock().unwrap().clone();
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        let answer = request.send().await?;
        self.keep_cookie(answer.headers());
        let location = answer.headers().get(LOCATION).map(|value| value.to_str().unwrap().to_owned());
        Ok(Answer { status: answer.status().as_u16(), location, body: answer.text().await? })
    }

    fn keep_cookie(&self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
            *self.cookie.lock().unwrap() = pair;
        }
    }
}

/// A run's page, as a script reads it.
pub(crate) struct RunPage {
    pub(crate) body: String,
}

impl RunPage {
    /// `data-NAME` of its `<main>`.
    pub(crate) fn data(&self, name: &str) -> &str {
        let main = self.body.split_once("<main ").and_then(|(_, rest)| rest.split_once('>')).unwrap().0;
        let from = main.split_once(&format!("data-{name}=\"")).unwrap_or_else(|| panic!("{name}: {main}")).1;
        from.split_once('"').unwrap().0
    }

    pub(crate) fn is(&self, state: &str) -> bool {
        self.data("state") == state
    }

    pub(crate) fn outcome(&self) -> &str {
        self.data("outcome")
    }

    /// A stop is wished, and nothing proves it yet.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        (self.data("wish"), self.data("confirmed"), self.outcome()) == ("stop", "", "")
    }
}
