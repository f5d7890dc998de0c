//! Looking for something in a run: words and kinds of events as a list, the first error, calls and the result by one tap.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::page::{Frame, Place, go_to, number, show};
use super::show::{Moment, count};
use crate::clock;
use crate::db::{Superuser, Way};
use crate::model::run::{Run, RunId};
use crate::model::seek::{Hit, Sought, What};

/// How long one looks before the page says how far it has come.
const LOOKS_FOR: Duration = Duration::from_millis(800);

/// At how many events one looks first, and how many times as many next: what is near is found at once, and what is far in few
/// steps.
const FIRST: i64 = 300;
const WIDER: i64 = 6;

/// How many a page lists.
const LISTED: usize = 50;

/// What can be looked for, as it is offered.
const WHATS: [(What, &str); 6] = [
    (What::Anything, "Everything"),
    (What::Said, "What it said"),
    (What::Calls, "Tool calls"),
    (What::Outputs, "What tools gave"),
    (What::Errors, "Errors"),
    (What::Result, "Result"),
];

/// What is asked for.
#[derive(Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    what: String,
    /// Where one goes on.
    from: Option<String>,
    /// That the first one which is found is gone to, and in which direction it is looked for.
    to: Option<String>,
}

#[derive(Template)]
#[template(path = "runs/find.html")]
struct FindPage {
    frame: Frame,
    run: Run,
    q: String,
    what: What,
    hits: Vec<(Hit, Moment)>,
    /// What was found, and where it was looked for.
    sentence: String,
    /// Where one goes on looking.
    go_on: Option<String>,
}

/// A walk through a transcript.
struct Walk {
    hits: Vec<Hit>,
    /// The last event that was looked at; none when that was all.
    upto: Option<i64>,
}

/// The list, or on to the first that is found.
pub(crate) async fn find(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    id: RunId,
    asked: Query<Asked>,
) -> Result<HttpResponse> {
    let words = asked.q.trim();
    if words.contains('\0') || words.chars().count() > Sought::WORDS_MAX {
        return Err(Error::Unprocessable(format!(
            "Words to look for are at most {} characters of text.",
            Sought::WORDS_MAX
        )));
    }
    let unknown = |word: &str| Error::Unprocessable(format!("{word:?} can’t be looked for."));
    let what = match asked.what.as_str() {
        "" => What::Anything,
        word => word.parse().map_err(|_| unknown(word))?,
    };
    let goes = match asked.to.as_deref() {
        None => None,
        Some("next") => Some(true),
        Some("last") => Some(false),
        Some(word) => return Err(unknown(word)),
    };
    let from = asked.from.as_deref().map(number).transpose()?;
    let run = site.db.run(&by, id).await?;
    let way = match goes {
        Some(true) => Way::On(from.unwrap_or(0)),
        _ => Way::Back(from.unwrap_or(i64::MAX)),
    };
    let sought = Sought { what, words: words.to_owned() };
    let walk = walk(&site, &by, id, &sought, way, if goes.is_some() { 1 } else { LISTED }).await?;
    if let (Some(_), Some(hit)) = (goes, walk.hits.first()) {
        return Ok(go_to(&format!("/runs/{id}?at={0}#e{0}", hit.seq)));
    }
    let now = clock::now();
    let page = FindPage {
        frame: fleet.frame(&site.db, &by, Place::Runs).await?,
        sentence: sentence(&run, way, &walk),
        go_on: walk.upto.map(|seq| href(id, &sought, asked.to.as_deref(), seq)),
        q: sought.words,
        what,
        hits: walk
            .hits
            .into_iter()
            .map(|hit| (Moment::new(hit.at, now), hit))
            .map(|(at, hit)| (hit, at))
            .collect(),
        run,
    };
    show(&page)
}

async fn walk(
    site: &Site,
    by: &Superuser,
    run: RunId,
    sought: &Sought,
    way: Way,
    most: usize,
) -> Result<Walk> {
    let began = Instant::now();
    let mut walk = Walk { hits: Vec::new(), upto: None };
    let (mut way, mut at_once) = (way, FIRST);
    loop {
        let looked = site.db.look_for(by, run, sought, way, at_once).await?;
        at_once = at_once.saturating_mul(WIDER);
        walk.upto = looked.upto;
        for event in &looked.candidates {
            let Some(hit) = sought.find(event) else { continue };
            walk.hits.push(hit);
            if walk.hits.len() == most {
                walk.upto = Some(event.seq);
                return Ok(walk);
            }
        }
        let Some(upto) = walk.upto else { return Ok(walk) };
        way = match way {
            Way::Back(_) => Way::Back(upto),
            Way::On(_) => Way::On(upto),
        };
        if began.elapsed() > LOOKS_FOR {
            return Ok(walk);
        }
    }
}

fn sentence(run: &Run, way: Way, walk: &Walk) -> String {
    let found = match walk.hits.len() {
        0 => "Nothing found".to_owned(),
        1 => "One found".to_owned(),
        n => format!("{n} found"),
    };
    let all = run.events;
    let (first, last) = match way {
        Way::Back(from) => (walk.upto.unwrap_or(1), all.min(from.saturating_sub(1))),
        Way::On(from) => (from + 1, walk.upto.unwrap_or(all)),
    };
    if all == 0 || last < first {
        return format!("{found}: there are no events there.");
    }
    format!("{found} in events {} to {} of {}.", count(first), count(last), count(all))
}

fn href(run: RunId, sought: &Sought, to: Option<&str>, from: i64) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("q", &sought.words).append_pair("what", sought.what.word());
    query.extend_pairs(to.map(|to| ("to", to))).append_pair("from", &from.to_string());
    format!("/runs/{run}/find?{}", query.finish())
}
