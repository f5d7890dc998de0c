//! Points 5 and 7: nothing of ours lives on without a living lease, and nothing of others is touched.

use super::Found;
use super::story::{Cell, Story, worker_of};
use crate::history::{Change, Ms};

/// Two leases.
const ORPHANS_DIE_WITHIN: Ms = 60_000;
/// How much later than its lease a container of a cut-off worker may be seen.
const LATE: Ms = 1_000;
/// How long after a part is back a worker may need to do with it what it couldn't before.
const RECOVERY: Ms = 5_000;
/// From two thirds of the lease on a worker stops what it can't renew; and a little more.
const FENCE_BEFORE: Ms = 12_000;

pub(super) fn no_orphan_lives(story: &Story<'_>, found: &mut Found) {
    for (container, cell) in &story.cells {
        let planted = story.planted.get(container);
        if planted.is_some_and(|(_, ours)| !ours) {
            continue;
        }
        let worker = worker_of_container(story, container, cell);
        let hinders = |fault: &super::story::Fault<'_>| {
            worker.is_none_or(|worker| fault.hinders(worker) || fault.target == worker)
                || fault.kind.starts_with("postgres-") && fault.target == "postgres"
        };
        let leases = if planted.is_some() { Vec::new() } else { leases(story, cell.run) };
        for at in &cell.seen {
            let held = leases.iter().filter(|(from, _)| from <= at).map(|(_, to)| (*to).min(*at)).max();
            let since = held.unwrap_or_else(|| planted.map_or(cell.first(), |(planted, _)| *planted));
            let alone = at - since;
            let excused = if alone > ORPHANS_DIE_WITHIN { story.hindered(since, *at, hinders) } else { 0 };
            if alone - excused > ORPHANS_DIE_WITHIN {
                let says = format!(
                    "container {} lives {alone} ms after its last lease ({excused} ms of faults left out)",
                    &container[..12.min(container.len())]
                );
                found.add(5, cell.run, *at, says);
                break;
            }
        }
    }
    for (container, (at, ours)) in &story.planted {
        let alive = story.left.get(container).copied();
        if *ours && alive == Some(true) {
            found.add(5, None, *at, format!("the orphan {container} lives at the end"));
        }
        if !*ours && alive == Some(false) {
            found.add(5, None, *at, format!("the stranger's container {container} is dead"));
        }
    }
}

/// When a run's lease was alive.
fn leases(story: &Story<'_>, run: i64) -> Vec<(Ms, Ms)> {
    let changes = story.changes.get(&run).map_or(&[][..], Vec::as_slice);
    let nexts = changes.iter().skip(1).map(|next| next.at).chain([Ms::MAX]);
    let held = changes.iter().zip(nexts).filter(|(change, _)| is_held(change));
    held.map(|(change, next)| (change.at, change.lease_until.unwrap_or(0).min(next))).collect()
}

fn is_held(change: &Change) -> bool {
    matches!(change.state.as_str(), "starting" | "running")
}

fn worker_of_container<'a>(story: &Story<'a>, container: &str, cell: &Cell) -> Option<&'a str> {
    let noted =
        story.notes.iter().find_map(|note| note.worker.as_deref().filter(|_| note.container == container));
    noted.or_else(|| story.rows.get(&cell.run)?.worker.as_deref())
}

pub(super) fn a_cut_off_worker_stops_itself(story: &Story<'_>, found: &mut Found) {
    for (_, cell) in story.cells() {
        for at in &cell.seen {
            let Some(change) = story.at(cell.run, *at) else { continue };
            let until = change.lease_until.filter(|_| is_held(change) || change.state == "lost");
            let Some(until) = until.filter(|until| *at > until + LATE) else { continue };
            let Some(life) = holder(story, cell.run, *at) else { continue };
            // The next life of a worker that was killed holds nothing that it must give up.
            let gone = story.lives.get(life).and_then(|(_, end)| *end).is_some_and(|end| end <= *at);
            if gone || *at <= excused_until(story, life, until, *at) {
                continue;
            }
            let says = format!("{life} lets it live {} ms after its lease has lapsed", at - until);
            found.add(7, cell.run, *at, says);
            break;
        }
    }
}

/// Who claimed or adopted a run last, at a time.
fn holder<'a>(story: &Story<'a>, run: i64, at: Ms) -> Option<&'a str> {
    let owners = story.owners(run);
    let changes = story.changes.get(&run)?;
    let taken = changes.iter().rev().filter(|change| change.at <= at && is_held(change));
    taken.filter_map(|change| owners.get(&change.fence).copied()).next()
}

/// Until when a worker that was frozen, or couldn't reach its engine, is given.
fn excused_until(story: &Story<'_>, life: &str, until: Ms, at: Ms) -> Ms {
    let hindering = story
        .faults
        .iter()
        .filter(|fault| fault.hinders(worker_of(life)) && fault.overlaps(until - FENCE_BEFORE, at));
    hindering.map(|fault| fault.to + RECOVERY).max().unwrap_or(0)
}
