//! A container engine that does what a test tells it: containers print, ignore signals, end; the engine falls silent,
//! refuses, or lies half dead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use signalbox::engine::host::Cell as HostCell;
use signalbox::engine::{
    About, Cell, DEADLINE, Engine, Error, Executed, Exit, Found, Left, Output, Result, Signal, Status,
};
use signalbox::model::found::Leftover;
use tokio::sync::watch;

/// What containers of the engine do.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// Printed at once, a line each.
    pub(crate) prints: Vec<String>,
    /// Ends by itself, right after printing, with this code.
    pub(crate) exits: Option<i64>,
    /// Signals that change nothing.
    pub(crate) ignores: BTreeSet<&'static str>,
    /// The code that it exits with when SIGINT ends it; 1 unless said otherwise.
    pub(crate) interrupted: Option<i64>,
    /// What it prints when SIGINT ends it.
    pub(crate) last_words: Option<String>,
}

/// What a program beside an agent says; none: it hangs, and the engine with it.
type Exec = Arc<dyn Fn(&[&str]) -> Option<Executed> + Send + Sync>;

/// Some of the runs.
type Which = Arc<dyn Fn(i64) -> bool + Send + Sync>;

/// An answer in place of a deed.
pub(crate) type Odd = fn() -> Error;

/// When a call sticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

struct Container {
    run: i64,
    fence: i64,
    status: Status,
    /// The run's folder, mounted in it.
    folder: PathBuf,
    script: Script,
    signals: Vec<&'static str>,
    /// Programs that were run and signals that were sent, in their order.
    log: Vec<String>,
}

impl Container {
    /// Whether it is this worker's, by the folder that it was given; one without a folder is everybody's.
    fn is_of(&self, worker: Option<&str>) -> bool {
        let own = self.folder.ancestors().nth(2).and_then(Path::file_name);
        own.zip(worker).is_none_or(|(own, worker)| own == worker)
    }
}

#[derive(Default)]
struct World {
    containers: BTreeMap<String, Container>,
    /// Every container ever made, by run.
    made: Vec<i64>,
    /// Each run's folder with its gate, and the token for it.
    gates: BTreeMap<i64, (PathBuf, String)>,
    script: Script,
    /// Every call but those that wait fails.
    silent: bool,
    /// Every call waits until it doesn't hang any more.
    hangs: bool,
    /// This host's kernel sees the containers' processes.
    on_host: bool,
    /// So many processes outlive each container's end.
    survivors: usize,
    /// Nothing that the host does ends them.
    undying: bool,
    /// Nothing that the host would show can be read.
    unreadable: bool,
    /// It knows nothing of what it has, and so answers.
    forgets: bool,
    /// Who it is.
    identity: String,
    /// What each call of this name answers instead of doing anything.
    answers: Option<(&'static str, Odd)>,
    /// The next such call is never answered, before or after it has done its work.
    stuck: Option<(&'static str, Moment)>,
    /// How many calls stick.
    stuck_now: usize,
    /// Starting fails with this.
    refuses: Option<String>,
    /// Removing fails.
    keeps: bool,
    /// Starting makes the container, and then the answer is lost.
    loses_answers: bool,
    /// Runs whose containers are made, and then can't be started.
    stillborn: Option<Which>,
    /// How often it was asked for a list.
    listed: usize,
    /// Images and volumes that nothing uses.
    leftovers: Vec<Leftover>,
    exec: Option<Exec>,
}

/// The engine; clones share one world, as two lives of a worker share one engine.
#[derive(Clone)]
pub(crate) struct Scripted {
    world: Arc<Mutex<World>>,
    changed: Arc<watch::Sender<u64>>,
    /// Whose containers it lists; everybody's when none.
    worker: Option<String>,
}

impl Default for Scripted {
    fn default() -> Self {
        Self { world: Arc::default(), changed: Arc::new(watch::channel(0).0), worker: None }
    }
}

impl Scripted {
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let done = change(&mut self.world.lock().unwrap());
        self.changed.send_modify(|n| *n += 1);
        done
    }

    /// The same engine, as a worker of this name sees it.
    pub(crate) fn of(&self, worker: &str) -> Self {
        Self { worker: Some(worker.to_owned()), ..self.clone() }
    }

    /// What containers made from now on do.
    pub(crate) fn script(&self, script: Script) {
        self.change(|world| world.script = script);
    }

    pub(crate) fn silent(&self, silent: bool) {
        self.change(|world| world.silent = silent);
    }

    /// As a daemon does that is stopped: it takes every question and answers none.
    pub(crate) fn hangs(&self, hangs: bool) {
        self.change(|world| world.hangs = hangs);
    }

    /// From now on calls of this name stick; none when none do.
    pub(crate) fn sticks(&self, call: Option<(&'static str, Moment)>) {
        self.change(|world| (world.stuck, world.stuck_now) = (call, 0));
    }

    /// Whether a call sticks.
    pub(crate) fn is_stuck(&self) -> bool {
        self.world.lock().unwrap().stuck_now > 0
    }

    /// The containers' processes can be seen, and killed, without the engine.
    pub(crate) fn on_host(&self) {
        self.change(|world| world.on_host = true);
    }

    /// So many processes outlive each container's end, until the host kills them.
    pub(crate) fn survivors(&self, n: usize) {
        self.change(|world| world.survivors = n);
    }

    /// As processes in the middle of I/O that nothing interrupts: the host's kill goes out, and they stay.
    pub(crate) fn undying(&self, undying: bool) {
        self.change(|world| world.undying = undying);
    }

    /// As when there are no file descriptors left: the host shows these processes, and nobody can read it.
    pub(crate) fn unreadable(&self, unreadable: bool) {
        self.change(|world| world.unreadable = unreadable);
    }

    /// As an engine does that was started on an empty folder for a moment.
    pub(crate) fn forgets(&self, forgets: bool) {
        self.change(|world| world.forgets = forgets);
    }

    /// Another engine answers in its place, or the same one again.
    pub(crate) fn is(&self, identity: &str) {
        self.change(|world| world.identity = identity.to_owned());
    }

    /// From now on calls of this name are answered so, and do nothing.
    pub(crate) fn answers(&self, answers: Option<(&'static str, Odd)>) {
        self.change(|world| world.answers = answers);
    }

    pub(crate) fn refuses(&self, why: Option<&str>) {
        self.change(|world| world.refuses = why.map(str::to_owned));
    }

    pub(crate) fn loses_answers(&self, loses: bool) {
        self.change(|world| world.loses_answers = loses);
    }

    /// From now on the containers of these runs are made, and then can't be started, with an answer that may pass.
    pub(crate) fn stillborn(&self, which: impl Fn(i64) -> bool + Send + Sync + 'static) {
        self.change(|world| world.stillborn = Some(Arc::new(which)));
    }

    /// How often it was asked for a list.
    pub(crate) fn listed(&self) -> usize {
        self.world.lock().unwrap().listed
    }

    /// Something that nothing uses.
    pub(crate) fn leave(&self, leftover: Leftover) {
        self.change(|world| world.leftovers.push(leftover));
    }

    /// What is left of that.
    pub(crate) fn left_over(&self) -> Vec<Leftover> {
        self.world.lock().unwrap().leftovers.clone()
    }

    pub(crate) fn keeps(&self, keeps: bool) {
        self.change(|world| world.keeps = keeps);
    }

    /// What programs beside agents say from now on; without this there are none.
    pub(crate) fn exec(&self, exec: impl Fn(&[&str]) -> Option<Executed> + Send + Sync + 'static) {
        self.change(|world| world.exec = Some(Arc::new(exec)));
    }

    /// The programs that were run beside a run, and the signals that it was sent.
    pub(crate) fn log(&self, run: i64) -> Vec<String> {
        let world = self.world.lock().unwrap();
        world.containers.get(&name(run)).map(|container| container.log.clone()).unwrap_or_default()
    }

    /// The signals that a run's container was sent, ignored ones included.
    pub(crate) fn signals(&self, run: i64) -> Vec<&'static str> {
        let world = self.world.lock().unwrap();
        world.containers.get(&name(run)).map(|container| container.signals.clone()).unwrap_or_default()
    }

    /// How many containers of this run there ever were.
    pub(crate) fn made(&self, run: i64) -> usize {
        self.world.lock().unwrap().made.iter().filter(|made| **made == run).count()
    }

    /// The runs whose containers are alive.
    pub(crate) fn alive(&self) -> Vec<i64> {
        let world = self.world.lock().unwrap();
        let alive = world.containers.values().filter(|container| container.status == Status::Alive);
        alive.map(|container| container.run).collect()
    }

    /// The runs that the engine knows anything of.
    pub(crate) fn known(&self) -> Vec<i64> {
        self.world.lock().unwrap().containers.values().map(|container| container.run).collect()
    }

    /// The folder of a container's gate, and the token that it presents there.
    pub(crate) fn gate(&self, run: i64) -> (PathBuf, String) {
        self.world.lock().unwrap().gates[&run].clone()
    }

    /// A container prints another line.
    pub(crate) fn print(&self, run: i64, line: &str) {
        self.change(|world| {
            world.containers.get_mut(&name(run)).unwrap().script.prints.push(line.to_owned())
        });
    }

    /// A container ends.
    pub(crate) fn exit(&self, run: i64, code: i64) {
        self.change(|world| {
            let container = world.containers.get_mut(&name(run)).unwrap();
            container.status = Status::Exited(Exit { code, oom: false });
        });
    }

    /// A container that nobody's run owns.
    pub(crate) fn plant(&self, run: i64) {
        self.change(|world| world.make(run, 1, Status::Alive, Path::new("")));
    }

    /// A container that was made and never started.
    pub(crate) fn plant_unstarted(&self, run: i64) {
        self.change(|world| world.make(run, 1, Status::Created, Path::new("")));
    }

    /// The container vanishes behind everybody's back.
    pub(crate) fn vanish(&self, run: i64) {
        self.change(|world| world.containers.remove(&name(run)));
    }

    async fn reach<T>(&self, name: &'static str, call: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let stuck = self.world.lock().unwrap().stuck;
        if stuck == Some((name, Moment::Before)) {
            self.stick().await;
        }
        let mut changes = self.changed.subscribe();
        while self.world.lock().unwrap().hangs {
            let thawed = tokio::time::timeout(DEADLINE, changes.changed()).await;
            thawed.map_err(|_| Error::Unavailable("no answer within 2 s".into()))?.unwrap();
        }
        let answer = self.change(|world| match (world.silent, world.answers) {
            (true, _) => Err(Error::Unavailable("it is silent".into())),
            (false, Some((of, error))) if of == name => Err(error()),
            (false, _) => call(world),
        });
        if stuck == Some((name, Moment::After)) {
            self.stick().await;
        }
        answer
    }

    /// Doesn't answer the call that is being made for as long as calls stick, and says that it came.
    async fn stick(&self) {
        let mut changes = self.changed.subscribe();
        self.change(|world| world.stuck_now += 1);
        while self.world.lock().unwrap().stuck.is_some() {
            changes.changed().await.unwrap();
        }
    }
}

fn name(run: i64) -> String {
    format!("container-{run}")
}

impl World {
    fn make(&mut self, run: i64, fence: i64, status: Status, folder: &Path) {
        let (script, folder) = (self.script.clone(), folder.to_owned());
        let container =
            Container { run, fence, status, folder, script, signals: Vec::new(), log: Vec::new() };
        self.containers.insert(name(run), container);
        self.made.push(run);
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or(Error::Absent)
    }
}

#[async_trait]
impl Engine for Scripted {
    async fn about(&self) -> Result<About> {
        self.reach("about", |world| {
            let identity = Some(world.identity.clone());
            Ok(About { line: "scripted".into(), sandboxed: true, claude: None, identity })
        })
        .await
    }

    async fn identity(&self) -> Result<String> {
        self.reach("identity", |world| Ok(world.identity.clone())).await
    }

    async fn start(&self, cell: &Cell) -> Result<String> {
        self.reach("start", |world| {
            if let Some(why) = &world.refuses {
                return Err(Error::Refused(why.clone()));
            }
            if world.containers.contains_key(&name(cell.run)) {
                return Err(Error::Exists);
            }
            if world.stillborn.as_ref().is_some_and(|which| which(cell.run)) {
                world.make(cell.run, cell.fence, Status::Created, &cell.gate_dir);
                return Err(Error::Unavailable("500: no space left on device".into()));
            }
            let status = match world.script.exits {
                Some(code) => Status::Exited(Exit { code, oom: false }),
                None => Status::Alive,
            };
            world.make(cell.run, cell.fence, status, &cell.gate_dir);
            world.gates.insert(cell.run, (cell.gate_dir.clone(), cell.gate_token.clone()));
            if world.loses_answers { Err(Error::Unavailable("lost".into())) } else { Ok(name(cell.run)) }
        })
        .await
    }

    async fn signal(&self, container: &str, signal: Signal) -> Result<()> {
        self.reach("signal", |world| {
            let container = world.container(container)?;
            if container.status != Status::Alive {
                return Err(Error::NotRunning);
            }
            container.signals.push(signal.name());
            container.log.push(signal.name().to_owned());
            if !container.script.ignores.contains(signal.name()) {
                let code = match signal {
                    Signal::Int => container.script.interrupted.unwrap_or(1),
                    Signal::Term => 143,
                    Signal::Kill => 137,
                };
                if let (Signal::Int, Some(words)) = (signal, container.script.last_words.clone()) {
                    container.script.prints.push(words);
                }
                container.status = Status::Exited(Exit { code, oom: false });
            }
            Ok(())
        })
        .await
    }

    async fn exec(&self, container: &str, argv: &[&str], _: usize, _: Duration) -> Result<Executed> {
        let said = self
            .reach("exec", |world| {
                let exec = world.exec.clone();
                let container = world.container(container)?;
                if container.status != Status::Alive {
                    return Err(Error::NotRunning);
                }
                container.log.push(argv.join(" "));
                exec.map(|exec| exec(argv)).ok_or_else(|| Error::Refused("it has no programs".into()))
            })
            .await?;
        match said {
            Some(executed) => Ok(executed),
            None => std::future::pending().await,
        }
    }

    async fn inspect(&self, container: &str) -> Result<Status> {
        self.reach("inspect", |world| {
            let status = world.container(container).map_or(Status::Absent, |c| c.status.clone());
            Ok(if world.forgets { Status::Absent } else { status })
        })
        .await
    }

    async fn wait(&self, container: &str) -> Result<Exit> {
        let mut changes = self.changed.subscribe();
        loop {
            let status = {
                let mut world = self.world.lock().unwrap();
                let hangs = world.hangs;
                if world.forgets {
                    return Err(Error::Absent);
                }
                if let Some((_, error)) = world.answers.take_if(|(of, _)| *of == "wait") {
                    return Err(error());
                }
                world.container(container).map(|c| c.status.clone()).map(|status| (status, hangs))
            };
            match status {
                Err(error) => return Err(error),
                Ok((Status::Exited(exit), false)) => return Ok(exit),
                Ok(_) => {}
            }
            let _ = changes.changed().await;
        }
    }

    fn output(&self, container: &str) -> BoxStream<'static, Result<Output>> {
        let (engine, container) = (self.clone(), container.to_owned());
        let changes = self.changed.subscribe();
        stream::unfold((engine, container, changes, 0), async move |(engine, id, mut changes, given)| {
            loop {
                {
                    let world = engine.world.lock().unwrap();
                    let found = world.containers.get(&id)?;
                    if let Some(line) = found.script.prints.get(given) {
                        let chunk = Ok(Output::Stdout(Bytes::from(format!("{line}\n"))));
                        drop(world);
                        return Some((chunk, (engine, id, changes, given + 1)));
                    }
                    if matches!(found.status, Status::Exited(_)) {
                        return None;
                    }
                }
                let _ = tokio::time::timeout(Duration::from_secs(5), changes.changed()).await;
            }
        })
        .boxed()
    }

    async fn list(&self) -> Result<Vec<Found>> {
        self.reach("list", |world| {
            world.listed += 1;
            let found = |(id, container): (&String, &Container)| {
                let (run, fence, stage) = (container.run, container.fence, container.status.stage()?);
                Some(Found { container: id.clone(), run, fence, stage })
            };
            let ours = world.containers.iter().filter(|(_, c)| c.is_of(self.worker.as_deref()));
            Ok(ours.filter_map(found).collect())
        })
        .await
    }

    async fn remove(&self, container: &str) -> Result<()> {
        self.reach("remove", |world| {
            if world.keeps {
                return Err(Error::Unavailable("it keeps what it has".into()));
            }
            match world.containers.get(container).map(|container| &container.status) {
                Some(Status::Alive) => return Err(Error::Refused("it is alive".into())),
                _ => world.containers.remove(container),
            };
            Ok(())
        })
        .await
    }
    async fn kill_by_host(&self, id: &str) -> Result<()> {
        self.change(|world| match world.on_host {
            false => Err(Error::Refused("not on this host".into())),
            true if world.undying && world.survivors > 0 => {
                let n = world.survivors;
                Err(Error::Unavailable(format!("{n} of its processes don't die")))
            }
            true => {
                world.survivors = 0;
                let container = world.container(id)?;
                if container.status == Status::Alive {
                    container.status = Status::Exited(Exit { code: 137, oom: false });
                }
                Ok(())
            }
        })
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.reach("leftovers", |world| Ok(world.leftovers.clone())).await
    }

    async fn discard(&self, leftover: &Leftover) -> Result<()> {
        self.reach("discard", |world| {
            world.leftovers.retain(|left| (left.kind, &left.what) != (leftover.kind, &leftover.what));
            Ok(())
        })
        .await
    }

    async fn left(&self, id: &str) -> Left {
        let world = self.world.lock().unwrap();
        let lives = world.containers.get(id).is_some_and(|container| container.status == Status::Alive);
        match (world.on_host, world.survivors + usize::from(lives)) {
            _ if world.unreadable => Left::Unread,
            (false, _) => Left::Unseen,
            (true, 0) => Left::Gone,
            (true, n) => Left::Alive(n),
        }
    }

    async fn cells_by_host(&self, work_dir: &Path) -> Result<Vec<HostCell>> {
        let world = self.world.lock().unwrap();
        if world.unreadable {
            return Err(Error::Unavailable("it can't be looked at".into()));
        }
        let living = world.containers.values().filter(|c| c.status == Status::Alive && world.on_host);
        let ours = living.filter(|container| container.folder.starts_with(work_dir));
        Ok(ours.map(|c| HostCell { container: name(c.run), folder: c.folder.clone() }).collect())
    }
}
