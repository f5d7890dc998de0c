//! The checker against made-up histories: it finds nothing in a good one, and in each bad one what is bad.

use super::{Violation, check};
use crate::history::{Change, Ms, Note, Page, Record, Row, Sight, Wish};

/// Every test here, by its name.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("a_good_history_is_fine", a_good_history_is_fine),
    ("a_lost_run_is_found", a_lost_run_is_found),
    ("a_run_that_never_settles_is_found", a_run_that_never_settles_is_found),
    ("a_form_that_starts_two_is_found", a_form_that_starts_two_is_found),
    ("a_second_container_is_found", a_second_container_is_found),
    ("a_container_started_again_is_found", a_container_started_again_is_found),
    ("a_heartbeat_after_the_proof_is_found", a_heartbeat_after_the_proof_is_found),
    ("a_resurrection_is_found", a_resurrection_is_found),
    ("a_proof_before_the_engines_word_is_found", a_proof_before_the_engines_word_is_found),
    ("one_killed_in_its_start_has_no_noted_death", one_killed_in_its_start_has_no_noted_death),
    ("a_termination_that_nobody_wished_is_found", a_termination_that_nobody_wished_is_found),
    ("a_wish_without_effect_is_found", a_wish_without_effect_is_found),
    ("a_wish_audited_twice_is_found", a_wish_audited_twice_is_found),
    ("an_answer_that_is_late_is_found", an_answer_that_is_late_is_found),
    ("a_gate_that_stays_open_is_found", a_gate_that_stays_open_is_found),
    ("a_proof_long_after_the_last_fault_is_found", a_proof_long_after_the_last_fault_is_found),
    ("a_page_that_claims_too_much_is_found", a_page_that_claims_too_much_is_found),
    ("an_end_that_changes_is_found", an_end_that_changes_is_found),
    ("an_orphan_is_found", an_orphan_is_found),
    ("a_strangers_death_is_found", a_strangers_death_is_found),
    ("a_write_under_an_old_fence_is_found", a_write_under_an_old_fence_is_found),
    ("a_gap_in_a_transcript_is_found", a_gap_in_a_transcript_is_found),
    ("a_line_of_another_life_is_found", a_line_of_another_life_is_found),
    ("a_cut_off_worker_that_goes_on_is_found", a_cut_off_worker_that_goes_on_is_found),
    ("a_frozen_worker_is_excused_for_as_long_as_it_is", a_frozen_worker_is_excused_for_as_long_as_it_is),
];

const RUN: i64 = 1;
const CELL: &str = "c0ffeec0ffeec0ffee";
const MARK: &str = "mark";

fn change(n: i64, at: Ms, life: &str, fence: i64, state: &str) -> Change {
    let held = matches!(state, "starting" | "running");
    Change {
        n,
        at,
        life: life.into(),
        run: RUN,
        fence,
        state: state.into(),
        wish: "run".into(),
        mode: None,
        save: false,
        worker: (fence > 0).then(|| "box".into()),
        container: matches!(state, "running" | "ended").then(|| CELL.into()),
        lease_until: held.then_some(at + 30_000),
        outcome: None,
        confirmed: None,
        events: 0,
        refused: 0,
        rest: n.to_string(),
    }
}

fn scan(at: Ms, container: &str) -> Record {
    let sight = Sight { run: RUN, container: container.into(), at, pids: 2, beat: Some(at - 10), beats: 1 };
    Record::Scan { from: at, to: at + 1, cells: vec![sight] }
}

fn note(at: Ms, did: &str, container: &str) -> Record {
    let exit = (did == "die").then_some(137);
    let (did, container) = (did.into(), container.into());
    Record::Engine(Note { at, did, container, run: Some(RUN), worker: Some("box".into()), exit })
}

fn asked(at: Ms, click: u64, wish: Wish) -> [Record; 2] {
    [Record::Asked { at, click, wish }, Record::Answered { at: at + 20, click, status: 303, run: Some(RUN) }]
}

fn line(seq: i64, text: &str) -> Record {
    Record::Line { run: RUN, seq, source: "stdout".into(), text: text.into() }
}

fn audit(did: &str) -> Record {
    Record::Audit { at: 0, who: "ada".into(), did: did.into(), run: Some(RUN) }
}

/// One run: started, at work from second 2 to second 5, stopped by force.
fn good() -> Vec<Record> {
    let start = Wish::Start { play: "stubborn 0".into(), once: "form".into() };
    let stop = |change: Change| Change { wish: "stop".into(), mode: Some("force".into()), ..change };
    let ended = stop(change(5, 5_130, "box.1", 1, "ended"));
    let row = Row {
        run: RUN,
        once: Some("form".into()),
        state: "ended".into(),
        wish: "stop".into(),
        mode: Some("force".into()),
        worker: Some("box".into()),
        fence: 1,
        container: Some(CELL.into()),
        outcome: Some("terminated".into()),
        step: Some("sigkill".into()),
        exit: Some(137),
        confirmed: Some(5_120),
        cut: Some(5_030),
        events: 2,
        ..Row::default()
    };
    let mut all = vec![
        Record::Began { at: 0, seed: 1, seconds: 10, lease_ms: 30_000 },
        Record::EngineBack { at: 0 },
        Record::Life { at: 10, life: "serve.1".into(), begins: true },
        Record::Life { at: 10, life: "box.1".into(), begins: true },
        note(1_500, "create", CELL),
        note(1_600, "start", CELL),
        note(5_100, "die", CELL),
        Record::Change(change(1, 1_010, "serve.1", 0, "queued")),
        Record::Change(change(2, 1_100, "box.1", 1, "starting")),
        Record::Change(change(3, 1_700, "box.1", 1, "running")),
        Record::Change(stop(change(4, 5_010, "serve.1", 1, "running"))),
        Record::Change(Change { outcome: Some("terminated".into()), confirmed: Some(5_120), ..ended }),
        Record::Row(row),
        line(1, "line 1 mark"),
        line(2, &format!("line 2 {MARK}")),
        audit("run started"),
        audit("stop wished"),
        Record::Settled { at: 9_000, in_time: true },
    ];
    all.extend(asked(1_000, 1, start));
    all.extend(asked(5_000, 2, Wish::Stop { stop: RUN, force: true, save: false }));
    all.extend((20..51).map(|tenth| scan(tenth * 100, CELL)));
    all.extend([6_000, 7_000, 8_000].map(|at| Record::Scan { from: at, to: at + 1, cells: Vec::new() }));
    all
}

/// What the checker says of the good history after something was done to it.
fn after(deed: impl FnOnce(&mut Vec<Record>)) -> Vec<Violation> {
    let mut all = good();
    deed(&mut all);
    check(&all)
}

#[track_caller]
fn assert_found(point: u8, found: &[Violation], words: &str) {
    let is = |violation: &Violation| violation.point == point && violation.says.contains(words);
    assert!(found.iter().any(is), "no violation of {point} that says {words:?} in {found:#?}");
}

/// Does something to the run's row at the end.
fn row(all: &mut [Record], deed: impl Fn(&mut Row)) {
    all.iter_mut().for_each(|record| {
        if let Record::Row(row) = record {
            deed(row);
        }
    });
}

fn a_good_history_is_fine() {
    assert_eq!(check(&good()), []);
}

fn a_lost_run_is_found() {
    let found = after(|all| all.retain(|record| !matches!(record, Record::Row(_))));
    assert_found(1, &found, "there is no such run");
}

fn a_run_that_never_settles_is_found() {
    let found = after(|all| row(all, |row| row.state = "lost".into()));
    assert_found(1, &found, "it is lost when all has had its time");
}

fn a_form_that_starts_two_is_found() {
    let found = after(|all| {
        let again = Wish::Start { play: "stubborn 0".into(), once: "form".into() };
        all.push(Record::Asked { at: 1_001, click: 9, wish: again });
        all.push(Record::Answered { at: 1_020, click: 9, status: 303, run: Some(2) });
    });
    assert_found(1, &found, "sent twice");
}

fn a_second_container_is_found() {
    let found = after(|all| all.push(scan(3_050, "decafdecafdecaf")));
    assert_found(2, &found, "2 containers of it have lived");
    let found = after(|all| {
        all.iter_mut().for_each(|record| {
            if let Record::Scan { cells, .. } = record {
                cells.extend(
                    cells
                        .clone()
                        .into_iter()
                        .map(|cell| Sight { container: "decafdecafdecaf".into(), ..cell }),
                );
            }
        });
    });
    assert_found(2, &found, "lived at once");
}

fn a_container_started_again_is_found() {
    assert_found(2, &after(|all| all.push(note(3_000, "start", CELL))), "started twice");
    // A note that comes too late brings nothing back.
    let late = after(|all| all.push(note(5_105, "start", CELL)));
    assert_eq!(late, []);
}

fn a_heartbeat_after_the_proof_is_found() {
    let found = after(|all| all.push(scan(5_400, CELL)));
    assert_found(3, &found, "280 ms after \"terminated\" was confirmed");
    assert!(found.iter().all(|violation| violation.point == 3), "{found:?}");
}

fn a_resurrection_is_found() {
    let found = after(|all| {
        all.push(note(8_000, "start", CELL));
        all.push(scan(14_000, CELL));
    });
    assert_found(4, &found, "started 2870 ms after its end");
    assert_found(4, &found, "is seen 8880 ms after");
}

fn a_proof_before_the_engines_word_is_found() {
    let found = after(|all| {
        all.iter_mut().for_each(|record| {
            if let Record::Engine(Note { did, at, .. }) = record
                && did == "die"
            {
                *at = 5_300;
            }
        });
    });
    assert_found(3, &found, "180 ms after the proof of it");
    let dies = |record: &Record| matches!(record, Record::Engine(note) if note.did == "die");
    assert_found(3, &after(|all| all.retain(|record| !dies(record))), "the engine noted no death");
    // An engine that was restarted meanwhile may have forgotten.
    let forgot = after(|all| {
        all.retain(|record| !dies(record));
        all.push(Record::EngineBack { at: 4_000 });
    });
    assert_eq!(forgot, []);
}

fn one_killed_in_its_start_has_no_noted_death() {
    let without = |notes: &'static [&'static str]| {
        after(|all| {
            all.retain(
                |record| !matches!(record, Record::Engine(note) if notes.contains(&note.did.as_str())),
            );
            row(all, |row| row.step = Some("host_kill".into()));
        })
    };
    assert_eq!(without(&["start", "die"]), []);
    assert_found(3, &without(&["die"]), "the engine noted no death of it");
}

fn a_termination_that_nobody_wished_is_found() {
    let stop = |record: &Record| matches!(record, Record::Asked { wish: Wish::Stop { .. }, .. });
    assert_found(3, &after(|all| all.retain(|record| !stop(record))), "nobody had wished it");
}

fn a_wish_without_effect_is_found() {
    let found = after(|all| row(all, |row| row.wish = "run".into()));
    assert_found(3, &found, "was accepted, and isn't wished");
    for (fresh, asked_at, obliges) in [(true, 3_000, true), (true, 900, false), (false, 3_000, false)] {
        let found = after(|all| {
            let stop = |record: &Record| matches!(record, Record::Asked { wish: Wish::Stop { .. }, .. });
            all.retain(|record| !stop(record));
            row(all, |row| (row.mode, row.outcome) = (Some("graceful".into()), Some("failed".into())));
            all.extend(asked(asked_at, 7, Wish::Handle { fresh }));
        });
        let is = |violation: &Violation| violation.says.contains("was accepted, and isn't wished");
        assert_eq!(found.iter().any(is), obliges, "{found:?}");
    }
}

fn a_wish_audited_twice_is_found() {
    assert_found(3, &after(|all| all.push(audit("stop wished"))), "1 wishes to stop it, and 2 in the audit");
    assert_found(1, &after(|all| all.push(audit("run started"))), "stands in the audit 2 times");
}

/// A fault, from its beginning to its end.
fn fault(from: Ms, to: Ms, kind: &str, target: &str) -> [Record; 2] {
    let edge = |at, begins| Record::Fault { at, fault: 1, kind: kind.into(), target: target.into(), begins };
    [edge(from, true), edge(to, false)]
}

fn an_answer_that_is_late_is_found() {
    let late = |all: &mut Vec<Record>| {
        for record in all {
            if let Record::Answered { at, click: 1, .. } = record {
                *at = 3_500;
            }
        }
    };
    assert_found(3, &after(late), "answered after 2500 ms");
    let excused = after(|all| {
        late(all);
        all.extend(fault(2_000, 2_500, "server-frozen", "serve"));
    });
    assert_eq!(excused, []);
}

fn a_gate_that_stays_open_is_found() {
    let open = |all: &mut Vec<Record>| row(all, |row| row.cut = Some(6_200));
    assert_found(3, &after(open), "its gate was closed 1200 ms after the wish");
    let with = |kind: &'static str, target: &'static str| {
        after(|all| {
            open(all);
            all.extend(fault(4_000, 5_110, kind, target));
        })
    };
    assert_found(3, &with("engine-frozen", "engine"), "its gate was closed");
    assert_eq!(with("redis-frozen", "redis"), []);
}

fn a_proof_long_after_the_last_fault_is_found() {
    let late = |from, to| {
        after(|all| {
            row(all, |row| row.confirmed = Some(15_000));
            for record in all.iter_mut() {
                match record {
                    Record::Change(change) if change.confirmed.is_some() => change.confirmed = Some(15_000),
                    Record::Engine(note) if note.did == "die" => note.at = 14_990,
                    Record::Settled { at, .. } => *at = 20_000,
                    _ => {}
                }
            }
            all.extend(fault(from, to, "redis-frozen", "redis"));
        })
    };
    assert_found(3, &late(5_050, 7_000), "proven 8000 ms after the last fault");
    assert_eq!(late(5_050, 12_000), []);
}

fn a_page_that_claims_too_much_is_found() {
    let page = |answered, outcome: &str, confirmed| {
        let (state, wish, outcome) = ("ended".into(), "stop".into(), outcome.into());
        Record::Page(Page { asked: answered - 5, answered, run: RUN, state, outcome, wish, confirmed })
    };
    assert_eq!(after(|all| all.push(page(5_200, "terminated", Some(5_120)))), []);
    assert_found(3, &after(|all| all.push(page(4_500, "terminated", Some(5_120)))), "and it lived");
    assert_found(3, &after(|all| all.push(page(5_200, "terminated", None))), "without a proof");
    assert_found(4, &after(|all| all.push(page(5_200, "succeeded", Some(5_120)))), "that was changed");
}

fn an_end_that_changes_is_found() {
    let found = after(|all| {
        let late = Change {
            wish: "stop".into(),
            mode: Some("force".into()),
            ..change(6, 6_000, "box.1", 1, "ended")
        };
        all.push(Record::Change(Change { outcome: Some("failed".into()), confirmed: Some(5_120), ..late }));
    });
    assert_found(4, &found, "an end was changed");
    let found = after(|all| all.push(Record::Change(change(6, 6_000, "box.1", 1, "running"))));
    assert_found(4, &found, "ended became running");
    assert_found(4, &found, "ended became running, by box.1");
}

/// The run's lease was lost at second 35 and its container seen until the second told.
fn lost_and_alive_until(second: Ms) -> Vec<Record> {
    let mut all = good();
    all.retain(|record| !matches!(record, Record::Change(change) if change.n > 3));
    all.push(Record::Change(Change { lease_until: Some(31_700), ..change(4, 31_800, "serve.1", 2, "lost") }));
    all.extend((51..second * 10).map(|tenth| scan(tenth * 100, CELL)));
    all
}

fn an_orphan_is_found() {
    let mut killed = lost_and_alive_until(100);
    killed.push(Record::Life { at: 6_000, life: "box.1".into(), begins: false });
    assert_found(5, &check(&killed), "ms after its last lease");
    let in_time = check(&lost_and_alive_until(90));
    assert!(!in_time.iter().any(|violation| violation.point == 5), "{in_time:?}");
}

fn a_strangers_death_is_found() {
    let plant = |ours, alive| {
        after(move |all| {
            all.push(Record::Planted { at: 100, container: "stranger".into(), ours });
            all.push(Record::Left { at: 8_000, container: "stranger".into(), alive });
        })
    };
    assert_eq!((plant(false, true), plant(true, false)), (vec![], vec![]));
    let for_long = after(|all| {
        all.push(Record::Planted { at: 100, container: "stranger".into(), ours: false });
        all.extend((0..100).map(|second| scan(second * 1000, "stranger")));
    });
    assert_eq!(for_long, []);
    assert_found(5, &plant(false, false), "is dead");
    assert_found(5, &plant(true, true), "lives at the end");
}

fn a_write_under_an_old_fence_is_found() {
    let found = after(|all| {
        all.iter_mut().for_each(|record| match record {
            // Adopted by another life, and written to by the first all the same.
            Record::Change(change) if change.n == 3 => {
                (change.fence, change.life) = (2, "box.2".into());
            }
            Record::Change(change) if change.n > 3 => change.fence = 2,
            _ => {}
        });
    });
    assert_found(6, &found, "box.1 wrote under fence 2, which is box.2's");
    // One that was refused and counted is fine.
    let counted = after(|all| {
        let late = Change {
            wish: "stop".into(),
            mode: Some("force".into()),
            ..change(6, 6_000, "box.0", 1, "ended")
        };
        let end = Change { outcome: Some("terminated".into()), confirmed: Some(5_120), ..late };
        all.push(Record::Change(Change { refused: 1, rest: "5".into(), ..end }));
    });
    assert_eq!(counted, []);
}

fn a_gap_in_a_transcript_is_found() {
    assert_found(6, &after(|all| all.push(line(4, "line 3 mark"))), "it counts 2 events, and has 3");
    assert_found(6, &after(|all| all.push(line(4, "line 3 mark"))), "where event 3 belongs stands 4");
    assert_found(6, &after(|all| all.push(line(3, "line 2 mark"))), "event 3 is line 2, not 3");
}

fn a_line_of_another_life_is_found() {
    assert_found(6, &after(|all| all.push(line(3, "line 3 kram"))), "printed by another agent");
}

fn a_cut_off_worker_that_goes_on_is_found() {
    assert_found(7, &check(&lost_and_alive_until(40)), "after its lease has lapsed");
    let in_time = check(&lost_and_alive_until(32));
    assert!(!in_time.iter().any(|violation| violation.point == 7), "{in_time:?}");
}

fn a_frozen_worker_is_excused_for_as_long_as_it_is() {
    let frozen = |to| {
        let mut all = lost_and_alive_until(40);
        for (at, begins) in [(15_000, true), (to, false)] {
            let (kind, target) = ("worker-frozen".into(), "box".into());
            all.push(Record::Fault { at, fault: 1, kind, target, begins });
        }
        check(&all).iter().any(|violation| violation.point == 7)
    };
    assert_eq!((frozen(38_000), frozen(30_000)), (false, true));
}
