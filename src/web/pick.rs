//! The question before many runs are stopped: which, exactly, and how many.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use url::form_urlencoded;

use super::Site;
use super::error::{Error, Result};
use super::filter;
use super::fleet::Fleet;
use super::form::{Why, fresh_token};
use super::lamp::Lamp;
use super::page::{Frame, Place, show_again};
use super::show;
use super::spent;
use super::stops::every;
use super::terminate::REASONS;
use crate::db::{Matches, Superuser};
use crate::model::filter::Filter;
use crate::model::metered::Spent;
use crate::model::run::{RunFilter, RunId, RunLine, State};
use crate::model::stop::{Matching, Target};

/// What is asked about.
pub(crate) enum Asked {
    Selected(Vec<RunId>),
    Filter(Matching),
}

#[derive(Template)]
#[template(path = "stops/new.html")]
struct ConfirmPage<'a> {
    frame: Frame,
    heading: String,
    /// Which runs, exactly.
    which: String,
    count: i64,
    parts: Vec<String>,
    rows: Vec<(Lamp, RunLine)>,
    /// Whether a graceful stop can still do something.
    graceful: bool,
    runs: String,
    /// What goes by a filter, field by field.
    filter: Vec<(&'static str, String)>,
    upto: RunId,
    back: String,
    once: String,
    why: &'a Why,
    problem: Option<&'a str>,
}

/// The question before many are stopped: `run=1&run=2`, or `state=WORD` for all that match.
pub(crate) async fn confirm(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let mut runs = Vec::new();
    let (mut filter, mut names) = (None, [const { String::new() }; 3]);
    for (key, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
        match &*key {
            "run" => runs.push(value.into_owned()),
            "state" => filter = Some(value.into_owned()),
            "agent" => names[0] = value.into_owned(),
            "worker" => names[1] = value.into_owned(),
            "who" => names[2] = value.into_owned(),
            key if filter::Asked::NARROWS.contains(&key) && !value.is_empty() => return Err(narrowed()),
            _ => {}
        }
    }
    let asked = match (filter, &*runs) {
        (_, [_, ..]) => Asked::Selected(selected(runs.iter().map(String::as_str))?),
        (Some(word), []) => {
            let [agent, worker, who] = &names;
            Asked::Filter(matching([&word, agent, worker, who])?)
        }
        (None, []) => return Err(nothing_selected()),
    };
    let page = Question { by: &by, site: &site, fleet: &fleet, asked, why: &Why::default(), problem: None };
    page.show().await
}

/// More would be stopped than the list showed.
fn narrowed() -> Error {
    Error::Unprocessable(
        "Runs can’t all be stopped by words, time or cost, since what matches changes meanwhile; select them one by one."
            .to_owned(),
    )
}

fn nothing_selected() -> Error {
    Error::Unprocessable("No run is selected.".to_owned())
}

/// The runs that match these.
pub(crate) fn matching([state, agent, worker, who]: [&str; 4]) -> Result<Matching> {
    let asked = filter::Asked {
        state: state.to_owned(),
        agent: agent.to_owned(),
        worker: worker.to_owned(),
        who: who.to_owned(),
        ..filter::Asked::default()
    };
    Ok(asked.parse().map_err(Error::Unprocessable)?.matching)
}

/// The runs that were selected, each once.
pub(crate) fn selected<'a>(runs: impl Iterator<Item = &'a str>) -> Result<Vec<RunId>> {
    let mut ids = Vec::new();
    for run in runs {
        let id = run.parse().ok().filter(|id: &RunId| id.0 > 0);
        ids.push(id.ok_or_else(|| Error::Unprocessable(format!("{run:?} is no run.")))?);
    }
    ids.sort_unstable();
    ids.dedup();
    match ids.len() {
        0 => Err(nothing_selected()),
        n if n > Target::SELECTED_MAX => Err(Error::Unprocessable(format!(
            "{n} runs are selected; {} is the most. Stop all that match a filter instead.",
            Target::SELECTED_MAX
        ))),
        _ => Ok(ids),
    }
}

/// A question, and everything needed to put it.
pub(crate) struct Question<'a> {
    pub(crate) by: &'a Superuser,
    pub(crate) site: &'a Site,
    pub(crate) fleet: &'a Fleet,
    pub(crate) asked: Asked,
    pub(crate) why: &'a Why,
    pub(crate) problem: Option<&'a str>,
}

impl Question<'_> {
    pub(crate) async fn show(self) -> Result<HttpResponse> {
        let page = match &self.asked {
            Asked::Selected(ids) => self.about_selected(ids).await?,
            Asked::Filter(matching) => self.about_filter(matching).await?,
        };
        show_again(self.problem, &page)
    }

    async fn about_selected(&self, ids: &[RunId]) -> Result<ConfirmPage<'_>> {
        let mut lines = self.site.db.runs_of(self.by, ids).await?;
        let over = lines.len();
        lines.retain(|line| !line.state.is_over());
        let over = over - lines.len();
        let which = match (lines.len(), over) {
            (_, 0) => "Those you selected:".to_owned(),
            (_, 1) => "Those you selected; one of them is over already:".to_owned(),
            (_, n) => format!("Those you selected; {n} of them are over already:"),
        };
        let count = lines.len() as i64;
        let graceful = lines.iter().any(|line| line.wish_at.is_none());
        let ids: Vec<String> = lines.iter().map(|line| line.id.to_string()).collect();
        Ok(ConfirmPage {
            frame: self.fleet.frame(&self.site.db, self.by, Place::Runs).await?,
            heading: question(count),
            which,
            count,
            parts: spent::of_many(&sum(&lines)).into_iter().collect(),
            rows: lines.into_iter().map(|line| (Lamp::of_line(&line), line)).collect(),
            graceful,
            runs: ids.join(","),
            filter: Vec::new(),
            upto: RunId(0),
            back: "/?pick=1".to_owned(),
            once: fresh_token()?,
            why: self.why,
            problem: self.problem,
        })
    }

    async fn about_filter(&self, matching: &Matching) -> Result<ConfirmPage<'_>> {
        if matching.reach().is_none() {
            return Err(Error::Unprocessable(
                match matching.kind {
                    RunFilter::Stuck | RunFilter::Needs => {
                        "What is stuck or needs you is judged anew at each look; select the runs one by one."
                    }
                    _ => "Runs like that are over already; none of them can be stopped.",
                }
                .into(),
            ));
        }
        let matches = self.site.db.matches(self.by, matching).await?;
        let asked = filter::Asked::of(&Filter { matching: matching.clone(), ..Filter::default() });
        let asked = filter::Asked { state: matching.kind.word().unwrap_or("all").to_owned(), ..asked };
        Ok(ConfirmPage {
            frame: self.fleet.frame(&self.site.db, self.by, Place::Runs).await?,
            heading: question(matches.all()),
            which: format!("{}, up to run {}.", every(matching), matches.upto),
            count: matches.all(),
            parts: parts(&matches),
            rows: Vec::new(),
            graceful: matching.kind != RunFilter::Unconfirmed,
            runs: String::new(),
            back: asked.href("/", &[("pick", "1".to_owned())]),
            filter: asked.parts().map(|(part, said)| (part, said.to_owned())).collect(),
            upto: matches.upto,
            once: fresh_token()?,
            why: self.why,
            problem: self.problem,
        })
    }
}

/// What runs have cost together; one that is queued has cost nothing.
fn sum(lines: &[RunLine]) -> Spent {
    let mut spent = Spent::default();
    for line in lines.iter().filter(|line| line.state != State::Queued) {
        spent.add(line.cost);
    }
    spent
}

fn question(count: i64) -> String {
    match count {
        0 => "There is nothing to stop.".to_owned(),
        1 => "Stop one run?".to_owned(),
        n => format!("Stop {} runs?", show::count(n)),
    }
}

fn parts(matches: &Matches) -> Vec<String> {
    let part = |n: i64, what: &str| (n > 0).then(|| format!("{} {what}", show::count(n)));
    [
        part(matches.held, "held by workers"),
        part(matches.lost, "lost: their workers are silent"),
        part(matches.queued, "queued: they never start"),
    ]
    .into_iter()
    .flatten()
    .chain(spent::of_many(&matches.spent))
    .collect()
}
