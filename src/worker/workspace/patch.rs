//! A patch of everything in a workspace that no commit and no remote has. The agent's own index and configuration stay as
//! they are; a folder without a repository gets one beside the workspace, for the moment.

use super::git::{COUNT_UNPUSHED, Place};
use super::{LIST_MAX, Workspace, others, words};
use crate::model::text;
use crate::model::work::Patch;

/// Files of this size and more are left out, in KiB.
const LARGE_KIB: usize = 1024;

/// How many of them are named.
const LARGE_NAMED: usize = 40;

impl Workspace<'_> {
    /// Gathers the patch, place by place, so that what is there when time is up can be kept.
    pub(in super::super) async fn save(&self, patch: &mut Patch) {
        match self.places().await {
            Err(trouble) => patch.trouble.push(trouble),
            Ok((places, trouble)) => {
                patch.trouble.extend(trouble);
                let large = self.large_files(patch).await;
                for (n, place) in places.iter().enumerate() {
                    if let Err(trouble) = self.save_place(place, &others(&places, n), &large, patch).await {
                        patch.trouble.push(trouble);
                    }
                }
            }
        }
    }

    /// Files that are too large for a patch. Which they are is said.
    async fn large_files(&self, patch: &mut Patch) -> Vec<String> {
        let listed = match self.run(&Place::bare_root().large_files(LARGE_KIB), LIST_MAX).await {
            Ok(listed) => listed,
            Err(trouble) => {
                patch.trouble.push(trouble);
                return Vec::new();
            }
        };
        let names = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let large: Vec<String> = names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect();
        if let Some(first) = large.first() {
            let name = text::head(&text::inert_line(first.trim_start_matches("./")), 60);
            let more = if large.len() > 1 { format!(" and {} more", large.len() - 1) } else { String::new() };
            patch.trouble.push(format!("Left out for its size (1 MiB and more): {name}{more}."));
        }
        large.into_iter().take(LARGE_NAMED).collect()
    }

    async fn save_place(
        &self,
        place: &Place,
        others: &[&Place],
        large: &[String],
        patch: &mut Patch,
    ) -> Result<(), String> {
        let but = place.all_but(others, large);
        let own = own_files(place)?;
        let (head, base) = if place.is_repository {
            let head = self.head(place).await?;
            let base = self.base(place, head.as_deref(), patch).await?;
            (head, base)
        } else {
            self.git(place, &own, &words(&["init", "--quiet"]), 4096).await?;
            (None, None)
        };
        let empty = self.line(place, &own, &["hash-object", "-t", "tree", "/dev/null"]).await?;
        let begun = head.as_deref().unwrap_or(&empty);
        self.git(place, &own, &words(&["read-tree", begun]), 4096).await?;
        let add = words(&["add", "--intent-to-add", "--ignore-errors"]);
        // What can't be read is left out; whatever else is wrong shows in the next step.
        let added = self.git(place, &own, &[add, but.clone()].concat(), 4096).await;
        let room = Patch::MAX.saturating_sub(patch.bytes.len());
        let diff = place.diff(base.as_deref().unwrap_or(&empty), but);
        let done = self.git(place, &own, &diff, room).await?;
        if let Err(trouble) = added {
            patch.trouble.push(trouble);
        }
        let mut bytes = done.stdout;
        if done.cut {
            bytes.truncate(last_whole(&bytes));
            patch.trouble.push(format!("Cut off after {} MiB.", Patch::MAX >> 20));
        }
        patch.files += files(&bytes);
        patch.bytes.append(&mut bytes);
        Ok(())
    }

    /// The commit that is checked out, if there is one yet.
    async fn head(&self, place: &Place) -> Result<Option<String>, String> {
        let argv = place.git(&[], &words(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]));
        let said = self.run(&argv, 256).await?;
        match said.code {
            Some(127) => Err("Git isn’t there.".to_owned()),
            Some(0) => Ok(object(&said.stdout)),
            _ => Ok(None),
        }
    }

    /// The newest commit on the way back from the one checked out that a remote has; counts those before it.
    async fn base(
        &self,
        place: &Place,
        head: Option<&str>,
        patch: &mut Patch,
    ) -> Result<Option<String>, String> {
        let all = self.number(place, &COUNT_UNPUSHED).await?;
        let Some(head) = head else { return Ok(None) };
        let ours = self.number(place, &["rev-list", "--count", head, "--not", "--remotes"]).await?;
        patch.unpushed += ours;
        if all > ours {
            patch.trouble.push(format!("{} commits on other branches aren’t in it.", all - ours));
        }
        let way = ["rev-list", "--first-parent", "--boundary", head, "--not", "--remotes"];
        let listed = self.git(place, &[], &words(&way), LIST_MAX).await?;
        if listed.cut {
            patch.trouble.push("Its commits are too many; only what isn’t committed is in it.".to_owned());
            return Ok(Some(head.to_owned()));
        }
        let mut known = listed.stdout.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"-"));
        // Nothing unpushed lists nothing, not even where it ends.
        Ok(known.next_back().and_then(object).or_else(|| (ours == 0).then(|| head.to_owned())))
    }

    async fn line(&self, place: &Place, variables: &[String], arguments: &[&str]) -> Result<String, String> {
        let said = self.git(place, variables, &words(arguments), 256).await?;
        object(&said.stdout).ok_or_else(|| "Git answered with something that names nothing.".to_owned())
    }
}

/// An index of our own, and a repository where the agent has none; under names that can't be guessed.
fn own_files(place: &Place) -> Result<Vec<String>, String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| format!("There is no randomness: {error}."))?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut own = vec![format!("GIT_INDEX_FILE={}", place.beside(&format!("index-{name}")))];
    if !place.is_repository {
        own.push(format!("GIT_DIR={}", place.beside(&format!("git-{name}"))));
    }
    Ok(own)
}

/// The name of an object, when that is what was said.
fn object(said: &[u8]) -> Option<String> {
    let said = std::str::from_utf8(said).ok()?.trim();
    let fits = (40..=64).contains(&said.len()) && said.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| said.to_owned())
}

/// Where each file's part of a patch begins.
const BEGINS: &[u8] = b"diff --git ";

/// How many files a patch changes. No other line of a patch begins like that.
fn files(patch: &[u8]) -> i64 {
    patch.split(|byte| *byte == b'\n').filter(|line| line.starts_with(BEGINS)).count() as i64
}

/// Where the last file begins, which may not be whole.
fn last_whole(patch: &[u8]) -> usize {
    let starts = patch.windows(BEGINS.len() + 1).rposition(|at| at[0] == b'\n' && &at[1..] == BEGINS);
    starts.map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_cut_between_two_files() {
        let patch = b"diff --git a/x b/x\n+diff --git a\ndiff --git a/y b/y\n+ha";
        assert_eq!(files(patch), 2);
        assert_eq!(&patch[..last_whole(patch)], b"diff --git a/x b/x\n+diff --git a\n");
        assert_eq!(last_whole(b"diff --git a/x b/x\n+half"), 0);
    }

    #[test]
    fn only_an_objects_name_is_one() {
        let name = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        assert_eq!(object(format!("{name}\n").as_bytes()).as_deref(), Some(name));
        assert_eq!((object(b"--output=x"), object(b"main"), object(b"")), (None, None, None));
    }
}
