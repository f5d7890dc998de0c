//! Point 3: "terminated", and every other end, is claimed with proof or not at all; and what was wished comes about.

use super::story::Story;
use super::{Found, TOLERANCE};
use crate::history::{Change, Ms, Row};

/// A proof of life that comes this long after an end is no afterglow: something came back, or never went.
const CAME_BACK: Ms = 5_000;

pub(super) fn no_end_is_false(story: &Story<'_>, found: &mut Found) {
    for row in story.rows.values().filter(|row| row.state == "ended") {
        let Some(confirmed) = row.confirmed else {
            found.add(3, row.run, 0, "it is over without a time of the proof".into());
            continue;
        };
        for (container, cell) in story.cells().filter(|(_, cell)| cell.run == row.run) {
            let outlived = cell.last() - confirmed;
            if outlived > TOLERANCE {
                let outcome = row.outcome.as_deref().unwrap_or("?");
                let what = if cell.last_beat == Some(cell.last()) { "a heartbeat" } else { "a process" };
                let says = format!(
                    "{what} of container {} is seen {outlived} ms after \"{outcome}\" was confirmed",
                    &container[..12.min(container.len())]
                );
                found.add(3, row.run, confirmed, says.clone());
                if outlived > CAME_BACK {
                    found.add(4, row.run, confirmed, says);
                }
            }
        }
        let wished = story.stops(row.run).any(|(click, _)| click.asked <= confirmed + TOLERANCE);
        if row.outcome.as_deref() == Some("terminated") && !wished {
            found.add(3, row.run, confirmed, "it is \"terminated\", and nobody had wished it".into());
        }
        evidence_agrees(story, row, confirmed, found);
    }
}

/// What the row says of the end is what the engine's own log says.
fn evidence_agrees(story: &Story<'_>, row: &Row, confirmed: Ms, found: &mut Found) {
    let containers = story.containers_of(row.run);
    if row.step.as_deref() == Some("never_started") {
        if !containers.is_empty() {
            found.add(3, row.run, confirmed, "it \"never started\", and its container lived".into());
        }
        return;
    }
    let Some(container) = row.container.as_deref() else {
        // The engine has said that there is none any more; who saw it die is the engine's affair.
        if row.step.as_deref() != Some("absent") {
            found.add(3, row.run, confirmed, "its end names no container".into());
        }
        return;
    };
    if containers.iter().any(|lived| *lived != container) {
        found.add(3, row.run, confirmed, "its end is that of another container".into());
    }
    let deaths = || story.notes.iter().filter(|note| note.container == container && note.did == "die");
    let noted = |did| story.notes.iter().any(|note| note.container == container && note.did == did);
    let death = deaths().next();
    let from = story.cells.get(container).map_or(confirmed, super::story::Cell::first);
    // An engine that was away has forgotten what it noted before, or noted nothing.
    let forgot = story.engine_back.iter().any(|back| (from..=confirmed + 60_000).contains(back));
    match death {
        Some(death) if death.at > confirmed + TOLERANCE => {
            let late = death.at - confirmed;
            found.add(
                3,
                row.run,
                confirmed,
                format!("the engine notes its death {late} ms after the proof of it"),
            );
        }
        Some(death) if row.exit.is_some() && deaths().all(|death| death.exit != row.exit) && !forgot => {
            let says = format!("its exit code is {:?}, and the engine's {:?}", row.exit, death.exit);
            found.add(3, row.run, confirmed, says);
        }
        // What the host killed while the engine was starting it never started by the engine's word, and so never died.
        None if !forgot && noted("start") => {
            found.add(3, row.run, confirmed, "the engine noted no death of it".into())
        }
        _ => {}
    }
}

pub(super) fn wishes_have_their_effect(story: &Story<'_>, found: &mut Found) {
    for row in story.rows.values() {
        let ended = story.ended(row.run).map(|change| change.at);
        for (click, force) in story.stops(row.run) {
            let Some(answered) = story.obliges(click, row.run) else { continue };
            // What is over when a wish comes needs no effect any more.
            if ended.is_some_and(|ended| ended <= answered) {
                continue;
            }
            if row.wish != "stop" || (force && row.mode.as_deref() != Some("force")) {
                found.add(3, row.run, answered, "a stop of it was accepted, and isn't wished".into());
            }
        }
        let changes = story.changes.get(&row.run).map_or(&[][..], Vec::as_slice);
        let wish = |change: &Change| (change.wish.clone(), change.mode.clone(), change.save);
        let fresh = changes.windows(2).filter(|two| wish(two[0]) != wish(two[1]));
        let (fresh, noted) = (fresh.count() as u64, story.audit.get(&(row.run, "stop wished")).copied());
        if fresh != noted.unwrap_or(0) {
            let says = format!("{fresh} wishes to stop it, and {} in the audit", noted.unwrap_or(0));
            found.add(3, row.run, 0, says);
        }
    }
}

pub(super) fn pages_claim_nothing_false(story: &Story<'_>, found: &mut Found) {
    for page in &story.pages {
        let claims = page.state == "ended" || !page.outcome.is_empty() || page.confirmed.is_some();
        if !claims {
            continue;
        }
        if page.confirmed.is_none() {
            found.add(3, page.run, page.answered, "its page claims an end without a proof".into());
        }
        let Some(row) = story.rows.get(&page.run) else {
            found.add(1, page.run, page.answered, "it had a page, and has no row".into());
            continue;
        };
        // To the millisecond, one of them being rounded and the other cut.
        let apart = |(a, b): (Ms, Ms)| (a - b).abs() > 1;
        if row.outcome.as_deref() != Some(page.outcome.as_str())
            || page.confirmed.zip(row.confirmed).is_none_or(apart)
        {
            let says =
                format!("its page said {:?} at {:?}, and that was changed", page.outcome, page.confirmed);
            found.add(4, page.run, page.answered, says);
        }
        for (_, cell) in story.cells().filter(|(_, cell)| cell.run == page.run) {
            if cell.last() > page.answered {
                let late = cell.last() - page.answered;
                let says = format!("its page claimed {:?}, and it lived {late} ms later", page.outcome);
                found.add(3, page.run, page.answered, says);
            }
        }
    }
}
