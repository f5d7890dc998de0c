//! An agent's ladder: how long each rung of a stop is given.

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
use crate::model::run::LadderTimes;

/// What a person fills in: seconds, each as it was typed.
#[derive(Deserialize, Default)]
pub(crate) struct Filled {
    #[serde(default)]
    sigint: String,
    #[serde(default)]
    sigterm: String,
    #[serde(default)]
    sigkill: String,
    #[serde(default)]
    linger: String,
}

#[derive(Template)]
#[template(path = "agents/ladder.html")]
struct LadderPage<'a> {
    frame: Frame,
    agent: &'a str,
    rungs: [Rung<'a>; 4],
    problem: Option<&'a str>,
}

/// One of its fields.
struct Rung<'a> {
    name: &'static str,
    label: &'static str,
    hint: String,
    value: &'a str,
}

/// Names and labels, in the order of [`LadderTimes::BOUNDS_MS`].
const RUNGS: [(&str, &str, &str); 4] = [
    ("sigint", "After SIGINT", "It ends its turn and writes its result and cost"),
    ("sigterm", "After SIGTERM", "It may clean up"),
    ("sigkill", "Between two SIGKILLs", "At first; then longer and longer"),
    ("linger", "After its result", "A run that has printed its result and lives on is stopped"),
];

impl Filled {
    fn of(times: LadderTimes) -> Self {
        let text = |time: Duration| time.as_secs_f64().to_string();
        Self {
            sigint: text(times.sigint),
            sigterm: text(times.sigterm),
            sigkill: text(times.sigkill),
            linger: text(times.linger),
        }
    }

    fn typed(&self) -> [&str; 4] {
        [&self.sigint, &self.sigterm, &self.sigkill, &self.linger]
    }

    fn times(&self) -> std::result::Result<LadderTimes, String> {
        let mut times = [Duration::ZERO; 4];
        for (n, typed) in self.typed().into_iter().enumerate() {
            let (least, most) = LadderTimes::BOUNDS_MS[n];
            let seconds: Option<f64> = typed.trim().replace(',', ".").parse().ok();
            let ms = seconds.filter(|s| s.is_finite() && *s >= 0.0).map(|s| (s * 1000.0).round() as u64);
            times[n] = match ms {
                Some(ms) if (least..=most).contains(&ms) => Duration::from_millis(ms),
                _ => return Err(format!("{}: {}.", RUNGS[n].1, bounds(n))),
            };
        }
        let [sigint, sigterm, sigkill, linger] = times;
        Ok(LadderTimes { sigint, sigterm, sigkill, linger })
    }
}

fn bounds(n: usize) -> String {
    let (least, most) = LadderTimes::BOUNDS_MS[n];
    let seconds = |ms: u64| (ms as f64 / 1000.0).to_string();
    format!("from {} to {} seconds", seconds(least), seconds(most))
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
    page(&by, &site, &fleet, &found.name, &Filled::of(found.ladder), None).await
}

async fn page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    agent: &str,
    filled: &Filled,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let typed = filled.typed();
    let rung = |n: usize| {
        let (name, label, hint) = RUNGS[n];
        Rung { name, label, hint: format!("{hint}: {}.", bounds(n)), value: typed[n] }
    };
    let frame = fleet.frame(&site.db, by, Place::Agents).await?;
    show_again(problem, &LadderPage { frame, agent, rungs: [rung(0), rung(1), rung(2), rung(3)], problem })
}

/// Keeps what was filled in; runs that are claimed from now on get it.
pub(crate) async fn keep(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    agent: Path<String>,
    filled: Form<Filled>,
) -> Result<HttpResponse> {
    match filled.times() {
        Ok(times) => {
            site.db.set_ladder(&by, &agent, times, Some(&address.to_string())).await?;
            Ok(go_to("/agents"))
        }
        Err(problem) => page(&by, &site, &fleet, &agent, &filled, Some(&problem)).await,
    }
}

/// The rungs in one line, for the list of agents.
pub(crate) fn line(times: &LadderTimes) -> String {
    format!("SIGINT {}, SIGTERM {}, then SIGKILL", show::span(times.sigint), show::span(times.sigterm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_within_bounds_and_told_in_words() {
        let mut filled = Filled::of(LadderTimes::default());
        assert_eq!(filled.times(), Ok(LadderTimes::default()));
        filled.sigint = " 0,5 ".into();
        assert_eq!(filled.times().unwrap().sigint, Duration::from_millis(500));
        for wrong in ["", "x", "-1", "121", "1e99", "NaN", "inf"] {
            filled.sigint = wrong.into();
            assert_eq!(filled.times(), Err("After SIGINT: from 0 to 120 seconds.".into()), "{wrong}");
        }
    }
}
