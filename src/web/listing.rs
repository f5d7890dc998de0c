//! The list of runs: its first page in sections, and every other by its filter.

use std::sync::Arc;

use askama::Template;
use serde::Deserialize;
use time::OffsetDateTime;

use super::Site;
use super::error::{Error, Result};
use super::filter::{self, Asked, Chip, KINDS, LATELY};
use super::page::{Frame, cursor};
use super::row::Row;
use super::show::{self, Moment};
use crate::clock;
use crate::db::{Choices, FleetNow, Front, Listed, SECTION, Standing, Superuser};
use crate::model::filter::Filter;
use crate::model::page::{Cursor, Page};
use crate::model::run::{RunFilter, RunId};

/// Which part of which list is asked for, besides its filter.
#[derive(Deserialize)]
pub(crate) struct Part {
    before: Option<String>,
    after: Option<String>,
    /// Runs are being selected.
    pick: Option<String>,
}

/// A list, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct List {
    filter: Filter,
    cursor: Cursor,
    pick: bool,
    /// It is the first page: in sections.
    front: bool,
}

/// What is in a list.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Front(Box<Front>),
    Listed(Listed),
}

impl List {
    /// # Errors
    /// [`Error::Unprocessable`] when there is no such list.
    pub(crate) fn read(asked: &Asked, part: &Part) -> Result<Self> {
        let filter = asked.parse().map_err(Error::Unprocessable)?;
        let cursor = cursor(part.before.as_deref(), part.after.as_deref())?;
        let pick = part.pick.is_some();
        let plain = filter == Filter::default() && asked.state.is_empty();
        Ok(Self { front: plain && cursor == Cursor::Start && !pick, filter, cursor, pick })
    }

    /// What is in it now. `stuck` are those known to be.
    pub(crate) async fn seen(&self, site: &Site, by: &Superuser, stuck: &[RunId]) -> Result<Seen> {
        Ok(if self.front {
            Seen::Front(Box::new(site.db.runs_front(by, stuck).await?))
        } else {
            Seen::Listed(site.db.runs_page(by, &self.filter, self.cursor, clock::now()).await?)
        })
    }

    /// Whether looking at it costs more than a moment, so that it isn't done at every change.
    pub(crate) fn is_dear(&self) -> bool {
        self.filter.search.is_some()
    }

    /// The page that shows this.
    pub(crate) fn page(
        &self,
        frame: Frame,
        choices: Arc<Choices>,
        seen: Seen,
        now: OffsetDateTime,
    ) -> ListPage {
        list_page(frame, choices, self, seen, now)
    }

    /// Its address.
    pub(crate) fn href(&self) -> String {
        let at = match self.cursor {
            Cursor::Start => None,
            Cursor::Before(id) => Some(("before", id.to_string())),
            Cursor::After(id) => Some(("after", id.to_string())),
        };
        let pick = self.pick.then(|| ("pick", "1".to_owned()));
        self.asked().href("/", &pick.into_iter().chain(at).collect::<Vec<_>>())
    }

    /// Its filter as it is asked for; all runs without their sections need a word too.
    fn asked(&self) -> Asked {
        let mut asked = Asked::of(&self.filter);
        if !self.front && !self.pick && self.filter == Filter::default() {
            asked.state = "all".to_owned();
        }
        asked
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
    asked: Asked,
    choices: Arc<Choices>,
    /// What is wrong with the filter.
    problem: Option<String>,
    chips: Vec<Chip>,
    quick: Vec<(&'static str, &'static str, bool)>,
    pick: bool,
    /// Where selecting begins and ends.
    pick_href: Option<String>,
    /// Where all that match can be stopped.
    all_href: Option<String>,
    /// Why they can't.
    no_all: Option<&'static str>,
    front: bool,
    needs: Section,
    living: Section,
    rows: Vec<Row>,
    /// How far was looked, if that wasn't to the end.
    looked_to: Option<RunId>,
    newer: Option<String>,
    older: Option<String>,
    now: Moment,
}

/// A section of the first page.
#[derive(Default)]
struct Section {
    rows: Vec<Row>,
    /// How many more there are, in words.
    more: Option<String>,
}

impl ListPage {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.needs.rows.is_empty() && self.living.rows.is_empty()
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        KINDS.iter().map(|(kind, word)| (kind.word().unwrap_or("all"), *word))
    }

    fn lately(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        LATELY.iter().map(|(lately, word)| (lately.word(), *word))
    }
}

/// Views that lie one tap away.
const QUICK: [(&str, &str); 5] = [
    ("/", "Now"),
    ("/?state=running", "Running"),
    ("/?state=queued", "Queued"),
    ("/?state=failed", "Failed"),
    ("/?state=all", "All"),
];

const NOT_BY_THAT: &str = "All that match can be stopped at once where a list goes by state, agent, worker or person alone. Here, select them.";
const JUDGED: &str =
    "What needs you, and what is stuck, is judged anew at each look: select what is to be stopped.";

/// The page whose filter makes no sense: all that was typed, and what is wrong.
pub(crate) fn refused(
    frame: Frame,
    choices: Arc<Choices>,
    asked: Asked,
    part: &Part,
    problem: String,
) -> ListPage {
    let now = clock::now();
    let list =
        List { filter: Filter::default(), cursor: Cursor::Start, pick: part.pick.is_some(), front: false };
    let page = Page { rows: Vec::new(), newer: None, older: None };
    let seen = Seen::Listed(Listed { page, looked_to: None });
    let page = list_page(frame, choices, &list, seen, now);
    // What isn't there can't be watched.
    let stream = String::new();
    ListPage {
        asked,
        chips: Vec::new(),
        quick: Vec::new(),
        problem: Some(problem),
        pick_href: None,
        all_href: None,
        stream,
        ..page
    }
}

fn list_page(frame: Frame, choices: Arc<Choices>, list: &List, seen: Seen, now: OffsetDateTime) -> ListPage {
    let List { filter, cursor, pick, front } = list;
    let asked = list.asked();
    let picking = |pick: bool| pick.then(|| ("pick", "1".to_owned()));
    let at = match cursor {
        Cursor::Start => None,
        Cursor::Before(id) => Some(("before", id.to_string())),
        Cursor::After(id) => Some(("after", id.to_string())),
    };
    let href = |path: &str, pick: bool, at: Option<(&'static str, String)>| {
        let more: Vec<_> = [picking(pick), at].into_iter().flatten().collect();
        asked.href(path, &more)
    };
    let kept_waiting = frame.keeps_waiting().map(|words| words.to_string());
    let rows =
        |lines: Vec<_>| lines.into_iter().map(|line| Row::new(line, kept_waiting.as_deref(), now)).collect();
    let section = |lines: Vec<_>, all: i32| {
        let mut rows: Vec<Row> = rows(lines);
        let more = (rows.len() > SECTION).then(|| more(all));
        rows.truncate(SECTION);
        Section { rows, more }
    };
    let (mut needs, mut living, mut looked_to) = (Section::default(), Section::default(), None);
    let (lines, newer, older) = match seen {
        Seen::Front(seen) => {
            let Front { needs: first, living: then, rest, older } = *seen;
            let notice = &frame.notice;
            needs = section(first, notice.needs());
            living = section(then, notice.working - notice.stuck_count() + notice.waiting);
            (rest, None, older.map(|id| format!("/?state=ended&before={id}")))
        }
        Seen::Listed(Listed { page, looked_to: to }) => {
            looked_to = to;
            let newer = page.newer.map(|id| href("/", *pick, Some(("after", id.to_string()))));
            let older = page.older.map(|id| href("/", *pick, Some(("before", id.to_string()))));
            (page.rows, newer, older)
        }
    };
    let can_stop = filter.matching.reach().is_some();
    let offers = *front || can_stop || matches!(filter.matching.kind, RunFilter::Needs | RunFilter::Stuck);
    let no_all = match filter.matching.kind {
        _ if !pick || (can_stop && filter.is_matching()) => None,
        RunFilter::Needs | RunFilter::Stuck => Some(JUDGED),
        _ => Some(NOT_BY_THAT),
    };
    let all = Asked { state: filter.matching.kind.word().unwrap_or("all").to_owned(), ..asked.clone() };
    ListPage {
        stream: href("/live/runs", *pick, at.clone()),
        heading: heading(filter, *pick),
        sentence: front.then(|| sentence(&frame.notice, &frame.standing)),
        problem: None,
        chips: if asked.state == "all" {
            Vec::new()
        } else {
            filter::chips(filter, &asked, &picking(*pick).into_iter().collect::<Vec<_>>(), now)
        },
        quick: QUICK.map(|(to, word)| (to, word, href("/", false, None) == to)).to_vec(),
        pick: *pick,
        pick_href: offers.then(|| href("/", !pick, at)),
        all_href: (can_stop && filter.is_matching()).then(|| all.href("/stops/new", &[])),
        no_all,
        front: *front,
        needs,
        living,
        rows: rows(lines),
        looked_to,
        newer,
        older,
        now: Moment::new(now, now),
        asked,
        choices,
        frame,
    }
}

fn heading(filter: &Filter, pick: bool) -> String {
    match filter.matching.kind {
        _ if pick => "Select runs to stop".to_owned(),
        RunFilter::All if filter.search.is_some() => "Found runs".to_owned(),
        RunFilter::All => "Runs".to_owned(),
        RunFilter::Needs => "Runs that need you".to_owned(),
        kind => format!("{} runs", filter::kind_word(kind)),
    }
}

/// How many there are besides those that are shown.
fn more(all: i32) -> String {
    let shown = i32::try_from(SECTION).unwrap_or_default();
    match all - shown {
        ..=0 => "and more".to_owned(),
        n if all < FleetNow::COUNTED => format!("and {n} more"),
        n => format!("and {n} or more"),
    }
}

/// How the fleet is, in one sentence and its rest.
fn sentence(fleet: &FleetNow, standing: &Standing) -> (String, String) {
    let count = |n: i32| match usize::try_from(n) {
        Ok(n) if n < FleetNow::COUNTED as usize => show::word(n),
        _ => format!("{} or more", FleetNow::COUNTED),
    };
    let verb = |n: i32, one: &'static str, many: &'static str| if n == 1 { one } else { many };
    let first = match fleet.needs() {
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
