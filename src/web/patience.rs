//! An agent's patience: how long its runs may get nowhere before they are called stuck.

use std::ops::RangeInclusive;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::Form;
use super::page::{Frame, Place, go_to, show_again};
use super::show;
use crate::db::Superuser;
use crate::model::stuck::Patience;

/// What a person fills in: minutes and counts, each as it was typed.
#[derive(Deserialize, Default)]
pub(crate) struct Filled {
    #[serde(default)]
    quiet: String,
    #[serde(default)]
    call: String,
    #[serde(default)]
    limited: String,
    #[serde(default)]
    same_calls: String,
    #[serde(default)]
    errors: String,
    #[serde(default)]
    stops: String,
}

#[derive(Template)]
#[template(path = "agents/patience.html")]
struct PatiencePage<'a> {
    frame: Frame,
    agent: &'a str,
    limits: Vec<Limit<'a>>,
    stops: bool,
    problem: Option<&'a str>,
}

/// One of its fields.
struct Limit<'a> {
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    hint: String,
    value: &'a str,
}

/// Names, labels and hints, in the order of [`Patience::BOUNDS_S`].
const TIMES: [(&str, &str, &str); 3] = [
    ("quiet", "Without output", "Outside a tool call"),
    ("call", "In one tool call", "Without output; twice its longest time where one like it took longer"),
    ("limited", "Rate-limited", "While the model API wants fewer calls"),
];

/// The same, in the order of [`Patience::BOUNDS`].
const COUNTS: [(&str, &str, &str); 2] = [
    ("same_calls", "The same call in a row", "The same tool with the same input"),
    ("errors", "Failed tools in a row", "Until one does its work"),
];

impl Filled {
    fn of(patience: &Patience) -> Self {
        let minutes = |time: Duration| (time.as_secs_f64() / 60.0).to_string();
        Self {
            quiet: minutes(patience.quiet),
            call: minutes(patience.call),
            limited: minutes(patience.limited),
            same_calls: patience.same_calls.to_string(),
            errors: patience.errors.to_string(),
            stops: if patience.stops { "yes" } else { "" }.to_owned(),
        }
    }

    fn times(&self) -> [&str; 3] {
        [&self.quiet, &self.call, &self.limited]
    }

    fn counts(&self) -> [&str; 2] {
        [&self.same_calls, &self.errors]
    }

    fn stops(&self) -> bool {
        self.stops == "yes"
    }

    fn patience(&self) -> std::result::Result<Patience, String> {
        let mut times = [Duration::ZERO; 3];
        for (n, typed) in self.times().into_iter().enumerate() {
            let minutes: Option<f64> = typed.trim().replace(',', ".").parse().ok();
            let s = minutes.filter(|m| m.is_finite() && *m >= 0.0).map(|m| (m * 60.0).round() as u64);
            let within = s.filter(|s| seconds(n).contains(s));
            times[n] =
                Duration::from_secs(within.ok_or_else(|| format!("{}: {}.", TIMES[n].1, minutes_of(n)))?);
        }
        let mut counts = [0; 2];
        for (n, typed) in self.counts().into_iter().enumerate() {
            let (least, most) = Patience::BOUNDS[n];
            let count = typed.trim().parse().ok().filter(|count| (least..=most).contains(count));
            counts[n] = count.ok_or_else(|| format!("{}: {}.", COUNTS[n].1, times_of(n)))?;
        }
        let ([quiet, call, limited], [same_calls, errors]) = (times, counts);
        Ok(Patience { quiet, call, limited, same_calls, errors, stops: self.stops() })
    }
}

fn seconds(n: usize) -> RangeInclusive<u64> {
    let (least, most) = Patience::BOUNDS_S[n];
    least..=most
}

fn minutes_of(n: usize) -> String {
    let bounds = seconds(n);
    format!("from {} to {} minutes", bounds.start() / 60, show::count((bounds.end() / 60).cast_signed()))
}

fn times_of(n: usize) -> String {
    let (least, most) = Patience::BOUNDS[n];
    format!("from {least} to {} times", show::count(i64::from(most)))
}

/// The form.
pub(crate) async fn form(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    agent: Path<String>,
) -> Result<HttpResponse> {
    let known = site.db.agents(&by).await?;
    let found = known.iter().find(|known| known.name == *agent).ok_or(Error::NotFound)?;
    page(&by, &site, &fleet, &found.name, &Filled::of(&found.patience), None).await
}

async fn page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    agent: &str,
    filled: &Filled,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let (times, counts) = (filled.times(), filled.counts());
    let time = |(n, (name, label, hint)): (usize, &(&'static str, &'static str, &str))| {
        let hint = format!("{hint}: {}.", minutes_of(n));
        Limit { name, label, unit: "minutes", hint, value: times[n] }
    };
    let count = |(n, (name, label, hint)): (usize, &(&'static str, &'static str, &str))| {
        let hint = format!("{hint}: {}.", times_of(n));
        Limit { name, label, unit: "times", hint, value: counts[n] }
    };
    let limits = TIMES.iter().enumerate().map(time).chain(COUNTS.iter().enumerate().map(count)).collect();
    let frame = fleet.frame(&site.db, by, Place::Agents).await?;
    show_again(problem, &PatiencePage { frame, agent, limits, stops: filled.stops(), problem })
}

/// Keeps what was filled in.
pub(crate) async fn keep(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    agent: Path<String>,
    filled: Form<Filled>,
) -> Result<HttpResponse> {
    match filled.patience() {
        Ok(patience) => {
            site.db.set_patience(&by, &agent, patience, Some(&address.to_string())).await?;
            Ok(go_to("/agents"))
        }
        Err(problem) => page(&by, &site, &fleet, &agent, &filled, Some(&problem)).await,
    }
}

/// It in one line, for the list of agents.
pub(crate) fn line(patience: &Patience) -> String {
    let (quiet, call) = (show::minutes(patience.quiet), show::minutes(patience.call));
    let then = if patience.stops { "; then stopped" } else { "" };
    format!("after {quiet} without output, {call} in a tool call{then}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_within_bounds_and_told_in_words() {
        let mut filled = Filled::of(&Patience::default());
        assert_eq!(filled.patience(), Ok(Patience::default()));
        filled.quiet = " 1,5 ".into();
        filled.stops = "yes".into();
        let read = filled.patience().unwrap();
        assert_eq!((read.quiet, read.stops), (Duration::from_secs(90), true));
        for wrong in ["", "x", "-1", "0.9", "1441", "1e99", "NaN", "inf"] {
            filled.quiet = wrong.into();
            let said = "Without output: from 1 to 1,440 minutes.";
            assert_eq!(filled.patience(), Err(said.into()), "{wrong}");
        }
        filled.quiet = "1".into();
        for wrong in ["", "1", "1001", "2.5", "-3"] {
            filled.errors = wrong.into();
            let said = "Failed tools in a row: from 2 to 1,000 times.";
            assert_eq!(filled.patience(), Err(said.into()), "{wrong}");
        }
    }
}
