//! The guarantee's times: how long an answer, a closed gate and a proof may take, and what excuses them.

use super::story::{Click, Fault, Story};
use super::{Found, TOLERANCE, summary};
use crate::history::{Ms, Wish};

/// Every form is answered within this, whatever is wrong but with the server itself.
const ANSWER: Ms = 2_000;
/// A gate is closed within this of the wish, whatever the engine does.
const GATE: Ms = 1_000;
/// A stop by force is proven within this of the end of the last fault in its time.
const RECOVERY: Ms = 5_000;

/// The guarantee's figures are of the 99th in a hundred; fewer stops than that say nothing about it.
pub(super) fn stops_are_in_time(story: &Story<'_>, found: &mut Found) {
    for (force, within) in [(true, 2_000), (false, 17_000)] {
        let stops = summary::stops(story, force, true);
        let mut taken: Vec<Ms> = stops.iter().map(|stop| stop.proven).collect();
        if taken.len() < 100 {
            continue;
        }
        let p99 = summary::percentile(&mut taken, 99);
        if p99 > within {
            let how = if force { "force" } else { "graceful" };
            found.add(
                3,
                None,
                story.end,
                format!("without faults, {how} takes {p99} ms (p99 of {})", taken.len()),
            );
        }
    }
}

pub(super) fn forms_are_answered(story: &Story<'_>, found: &mut Found) {
    for (number, click) in &story.clicks {
        let Some((answered, status, _)) = click.answer else { continue };
        let served =
            !story.faults.iter().any(|fault| fault.is_of_server() && fault.overlaps(click.asked, answered));
        let taken = answered - click.asked;
        if served && taken > ANSWER + TOLERANCE {
            found.add(
                3,
                None,
                click.asked,
                format!("form {number} was answered after {taken} ms, with {status}"),
            );
        }
    }
}

/// Only what the worker hears of at once is judged: a single stop, with Redis, Postgres and the worker itself in order.
pub(super) fn gates_are_closed_at_once(story: &Story<'_>, found: &mut Found) {
    for row in story.rows.values() {
        let (Some(cut), Some(asked)) = (row.cut, first_single_stop(story, row.run)) else { continue };
        let excuses = |fault: &Fault<'_>| !fault.is_of_engine() && fault.overlaps(asked - RECOVERY, cut);
        let lived = story.at(row.run, asked).is_some_and(|change| change.state == "running");
        let held = row.worker.as_deref().is_some_and(|worker| story.lived_through(worker, asked, cut));
        if lived && held && cut - asked > GATE + TOLERANCE && !story.faults.iter().any(excuses) {
            found.add(3, row.run, asked, format!("its gate was closed {} ms after the wish", cut - asked));
        }
    }
}

/// When a run was first wished to stop, if that was by a form of its own.
fn first_single_stop(story: &Story<'_>, run: i64) -> Option<Ms> {
    let single = |click: &Click<'_>| matches!(click.wish, Wish::Stop { .. });
    let (first, _) = story.stops(run).min_by_key(|(click, _)| click.asked)?;
    (single(first) && story.obliges(first, run).is_some()).then_some(first.asked)
}

pub(super) fn proofs_follow_the_last_fault(story: &Story<'_>, found: &mut Found) {
    for (stop, taken) in summary::recoveries(story) {
        if taken > RECOVERY + TOLERANCE {
            found.add(
                3,
                stop.run,
                stop.asked,
                format!("its stop was proven {taken} ms after the last fault in its time"),
            );
        }
    }
}
