//! The table of faults in `docs/operations.md` names tests that are there, and every test of a fault that is here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files whose every test has its row.
const FILES: [&str; 9] = [
    "it/faults/redis.rs",
    "it/faults/postgres.rs",
    "it/faults/server.rs",
    "it/faults/wishes.rs",
    "it/faults/host.rs",
    "it/crashes.rs",
    "it/sick_engine.rs",
    "e2e/agents.rs",
    "nemesis/broken.rs",
];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<&str> {
    line.split_once("fn ")?.1.split('(').next()
}

/// The tests of a file: marked as such, or listed by a `main` of its own.
fn tests_in(text: &str) -> BTreeSet<String> {
    let marked = text.lines().zip(text.lines().skip(1)).filter(|(mark, _)| {
        let mark = mark.trim_start();
        mark.starts_with("#[test]") || mark.starts_with("#[tokio::test")
    });
    let mut found: BTreeSet<String> =
        marked.filter_map(|(_, line)| function(line)).map(str::to_owned).collect();
    if text.contains("libtest_mimic::run(") {
        let words = text.split(|letter: char| letter != '_' && !letter.is_alphanumeric());
        found.extend(words.map(str::to_owned));
    }
    found
}

/// Every test below this folder, as `file's module::function` is too much to ask of a table.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.append(&mut tests_in(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The tests that the rows name, in their last column; each row names one at least.
fn named() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, table) =
        text.split_once("| fault | what one sees | what Signalbox does | test |").expect("a table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut named = Vec::new();
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let tests: Vec<String> = last.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!tests.is_empty(), "a row without its test: {row}");
        named.extend(tests);
    }
    assert!(!named.is_empty(), "the table is empty");
    named
}

#[test]
fn every_row_of_the_table_of_faults_has_its_test() {
    let mut there = BTreeSet::new();
    for folder in ["it", "engine", "e2e", "nemesis"] {
        tests_below(&root().join("tests").join(folder), &mut there);
    }
    let lacking: Vec<String> = named().into_iter().filter(|name| !there.contains(name)).collect();
    assert!(lacking.is_empty(), "no such tests: {lacking:#?}");
}

#[test]
fn every_test_of_a_fault_has_its_row() {
    let named: BTreeSet<String> = named().into_iter().collect();
    for file in FILES {
        let text = fs::read_to_string(root().join("tests").join(file)).unwrap();
        let mut tests = tests_in(&text);
        if tests.is_empty() {
            // Those that a `main` of their own lists are what it can see.
            let seen = text.lines().filter(|line| line.starts_with("pub(crate) async fn "));
            tests.extend(seen.filter_map(function).map(str::to_owned));
        }
        assert!(!tests.is_empty(), "{file} has no tests");
        for test in tests {
            assert!(named.contains(&test), "{test} isn't in the table");
        }
    }
}
