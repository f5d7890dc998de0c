//! The table of faults in `docs/operations.md` names tests that are there, and every test that is here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Every function in the tests, as `file's module::function` is too much to ask of a table.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
            found.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

/// The tests that the rows name, in their last column; each row names one at least.
fn named() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
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
    functions(&root().join("tests"), &mut there);
    let lacking: Vec<String> = named().into_iter().filter(|name| !there.contains(name)).collect();
    assert!(lacking.is_empty(), "no such tests: {lacking:#?}");
}

#[test]
fn every_test_of_a_fault_has_its_row() {
    let named: BTreeSet<String> = named().into_iter().collect();
    for file in ["redis", "postgres", "server", "wishes", "host"] {
        let text = std::fs::read_to_string(root().join(format!("tests/it/faults/{file}.rs"))).unwrap();
        for test in text.split("#[tokio::test]\nasync fn ").skip(1) {
            let name = test.split('(').next().unwrap();
            assert!(named.contains(name), "{name} isn't in the table");
        }
    }
}
