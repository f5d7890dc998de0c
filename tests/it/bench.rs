//! When a bench may tell what it has measured.

#[path = "../../benches/support/judge.rs"]
mod judge;

use judge::{Work, busy, drifted};

/// Two processors after some seconds, of which others than the named have used `elsewhere`: `init`, the bench's own `with-stores`
/// (2) with its Postgres (3) and the bench (4), and somebody's `cc1 (x) plus` (5).
fn after(seconds: u64, postgres: u64, bench: u64, compiler: u64, elsewhere: u64) -> Work {
    let user = postgres + bench + compiler + elsewhere;
    let idle = 200 * seconds - user;
    let stat = format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0 0\ncpu1 0 0\nintr 7\n");
    let process = |pid, name, parent, ticks: u64| {
        format!("{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {} {} 0 0", ticks / 2, ticks - ticks / 2)
    };
    let processes = [
        process(1, "init", 0, 0),
        process(2, "with-stores", 1, 0),
        process(3, "postgres", 2, postgres),
        process(4, "pages", 2, bench),
        process(5, "cc1 (x) plus", 1, compiler),
    ];
    Work::read(&stat, processes).unwrap()
}

#[test]
fn a_machine_that_only_the_bench_uses_is_quiet() {
    let before = after(0, 0, 0, 0, 0);
    assert_eq!(busy(&before, &after(2, 150, 180, 10, 0), 2), None);
    assert_eq!(busy(&before, &after(2, 0, 0, 0, 49), 2), None);
}

#[test]
fn a_machine_that_others_use_is_busy_and_they_are_named() {
    let before = after(0, 0, 0, 0, 0);
    let why = busy(&before, &after(2, 20, 20, 150, 0), 2).unwrap();
    assert!(why.contains("0.75 processors") && why.contains("cc1 (x) plus 0.75"), "{why}");
    assert!(!why.contains("postgres"), "{why}");
    // Of the bench alone, its Postgres isn't.
    assert!(busy(&before, &after(2, 100, 20, 0, 0), 4).unwrap().contains("postgres 0.50"));
}

#[test]
fn all_that_with_stores_has_started_is_the_benchs_own() {
    let work = after(1, 0, 0, 0, 0);
    assert_eq!(work.topmost(4, |pid| pid == 2 || pid == 4), 2);
    assert_eq!(work.topmost(4, |pid| pid == 5), 4);
}

#[test]
fn work_of_nobody_who_can_be_seen_counts_too() {
    let why = busy(&after(1, 0, 0, 0, 0), &after(3, 0, 0, 0, 51), 2).unwrap();
    assert!(why.contains("by nobody who can be seen here"), "{why}");
}

#[test]
fn a_clock_that_stands_proves_no_quiet() {
    assert!(busy(&after(2, 0, 0, 0, 0), &after(2, 0, 0, 0, 0), 2).is_some());
}

#[test]
fn a_floor_that_stays_may_have_outliers() {
    let times: Vec<f64> =
        (0..30).map(|n| if n % 5 == 0 { 9.0 } else { 1.0 + f64::from(n) / 200.0 }).collect();
    assert_eq!(drifted("a bare page", &times), None);
}

#[test]
fn a_floor_that_was_another_in_any_third_has_drifted() {
    for third in 0..3 {
        for other in [0.7, 1.3] {
            let times: Vec<f64> = (0..30).map(|n| if n / 10 == third { other } else { 1.0 }).collect();
            let why = drifted("a bare page", &times).unwrap();
            assert!(why.starts_with("a bare page drifted"), "{why}");
        }
    }
}

#[test]
fn a_floor_that_was_hardly_measured_proves_nothing() {
    assert!(drifted("a bare page", &[1.0; 8]).is_some());
    assert_eq!(drifted("a bare page", &[1.0; 9]), None);
}
