//! Views of the million, each by turns with the first page; and searches.

use crate::support::{Http, Sample, say, timed};

/// Depths, filters, directions, and what is by more than one thing.
const VIEWS: [&str; 26] = [
    "/?state=all",
    "/?state=all&before=900000",
    "/?state=all&before=500000",
    "/?state=all&before=1000",
    "/?state=all&after=500000",
    "/?state=failed",
    "/?state=failed&before=500000",
    "/?state=failed&after=500000",
    "/?state=ended&before=500000",
    "/?state=running",
    "/?state=unconfirmed",
    "/?agent=claude-code",
    "/?agent=claude-code&before=500000",
    "/?worker=dock-2",
    "/?worker=dock-2&before=500000",
    "/?worker=dock-2&after=500000",
    "/?who=bench&before=500000",
    "/?last=day",
    "/?until=2026-06-01",
    "/?cost=1&before=500000",
    "/?cost=10&before=500000",
    "/?cost=10&after=500000",
    "/?cost=100",
    "/?state=failed&worker=dock-2&before=500000",
    "/?state=over_budget&worker=dock-1&cost=2.5",
    "/?state=lost&agent=claude-code",
];

/// Searches: words that are in each run, in some, in few, in none; several; and together with something else.
const SEARCHES: [&str; 12] = [
    "changed",
    "billing",
    "changed+billing",
    "leaks+billing+findings",
    "%22tests+for+billing%22",
    "file4711",
    "file17+web",
    "spent",
    "nowhere",
    "billing+-leaks",
    "billing&state=failed",
    "changed&state=over_budget&cost=20",
];

/// The bare page, whatever was asked for before it.
fn warm(bare: &mut Http) -> f64 {
    bare.get("/");
    timed(|| bare.get("/")).0
}

/// Each of the views by turns with the first page, and each of the searches; says the ratios, and the slowest hundredth. Gives
/// what the bare page took meanwhile.
pub(crate) fn measure(large: &mut Http, bare: &mut Http) -> Sample {
    let mut floor = Sample::default();
    for path in VIEWS {
        let [mut first, mut view]: [Sample; 2] = Default::default();
        for round in 0..230 {
            floor.0.push(warm(bare));
            let pair = [timed(|| large.get("/?state=all")), timed(|| large.get(path))];
            assert_eq!(pair[1].1.status, 200, "{path}: {}", pair[1].1.head);
            if round >= 30 {
                first.0.push(pair[0].0);
                view.0.push(pair[1].0);
            }
        }
        say(&format!("{}  {:.2} × first page", view.line(path), view.median() / first.median()));
    }
    let mut all = Sample::default();
    for search in SEARCHES {
        let mut sample = Sample::default();
        for round in 0..110 {
            // Each with depths of its own, also where the word has become rare.
            let path = match round % 3 {
                0 => format!("/?q={search}"),
                1 => format!("/?q={search}&before={}", 1_000_000 - round * 9_000),
                _ => format!("/?q={search}&after={}", round * 9_000),
            };
            let (ms, answer) = timed(|| large.get(&path));
            assert_eq!(answer.status, 200, "{path}: {}", answer.head);
            if round >= 10 {
                sample.0.push(ms);
            }
        }
        say(&format!("{}  p99 {:.1} ms", sample.line(&format!("search {search}")), sample.at(0.99)));
        all.0.extend(sample.0);
    }
    say(&format!("all searches: p99 {:.1} ms (goal: at most 50)", all.at(0.99)));
    floor
}
