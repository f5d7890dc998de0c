//! A run's workspace, seen from inside its container by fixed programs: what of it no commit and no remote has. All that
//! they say was made by an agent, so it is bounded, made inert, and believed no further than that.

mod git;
mod patch;

use tokio::time::Instant;

use crate::engine::{Engine, Executed};
use crate::model::text;
use git::Place;

/// What is said of a workspace that couldn't be looked at in time.
pub(super) const LATE: &str = "The container didn’t answer in time.";

/// How much of a list of files is read, in bytes.
const LIST_MAX: usize = 1 << 20;

/// How many folders with a repository of their own are looked at.
const PLACES_MAX: usize = 8;

/// A workspace, and how long it may be looked at.
#[derive(Clone, Copy)]
pub(super) struct Workspace<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) container: &'a str,
    /// Programs that run longer are left alone.
    pub(super) until: Instant,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Files that no commit holds as they are.
    pub(super) files: Option<i64>,
    /// Commits that no remote has.
    pub(super) unpushed: Option<i64>,
    /// What couldn't be seen.
    pub(super) trouble: Option<String>,
}

impl Workspace<'_> {
    /// Counts what a stop would lose.
    pub(super) async fn look(&self) -> Seen {
        let mut seen = Seen::default();
        match self.count(&mut seen).await {
            Ok(None) => {}
            Ok(Some(trouble)) | Err(trouble) => seen.trouble = Some(trouble),
        }
        seen
    }

    async fn count(&self, seen: &mut Seen) -> Result<Option<String>, String> {
        let (places, mut trouble) = self.places().await?;
        let (mut files, mut unpushed) = (0, 0);
        for (n, place) in places.iter().enumerate() {
            let others = others(&places, n);
            let listed = if place.is_repository {
                // Side by side: somebody waits for it.
                let (count, status) = (self.number(place, &git::COUNT_UNPUSHED), place.status(&others));
                let (more, listed) = tokio::try_join!(count, self.git(place, &[], &status, LIST_MAX))?;
                unpushed += more;
                listed
            } else {
                self.run(&place.every_file(&others), LIST_MAX).await?
            };
            if listed.cut {
                trouble = Some("There are more files than are counted.".to_owned());
            }
            files += listed.stdout.iter().filter(|byte| **byte == 0).count() as i64;
        }
        (seen.files, seen.unpushed) = (Some(files), Some(unpushed));
        Ok(trouble)
    }

    /// The workspace itself, and the folders in it that have a repository of their own; and what is wrong with the list.
    async fn places(&self) -> Result<(Vec<Place>, Option<String>), String> {
        let found = self.run(&git::FIND_REPOSITORIES, LIST_MAX).await?;
        let names = found.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut places: Vec<Place> = names.filter_map(Place::holding).collect();
        places.sort();
        if places.first().is_none_or(|first| !first.is_root()) {
            places.insert(0, Place::bare_root());
        }
        let left = places.len().saturating_sub(PLACES_MAX);
        places.truncate(PLACES_MAX);
        Ok((places, (left > 0).then(|| format!("{left} more folders have repositories of their own."))))
    }

    /// What a question of git's is answered with, when it is a number.
    async fn number(&self, place: &Place, arguments: &[&str]) -> Result<i64, String> {
        let said = self.git(place, &[], &words(arguments), 64).await?;
        let said = String::from_utf8_lossy(&said.stdout);
        said.trim().parse().map_err(|_| "Git answered with something that is no number.".to_owned())
    }

    /// Runs git in a place, with these variables too; only an exit with 0 is a success.
    async fn git(
        &self,
        place: &Place,
        variables: &[String],
        arguments: &[String],
        limit: usize,
    ) -> Result<Executed, String> {
        let argv = place.git(variables, arguments);
        let done = self.run(&argv.iter().map(String::as_str).collect::<Vec<_>>(), limit).await?;
        match done.code {
            _ if done.cut => Ok(done),
            Some(0) => Ok(done),
            Some(127) => Err("Git isn’t there.".to_owned()),
            _ => Err(format!("Git says: {}", last_line(&done.stderr))),
        }
    }

    async fn run(&self, argv: &[impl AsRef<str> + Sync], limit: usize) -> Result<Executed, String> {
        let argv: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
        let left = self.until.saturating_duration_since(Instant::now());
        let done = self.engine.exec(self.container, &argv, limit, left).await;
        done.map_err(|error| format!("In its container nothing can be run: {error}."))
    }
}

/// The places inside `places[n]`.
fn others(places: &[Place], n: usize) -> Vec<&Place> {
    places
        .iter()
        .enumerate()
        .filter(|(m, place)| *m != n && place.is_in(&places[n]))
        .map(|(_, place)| place)
        .collect()
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

/// The last words of a program, fit for a page.
fn last_line(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    text::head(&text::inert_line(last), 200)
}
