//! What a history held, in figures; and one run's part of it, line by line.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::story::{Click, Story};
use crate::history::{Ms, Wish};

/// The history in figures.
pub(crate) fn summary(story: &Story<'_>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<34} {value}").unwrap();
    let seconds = (story.end - story.began) / 1000;
    let (scans, pids) = (story.scans.len(), story.cells().map(|(_, cell)| cell.seen.len()).sum::<usize>());
    let blind = story.scans.windows(2).map(|two| two[1].1 - two[0].0).max().unwrap_or(0);
    let beats: u64 = story.cells().map(|(_, cell)| cell.beats).sum();
    line("lasted", format!("{seconds} s, seed {}", story.seed));
    line("looks", format!("{scans}, {pids} sightings, {beats} heartbeats, at most {blind} ms between two"));
    line("runs", counts(story.rows.values().map(|row| row.outcome.as_deref().unwrap_or(&row.state))));
    line("ended by", counts(story.rows.values().map(|row| row.step.as_deref().unwrap_or("nothing"))));
    let refused = story.changes.values().filter_map(|changes| Some(changes.last()?.refused)).sum::<i64>();
    line("ghosts' writes refused", refused.to_string());
    line("containers", format!("{}", story.cells().count()));
    line("faults", counts(story.faults.iter().map(|fault| fault.kind)));
    line("processes started", counts(story.lives.keys().map(|life| super::story::worker_of(life))));
    line("forms", answers(story));
    line("pages read", format!("{}", story.pages.len()));
    for force in [true, false] {
        for healthy in [true, false] {
            let name = format!(
                "{} {}",
                if force { "force" } else { "graceful" },
                if healthy { "without faults" } else { "with faults" }
            );
            let taken = stops(story, force, healthy);
            line(&format!("{name}: proven"), spread(taken.iter().map(|stop| stop.proven).collect()));
            line(&format!("{name}: last seen alive"), spread(taken.iter().map(|stop| stop.alive).collect()));
        }
    }
    line(
        "force: after its last fault",
        spread(recoveries(story).into_iter().map(|(_, taken)| taken).collect()),
    );
    text
}

/// How long after the click, or after the last fault in its time if that came later, a stop by force was proven.
pub(crate) fn recoveries(story: &Story<'_>) -> Vec<(Stop, Ms)> {
    let after = |stop: Stop| {
        let confirmed = stop.asked + stop.proven;
        let in_its_time = story.faults.iter().filter(|fault| fault.overlaps(stop.asked, confirmed));
        let from = in_its_time.map(|fault| fault.to.min(confirmed)).max().unwrap_or(stop.asked);
        let taken = confirmed - from.max(stop.asked);
        (stop, taken)
    };
    stops(story, true, false).into_iter().map(after).collect()
}

fn counts<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let all: u64 = counts.values().sum();
    let each: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{all}: {}", each.join(", "))
}

fn answers(story: &Story<'_>) -> String {
    let words = story.clicks.values().map(|click| match click.answer {
        Some((_, 303, _)) => "accepted",
        Some((_, 404, _)) => "not found",
        Some((_, 503, _)) => "refused with 503",
        Some(_) => "answered otherwise",
        None => "unanswered",
    });
    let served = |from, to| {
        !story.faults.iter().any(|fault| fault.target.starts_with("serve") && fault.overlaps(from, to))
    };
    let taken = story.clicks.values().filter_map(|click| Some((click.asked, click.answer?.0)));
    let taken = taken.filter(|(from, to)| served(*from, *to)).map(|(from, to)| to - from);
    format!("{}; {}", counts(words), spread(taken.collect()))
}

/// How long a stop took.
pub(crate) struct Stop {
    pub(crate) run: i64,
    pub(crate) asked: Ms,
    /// From the click to the proof.
    pub(crate) proven: Ms,
    /// From the click to the last proof of life.
    pub(crate) alive: Ms,
}

/// Stops of living containers, of one kind, with or without a fault in their time.
pub(crate) fn stops(story: &Story<'_>, force: bool, healthy: bool) -> Vec<Stop> {
    let one = |row: &&crate::history::Row| {
        if row.outcome.as_deref() != Some("terminated") || (row.mode.as_deref() == Some("force")) != force {
            return None;
        }
        let (click, _) = story
            .stops(row.run)
            .find(|(click, by)| story.obliges(click, row.run).is_some() && *by == force)?;
        let (asked, confirmed) = (click.asked, row.confirmed?);
        // To save the work first takes the time that it takes, and so does everything at once.
        let alone = |click: &Click<'_>| matches!(click.wish, Wish::Stop { save: false, .. });
        if story
            .stops(row.run)
            .any(|(click, _)| click.asked < confirmed && !alone(click) && click.asked > asked - 10_000)
        {
            return None;
        }
        let (_, cell) = story.cells().find(|(_, cell)| cell.run == row.run)?;
        let fits = cell.first() <= asked && story.is_healthy(asked, confirmed) == healthy;
        fits.then(|| Stop {
            run: row.run,
            asked,
            proven: confirmed - asked,
            alive: (cell.last() - asked).max(0),
        })
    };
    story.rows.values().copied().collect::<Vec<_>>().iter().filter_map(one).collect()
}

/// The value below which so many in a hundred lie.
pub(crate) fn percentile(values: &mut [Ms], percent: usize) -> Ms {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(rank).copied().unwrap_or(0)
}

fn spread(mut values: Vec<Ms>) -> String {
    if values.is_empty() {
        return "none".into();
    }
    let (p50, p99) = (percentile(&mut values, 50), percentile(&mut values, 99));
    let most = values.last().copied().unwrap_or(0);
    format!("{} stops or answers: p50 {p50} ms, p99 {p99} ms, most {most} ms", values.len())
        .replace("stops or answers", "times")
}

/// All that is known of one run, in the order in which it happened; times in seconds from the beginning.
pub(crate) fn timeline(story: &Story<'_>, run: i64) -> String {
    let mut lines: Vec<(Ms, String)> = Vec::new();
    for (number, click) in &story.clicks {
        let concerns = match click.wish {
            Wish::Stop { stop, .. } => *stop == run,
            Wish::StopMany { stops, .. } => stops.contains(&run),
            Wish::Handle { .. } => true,
            Wish::Start { .. } => click.accepted().is_some_and(|(_, led)| led == run),
            Wish::Else { .. } => false,
        };
        if concerns {
            let wish: String = format!("{:?}", click.wish).chars().take(90).collect();
            lines.push((click.asked, format!("form {number} sent: {wish}")));
            lines.extend(
                click.answer.map(|(at, status, _)| (at, format!("form {number} answered: {status}"))),
            );
        }
    }
    let mut before = String::new();
    for change in story.changes.get(&run).into_iter().flatten() {
        let now = format!(
            "{} fence {} {} {} {} {} {}",
            change.state,
            change.fence,
            change.worker.as_deref().unwrap_or("nobody"),
            change.wish,
            change.mode.as_deref().unwrap_or(""),
            change.outcome.as_deref().unwrap_or(""),
            change.confirmed.map_or(String::new(), |at| format!("confirmed {}", since(story, at))),
        );
        let until =
            change.lease_until.map_or(String::new(), |at| format!(", lease until {}", since(story, at)));
        let what = if now == before {
            format!("row: {} events{until}", change.events)
        } else {
            format!("row: {now}{until}")
        };
        lines.push((change.at, format!("{what} [{}]", change.life)));
        before = now;
    }
    for note in story.notes.iter().filter(|note| note.run == Some(run)) {
        let exit = note.exit.map_or(String::new(), |code| format!(" with {code}"));
        lines.push((note.at, format!("engine: {} {}{exit}", note.did, &note.container[..12])));
    }
    for (id, cell) in story.cells.iter().filter(|(_, cell)| cell.run == run) {
        lines.push((cell.first(), format!("SEEN ALIVE first: {}", &id[..12])));
        lines.push((cell.last(), format!("SEEN ALIVE last: {}", &id[..12])));
    }
    for page in story.pages.iter().filter(|page| page.run == run) {
        let says = format!("page: {} {} {}", page.state, page.outcome, page.wish);
        lines.push((page.answered, says));
    }
    let (from, to) = match (lines.iter().map(|line| line.0).min(), lines.iter().map(|line| line.0).max()) {
        (Some(from), Some(to)) => (from, to),
        _ => return "  nothing is known of it\n".into(),
    };
    for fault in story.faults.iter().filter(|fault| fault.overlaps(from, to)) {
        lines.push((fault.from, format!("fault begins: {} of {}", fault.kind, fault.target)));
        lines.push((fault.to, format!("fault ends: {} of {}", fault.kind, fault.target)));
    }
    lines.sort();
    let play = story.rows.get(&run).map_or("?", |row| row.play.as_str());
    let reason = story.rows.get(&run).and_then(|row| row.reason.as_deref()).unwrap_or("");
    let mut text = format!("  run {run}, play {play:?}: {reason}\n");
    for (at, what) in lines {
        writeln!(text, "    {:>9} {what}", since(story, at)).unwrap();
    }
    text
}

fn since(story: &Story<'_>, at: Ms) -> String {
    let after = at - story.began;
    format!("{}.{:03}", after / 1000, after.rem_euclid(1000))
}
