//! A history, sorted by what is asked of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::history::{Change, Ms, Note, Page, Record, Row, Sight, Wish};

/// A form that was sent.
pub(crate) struct Click<'a> {
    pub(crate) asked: Ms,
    pub(crate) wish: &'a Wish,
    /// When it was answered, with which status, and which run it led to; none when nobody answered.
    pub(crate) answer: Option<(Ms, u16, Option<i64>)>,
}

impl Click<'_> {
    /// When it was accepted, and the run that it led to.
    pub(crate) fn accepted(&self) -> Option<(Ms, i64)> {
        self.answer.filter(|(_, status, _)| *status == 303).and_then(|(at, _, run)| Some((at, run?)))
    }
}

/// A fault, from its beginning to its end.
pub(crate) struct Fault<'a> {
    pub(crate) kind: &'a str,
    pub(crate) target: &'a str,
    pub(crate) from: Ms,
    pub(crate) to: Ms,
}

impl Fault<'_> {
    pub(crate) fn is_of_engine(&self) -> bool {
        self.kind.starts_with("engine-")
    }

    /// Whether the server itself can't answer.
    pub(crate) fn is_of_server(&self) -> bool {
        self.kind == "server-killed" || self.kind == "server-frozen"
    }

    /// Whether it keeps this worker from reaching its engine, or from doing anything.
    pub(crate) fn hinders(&self, worker: &str) -> bool {
        let engine = self.is_of_engine() && (self.target == "engine" || self.target == worker);
        engine || (self.kind.starts_with("worker-") && self.target == worker)
    }

    pub(crate) fn overlaps(&self, from: Ms, to: Ms) -> bool {
        self.from <= to && self.to >= from
    }
}

/// A container in which something was seen alive.
#[derive(Default)]
pub(crate) struct Cell {
    pub(crate) run: i64,
    /// When something in it was alive, in order.
    pub(crate) seen: Vec<Ms>,
    pub(crate) beats: u64,
    pub(crate) last_beat: Option<Ms>,
}

impl Cell {
    pub(crate) fn first(&self) -> Ms {
        self.seen[0]
    }

    /// The last proof of its life.
    pub(crate) fn last(&self) -> Ms {
        self.seen[self.seen.len() - 1].max(self.last_beat.unwrap_or(0))
    }

    fn see(&mut self, sight: &Sight) {
        self.run = sight.run;
        self.seen.push(sight.at);
        self.beats += u64::from(sight.beats);
        self.last_beat = self.last_beat.max(sight.beat);
    }
}

/// A stored line: number, stream, text.
pub(crate) type Line<'a> = (i64, &'a str, &'a str);

#[derive(Default)]
pub(crate) struct Story<'a> {
    pub(crate) seed: u64,
    pub(crate) began: Ms,
    pub(crate) healed: Option<Ms>,
    pub(crate) settled: Option<(Ms, bool)>,
    pub(crate) clicks: BTreeMap<u64, Click<'a>>,
    pub(crate) pages: Vec<&'a Page>,
    pub(crate) faults: Vec<Fault<'a>>,
    /// Each process's beginning and end.
    pub(crate) lives: HashMap<&'a str, (Ms, Option<Ms>)>,
    /// From and to of each look, with what was seen.
    pub(crate) scans: Vec<(Ms, Ms, &'a [Sight])>,
    pub(crate) cells: BTreeMap<&'a str, Cell>,
    pub(crate) notes: Vec<&'a Note>,
    /// When the engine answered again, its first answer left out.
    pub(crate) engine_back: Vec<Ms>,
    /// Put there by the nemesis: when, and whether with our labels.
    pub(crate) planted: BTreeMap<&'a str, (Ms, bool)>,
    /// Whether those live at the end.
    pub(crate) left: BTreeMap<&'a str, bool>,
    pub(crate) changes: BTreeMap<i64, Vec<&'a Change>>,
    pub(crate) rows: BTreeMap<i64, &'a Row>,
    pub(crate) lines: BTreeMap<i64, Vec<Line<'a>>>,
    pub(crate) audit: BTreeMap<(i64, &'a str), u64>,
    /// The last moment that anything is known of.
    pub(crate) end: Ms,
}

impl<'a> Story<'a> {
    pub(crate) fn of(records: &'a [Record]) -> Self {
        let mut story = Self::default();
        let mut faults: BTreeMap<u64, Fault<'a>> = BTreeMap::new();
        for record in records {
            story.take(record, &mut faults);
        }
        let end = story.scans.last().map_or(story.began, |scan| scan.1);
        story.end = story.settled.map_or(end, |(at, _)| at.max(end));
        story.faults = faults.into_values().collect();
        for fault in &mut story.faults {
            fault.to = fault.to.min(story.end.max(fault.from));
        }
        story.changes.values_mut().for_each(|changes| changes.sort_by_key(|change| change.n));
        story.notes.sort_by_key(|note| note.at);
        story.engine_back.sort_unstable();
        if !story.engine_back.is_empty() {
            story.engine_back.remove(0);
        }
        story
    }

    fn take(&mut self, record: &'a Record, faults: &mut BTreeMap<u64, Fault<'a>>) {
        match record {
            Record::Began { at, seed, .. } => (self.began, self.seed) = (*at, *seed),
            Record::Healed { at } => self.healed = Some(*at),
            Record::Settled { at, in_time } => self.settled = Some((*at, *in_time)),
            Record::Asked { at, click, wish } => {
                self.clicks.insert(*click, Click { asked: *at, wish, answer: None });
            }
            Record::Answered { at, click, status, run } => {
                if let Some(click) = self.clicks.get_mut(click) {
                    click.answer = Some((*at, *status, *run));
                }
            }
            Record::Unanswered { .. } | Record::Unread { .. } => {}
            Record::Page(page) => self.pages.push(page),
            Record::Fault { at, fault, kind, target, begins } => {
                let begun = faults.entry(*fault).or_insert(Fault { kind, target, from: *at, to: Ms::MAX });
                if !begins {
                    begun.to = *at;
                }
            }
            Record::Life { at, life, begins } => {
                let life = self.lives.entry(life).or_insert((*at, None));
                if !begins {
                    life.1 = Some(*at);
                }
            }
            Record::Scan { from, to, cells } => {
                self.scans.push((*from, *to, cells));
                for sight in cells {
                    self.cells.entry(&sight.container).or_default().see(sight);
                }
            }
            Record::Engine(note) => self.notes.push(note),
            Record::EngineBack { at } => self.engine_back.push(*at),
            Record::Planted { at, container, ours } => {
                self.planted.insert(container, (*at, *ours));
            }
            Record::Left { container, alive, .. } => {
                self.left.insert(container, *alive);
            }
            Record::Change(change) => self.changes.entry(change.run).or_default().push(change),
            Record::Row(row) => {
                self.rows.insert(row.run, row);
            }
            Record::Line { run, seq, source, text } => {
                self.lines.entry(*run).or_default().push((*seq, source, text));
            }
            Record::Audit { did, run, .. } => {
                if let Some(run) = run {
                    *self.audit.entry((*run, did)).or_default() += 1;
                }
            }
        }
    }

    /// The cells of runs, without what the nemesis put there.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (&'a str, &Cell)> {
        let own = self.cells.iter().filter(|(id, _)| !self.planted.contains_key(*id));
        own.map(|(id, cell)| (*id, cell))
    }

    /// All containers of a run that ever lived: seen by us, or started by the engine's own word.
    pub(crate) fn containers_of(&self, run: i64) -> BTreeSet<&'a str> {
        let seen = self.cells().filter(|(_, cell)| cell.run == run).map(|(id, _)| id);
        let started = self.notes.iter().filter(|note| note.run == Some(run) && note.did == "start");
        let started = started.map(|note| note.container.as_str());
        seen.chain(started).filter(|id| !self.planted.contains_key(id)).collect()
    }

    /// A run's row at a time, as the journal has it.
    pub(crate) fn at(&self, run: i64, at: Ms) -> Option<&'a Change> {
        let changes = self.changes.get(&run)?;
        let after = changes.partition_point(|change| change.at <= at);
        after.checked_sub(1).map(|n| changes[n])
    }

    /// When a run ended, by the journal.
    pub(crate) fn ended(&self, run: i64) -> Option<&'a Change> {
        self.changes.get(&run)?.iter().find(|change| change.state == "ended").copied()
    }

    /// Stops of a run, accepted or perhaps accepted, with whether by force.
    pub(crate) fn stops(&self, run: i64) -> impl Iterator<Item = (&Click<'a>, bool)> {
        self.clicks.values().filter_map(move |click| match click.wish {
            Wish::Stop { stop, force, .. } if *stop == run => Some((click, *force)),
            Wish::StopMany { stops, force } if stops.contains(&run) => Some((click, *force)),
            Wish::Handle { .. } => Some((click, true)),
            _ => None,
        })
    }

    /// When a stop was accepted that must have an effect on this run; none when it need not have one.
    pub(crate) fn obliges(&self, click: &Click<'_>, run: i64) -> Option<Ms> {
        let (at, _, _) = click.answer.filter(|(_, status, _)| *status == 303)?;
        let known_before = self.changes.get(&run)?.first()?.at < click.asked;
        match click.wish {
            Wish::Stop { .. } => click.accepted().map(|(at, _)| at),
            Wish::StopMany { .. } => Some(at),
            Wish::Handle { fresh } => (*fresh && known_before).then_some(at),
            Wish::Start { .. } | Wish::Else { .. } => None,
        }
    }

    /// Whether nothing was wrong from a while before until then.
    pub(crate) fn is_healthy(&self, from: Ms, to: Ms) -> bool {
        !self.faults.iter().any(|fault| fault.overlaps(from - 5_000, to))
    }

    /// Whether one life of this worker lasted all this time.
    pub(crate) fn lived_through(&self, worker: &str, from: Ms, to: Ms) -> bool {
        let own = self.lives.iter().filter(|(life, _)| worker_of(life) == worker);
        own.into_iter().any(|(_, (began, over))| *began <= from && over.is_none_or(|over| over >= to))
    }

    /// How much of this time a fault, or its aftermath of 5 s, hindered: any at all for which `which` holds.
    pub(crate) fn hindered(&self, from: Ms, to: Ms, which: impl Fn(&Fault<'a>) -> bool) -> Ms {
        let mut spans: Vec<(Ms, Ms)> = self
            .faults
            .iter()
            .filter(|fault| which(fault))
            .map(|fault| (fault.from.max(from), (fault.to + 5_000).min(to)))
            .filter(|(from, to)| from < to)
            .collect();
        spans.sort_unstable();
        let (mut sum, mut until) = (0, from);
        for (from, to) in spans {
            sum += (to - from.max(until)).max(0);
            until = until.max(to);
        }
        sum
    }

    /// The processes that may have written under each fence of a run: who claimed or adopted it.
    pub(crate) fn owners(&self, run: i64) -> HashMap<i64, &'a str> {
        let mut owners = HashMap::new();
        let mut fence = 0;
        for change in self.changes.get(&run).into_iter().flatten() {
            if change.fence > fence && matches!(change.state.as_str(), "starting" | "running") {
                owners.insert(change.fence, change.life.as_str());
            }
            fence = fence.max(change.fence);
        }
        owners
    }

    /// The names of all runs that anything is known of.
    pub(crate) fn runs(&self) -> HashSet<i64> {
        self.rows.keys().copied().chain(self.cells().map(|(_, cell)| cell.run)).collect()
    }
}

/// The worker that a life is of; empty for others.
pub(crate) fn worker_of(life: &str) -> &str {
    life.rsplit_once('.').map_or("", |(name, _)| name)
}
