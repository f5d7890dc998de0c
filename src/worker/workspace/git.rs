//! Git on a repository that an agent has made: only as a list of arguments, without its hooks, monitors, pagers, external
//! programs for differences, or locks on the agent's own files. The folder is the agent's too: its names come last, where
//! they can't be options.

/// The folders that have a repository, three levels deep.
pub(super) const FIND_REPOSITORIES: [&str; 8] =
    ["find", ".", "-maxdepth", "3", "-name", ".git", "-prune", "-print0"];

/// How many commits no remote has, whatever branch they are on.
pub(super) const COUNT_UNPUSHED: [&str; 5] = ["rev-list", "--count", "--all", "--not", "--remotes"];

/// What git is told of the world around it.
const VARIABLES: [&str; 6] = [
    "GIT_OPTIONAL_LOCKS=0",
    "GIT_CONFIG_NOSYSTEM=1",
    "GIT_CONFIG_GLOBAL=/dev/null",
    "GIT_TERMINAL_PROMPT=0",
    "GIT_NO_REPLACE_OBJECTS=1",
    "LC_ALL=C",
];

/// What outranks the repository's own settings.
const SETTINGS: [&str; 8] = [
    "core.fsmonitor=",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "core.quotePath=true",
    "core.safecrlf=false",
    "diff.noprefix=false",
    "submodule.recurse=false",
    "gc.auto=0",
];

/// A folder of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Its way from the workspace: `.`, or `./a/b`.
    dir: String,
    /// Whether the agent has a repository there.
    pub(super) is_repository: bool,
}

impl Place {
    /// The folder that this `.git` lies in; none when its name can't be written.
    pub(super) fn holding(found: &[u8]) -> Option<Self> {
        let dir = std::str::from_utf8(found).ok()?.strip_suffix("/.git")?;
        (dir == "." || dir.starts_with("./")).then(|| Self { dir: dir.to_owned(), is_repository: true })
    }

    /// The workspace, when it has no repository.
    pub(super) fn bare_root() -> Self {
        Self { dir: ".".to_owned(), is_repository: false }
    }

    pub(super) fn is_root(&self) -> bool {
        self.dir == "."
    }

    pub(super) fn is_in(&self, other: &Self) -> bool {
        self.dir.strip_prefix(&other.dir).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Its way from the workspace with a slash behind it; nothing for the workspace itself.
    fn prefix(&self) -> String {
        self.dir.strip_prefix("./").map(|dir| format!("{dir}/")).unwrap_or_default()
    }

    /// A file for our own use, beside the workspace: seen from here.
    pub(super) fn beside(&self, name: &str) -> String {
        let up = self.dir.matches('/').count() + 1;
        format!("{}tmp/{name}", "../".repeat(up))
    }

    /// The whole command line of git, for the agent's repository or, through `variables`, for one of our own.
    pub(super) fn git(&self, variables: &[String], arguments: &[String]) -> Vec<String> {
        let own_dir = variables.iter().any(|variable| variable.starts_with("GIT_DIR="));
        let mut argv = vec!["env".to_owned()];
        argv.extend(VARIABLES.iter().map(|&variable| variable.to_owned()));
        argv.extend_from_slice(variables);
        argv.extend(["git", "--no-pager", "-C", &self.dir].map(str::to_owned));
        if !own_dir {
            argv.push("--git-dir=.git".to_owned());
        }
        argv.push("--work-tree=.".to_owned());
        argv.extend(SETTINGS.iter().flat_map(|&setting| ["-c".to_owned(), setting.to_owned()]));
        argv.extend_from_slice(arguments);
        argv
    }

    /// Lists what no commit holds as it is, each with a NUL behind it.
    pub(super) fn status(&self, others: &[&Self]) -> Vec<String> {
        let mut arguments = super::words(&["status", "--porcelain=v1", "-z", "--no-renames"]);
        arguments.extend(super::words(&["--untracked-files=all", "--ignore-submodules=all"]));
        arguments.extend(self.all_but(others, &[]));
        arguments
    }

    /// The command line that lists every file, each with a NUL behind it.
    pub(super) fn every_file(&self, others: &[&Self]) -> Vec<String> {
        let mut argv = vec!["find".to_owned(), self.dir.clone()];
        for other in others {
            argv.extend(["-path".to_owned(), escaped(&other.dir), "-prune".to_owned(), "-o".to_owned()]);
        }
        argv.extend(super::words(&["-type", "f", "-print0"]));
        argv
    }

    /// The command line that lists files of this many KiB and more.
    pub(super) fn large_files(&self, kib: usize) -> Vec<String> {
        let mut argv = super::words(&["find", &self.dir, "-name", ".git", "-prune", "-o", "-type", "f"]);
        argv.extend(["-size".to_owned(), format!("+{}k", kib - 1), "-print0".to_owned()]);
        argv
    }

    /// Everything in this place but the other places and these files (as they are seen from the workspace), as git is
    /// told it.
    pub(super) fn all_but(&self, others: &[&Self], files: &[String]) -> Vec<String> {
        let dirs = others.iter().map(|other| other.dir.as_str());
        let within = dirs.chain(files.iter().map(String::as_str)).filter_map(|path| {
            path.strip_prefix(&self.dir)?.strip_prefix('/').map(|path| format!(":(exclude,literal){path}"))
        });
        super::words(&["--", "."]).into_iter().chain(within).collect()
    }

    /// The arguments that write the difference to a commit or tree.
    pub(super) fn diff(&self, base: &str, but: Vec<String>) -> Vec<String> {
        let mut arguments =
            super::words(&["diff", "--binary", "--full-index", "--no-color", "--no-ext-diff"]);
        arguments.extend(super::words(&["--no-textconv", "--no-renames", "--ignore-submodules=all"]));
        arguments.push(format!("--src-prefix=a/{}", self.prefix()));
        arguments.push(format!("--dst-prefix=b/{}", self.prefix()));
        arguments.push(base.to_owned());
        arguments.extend(but);
        arguments
    }
}

/// A path that `find` takes for nothing but itself.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &str) -> Place {
        Place::holding(format!("{dir}/.git").as_bytes()).unwrap()
    }

    #[test]
    fn places_know_where_they_are() {
        assert!(place(".").is_root() && !place("./a").is_root());
        assert!(place("./a").is_in(&place(".")) && place("./a/b").is_in(&place("./a")));
        assert!(!place("./ab").is_in(&place("./a")) && !place(".").is_in(&place(".")));
        assert_eq!(
            (place(".").beside("x"), place("./a/b").beside("x")),
            ("../tmp/x".into(), "../../../tmp/x".into())
        );
        assert_eq!(Place::holding(b"/etc/.git"), None);
        assert_eq!(Place::holding(b"./\xff/.git"), None);
    }

    #[test]
    fn an_agents_names_are_never_options() {
        let hostile = place("./--upload-pack=x");
        let argv = hostile.git(&[], &hostile.status(&[]));
        assert!(argv.iter().all(|word| !word.starts_with("--upload-pack")), "{argv:?}");
        let but = place(".").all_but(&[&hostile], &["./-rf".to_owned()]);
        assert_eq!(but, ["--", ".", ":(exclude,literal)--upload-pack=x", ":(exclude,literal)-rf"]);
        assert_eq!(
            place("./a").all_but(&[], &["./b/c".to_owned(), "./a/c".to_owned()])[2..],
            [":(exclude,literal)c"]
        );
        assert_eq!(escaped("./a*[b]\\"), "./a\\*\\[b\\]\\\\");
    }
}
