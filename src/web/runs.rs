//! Runs: the list, and the form that starts one.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::{Form, fresh_token};
use super::glance::Within;
use super::lamp::Lamp;
use super::page::{Frame, Place, cursor, go_to, show, show_again};
use super::show::{self, Moment};
use super::spent;
use crate::clock;
use crate::db::{self, FleetNow, Standing, Superuser};
use crate::model::agent::Agent;
use crate::model::page::{Cursor, Page};
use crate::model::run::{NewRun, Outcome, RunFilter, RunId, RunLine, State, Wish};
use crate::model::stuck::Cause;
use crate::queue::Notice;

/// The largest form, in bytes as they are sent: a prompt of 256 KiB can be three times as long when encoded.
pub(crate) const FORM_MAX: usize = 1024 * 1024;

/// The filters, in the order in which they are offered.
const FILTERS: [(RunFilter, &str); 10] = [
    (RunFilter::All, "All"),
    (RunFilter::State(State::Running), "Running"),
    (RunFilter::State(State::Queued), "Queued"),
    (RunFilter::Unconfirmed, "Unconfirmed"),
    (RunFilter::State(State::Lost), "Lost"),
    (RunFilter::Outcome(Outcome::Succeeded), "Succeeded"),
    (RunFilter::Outcome(Outcome::Failed), "Failed"),
    (RunFilter::Outcome(Outcome::Terminated), "Terminated"),
    (RunFilter::Outcome(Outcome::TimedOut), "Timed out"),
    (RunFilter::Outcome(Outcome::OverBudget), "Over budget"),
];

/// Which part of the list is asked for.
#[derive(Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    state: String,
    before: Option<String>,
    after: Option<String>,
    /// Runs are being selected.
    pick: Option<String>,
}

/// A list, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct List {
    filter: RunFilter,
    cursor: Cursor,
    pick: bool,
}

impl Asked {
    /// # Errors
    /// [`Error::Unprocessable`] when there is no such list.
    pub(crate) fn list(&self) -> Result<List> {
        let filter: RunFilter = self.state.parse().map_err(|_| {
            Error::Unprocessable(format!("Runs can’t be {:?}; there is no such filter.", self.state))
        })?;
        let cursor = cursor(self.before.as_deref(), self.after.as_deref())?;
        Ok(List { filter, cursor, pick: self.pick.is_some() })
    }
}

#[derive(Template)]
#[template(path = "runs/index.html")]
pub(crate) struct ListPage {
    frame: Frame,
    /// Where its stream is.
    stream: String,
    heading: String,
    sentence: Option<(String, String)>,
    chips: Vec<Chip>,
    filtered: bool,
    pick: bool,
    /// Where selecting begins and ends.
    pick_href: String,
    /// Where all that match can be stopped; none where all that match are over.
    all_href: Option<String>,
    rows: Vec<Row>,
    newer: Option<String>,
    older: Option<String>,
    now: Moment,
}

struct Chip {
    word: &'static str,
    href: String,
    here: bool,
}

struct Row {
    line: RunLine,
    lamp: Lamp,
    /// That it is stuck: by what, and for how long.
    stuck: Option<(Cause, String)>,
    within: Option<Within>,
    asked: Moment,
    last: Option<(&'static str, Moment)>,
    cost: Option<String>,
}

impl Row {
    fn new(mut line: RunLine, kept_waiting: Option<&str>, now: time::OffsetDateTime) -> Self {
        if let (State::Queued, Some(why)) = (line.state, kept_waiting) {
            line.note = Some(why.to_owned());
        }
        // It takes nothing but time to become stuck: that is news also where a drawing as of another time is compared.
        let today = clock::now();
        let stuck = line.stuck(today).map(|verdict| {
            line.note = Some([verdict.evidence, line.note.take().unwrap_or_default()].join(" "));
            (verdict.cause, show::minutes(Moment::new(verdict.since, today).age()))
        });
        // What it is stuck in is said by its note.
        let is_said = matches!(stuck, Some((Cause::LongCall, _)));
        let lives = line.state.is_held() && line.wish_at.is_none();
        let call = line.watch.activity.call().filter(|_| lives && !is_said);
        let last = match (line.ended_at, line.last_event_at) {
            (Some(ended), _) => Some(("ended", Moment::new(ended, now))),
            (None, Some(event)) => Some(("last word", Moment::new(event, now))),
            (None, None) => line.started_at.map(|started| ("started", Moment::new(started, now))),
        };
        Self {
            lamp: if stuck.is_some() { Lamp::STUCK } else { Lamp::of_line(&line) },
            stuck,
            within: call.map(|call| Within::in_call(call, now, show::minutes)),
            asked: Moment::new(line.asked_at, now),
            last,
            cost: line.cost.map(spent::brief),
            line,
        }
    }

    fn can_stop(&self) -> bool {
        !self.line.state.is_over() && !self.line.is_unconfirmed()
    }

    fn wish(&self) -> Wish {
        if self.line.wish_at.is_some() { Wish::Stop } else { Wish::Run }
    }
}

/// The list.
pub(crate) async fn index(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    asked: Query<Asked>,
) -> Result<HttpResponse> {
    let list = asked.list()?;
    let rows = list.rows(&site, &by).await?;
    let frame = fleet.frame(&site.db, &by, Place::Runs).await?;
    show(&list.page(frame, rows, clock::now()))
}

impl List {
    /// What is in it now.
    pub(crate) async fn rows(self, site: &Site, by: &Superuser) -> Result<Page<RunLine>> {
        Ok(site.db.runs_page(by, self.filter, self.cursor).await?)
    }

    /// The page that shows this.
    pub(crate) fn page(self, frame: Frame, rows: Page<RunLine>, now: time::OffsetDateTime) -> ListPage {
        list_page(frame, self, rows, now)
    }
}

/// A list's own address: its filter, whether runs are being selected, and what else there is.
fn list_href(filter: RunFilter, pick: bool, more: Option<String>) -> String {
    let state = filter.word().map(|word| format!("state={word}"));
    let parts: Vec<String> = [state, pick.then(|| "pick=1".to_owned()), more].into_iter().flatten().collect();
    if parts.is_empty() { "/".to_owned() } else { format!("/?{}", parts.join("&")) }
}

fn list_page(frame: Frame, list: List, page: Page<RunLine>, now: time::OffsetDateTime) -> ListPage {
    let List { filter, cursor, pick } = list;
    let link = |key: &str, id: i64| list_href(filter, pick, Some(format!("{key}={id}")));
    let kept_waiting = frame.keeps_waiting().map(|words| words.to_string());
    let at = match cursor {
        Cursor::Start => None,
        Cursor::Before(id) => Some(format!("before={id}")),
        Cursor::After(id) => Some(format!("after={id}")),
    };
    let named = FILTERS.iter().find(|(known, _)| *known == filter).map_or("Starting", |(_, word)| *word);
    let is_start = filter == RunFilter::All && cursor == Cursor::Start && !pick;
    let sentence = (is_start && !page.rows.is_empty()).then(|| sentence(&frame.notice, &frame.standing));
    ListPage {
        frame,
        stream: format!("/live/runs{}", list_href(filter, pick, at.clone()).trim_start_matches('/')),
        heading: match filter {
            RunFilter::All if pick => "Select runs to stop".to_owned(),
            RunFilter::All => "Runs".to_owned(),
            _ => format!("{named} runs"),
        },
        pick,
        pick_href: list_href(filter, !pick, at),
        all_href: filter.reach().map(|_| format!("/stops/new?state={}", filter.word().unwrap_or("all"))),
        sentence,
        chips: FILTERS
            .iter()
            .map(|(known, word)| Chip { word, href: list_href(*known, pick, None), here: *known == filter })
            .collect(),
        filtered: filter != RunFilter::All || cursor != Cursor::Start,
        newer: page.newer.map(|id| link("after", id)),
        older: page.older.map(|id| link("before", id)),
        rows: page.rows.into_iter().map(|line| Row::new(line, kept_waiting.as_deref(), now)).collect(),
        now: Moment::new(now, now),
    }
}

/// How the fleet is, in one sentence and its rest.
fn sentence(fleet: &FleetNow, standing: &Standing) -> (String, String) {
    let count = |n: i32| match usize::try_from(n) {
        Ok(n) if n < FleetNow::COUNTED as usize => show::word(n),
        _ => format!("{} or more", FleetNow::COUNTED),
    };
    let verb = |n: i32, one: &'static str, many: &'static str| if n == 1 { one } else { many };
    let first = match fleet.unconfirmed + fleet.lost + fleet.stuck {
        0 if standing.gates_closed.is_some() => "Everything is stopped.".to_owned(),
        0 if standing.held.is_some() => "Nothing starts.".to_owned(),
        0 => "Nothing needs you.".to_owned(),
        n => format!("{} {} you.", count(n), verb(n, "run needs", "runs need")),
    };
    let works = format!("{} {}", count(fleet.working), verb(fleet.working, "works", "work"));
    let waits = format!("{} {}", count(fleet.waiting), verb(fleet.waiting, "waits", "wait"));
    let rest = match (fleet.working, fleet.waiting) {
        (0, 0) => "Nothing runs.".to_owned(),
        (_, 0) => format!("{works}."),
        (0, _) => format!("{waits}."),
        _ => format!("{works}, {}.", waits.to_lowercase()),
    };
    (first, rest)
}

/// What the form is opened with.
#[derive(Deserialize)]
pub(crate) struct Opened {
    #[serde(default)]
    agent: String,
    like: Option<String>,
}

/// What a person fills in.
#[derive(Clone, Deserialize)]
pub(crate) struct Filled {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    once: String,
    #[serde(default)]
    retry_of: String,
}

#[derive(Template)]
#[template(path = "runs/new.html")]
struct FormPage<'a> {
    frame: Frame,
    agents: Vec<Agent>,
    agent: &'a str,
    prompt: &'a str,
    title: &'a str,
    once: &'a str,
    retry_of: &'a str,
    problem: Option<&'a str>,
}

/// The form that starts a run; `like` fills it with what another run was asked.
pub(crate) async fn form(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    opened: Query<Opened>,
) -> Result<HttpResponse> {
    let mut filled = Filled {
        agent: opened.agent.clone(),
        prompt: String::new(),
        title: String::new(),
        once: fresh_token()?,
        retry_of: String::new(),
    };
    if let Some(like) = &opened.like {
        let like: RunId = like.parse().map_err(|_| Error::NotFound)?;
        let run = site.db.run(&by, like).await?;
        (filled.agent, filled.prompt, filled.title) = (run.agent, run.prompt, run.title);
        filled.retry_of = like.to_string();
    }
    form_page(&by, &site, &fleet, &filled, None).await
}

async fn form_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    filled: &Filled,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let page = FormPage {
        frame: fleet.frame(&site.db, by, Place::Runs).await?,
        agents: site.db.agents(by).await?,
        agent: &filled.agent,
        prompt: &filled.prompt,
        title: &filled.title,
        once: &filled.once,
        retry_of: &filled.retry_of,
        problem,
    };
    show_again(problem, &page)
}

/// Starts a run. What can't be right comes back with everything that was typed.
pub(crate) async fn start(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    filled: Form<Filled>,
) -> Result<HttpResponse> {
    // Browsers send every newline of a textarea as CR LF (HTML standard, "constructing the entry list").
    let prompt = filled.prompt.replace("\r\n", "\n");
    let new = match NewRun::parse(&filled.agent, &prompt, &filled.title, Some(&filled.once)) {
        Ok(new) => NewRun { retry_of: filled.retry_of.parse().ok(), ..new },
        Err(wrong) => return form_page(&by, &site, &fleet, &filled, Some(&wrong.to_string())).await,
    };
    match begin(&by, &site, &fleet, &address, &new).await {
        Err(db::Error::NotFound) => {
            let problem = match filled.agent.as_str() {
                "" => "Say which agent shall do it.".to_owned(),
                name => format!("There is no agent called {name}."),
            };
            form_page(&by, &site, &fleet, &filled, Some(&problem)).await
        }
        Err(db::Error::Conflict(met)) => {
            let problem =
                format!("{met} It says something else now, which wasn’t started. Once more starts it too.");
            let again = Filled { once: fresh_token()?, ..Filled::clone(&filled) };
            form_page(&by, &site, &fleet, &again, Some(&problem)).await
        }
        begun => Ok(begun?),
    }
}

/// Starts a run, tells the workers, and goes on to its page.
pub(crate) async fn begin(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    address: &Address,
    new: &NewRun,
) -> db::Result<HttpResponse> {
    let started = site.db.start_run(by, new, Some(&address.to_string())).await?;
    fleet.forget();
    if started.fresh
        && let Err(error) = site.queue.notice(Notice::Queued(started.run)).await
    {
        tracing::debug!(%error, run = %started.run, "workers will find the run by themselves");
    }
    Ok(go_to(&format!("/runs/{}", started.run)))
}
