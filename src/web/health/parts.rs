//! The parts, each with what was measured of it.

use std::time::Duration;

use time::OffsetDateTime;

use super::history::History;
use super::plot::{Measure, Plot};
use crate::db::QueueDepth;
use crate::host;
use crate::model::worker::{Load, Room, Worker};
use crate::web::lamp::Sign;
use crate::web::measure::Measured;
use crate::web::own::Own;
use crate::web::show::{self, Moment};

/// A queue older than this needs a human, if there is a worker that could take from it.
pub(super) const WAITS_LONG_S: f64 = 600.0;
/// How many workers have plots: more would make the page heavy. The others are on it with their numbers.
const PLOTTED: usize = 24;
const UNKNOWN: &str = "unknown";

/// One part.
pub(super) struct Part {
    /// Its name in a page's ids and in the samples.
    pub(super) key: String,
    pub(super) name: String,
    pub(super) sign: Sign,
    pub(super) well: bool,
    pub(super) facts: Vec<Fact>,
    pub(super) at: Moment,
}

/// Something measured.
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
    /// When it was, if the value is how long ago.
    pub(super) ago: Option<Moment>,
    pub(super) plots: Vec<Plot>,
}

impl Fact {
    fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), ago: None, plots: Vec::new() }
    }

    /// Whether nothing is known of it at all.
    pub(super) fn is_bare(&self) -> bool {
        self.plots.iter().all(|plot| plot.line.is_empty())
    }
}

impl Part {
    fn new(key: &str, name: &str, sign: Sign, facts: Vec<Fact>, at: Moment) -> Self {
        let well = sign.tone != "bad" && sign.tone != "wait";
        Self { key: key.replace(' ', "-"), name: name.to_owned(), sign, well, facts, at }
    }
}

/// What the parts are made from.
pub(super) struct Parts<'a> {
    pub(super) history: Result<History<'a>, String>,
    pub(super) now: OffsetDateTime,
}

impl Parts<'_> {
    fn moment(&self, at: OffsetDateTime) -> Moment {
        Moment::new(at, self.now)
    }

    /// A number that is known or not, with its plots.
    fn fact(
        &self,
        part: &str,
        name: &'static str,
        measure: Measure,
        value: Option<impl Into<String>>,
    ) -> Fact {
        let plots = self.history.as_ref().map(|history| history.plots(part, name, measure));
        let value = value.map_or_else(|| UNKNOWN.to_owned(), Into::into);
        Fact { plots: plots.unwrap_or_default(), ..Fact::new(name, value) }
    }

    /// A store that was asked for a sign of life.
    pub(super) fn store(&self, key: &str, name: &str, holds: &'static str, asked: &Measured<()>) -> Part {
        let mut facts = vec![Fact::new("Holds", holds)];
        let (sign, took) = match &asked.answer {
            Ok(()) => (Sign::ALIVE, Some(Measure::Took.say(asked.took.as_secs_f64() * 1000.0))),
            Err(error) => {
                facts.push(Fact::new("It says", error.clone()));
                (Sign::DEAD, None)
            }
        };
        facts.push(self.fact(key, "Answers in", Measure::Took, took));
        let size = self.history.as_ref().ok().and_then(|history| history.size(key));
        let size = size.map(|(bytes, at)| format!("{}, at {}", show::size(bytes), hour_and_minute(at)));
        facts.push(self.fact(key, "Size", Measure::Bytes, size));
        Part::new(key, name, sign, facts, self.moment(asked.at))
    }

    pub(super) fn queue(&self, asked: &Measured<QueueDepth>) -> Part {
        let up_to = |n: i64| if n >= 1000 { "1,000 or more".to_owned() } else { n.to_string() };
        let depth = asked.answer.as_ref().ok();
        let count = |of: fn(&QueueDepth) -> i64| depth.map(|depth| up_to(of(depth)));
        let oldest = depth.map(|depth| match depth.oldest_s {
            Some(s) => Measure::Age.say(s.max(0.0)),
            None => "nothing waits".to_owned(),
        });
        let mut facts = vec![
            self.fact("queue", "Runs waiting", Measure::Amount, count(|depth| depth.queued)),
            self.fact("queue", "The oldest waits for", Measure::Age, oldest),
        ];
        let (sign, unconfirmed, lost) = match &asked.answer {
            Ok(depth) => {
                let late = depth.oldest_s.is_some_and(|s| s > WAITS_LONG_S);
                let trouble = depth.unconfirmed > 0 || depth.lost > 0 || late;
                let moves = Sign { word: "Moves", ..Sign::ALIVE };
                (if trouble { Sign::TROUBLE } else { moves }, up_to(depth.unconfirmed), up_to(depth.lost))
            }
            Err(error) => {
                facts.insert(0, Fact::new("It says", error.clone()));
                (Sign::DEAD, UNKNOWN.to_owned(), UNKNOWN.to_owned())
            }
        };
        facts.extend([Fact::new("Stops unconfirmed", unconfirmed), Fact::new("Runs lost", lost)]);
        Part::new("queue", "Queue", sign, facts, self.moment(asked.at))
    }

    /// How long events take from their printing to Postgres: the worst of the workers that are alive.
    pub(super) fn events(&self, asked: &Measured<Vec<Worker>>) -> Part {
        let (sign, lag) = match &asked.answer {
            Ok(workers) => {
                let alive = || workers.iter().filter(|worker| worker.is_alive());
                let worst = alive().filter_map(|worker| worker.facts.load.lag_s).max_by(f64::total_cmp);
                let quiet = Sign { word: "Quiet", tone: "off", ..Sign::ALIVE };
                match worst {
                    Some(s) => (Sign { word: "Flow", ..Sign::ALIVE }, Some(Measure::Age.say(s))),
                    None => (quiet, alive().next().map(|_| "nothing was printed".to_owned())),
                }
            }
            Err(_) => (Sign::DEAD, None),
        };
        let facts = vec![self.fact("events", "From print to page", Measure::Age, lag)];
        Part::new("events", "Events", sign, facts, self.moment(asked.at))
    }

    /// This server itself.
    pub(super) fn server(&self, name: &str, own: &Own) -> Part {
        let key = format!("server {name}");
        let used = own.used();
        let cpu = used.and_then(|used| used.cpu).map(|share| Measure::Cpu.say(share));
        let requests = used.and_then(|used| used.requests).map(|count| Measure::Requests.say(count));
        let streams = Some(Measure::Amount.say(own.streams() as f64));
        let mut facts = vec![
            self.fact(&key, "Memory", Measure::Bytes, host::own_memory().map(show::size)),
            self.fact(&key, "Processor", Measure::Cpu, cpu),
            self.fact(&key, "Open streams", Measure::Amount, streams),
            self.fact(&key, "Requests a minute", Measure::Requests, requests),
        ];
        if let Some(used) = used {
            let at = Some(self.moment(used.at));
            facts.push(Fact { ago: at, ..Fact::new("Processor and requests are of", "") });
        }
        let sign = Sign { word: "Answers", ..Sign::ALIVE };
        Part::new(&key, &format!("Server {name}"), sign, facts, self.moment(self.now))
    }

    pub(super) fn workers(&self, workers: &[Worker], waiting: &[Measured<Option<i64>>]) -> Vec<Part> {
        let parts = workers.iter().zip(waiting).enumerate();
        parts.map(|(place, (worker, waiting))| self.worker(worker, waiting, place < PLOTTED)).collect()
    }

    /// A worker, by its own last words.
    fn worker(&self, worker: &Worker, waiting: &Measured<Option<i64>>, plotted: bool) -> Part {
        let (key, facts) = (format!("worker {}", worker.name), &worker.facts);
        // What a silent one measured last is no longer so.
        let Load { cpu, memory, disk, engine_ms, lag_s } =
            if worker.is_alive() { facts.load } else { Load::default() };
        let heard = Duration::try_from_secs_f64(worker.silent_s.max(0.0)).unwrap_or_default();
        let engine = match engine_ms {
            _ if !worker.is_alive() => None,
            _ if !facts.engine_ok => Some(facts.engine.clone()),
            Some(ms) => Some(format!("answers in {}", Measure::Took.say(ms))),
            None => Some("answers".to_owned()),
        };
        let of = |room: Room| format!("{} of {}", show::size(room.used), show::size(room.total));
        let lag = match lag_s {
            Some(s) => Some(Measure::Age.say(s)),
            None => worker.is_alive().then(|| "nothing was printed".to_owned()),
        };
        // A silent one may go on with runs that are called lost by now.
        let runs = worker.is_alive().then(|| format!("{} of {}", worker.holds, facts.capacity));
        let waiting = match &waiting.answer {
            Ok(Some(n)) => n.to_string(),
            Ok(None) => "unknown, something else lies there".to_owned(),
            Err(_) => "unknown, Redis doesn’t answer".to_owned(),
        };
        let mut list = vec![
            Fact { ago: Some(self.moment(self.now - heard)), ..Fact::new("Last heartbeat", "") },
            self.fact(&key, "Runs", Measure::Amount, runs),
            self.fact(&key, "Engine", Measure::Took, engine),
            self.fact(&key, "Processor", Measure::Cpu, cpu.map(|share| Measure::Cpu.say(share))),
            self.fact(&key, "Memory", Measure::Bytes, memory.map(of)),
            self.fact(&key, "Disk", Measure::Disk, disk.map(of)),
            self.fact(&key, "From print to page", Measure::Age, lag),
            Fact::new("Commands waiting", waiting),
        ];
        if !plotted {
            list.iter_mut().for_each(|fact| fact.plots.clear());
        }
        let name = format!("Worker {}", worker.name);
        Part::new(&key, &name, Sign::of_worker(worker), list, self.moment(worker.heard_at))
    }

    /// The workers, when nobody can say which there are.
    pub(super) fn no_workers(&self, asked: &Measured<Vec<Worker>>) -> Option<Part> {
        let error = asked.answer.as_ref().err()?;
        let facts = vec![Fact::new("It says", error.clone())];
        Some(Part::new("workers", "Workers", Sign::DEAD, facts, self.moment(asked.at)))
    }
}

fn hour_and_minute(at: OffsetDateTime) -> String {
    format!("{:02}:{:02} UTC", at.hour(), at.minute())
}
