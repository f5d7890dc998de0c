//! What a list of runs is narrowed to, as its address and its form say it.

use serde::Deserialize;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};
use url::form_urlencoded::Serializer;

use super::show::{Moment, dollars};
use crate::model::filter::{Filter, Lately, Since};
use crate::model::run::{Outcome, RunFilter, State};
use crate::model::search::Search;
use crate::model::stop::Matching;

/// What runs can be, in the order in which it is offered.
pub(crate) const KINDS: [(RunFilter, &str); 15] = [
    (RunFilter::Needs, "Needs you"),
    (RunFilter::Living, "Living"),
    (RunFilter::State(State::Queued), "Queued"),
    (RunFilter::State(State::Starting), "Starting"),
    (RunFilter::State(State::Running), "Running"),
    (RunFilter::Stuck, "Stuck"),
    (RunFilter::Unconfirmed, "Unconfirmed"),
    (RunFilter::State(State::Lost), "Lost"),
    (RunFilter::State(State::Ended), "Ended"),
    (RunFilter::Outcome(Outcome::Succeeded), "Succeeded"),
    (RunFilter::Outcome(Outcome::Failed), "Failed"),
    (RunFilter::Outcome(Outcome::Terminated), "Terminated"),
    (RunFilter::Outcome(Outcome::TimedOut), "Timed out"),
    (RunFilter::Outcome(Outcome::OverBudget), "Over budget"),
    (RunFilter::All, "All"),
];

/// Times back from now, as they are offered.
pub(crate) const LATELY: [(Lately, &str); 3] =
    [(Lately::Hour, "Last hour"), (Lately::Day, "Last day"), (Lately::Week, "Last week")];

/// The longest name of an agent, a worker or a person that is asked for, in characters.
const NAME_MAX: usize = 100;
/// The most that runs are asked to have cost, in dollars.
const USD_MAX: f64 = 1e9;

/// A filter as it was asked for: what can't be read comes back as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    pub(crate) q: String,
    pub(crate) state: String,
    pub(crate) agent: String,
    pub(crate) worker: String,
    pub(crate) who: String,
    pub(crate) last: String,
    pub(crate) from: String,
    pub(crate) until: String,
    pub(crate) cost: String,
}

impl Asked {
    /// What a list is narrowed by, and a stop of many can't be.
    pub(crate) const NARROWS: [&str; 5] = ["q", "last", "from", "until", "cost"];

    /// # Errors
    /// What is wrong with it, in a person's words.
    pub(crate) fn parse(&self) -> Result<Filter, String> {
        let kind = self.state.parse();
        let kind: RunFilter =
            kind.map_err(|_| format!("Runs can’t be {:?}; there is no such filter.", self.state))?;
        let agent = name("agent", &self.agent)?;
        let matching =
            Matching { kind, agent, worker: name("worker", &self.worker)?, who: name("person", &self.who)? };
        let last = match self.last.trim() {
            "" => None,
            word => Some(word.parse::<Lately>().map_err(|_| {
                format!("{word:?} is no time back from now; those there are: hour, day, week.")
            })?),
        };
        let (from, until) = (moment(&self.from)?, moment(&self.until)?);
        let since = match (last, from) {
            (Some(_), Some(_)) => {
                return Err("Say either from when, or how long back from now; not both.".to_owned());
            }
            (last, from) => last.map(Since::Lately).or(from.map(Since::Moment)),
        };
        if let (Some(Since::Moment(from)), Some(until)) = (since, until)
            && from >= until
        {
            return Err("Nothing is asked for from a time on that isn’t before the other one.".to_owned());
        }
        let search = Search::parse(&self.q).map_err(|error| error.to_string())?;
        Ok(Filter { matching, since, until, cents: cents(&self.cost)?, search })
    }

    /// As a filter is asked for.
    pub(crate) fn of(filter: &Filter) -> Self {
        let Filter { matching, since, until, cents, search } = filter;
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let (last, from) = match since {
            None => (String::new(), String::new()),
            Some(Since::Lately(lately)) => (lately.word().to_owned(), String::new()),
            Some(Since::Moment(at)) => (String::new(), minute(*at)),
        };
        Self {
            q: search.as_ref().map(|search| search.typed().to_owned()).unwrap_or_default(),
            state: matching.kind.word().unwrap_or_default().to_owned(),
            agent: name(&matching.agent),
            worker: name(&matching.worker),
            who: name(&matching.who),
            last,
            from,
            until: until.map(minute).unwrap_or_default(),
            cost: cents.map(usd).unwrap_or_default(),
        }
    }

    /// Its parts, those that say something.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parts = [
            ("q", self.q.trim()),
            ("state", &self.state),
            ("agent", &self.agent),
            ("worker", &self.worker),
            ("who", &self.who),
            ("last", &self.last),
            ("from", &self.from),
            ("until", &self.until),
            ("cost", &self.cost),
        ];
        parts.into_iter().filter(|(_, said)| !said.is_empty())
    }

    /// The same without one of its parts.
    fn without(&self, part: &str) -> Self {
        let mut rest = self.clone();
        match part {
            "q" => &mut rest.q,
            "state" => &mut rest.state,
            "agent" => &mut rest.agent,
            "worker" => &mut rest.worker,
            "who" => &mut rest.who,
            "last" => &mut rest.last,
            "from" => &mut rest.from,
            "until" => &mut rest.until,
            _ => &mut rest.cost,
        }
        .clear();
        rest
    }

    /// An address with these, and what else there is.
    pub(crate) fn href(&self, path: &str, more: &[(&str, String)]) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(self.parts());
        query.extend_pairs(more);
        let query = query.finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

/// A part of a filter that can be taken away.
pub(crate) struct Chip {
    pub(crate) word: String,
    pub(crate) href: String,
}

/// What a filter goes by, each with the way to the list without it.
pub(crate) fn chips(
    filter: &Filter,
    asked: &Asked,
    more: &[(&str, String)],
    now: OffsetDateTime,
) -> Vec<Chip> {
    let at = |at: OffsetDateTime| Moment::new(at, now).minute();
    let kind = filter.matching.kind;
    let words = asked.parts().map(|(part, said)| {
        let word = match part {
            "q" => format!("“{said}”"),
            "state" => kind_word(kind).to_owned(),
            "who" => format!("by {said}"),
            "worker" => format!("on {said}"),
            "last" => {
                let named = LATELY.iter().find(|(lately, _)| filter.since == Some(Since::Lately(*lately)));
                named.map_or(said, |(_, word)| word).to_owned()
            }
            "from" => match filter.since {
                Some(Since::Moment(from)) => format!("from {}", at(from)),
                _ => said.to_owned(),
            },
            "until" => format!("until {}", filter.until.map_or_else(|| said.to_owned(), at)),
            "cost" => format!(
                "≥ {}",
                filter.cents.map_or_else(|| said.to_owned(), |cents| dollars(cents as f64 / 100.0))
            ),
            _ => said.to_owned(),
        };
        Chip { word, href: asked.without(part).href("/", more) }
    });
    words.collect()
}

/// What runs are, in a word or two.
pub(crate) fn kind_word(kind: RunFilter) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("All", |(_, word)| word)
}

fn name(what: &str, typed: &str) -> Result<Option<String>, String> {
    let name = typed.trim();
    match name.chars().count() {
        0 => Ok(None),
        _ if name.contains(char::is_control) => {
            Err(format!("No {what} is called that: it holds what can’t be typed."))
        }
        1..=NAME_MAX => Ok(Some(name.to_owned())),
        n => Err(format!("No {what} has a name of {n} characters; {NAME_MAX} is the most.")),
    }
}

/// A day, or a minute of one, in UTC.
fn moment(typed: &str) -> Result<Option<OffsetDateTime>, String> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    let day = format_description!("[year]-[month]-[day]");
    let minute = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let read = Date::parse(typed, day)
        .map(|day| PrimitiveDateTime::new(day, Time::MIDNIGHT))
        .or_else(|_| PrimitiveDateTime::parse(&typed.replace(' ', "T"), minute));
    let read = read.ok().map(PrimitiveDateTime::assume_utc).filter(|at| (1970..9000).contains(&at.year()));
    let read =
        read.ok_or_else(|| format!("{typed:?} is no time; write it like 2026-11-28 or 2026-11-28T14:30."))?;
    Ok(Some(read))
}

fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let day = format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day());
    format!("{day}T{:02}:{:02}", at.hour(), at.minute())
}

fn cents(typed: &str) -> Result<Option<i64>, String> {
    let number = typed.trim().trim_start_matches('$').trim().replace(',', ".");
    if number.is_empty() {
        return Ok(None);
    }
    let usd = number.parse::<f64>().ok().filter(|usd| (0.0..=USD_MAX).contains(usd));
    let usd = usd.ok_or_else(|| format!("{typed:?} are no dollars; write them like 2 or 2.50."))?;
    Ok(Some((usd * 100.0).round() as i64).filter(|cents| *cents > 0))
}

fn usd(cents: i64) -> String {
    if cents % 100 == 0 { (cents / 100).to_string() } else { format!("{}.{:02}", cents / 100, cents % 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(part: &str, said: &str) -> Asked {
        let query = Serializer::new(String::new()).append_pair(part, said).finish();
        serde_urlencoded(&query)
    }

    fn serde_urlencoded(query: &str) -> Asked {
        actix_web::web::Query::<Asked>::from_query(query).unwrap().into_inner()
    }

    #[test]
    fn a_filter_survives_the_way_to_its_address_and_back() {
        for query in [
            "",
            "q=web+%26+%22a+b%22&state=failed&agent=claude-code&worker=arm-1&who=ada&last=hour&cost=2.50",
            "from=2026-11-28T14%3A30&until=2026-11-29T00%3A00",
        ] {
            let asked = serde_urlencoded(query);
            let again = Asked::of(&asked.parse().unwrap());
            assert_eq!(again, asked);
            assert_eq!(again.href("", &[]).trim_start_matches('?'), query);
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (part, said) in [
            ("state", "killed"),
            ("agent", &*"x".repeat(101)),
            ("worker", "a\0b"),
            ("last", "fortnight"),
            ("from", "yesterday"),
            ("until", "2026-13-01"),
            ("until", "99999-01-01"),
            ("cost", "-1"),
            ("cost", "NaN"),
            ("cost", "much"),
            ("q", "!!"),
        ] {
            assert!(asked(part, said).parse().is_err(), "{part}={said}");
        }
        let both = Asked { last: "day".into(), from: "2026-11-28".into(), ..Asked::default() };
        assert!(both.parse().is_err());
        let turned = Asked { from: "2026-11-28".into(), until: "2026-11-28".into(), ..Asked::default() };
        assert!(turned.parse().is_err());
    }

    #[test]
    fn dollars_and_days_are_read_as_people_write_them() {
        assert_eq!(asked("cost", "$2,5").parse().unwrap().cents, Some(250));
        assert_eq!(asked("cost", "0").parse().unwrap().cents, None);
        let until = asked("until", "2026-11-28").parse().unwrap().until.unwrap();
        assert_eq!(minute(until), "2026-11-28T00:00");
    }
}
