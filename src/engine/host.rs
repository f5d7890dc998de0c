//! The host's own kernel: which of its processes are a container's, and their end without a word to the engine. It works
//! while the engine's daemon is dead or hangs, where the worker runs on the engine's host as root.
//!
//! A container's processes are those in its control groups, whose paths hold its id, whichever driver made them
//! (cgroups(7); version 1 has one hierarchy a controller, version 2 a single one). Signals go through pidfds
//! (pidfd_open(2)), so that a number that was given to another process meanwhile isn't hit; where the kernel has
//! `cgroup.kill` (cgroup v2, Linux 5.14), that ends all at once.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long killing goes on for as long as something is left.
const PATIENCE: Duration = Duration::from_millis(500);
/// Where a run's folder is mounted in its container.
const GATE: &str = "/gate";

/// What the kernel shows of a container's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// So many are alive.
    Alive(usize),
    /// Its control group is there, and nobody is in it.
    Empty,
    /// It has no control group any more.
    Gone,
    /// This isn't the container's host, or it can't be seen from here.
    Unseen,
    /// It should be seen from here, and couldn't be read just now: no descriptors left, say.
    Unread,
}

/// A container found by its processes alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The engine's id.
    pub container: String,
    /// The run's folder, as far as the mount tells it: `…/WORKER/runs/RUN`.
    pub folder: PathBuf,
}

/// This host.
#[derive(Debug)]
pub struct Host {
    proc: PathBuf,
    sys: PathBuf,
    /// Control groups by container, learnt while it had processes.
    known: Mutex<HashMap<String, Vec<PathBuf>>>,
}

impl Default for Host {
    fn default() -> Self {
        Self::at("/proc", "/sys/fs/cgroup")
    }
}

impl Host {
    /// A host whose kernel shows itself in these two places.
    pub fn at(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), sys: sys.into(), known: Mutex::default() }
    }

    /// Remembers a living container's control groups; says whether it was seen.
    pub fn learn(&self, container: &str) -> bool {
        self.groups(container).is_ok_and(|groups| !groups.is_empty())
    }

    /// Forgets a container that is over.
    pub fn forget(&self, container: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// What is left of a container.
    pub fn left(&self, container: &str) -> Left {
        let unread = |error| if is_for_good(&error) { Left::Unseen } else { Left::Unread };
        self.looked(container).unwrap_or_else(unread)
    }

    fn looked(&self, container: &str) -> io::Result<Left> {
        let groups = self.groups(container)?;
        if groups.is_empty() {
            let would_see = self.has_containers() && self.sees_all()?;
            return Ok(if would_see { Left::Gone } else { Left::Unseen });
        }
        left_in(&groups, self.members(&groups)?.len())
    }

    /// Kills everything in a container, until nothing is left or patience ends; gives what is left.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when no process of it can be seen from here; else what the kernel refused, also when it
    /// didn't show who is in there.
    pub fn kill(&self, container: &str) -> io::Result<Left> {
        let groups = self.groups(container)?;
        if groups.is_empty() {
            return Err(io::Error::new(ErrorKind::NotFound, "no process of it can be seen on this host"));
        }
        let until = Instant::now() + PATIENCE;
        let mut refused = None;
        loop {
            let members = self.members(&groups);
            if members.as_ref().is_ok_and(BTreeSet::is_empty) {
                return left_in(&groups, 0);
            }
            // What has the kernel's own switch is ended even when nobody in it can be seen.
            let seen = members.as_ref().ok().cloned().unwrap_or_default();
            for group in &groups {
                refused = end(group, &seen, |pid| self.is_in(pid, container)).err().or(refused);
            }
            if Instant::now() >= until {
                let alive = members?.len();
                return refused.map_or(Ok(Left::Alive(alive)), Err);
            }
            sleep(Duration::from_micros(300));
        }
    }

    /// The containers into which a run's folder below `work_dir` is mounted, found by their processes. Those of others'
    /// processes that this user may not look into are left out.
    ///
    /// # Errors
    /// When it couldn't look: no descriptors left, say.
    pub fn cells(&self, work_dir: &Path) -> io::Result<Vec<Cell>> {
        let Some(place) = self.place(work_dir)? else { return Ok(Vec::new()) };
        let mut cells = BTreeSet::new();
        for pid in self.pids()? {
            match self.cell(pid, work_dir, &place) {
                Ok(cell) => cells.extend(cell),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(cells.into_iter().collect())
    }

    /// Where the kernel has a folder: of the mounts that this process sees, the last of those nearest to it.
    fn place(&self, folder: &Path) -> io::Result<Option<Place>> {
        let mounts = read_if_there(&self.proc.join("self/mountinfo"))?;
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let places = mounts.lines().filter_map(|line| {
            let mount = Mount::read(line)?;
            let below = folder.strip_prefix(&mount.at).ok()?;
            let depth = mount.at.components().count();
            Some((depth, Place { device: mount.device.to_owned(), root: mount.root.join(below) }))
        });
        Ok(places.max_by_key(|(depth, _)| *depth).map(|(_, place)| place))
    }

    fn cell(&self, pid: i32, work_dir: &Path, place: &Place) -> io::Result<Option<Cell>> {
        let mounts = match read_if_there(&self.of(pid, "mountinfo")) {
            // A zombie has no mounts any more.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(None),
            read => read?,
        };
        let folder = mounts.lines().find_map(|line| run_folder(line, work_dir, place));
        let Some(folder) = folder else { return Ok(None) };
        let groups = read_if_there(&self.of(pid, "cgroup"))?;
        Ok(groups.lines().find_map(container_id).map(|container| Cell { container, folder }))
    }

    fn of(&self, pid: i32, file: &str) -> PathBuf {
        self.proc.join(pid.to_string()).join(file)
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        for entry in fs::read_dir(&self.proc)? {
            pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(pids)
    }

    /// Whether this kernel holds containers of an engine at all: the folder above their control groups stays.
    fn has_containers(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.sys) else { return false };
        let above = entries.flatten().map(|entry| entry.path()).chain([self.sys.clone()]);
        above.into_iter().any(|root| {
            root.join("docker").is_dir()
                || fs::read_dir(root.join("system.slice")).is_ok_and(|slices| {
                    slices.flatten().any(|slice| {
                        let name = slice.file_name();
                        name.to_string_lossy().starts_with("docker-") || name == "docker.service"
                    })
                })
        })
    }

    /// Whether every process of this kernel is seen from here: in a PID namespace of one's own, or where others' processes
    /// are hidden (`hidepid`, proc(5)), the kernel's own aren't there either, the second process among them.
    fn sees_all(&self) -> io::Result<bool> {
        Ok(read_if_there(&self.of(2, "comm"))?.trim_end() == "kthreadd")
    }

    /// A container's control groups; none when no process is in it. What couldn't be read might have been one.
    fn groups(&self, container: &str) -> io::Result<Vec<PathBuf>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(container).cloned();
        if let Some(groups) = known {
            return Ok(groups);
        }
        let mut unread = Ok(Vec::new());
        for pid in self.pids()? {
            match self.groups_of(pid, container) {
                Ok(groups) if groups.is_empty() => {}
                Ok(groups) => {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.insert(container.to_owned(), groups.clone());
                    return Ok(groups);
                }
                Err(error) => unread = Err(error),
            }
        }
        unread
    }

    /// The control groups of a process that belong to this container.
    fn groups_of(&self, pid: i32, container: &str) -> io::Result<Vec<PathBuf>> {
        let text = read_if_there(&self.of(pid, "cgroup"))?;
        let mut lines =
            text.lines().filter(|line| container_id(line).as_deref() == Some(container)).peekable();
        if lines.peek().is_none() {
            return Ok(Vec::new());
        }
        let groups: Vec<PathBuf> = lines.filter_map(|line| self.folder_of(line)).collect();
        // It may have ended between the two looks.
        if groups.is_empty() && self.is_alive(pid)? {
            return Err(io::Error::new(ErrorKind::Unsupported, "its control group can't be seen from here"));
        }
        Ok(groups)
    }

    /// `HIERARCHY:CONTROLLERS:PATH`, as a folder that exists.
    fn folder_of(&self, line: &str) -> Option<PathBuf> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let names = controllers.split(',').map(|name| name.trim_start_matches("name="));
        let roots = [controllers, "unified"].into_iter().chain(names).map(|name| self.sys.join(name));
        let roots = roots.chain([self.sys.clone()]);
        roots.map(|root| root.join(path)).find(|folder| folder.join("cgroup.procs").exists())
    }

    /// The living processes in these groups and those below them.
    fn members(&self, groups: &[PathBuf]) -> io::Result<BTreeSet<i32>> {
        let (mut members, mut missing) = (BTreeSet::new(), Vec::new());
        for pid in self.listed(groups)? {
            match self.state(pid)? {
                Some(state) if lives(state) => _ = members.insert(pid),
                Some(_) => {}
                None => missing.push(pid),
            }
        }
        // One that has ended meanwhile isn't listed any more; one that is, is hidden from us.
        if !missing.is_empty() {
            let listed = self.listed(groups)?;
            for pid in missing {
                if listed.contains(&pid) && self.state(pid)?.is_none() {
                    return Err(io::Error::new(
                        ErrorKind::PermissionDenied,
                        "its processes are hidden from here",
                    ));
                }
            }
        }
        Ok(members)
    }

    /// The processes that the kernel lists in these groups and those below them.
    fn listed(&self, groups: &[PathBuf]) -> io::Result<BTreeSet<i32>> {
        let mut listed = BTreeSet::new();
        let mut folders = groups.to_vec();
        while let Some(folder) = folders.pop() {
            let procs = read_if_there(&folder.join("cgroup.procs"))?;
            listed.extend(procs.lines().filter_map(|pid| pid.parse::<i32>().ok()));
            let below = match fs::read_dir(&folder) {
                Err(error) if is_gone(&error) => continue,
                below => below?,
            };
            for at in below {
                let at = at?;
                if at.file_type().is_ok_and(|is| is.is_dir()) {
                    folders.push(at.path());
                }
            }
        }
        Ok(listed)
    }

    fn is_alive(&self, pid: i32) -> io::Result<bool> {
        Ok(self.state(pid)?.is_some_and(lives))
    }

    /// The letter of a process's state (proc(5)); none when there is no such process to be seen.
    fn state(&self, pid: i32) -> io::Result<Option<char>> {
        let stat = read_if_there(&self.of(pid, "stat"))?;
        Ok(stat.rfind(')').and_then(|end| stat[end + 1..].trim_start().chars().next()))
    }

    fn is_in(&self, pid: i32, container: &str) -> io::Result<bool> {
        let text = read_if_there(&self.of(pid, "cgroup"))?;
        Ok(text.lines().any(|line| container_id(line).as_deref() == Some(container)))
    }
}

/// A file of the kernel's; empty when the process or the control group that it is about is gone. Whatever else keeps it
/// from being read (no more descriptors, no right to) says nothing about who is alive.
fn read_if_there(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Err(error) if is_gone(&error) => Ok(String::new()),
        read => read,
    }
}

/// A zombie doesn't: it runs no more code and holds nothing.
fn lives(state: char) -> bool {
    !matches!(state, 'Z' | 'X' | 'x')
}

/// Whether looking again would meet the same: what isn't shown to this user, or from here.
fn is_for_good(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::NotFound)
}

fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // A file that was opened just before answers with one of these: in /proc the first, in a control group the second.
    let gone = [Errno::SRCH, Errno::NODEV].map(Errno::raw_os_error);
    error.kind() == ErrorKind::NotFound || error.raw_os_error().is_some_and(|raw| gone.contains(&raw))
}

/// What is left in groups with so many alive in them.
fn left_in(groups: &[PathBuf], alive: usize) -> io::Result<Left> {
    if alive > 0 {
        return Ok(Left::Alive(alive));
    }
    for group in groups {
        if group.try_exists()? {
            return Ok(Left::Empty);
        }
    }
    Ok(Left::Gone)
}

/// Ends all in one group: at once where the kernel can, else one by one. Whoever is the first in its PID namespace takes
/// all others in it along (pid_namespaces(7)), so nothing can fork its way out.
fn end(group: &Path, members: &BTreeSet<i32>, is_ours: impl Fn(i32) -> io::Result<bool>) -> io::Result<()> {
    let switch = group.join("cgroup.kill");
    // It is root's alone; whoever may only send signals does that.
    if switch.exists() && fs::write(switch, "1").is_ok() {
        return Ok(());
    }
    let mut refused = Ok(());
    for pid in members {
        if let Err(error) = kill(*pid, &is_ours) {
            refused = Err(error);
        }
    }
    // In a frozen group of version 1 nobody dies before the thaw.
    let freezer = group.join("freezer.state");
    if fs::read_to_string(&freezer).is_ok_and(|state| state.trim() != "THAWED") {
        fs::write(freezer, "THAWED")?;
    }
    refused
}

fn kill(pid: i32, is_ours: impl Fn(i32) -> io::Result<bool>) -> io::Result<()> {
    let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // From here on the number can't be another's behind our back.
    if !is_ours(pid)? {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The container that a line of `/proc/PID/cgroup` names: 64 hexadecimal digits, as its folder or in a scope's name.
fn container_id(line: &str) -> Option<String> {
    let path = line.splitn(3, ':').nth(2)?;
    let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    path.split(['/', '-', '.']).find(is_id).map(str::to_owned)
}

/// A folder as the kernel has it: its file system's device, `MAJOR:MINOR`, and its path from that one's root. The paths of
/// two installations, each on a file system of its own, may look the same from there.
struct Place {
    device: String,
    root: PathBuf,
}

/// A line of `/proc/PID/mountinfo`: what of which file system is mounted where. (`stat` would tell another device for a
/// Btrfs subvolume, so both sides are taken from here.)
struct Mount<'a> {
    device: &'a str,
    root: PathBuf,
    at: PathBuf,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let (device, root, at) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { device, root: unescaped(root), at: unescaped(at) })
    }
}

/// Blanks and backslashes in a path, which mountinfo writes in octal.
fn unescaped(path: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(plain.iter().fold(path.to_owned(), |path, (octal, char)| path.replace(octal, char)))
}

/// The run's folder that a line of `/proc/PID/mountinfo` mounts at `/gate`, if it is one below `work_dir`, which the kernel
/// has at `place`.
fn run_folder(line: &str, work_dir: &Path, place: &Place) -> Option<PathBuf> {
    let mount = Mount::read(line)?;
    if mount.at != Path::new(GATE) || mount.device != place.device {
        return None;
    }
    let below = mount.root.strip_prefix(&place.root).ok()?;
    let mut parts = below.iter().map(|part| part.to_str());
    let (worker, runs, run) = (parts.next()??, parts.next()??, parts.next()??);
    let ours = runs == "runs" && run.parse::<i64>().is_ok() && parts.next().is_none();
    ours.then(|| work_dir.join(worker).join(runs).join(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

    #[test]
    fn a_container_is_known_by_its_control_group_whoever_made_it() {
        let id = |line: &str| container_id(line);
        assert_eq!(id(&format!("6:freezer:/docker/{ID}")).as_deref(), Some(ID));
        assert_eq!(id(&format!("0::/system.slice/docker-{ID}.scope")).as_deref(), Some(ID));
        assert_eq!(id(&format!("0::/user.slice/libpod-{ID}.scope/container")).as_deref(), Some(ID));
        assert_eq!(id("0::/system.slice/docker.service"), None);
        assert_eq!(id(&format!("6:freezer:/docker/{}", &ID[1..])), None);
    }

    #[test]
    fn only_a_runs_own_folder_below_ours_makes_a_cell() {
        let place = |device: &str, root: &str| Place { device: device.into(), root: root.into() };
        let work_dir = Path::new("/var/lib/signalbox");
        let here = place("98:0", "/var/lib/signalbox");
        let folder = |root: &str, at: &str, place: &Place| {
            let line = format!("36 35 98:0 {root} {at} ro,noatime - ext4 /dev/vda rw");
            run_folder(&line, work_dir, place)
        };
        let ours = Some(PathBuf::from("/var/lib/signalbox/arm-1/runs/12"));
        assert_eq!(folder("/var/lib/signalbox/arm-1/runs/12", "/gate", &here), ours);
        assert_eq!(folder("/var/lib/signalbox/arm-1/runs/12", "/other", &here), None);
        assert_eq!(folder("/var/lib/elsewhere/arm-1/runs/12", "/gate", &here), None);
        assert_eq!(folder("/var/lib/signalbox/arm-1/cells/12", "/gate", &here), None);
        assert_eq!(folder("/var/lib/signalbox/arm-1/runs/x", "/gate", &here), None);
        assert_eq!(folder("/var/lib/signalbox/arm-1/runs/12/x", "/gate", &here), None);
        // On a file system of its own, where another installation's path is the same.
        assert_eq!(folder("/arm-1/runs/12", "/gate", &place("98:0", "/")), ours);
        assert_eq!(folder("/arm-1/runs/12", "/gate", &place("98:1", "/")), None);
        assert_eq!(folder("/arm-1/runs/12", "/gate", &here), None);
    }

    #[test]
    fn a_folders_place_is_that_of_the_mount_nearest_to_it() {
        let (host, root) = kernel("place", "user.slice", "0::/user.slice\n");
        fs::create_dir_all(root.join("proc/self")).unwrap();
        let mounts = "22 1 98:0 / / rw - ext4 /dev/vda rw\n\
                      23 22 98:1 /@ /nowhere/data\\040x rw - btrfs /dev/vdb rw\n\
                      24 22 98:2 / /nowhere/data\\040x/y rw - ext4 /dev/vdc rw\n";
        fs::write(root.join("proc/self/mountinfo"), mounts).unwrap();
        let place =
            |folder: &str| host.place(Path::new(folder)).unwrap().map(|place| (place.device, place.root));
        assert_eq!(place("/nowhere/lib"), Some(("98:0".into(), "/nowhere/lib".into())));
        assert_eq!(place("/nowhere/data x/lib"), Some(("98:1".into(), "/@/lib".into())));
        assert_eq!(place("/nowhere/data x/y"), Some(("98:2".into(), "/".into())));
        fs::write(
            root.join("proc/4194000/mountinfo"),
            "36 35 98:1 /@/lib/w/runs/7 /gate ro - btrfs /dev/vdb rw\n",
        )
        .unwrap();
        fs::write(root.join("proc/4194000/cgroup"), format!("0::/docker/{ID}\n")).unwrap();
        let folder = PathBuf::from("/nowhere/data x/lib/w/runs/7");
        assert_eq!(
            host.cells(Path::new("/nowhere/data x/lib")).unwrap(),
            [Cell { container: ID.into(), folder }]
        );
        assert_eq!(host.cells(Path::new("/nowhere/lib")).unwrap(), []);
        unreadable(&root.join("proc/4194000/mountinfo"));
        host.cells(Path::new("/nowhere/lib")).unwrap_err();
        fs::remove_dir_all(root).unwrap();
    }

    /// A folder in a file's place can't be read, as little as a file when there are no descriptors left.
    fn unreadable(file: &Path) {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }

    #[test]
    fn what_cant_be_read_is_neither_gone_nor_dead() {
        for file in ["proc/4194000/stat", "proc/4194000/cgroup", "cgroup.procs"] {
            let (host, root) = kernel("unread", &format!("docker/{ID}"), &format!("0::/docker/{ID}\n"));
            assert_eq!(host.left(ID), Left::Alive(1));
            host.forget(ID);
            match file {
                "cgroup.procs" => unreadable(&root.join(format!("sys/docker/{ID}/{file}"))),
                file => unreadable(&root.join(file)),
            }
            assert_eq!(host.left(ID), Left::Unread, "{file}");
            let refused = host.kill(ID).unwrap_err();
            assert_ne!(refused.kind(), ErrorKind::NotFound, "{file}");
            fs::remove_dir_all(root).unwrap();
        }
        let (host, root) = kernel("blind", &format!("docker/{ID}"), "0::/\n");
        assert_eq!(host.left(ID), Left::Gone);
        fs::write(root.join("proc/2/comm"), "sh\n").unwrap();
        assert_eq!(host.left(ID), Left::Unseen, "in a PID namespace of its own it sees only itself");
        fs::remove_dir_all(root.join("proc")).unwrap();
        assert_eq!(host.left(ID), Left::Unseen);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_hidden_is_not_dead() {
        let (host, root) = kernel("hidden", &format!("docker/{ID}"), &format!("0::/docker/{ID}\n"));
        assert!(host.learn(ID));
        let (process, procs) =
            (root.join("proc/4194000"), root.join(format!("sys/docker/{ID}/cgroup.procs")));
        fs::remove_dir_all(process).unwrap();
        assert_eq!(host.left(ID), Left::Unseen, "the kernel lists it, and shows nothing of it");
        fs::write(procs, "").unwrap();
        assert_eq!(host.left(ID), Left::Empty);
        fs::remove_dir_all(root).unwrap();
    }

    /// A kernel of files: one process in one group of either version.
    fn kernel(name: &str, group: &str, line: &str) -> (Host, PathBuf) {
        let root = std::env::temp_dir().join(format!("signalbox-host-{}-{name}", std::process::id()));
        let (proc, sys) = (root.join("proc"), root.join("sys"));
        let folder = sys.join(group);
        fs::create_dir_all(proc.join("4194000")).unwrap();
        fs::create_dir_all(proc.join("2")).unwrap();
        fs::write(proc.join("2/comm"), "kthreadd\n").unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(proc.join("4194000/cgroup"), line).unwrap();
        fs::write(proc.join("4194000/stat"), "4194000 (a (b) c) S 1").unwrap();
        fs::write(folder.join("cgroup.procs"), "4194000\n").unwrap();
        (Host::at(proc, sys), root)
    }

    #[test]
    fn cgroup_v2_is_ended_by_its_own_switch() {
        let (host, root) = kernel("v2", &format!("docker/{ID}"), &format!("0::/docker/{ID}\n"));
        let group = root.join(format!("sys/docker/{ID}"));
        fs::write(group.join("cgroup.kill"), "").unwrap();
        assert_eq!(host.left(ID), Left::Alive(1));
        assert_eq!(host.kill(ID).unwrap(), Left::Alive(1), "files don't die");
        assert_eq!(fs::read_to_string(group.join("cgroup.kill")).unwrap(), "1");
        fs::write(group.join("cgroup.procs"), "").unwrap();
        assert_eq!(host.left(ID), Left::Empty);
        fs::remove_dir_all(&group).unwrap();
        assert_eq!(host.left(ID), Left::Gone);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_zombie_is_nobody_and_a_frozen_group_is_thawed() {
        let line = format!("6:freezer:/docker/{ID}\n");
        let (host, root) = kernel("v1", &format!("freezer/docker/{ID}"), &line);
        let state = root.join(format!("sys/freezer/docker/{ID}/freezer.state"));
        fs::write(&state, "FROZEN\n").unwrap();
        assert!(host.learn(ID));
        // Its number is above what this kernel gives out: nobody is hit.
        host.kill(ID).unwrap();
        assert_eq!(fs::read_to_string(state).unwrap(), "THAWED");
        fs::write(root.join("proc/4194000/stat"), "4194000 (x) Z 1").unwrap();
        assert_eq!(host.left(ID), Left::Empty);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_was_never_seen_here_is_not_called_gone() {
        let (host, root) = kernel("unseen", "user.slice", "0::/user.slice\n");
        assert_eq!(host.left(ID), Left::Unseen);
        assert_eq!(host.kill(ID).unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir_all(root.join("sys/docker")).unwrap();
        assert_eq!(host.left(ID), Left::Gone);
        fs::remove_dir_all(root).unwrap();
    }
}
