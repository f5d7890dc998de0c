//! Points 1 and 2: no accepted run is lost, none is doubled, and none has two containers.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use super::story::Story;
use crate::history::{Ms, Wish};

pub(super) fn nothing_is_lost(story: &Story<'_>, found: &mut Found) {
    let mut runs_by_form: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for click in story.clicks.values() {
        let Wish::Start { once, .. } = click.wish else { continue };
        let runs = runs_by_form.entry(once).or_default();
        let Some((at, run)) = click.accepted() else { continue };
        runs.insert(run);
        match story.rows.get(&run) {
            None => found.add(1, run, at, "its start was accepted, and there is no such run".into()),
            Some(row) if row.once.as_deref() != Some(once) => {
                found.add(1, run, at, "the start led to a run of another form".into());
            }
            Some(_) => {}
        }
    }
    for (once, runs) in &runs_by_form {
        if runs.len() > 1 {
            found.add(1, runs.first().copied(), 0, format!("form {once} sent twice started {runs:?}"));
        }
    }
    for row in story.rows.values() {
        if row.once.as_deref().is_none_or(|once| !runs_by_form.contains_key(once)) {
            found.add(1, row.run, 0, "nobody asked for it".into());
        }
        if row.state != "ended" {
            let at = story.settled.map_or(0, |(at, _)| at);
            found.add(1, row.run, at, format!("it is {} when all has had its time to settle", row.state));
        }
        let started = story.audit.get(&(row.run, "run started")).copied().unwrap_or(0);
        if started != 1 {
            found.add(1, row.run, 0, format!("its start stands in the audit {started} times"));
        }
    }
}

pub(super) fn at_most_one_container(story: &Story<'_>, found: &mut Found) {
    for run in story.runs() {
        let containers = story.containers_of(run);
        if containers.len() > 1 {
            let ids: Vec<&str> = containers.iter().map(|id| &id[..12.min(id.len())]).collect();
            found.add(2, run, 0, format!("{} containers of it have lived: {}", ids.len(), ids.join(", ")));
        }
    }
    let mut told = BTreeSet::new();
    for (from, _, cells) in &story.scans {
        let mut runs: BTreeMap<i64, u32> = BTreeMap::new();
        for sight in cells.iter().filter(|sight| !story.planted.contains_key(sight.container.as_str())) {
            *runs.entry(sight.run).or_default() += 1;
        }
        for (run, _) in runs.into_iter().filter(|(_, count)| *count > 1) {
            if told.insert(run) {
                found.add(2, run, *from, "two containers of it lived at once".into());
            }
        }
    }
    let own = |container: &str| !story.planted.contains_key(container);
    for note in story.notes.iter().filter(|note| own(&note.container)) {
        let starts =
            story.notes.iter().filter(|other| other.did == "start" && other.container == note.container);
        // An engine that hung while a container lived and died has been seen to note its start after its death: that
        // counts when something lived then.
        let lived = |at: Ms| story.cells.get(note.container.as_str()).is_some_and(|cell| cell.last() > at);
        let again: Vec<Ms> = starts.map(|start| start.at).collect();
        if note.did == "create" && again.len() > 1 && lived(again[1]) {
            found.add(2, note.run, again[1], "its container was started twice".into());
        }
    }
}
