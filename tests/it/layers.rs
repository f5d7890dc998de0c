//! The house rules that a compiler can't hold us to: who may import whom, where SQL, Redis and the engine live, what
//! templates may not hold, and that every variable is explained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use signalbox::config;

/// Modules, and which others each may name: the diagram in `src/lib.rs`.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "bell",
            "clock",
            "config",
            "db",
            "engine",
            "gate",
            "host",
            "incognito",
            "model",
            "password",
            "queue",
            "shutdown",
            "telemetry",
            "web",
            "worker",
        ],
    ),
    ("web", &["bell", "clock", "config", "db", "host", "model", "password", "queue", "telemetry"]),
    ("worker", &["clock", "config", "db", "engine", "gate", "host", "model", "queue", "telemetry"]),
    ("db", &["model"]),
    ("queue", &["model"]),
    ("engine", &["model"]),
    ("gate", &["model"]),
    ("bell", &["model"]),
    ("model", &[]),
    ("incognito", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("host", &[]),
    ("password", &[]),
    ("shutdown", &[]),
    ("telemetry", &["model"]),
    ("lib", &[]),
];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|has| has == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), extension, &mut found);
    assert!(!found.is_empty(), "{folder} is empty");
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The lines that are code.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The module that a file belongs to, and how deep the file's own module lies below the crate's root.
fn place(file: &str) -> (String, usize) {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let parts: Vec<&str> = path.split('/').filter(|part| *part != "mod").collect();
    (parts[0].to_owned(), parts.len())
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The modules at the crate's root that a line names, by whichever way.
fn named(line: &str, depth: usize) -> Vec<&str> {
    let up = "super::".repeat(depth);
    let mut ways = vec!["crate::", "signalbox::", &up];
    let mut found = Vec::new();
    if depth == 0 {
        ways.pop();
    }
    for way in ways {
        for (at, _) in line.match_indices(way) {
            if way.starts_with("super") && line[..at].ends_with("super::") {
                continue;
            }
            let rest = &line[at + way.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(list.split('}').next().unwrap_or_default().split(", ").map(word)),
                None => found.push(word(rest)),
            }
        }
    }
    found
}

#[test]
fn modules_name_only_those_that_the_diagram_lets_them() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", "rs") {
        let (module, depth) = place(&file);
        let rule = MAY_NAME.iter().find(|(name, _)| *name == module);
        let Some((_, may)) = rule else {
            wrong.push(format!("{file}: the diagram doesn't know {module}"));
            continue;
        };
        for (number, line) in code(&text) {
            for other in named(line, depth) {
                let known = MAY_NAME.iter().any(|(name, _)| *name == other);
                if known && other != module && !may.contains(&other) {
                    wrong.push(format!("{file}:{number}: {module} may not name {other}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn imports_are_seen_however_they_are_written() {
    assert_eq!(named("use crate::db::Db;", 2), ["db"]);
    assert_eq!(named("use crate::{clock, config, db};", 2), ["clock", "config", "db"]);
    assert_eq!(named("    super::super::queue::Queue::new()", 2), ["queue"]);
    assert!(named("    super::queue()", 2).is_empty());
    assert_eq!(place("src/web/mod.rs"), ("web".into(), 1));
    assert_eq!(place("src/engine/process/shim.rs"), ("engine".into(), 3));
}

#[test]
fn each_store_and_the_engine_have_one_home() {
    let mut wrong = Vec::new();
    for (what, home) in
        [("sqlx", "src/db/"), ("redis::", "src/queue/"), ("bollard", "src/engine/"), ("askama", "src/web/")]
    {
        for (file, text) in files("src", "rs").into_iter().filter(|(file, _)| !file.starts_with(home)) {
            let lines = code(&text).filter(|(_, line)| line.contains(what));
            wrong.extend(lines.map(|(number, line)| format!("{file}:{number}: {}", line.trim())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_starts_a_shell_and_no_lint_is_silenced_without_a_reason() {
    let forbidden =
        ["Command::new(\"sh\")", "Command::new(\"bash\")", "/bin/sh", "/bin/bash", "#[allow(", "#![allow("];
    let mut wrong = Vec::new();
    for (file, text) in files("src", "rs") {
        for (number, line) in code(&text).filter(|(_, line)| forbidden.iter().any(|word| line.contains(word)))
        {
            wrong.push(format!("{file}:{number}: {}", line.trim()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_variable_is_explained_and_nothing_else_is() {
    let text = std::fs::read_to_string(root().join("deploy/env.example")).unwrap();
    let mut explained = BTreeSet::new();
    let mut above = false;
    for line in text.lines() {
        let name = line.trim_start_matches("#").split('=').next().unwrap_or_default();
        let is_name = line.contains('=') && name.bytes().all(|c| c.is_ascii_uppercase() || c == b'_');
        if is_name {
            assert!(above, "{name} has no words above it");
            assert!(explained.insert(name), "{name} is explained twice");
        }
        above = line.starts_with("# ") || (is_name && above);
    }
    let known: BTreeSet<&str> = config::VARIABLES.iter().copied().collect();
    assert_eq!(explained, known);
}

#[test]
fn templates_hold_no_script_no_style_and_nothing_unescaped() {
    let forbidden =
        ["<script>", "<style", " style=", "javascript:", "|safe", "| safe", "|escape(\"none\")", "srcdoc="];
    let mut wrong = Vec::new();
    for (file, text) in files("templates", "html") {
        for (number, line) in (1..).zip(text.lines()) {
            let handler = line.split_whitespace().any(|word| {
                let name = word.split('=').next().unwrap_or_default();
                word.contains('=')
                    && name.len() > 4
                    && name.starts_with("on")
                    && name.bytes().all(|c| c.is_ascii_lowercase())
            });
            if handler || forbidden.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_sanitised_markup_is_printed_as_it_is() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", "rs").into_iter().filter(|(file, _)| file != "src/web/markup.rs") {
        let lines = code(&text).filter(|(_, line)| {
            ["filters::Safe", "HtmlSafe", "MaybeSafe", "Markup("].iter().any(|word| line.contains(word))
        });
        wrong.extend(lines.map(|(number, line)| format!("{file}:{number}: {}", line.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let home = std::fs::read_to_string(root().join("src/web/markup.rs")).unwrap();
    assert_eq!(
        home.matches("Self(text::inert(&CLEAN.clean(").count(),
        1,
        "it is made in one place, sanitised"
    );
    assert_eq!(home.matches("Some(Self(").count(), 1);
}

#[test]
fn the_page_and_the_manual_guarantee_the_same_word_for_word() {
    let manual = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let page = std::fs::read_to_string(root().join("templates/runs/_guarantee.html")).unwrap();
    let plain = |text: &str| {
        let mut inside = false;
        let text: String = text
            .chars()
            .filter(|c| {
                inside = (inside || *c == '<') && *c != '>';
                !inside && !"<>*`".contains(*c)
            })
            .collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let from = manual.split("## What a stop guarantees").nth(1).unwrap();
    let said = from.split("\n## ").next().unwrap();
    let items: Vec<String> = page.lines().filter(|line| line.starts_with("<li>")).map(plain).collect();
    assert_eq!(items.len(), 7);
    let numbered: Vec<String> =
        items.iter().enumerate().map(|(n, item)| format!("{}. {item}", n + 1)).collect();
    let end = plain(page.lines().find(|line| line.starts_with("<p>")).unwrap());
    assert_eq!(plain(said), format!("{} {end}", numbered.join(" ")));
}
