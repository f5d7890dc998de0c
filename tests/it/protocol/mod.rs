//! The steps of `tests/it/model` against the real database: random sequences of what workers, the superuser and time can do
//! to runs, with leases long gone used again; a reference in memory foretells each answer, and after each step every row.
//!
//! A sequence that fails is shrunk, and its seed kept in `proptest-regressions/`, to be tried first from then on.

mod real;
mod reference;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use signalbox::model::run::StopMode;

use crate::app::TestApp;
use real::Real;
use reference::Reference;

/// Two workers suffice to be somebody else.
const WORKERS: [&str; 2] = ["w1", "w2"];

/// One step. Runs, workers and leases are named by numbers that wrap around what there is.
#[derive(Debug, Clone)]
enum Step {
    Start,
    Claim(usize),
    Adopt(usize, usize),
    /// Renews a worker's leases: of each run the oldest that it had, or the newest.
    Renew(usize, bool),
    MarkRunning(usize),
    Progress(usize),
    Trouble(usize),
    /// Appends this many events after those that the run has, and so many off.
    Append(usize, i64, i64),
    Release(usize),
    /// Ends it as stopped, or by itself.
    End(usize, bool),
    WishStop(usize, StopMode),
    /// The run's lease lapses.
    Lapse(usize),
    LoseLapsed,
    /// Settles a lost run by a proof from before all wishes, or from after them.
    SettleLost(usize, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (one, worker) = (0..8_usize, 0..WORKERS.len());
    let mode = prop_oneof![Just(StopMode::Graceful), Just(StopMode::Force)];
    prop_oneof![
        2 => Just(Step::Start),
        4 => worker.clone().prop_map(Step::Claim),
        2 => (worker.clone(), one.clone()).prop_map(|(worker, run)| Step::Adopt(worker, run)),
        2 => (worker.clone(), any::<bool>()).prop_map(|(worker, oldest)| Step::Renew(worker, oldest)),
        3 => one.clone().prop_map(Step::MarkRunning),
        1 => one.clone().prop_map(Step::Progress),
        1 => one.clone().prop_map(Step::Trouble),
        3 => (one.clone(), 1..3_i64, -1..2_i64).prop_map(|(lease, n, off)| Step::Append(lease, n, off)),
        2 => one.clone().prop_map(Step::Release),
        3 => (one.clone(), any::<bool>()).prop_map(|(lease, stopped)| Step::End(lease, stopped)),
        3 => (one.clone(), mode).prop_map(|(run, mode)| Step::WishStop(run, mode)),
        2 => one.clone().prop_map(Step::Lapse),
        2 => Just(Step::LoseLapsed),
        2 => (worker, one, any::<bool>()).prop_map(|(worker, run, early)| Step::SettleLost(worker, run, early)),
    ]
}

/// Takes the same steps on both sides, and compares after each.
async fn agree(app: &TestApp, steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut real, mut reference) = (Real::new(app).await, Reference::default());
    for (number, step) in steps.iter().enumerate() {
        let before = reference.clone();
        let (foretold, answered) = (reference.take(step), real.take(step).await);
        prop_assert_eq!(&foretold, &answered, "the answer to step {} {:?}, with {:#?}", number, step, before);
        let rows = real.rows().await;
        prop_assert_eq!(&reference.runs, &rows, "the rows after step {} {:?}", number, step);
        reference::check(&before.runs, &rows)?;
    }
    Ok(())
}

#[test]
fn the_database_answers_any_steps_as_the_reference_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::start());
    let config = ProptestConfig { cases: 64, max_shrink_iters: 2_000, ..ProptestConfig::default() };
    let config = ProptestConfig { source_file: Some(file!()), ..config };
    let steps = prop::collection::vec(step(), 1..40);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let held = runner.run(&steps, |steps| runtime.block_on(agree(&app, &steps)));
    if let Err(failure) = held {
        panic!("{failure}");
    }
}
