//! Points 4 and 6, in the journal: an end is final, wishes are never taken back, fences only grow, and nobody writes
//! but under a fence of their own.

use super::Found;
use super::story::{Story, worker_of};
use crate::history::Change;

pub(super) fn what_is_over_stays_over(story: &Story<'_>, found: &mut Found) {
    for (run, changes) in &story.changes {
        for two in changes.windows(2) {
            let (before, after) = (two[0], two[1]);
            if let Some(says) = step_back(before, after) {
                found.add(4, *run, after.at, format!("{says}, by {}", after.life));
            }
        }
        let Some(ended) = story.ended(*run) else { continue };
        for note in story.notes.iter().filter(|note| note.run == Some(*run) && note.did == "start") {
            if note.at > ended.at && !story.planted.contains_key(note.container.as_str()) {
                let late = note.at - ended.at;
                found.add(4, *run, note.at, format!("its container was started {late} ms after its end"));
            }
        }
    }
}

/// What a change must never be.
fn step_back(before: &Change, after: &Change) -> Option<String> {
    let (from, to) = (before.state.as_str(), after.state.as_str());
    let forward = match from {
        "queued" => matches!(to, "queued" | "starting" | "ended"),
        "starting" => matches!(to, "starting" | "running" | "queued" | "ended" | "lost"),
        "running" => matches!(to, "running" | "ended" | "lost"),
        "lost" => matches!(to, "lost" | "ended"),
        _ => to == "ended",
    };
    if !forward {
        return Some(format!("{from} became {to}"));
    }
    if after.fence < before.fence {
        return Some(format!("fence {} became {}", before.fence, after.fence));
    }
    if (before.wish.as_str(), after.wish.as_str()) == ("stop", "run") {
        return Some("a wish to stop was taken back".into());
    }
    if before.mode.as_deref() == Some("force") && after.mode.as_deref() != Some("force") {
        return Some("a stop by force became a lesser one".into());
    }
    let end =
        |change: &Change| (change.outcome.clone(), change.confirmed, change.container.clone(), change.fence);
    if from == "ended" && end(before) != end(after) {
        return Some(format!("an end was changed from {:?} to {:?}", end(before), end(after)));
    }
    None
}

pub(super) fn nobody_writes_under_an_old_fence(story: &Story<'_>, found: &mut Found) {
    for (run, changes) in &story.changes {
        let owners = story.owners(*run);
        for two in changes.windows(2) {
            let (before, after) = (two[0], two[1]);
            if after.life.starts_with("serve.") || may_write(before, after, owners.get(&after.fence).copied())
            {
                continue;
            }
            let owner = owners.get(&after.fence).copied().unwrap_or("nobody");
            let says = format!(
                "{} wrote under fence {}, which is {owner}'s ({} → {}, {} events)",
                after.life, after.fence, before.state, after.state, after.events
            );
            found.add(6, *run, after.at, says);
        }
    }
}

/// Whether this change was its writer's to make.
fn may_write(before: &Change, after: &Change, owner: Option<&str>) -> bool {
    let own = owner == Some(after.life.as_str());
    // A ghost's write that was refused is counted, and that is all of it.
    if after.refused == before.refused + 1 && after.rest == before.rest {
        return true;
    }
    match (before.state.as_str(), after.state.as_str()) {
        // Anybody says why a run waits, or that a lease has lapsed.
        ("queued", "queued") | (_, "lost") => true,
        // The worker that had it settles it, in whichever life.
        ("lost", "ended") => after.worker.as_deref() == Some(worker_of(&after.life)),
        // Claims and adoptions make the new fence their own.
        _ => own && (after.fence == before.fence || after.fence == before.fence + 1),
    }
}
