//! What a visit found, as a table and a sentence.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use super::METHODS;
use super::door::{Answer, Target};
use super::judge::{self, Trouble, is_public};

/// One door, and what was behind it.
#[derive(Debug, Clone)]
pub struct Knock {
    /// What was asked for, as it was sent.
    pub path: String,
    /// How.
    pub method: &'static str,
    /// The answer's status; none when there was no answer.
    pub status: Option<u16>,
    /// Where it redirects to, without its query.
    location: Option<String>,
    /// Bytes of the body that were read.
    bytes: usize,
    /// What is wrong with it.
    pub troubles: Vec<Trouble>,
}

impl Knock {
    pub(super) fn of(
        path: &str,
        method: &'static str,
        answer: &Result<Answer, String>,
        target: &Target,
        canaries: &[String],
    ) -> Self {
        let (status, location, bytes, troubles) = match answer {
            Ok(answer) => (
                Some(answer.status),
                answer.header("location").map(|to| to.split('?').next().unwrap_or_default().to_owned()),
                answer.body.len(),
                judge::troubles(method, path, answer, target, canaries),
            ),
            Err(error) => (None, None, 0, vec![Trouble::Faltered(error.clone())]),
        };
        Self { path: path.to_owned(), method, status, location, bytes, troubles }
    }

    /// What it looks like from outside: doors that look alike can't be told apart.
    fn look(&self) -> (Option<u16>, Option<&str>) {
        (self.status, self.location.as_deref())
    }

    fn opened(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    fn cell(&self) -> String {
        let status = self.status.map_or_else(|| "—".to_owned(), |status| status.to_string());
        if self.troubles.is_empty() { status } else { format!("{status}!") }
    }
}

/// What a visit found.
#[derive(Debug)]
pub struct Report {
    origin: String,
    knocks: Vec<Knock>,
}

/// The groups of the table, in the order they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Trouble,
    Public,
    Different,
    Usual,
}

impl Group {
    fn title(self) -> &'static str {
        match self {
            Self::Trouble => "NOT AS IT SHOULD BE",
            Self::Public => "public",
            Self::Different => "shut, but unlike the rest",
            Self::Usual => "shut like the rest",
        }
    }
}

impl Report {
    pub(super) fn of(origin: String, mut knocks: Vec<Knock>) -> Self {
        let place = |method| METHODS.iter().position(|known| *known == method);
        knocks.sort_by(|a, b| (&a.path, place(a.method)).cmp(&(&b.path, place(b.method))));
        Self { origin, knocks }
    }

    /// Whether nothing at all is wrong.
    pub fn is_clean(&self) -> bool {
        self.troubles().next().is_none()
    }

    /// How many doors were tried.
    pub fn tried(&self) -> usize {
        self.knocks.len()
    }

    /// How many of them showed what only a superuser may see.
    pub fn open(&self) -> usize {
        self.knocks.iter().filter(|knock| knock.troubles.iter().any(Trouble::lets_in)).count()
    }

    /// Everything that is wrong, door by door.
    pub fn troubles(&self) -> impl Iterator<Item = (&Knock, &Trouble)> {
        self.knocks.iter().flat_map(|knock| knock.troubles.iter().map(move |trouble| (knock, trouble)))
    }

    /// One sentence; it shouts when a stranger gets in.
    pub fn summary(&self) -> String {
        let (tried, open) = (self.tried(), self.open());
        let other = self.troubles().filter(|(_, trouble)| !trouble.lets_in()).count();
        let mut text = format!("{tried} doors tried, {open} open.");
        if open > 0 {
            write!(text, " A STRANGER GETS IN AT {}: take it off the network until it is shut.", self.origin)
                .ok();
        }
        if other > 0 {
            write!(text, " Other findings: {other}.").ok();
        }
        text
    }

    /// A line for each path with a cell for each method: those that stand out, or all of them.
    pub fn table(&self, all: bool) -> String {
        let usual = self.usual();
        let mut rows: BTreeMap<&str, Vec<&Knock>> = BTreeMap::new();
        for knock in &self.knocks {
            rows.entry(&knock.path).or_default().push(knock);
        }
        let mut groups: BTreeMap<Group, Vec<(&str, Vec<&Knock>)>> = BTreeMap::new();
        for (path, knocks) in rows {
            let group = if knocks.iter().any(|knock| !knock.troubles.is_empty()) {
                Group::Trouble
            } else if is_public(path) && knocks.iter().any(|knock| knock.opened()) {
                Group::Public
            } else if knocks.iter().any(|knock| Some(knock.look()) != usual) {
                Group::Different
            } else {
                Group::Usual
            };
            groups.entry(group).or_default().push((path, knocks));
        }
        let mut text = self.heading(usual);
        for (group, rows) in groups.into_iter().filter(|(group, _)| all || *group != Group::Usual) {
            write_group(&mut text, group, &rows);
        }
        self.write_troubles(&mut text);
        text
    }

    /// What is wrong, once for all the methods that show it.
    fn write_troubles(&self, text: &mut String) {
        let mut found: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
        for (knock, trouble) in self.troubles() {
            let what = match knock.status {
                Some(status) => format!("{trouble} ({status}, {} bytes)", knock.bytes),
                None => trouble.to_string(),
            };
            found.entry((&knock.path, what)).or_default().push(knock.method);
        }
        if !found.is_empty() {
            text.push('\n');
        }
        for ((path, what), methods) in found {
            writeln!(text, "! {path} {what}: {}", methods.join(" ")).ok();
        }
    }

    fn heading(&self, usual: Option<(Option<u16>, Option<&str>)>) -> String {
        let shown = match usual {
            Some((Some(status), Some(to))) => format!("{status} to {}", to.escape_debug()),
            Some((Some(status), None)) => status.to_string(),
            _ => "none".into(),
        };
        format!(
            "{}, as a stranger: no cookie, a phone's browser.\nThe usual answer is {shown}.\n",
            self.origin
        )
    }

    /// How most doors look that aren't public.
    fn usual(&self) -> Option<(Option<u16>, Option<&str>)> {
        let mut looks: HashMap<_, usize> = HashMap::new();
        for knock in self.knocks.iter().filter(|knock| !is_public(&knock.path)) {
            *looks.entry(knock.look()).or_default() += 1;
        }
        looks.into_iter().max_by_key(|&(_, count)| count).map(|(look, _)| look)
    }
}

fn write_group(text: &mut String, group: Group, rows: &[(&str, Vec<&Knock>)]) {
    let width = rows.iter().map(|(path, _)| path.len()).max().unwrap_or(0).clamp(24, 60);
    write!(text, "\n{:<width$}", group.title()).ok();
    for method in METHODS {
        write!(text, " {method:>7}").ok();
    }
    text.push('\n');
    for (path, knocks) in rows {
        write!(text, "{path:<width$}").ok();
        for method in METHODS {
            let cell = knocks.iter().find(|knock| knock.method == method).map(|knock| knock.cell());
            write!(text, " {:>7}", cell.unwrap_or_default()).ok();
        }
        text.push('\n');
    }
}
