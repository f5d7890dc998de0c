//! Docker's API, over a Unix socket or TCP; Podman's compatible socket is meant to work too.
//!
//! Each request has a connection of its own, so that an engine that was restarted leaves no stale one behind.

mod leftovers;
mod output;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::StartExecResults;
use bollard::models::{
    ContainerState, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum as Listed,
    ExecConfig, SystemInfo, SystemVersion,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker as Api};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use time::OffsetDateTime;
use tokio::time::timeout;

use output::Following;

use super::host::{Host, Left};
use super::{
    About, Cell, DEADLINE, Engine, Error, Executed, Exit, Found, Output, Result, Signal, Stage, Status,
};
use crate::model::found::Leftover;

/// How long an engine may take to make and start a container.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long a silent connection is trusted before the engine is asked afresh.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the API's client may take for the head of an answer. Ours are shorter; this one must not end a wait.
const HEAD_SECONDS: u64 = 3600;

const USUAL: &str = "unix:///var/run/docker.sock";
const RUN: &str = "signalbox.run";
const FENCE: &str = "signalbox.fence";
const WORKER: &str = "signalbox.worker";
const FLEET: &str = "signalbox.fleet";

/// Where the agent image says which CLI it holds.
const CLAUDE_LABEL: &str = "signalbox.claude.version";

type Logs = BoxStream<'static, std::result::Result<LogOutput, ApiError>>;

/// A worker's view of a Docker engine: it makes, lists and touches this worker's containers. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    link: Arc<Link>,
    /// The host, when the engine is on this one.
    host: Option<Arc<Host>>,
    fleet: String,
    /// Whose containers these are; everybody's of the fleet when none.
    worker: Option<String>,
    image: Option<String>,
}

impl Docker {
    /// An engine at `docker_host` (`unix://…` or `tcp://…`; none means Docker's usual socket). Nothing is asked yet: an
    /// engine that is down now may be up later.
    ///
    /// # Errors
    /// When the address is of another kind.
    pub fn connect(docker_host: Option<&str>, fleet: &str, worker: &str) -> Result<Self> {
        Ok(Self { worker: Some(worker.to_owned()), ..Self::of_fleet(docker_host, fleet)? })
    }

    /// The same for all workers of a fleet: what [`Engine::list`] gives is theirs together.
    ///
    /// # Errors
    /// When the address is of another kind.
    pub fn of_fleet(docker_host: Option<&str>, fleet: &str) -> Result<Self> {
        let host = docker_host.unwrap_or(USUAL);
        let is_here = host.starts_with("unix://");
        if !is_here && !host.starts_with("tcp://") {
            return Err(Error::Refused(format!("DOCKER_HOST {host:?} is neither unix:// nor tcp://")));
        }
        let link = Link { host: host.to_owned(), api: Mutex::new(None) };
        let host = is_here.then(Arc::<Host>::default);
        Ok(Self { link: link.into(), host, fleet: fleet.to_owned(), worker: None, image: None })
    }

    /// Names the image whose label tells the CLI's version.
    #[must_use]
    pub fn with_image(self, image: &str) -> Self {
        Self { image: Some(image.to_owned()), ..self }
    }

    fn labels(&self, cell: &Cell) -> HashMap<String, String> {
        let own = [(FLEET, self.fleet.clone()), (WORKER, self.worker.clone().unwrap_or_default())];
        let all = own.into_iter().chain([(RUN, cell.run.to_string()), (FENCE, cell.fence.to_string())]);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The CLI's version as the image's label says it; not knowing is fine.
    async fn claude(&self, api: &Api) -> Option<String> {
        let image = api.inspect_image(self.image.as_deref()?).await.ok()?;
        image.config?.labels?.remove(CLAUDE_LABEL)
    }

    /// Looks at this host's kernel, off the async threads; none when the engine is elsewhere.
    async fn look<T: Send + 'static>(
        &self,
        container: &str,
        question: impl FnOnce(&Host, &str) -> T + Send + 'static,
    ) -> Option<T> {
        let (host, container) = (self.host.clone()?, container.to_owned());
        tokio::task::spawn_blocking(move || question(&host, &container)).await.ok()
    }

    async fn logs(&self, container: &str, follow: bool) -> Result<Logs> {
        let api = self.link.ask(DEADLINE, |api| async { Ok(api) }).await?;
        let options =
            LogsOptionsBuilder::default().follow(follow).stdout(true).stderr(true).tail("all").build();
        Ok(api.logs(container, Some(options)).boxed())
    }

    /// What the listing says of one container of the fleet; asked for when it doesn't say whether that is over. None for
    /// another worker's. One that names no worker is everybody's to clear away.
    async fn found(&self, listed: ContainerSummary) -> Result<Option<Found>> {
        let label = |name: &str| listed.labels.as_ref()?.get(name).filter(|value| !value.is_empty());
        let number = |name: &str| label(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        let is_ours = label(WORKER).zip(self.worker.as_ref()).is_none_or(|(its, ours)| its == ours);
        let (Some(container), true) = (listed.id.clone(), is_ours) else { return Ok(None) };
        let (run, fence) = (number(RUN), number(FENCE));
        let stage = match listed.state.and_then(stage) {
            Some(stage) => Some(stage),
            None => self.inspect(&container).await?.stage(),
        };
        Ok(stage.map(|stage| Found { container, run, fence, stage }))
    }
}

/// The way to an engine, made when it is first needed and again after it broke, as the engine behind it may be another
/// one then, of another version.
struct Link {
    host: String,
    api: Mutex<Option<Api>>,
}

impl Link {
    async fn api(&self) -> Result<Api> {
        let known = self.slot().clone();
        if let Some(api) = known {
            return Ok(api);
        }
        let api = if self.host.starts_with("unix://") {
            Api::connect_with_unix(&self.host, HEAD_SECONDS, API_DEFAULT_VERSION)
        } else {
            Api::connect_with_http(&self.host, HEAD_SECONDS, API_DEFAULT_VERSION)
        };
        let api = api.map_err(unavailable)?.negotiate_version().await.map_err(unavailable)?;
        *self.slot() = Some(api.clone());
        Ok(api)
    }

    /// One question and its answer, within `deadline`.
    async fn ask<T, F: Future<Output = Result<T>>>(
        &self,
        deadline: Duration,
        question: impl FnOnce(Api) -> F,
    ) -> Result<T> {
        let asked = async { question(self.api().await?).await };
        let answer = timeout(deadline, asked).await.unwrap_or_else(|_| {
            Err(Error::Unavailable(format!("no answer within {} s", deadline.as_secs())))
        });
        if matches!(answer, Err(Error::Unavailable(_))) {
            *self.slot() = None;
        }
        answer
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Api>> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Engine for Docker {
    async fn about(&self) -> Result<About> {
        self.link
            .ask(DEADLINE, |api| async move {
                // The version is the sign of life; the rest is good to know, and slow on a busy engine.
                let version = api.version().await.map_err(said)?;
                let more = async { (api.info().await.unwrap_or_default(), self.claude(&api).await) };
                let (info, claude) = timeout(DEADLINE / 2, more).await.unwrap_or_default();
                Ok(About { line: line(&version, &info), sandboxed: true, claude, identity: info.id })
            })
            .await
    }

    async fn identity(&self) -> Result<String> {
        self.link
            .ask(DEADLINE, |api| async move {
                let id = api.info().await.map_err(said)?.id.filter(|id| !id.is_empty());
                id.ok_or_else(|| Error::Unavailable("it doesn't say who it is".to_owned()))
            })
            .await
    }

    async fn start(&self, cell: &Cell) -> Result<String> {
        let name = format!("{}-run-{}", self.fleet, cell.run);
        let container = cell.container(self.labels(cell));
        let id = self
            .link
            .ask(START_DEADLINE, |api| async move {
                let options = CreateContainerOptionsBuilder::default().name(&name).build();
                let made = api.create_container(Some(options), container).await;
                let id = made.map_err(|error| not_made(error, &cell.image))?.id;
                api.start_container(&id, None::<StartContainerOptions>).await.map_err(said)?;
                Ok(id)
            })
            .await?;
        // While it lives its processes tell where it is; that is needed when the engine no longer answers.
        self.look(&id, |host, container| host.learn(container)).await;
        Ok(id)
    }

    async fn signal(&self, container: &str, signal: Signal) -> Result<()> {
        self.link
            .ask(DEADLINE, |api| async move {
                let options = KillContainerOptionsBuilder::default().signal(signal.name()).build();
                api.kill_container(container, Some(options)).await.map_err(|error| match status(&error) {
                    Some(409) => Error::NotRunning,
                    _ => said(error),
                })
            })
            .await
    }

    async fn exec(
        &self,
        container: &str,
        argv: &[&str],
        limit: usize,
        deadline: Duration,
    ) -> Result<Executed> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.iter().map(|&word| word.to_owned()).collect()),
            ..Default::default()
        };
        self.link.ask(deadline, |api| executed(api, container, config, limit)).await
    }

    async fn inspect(&self, container: &str) -> Result<Status> {
        self.link
            .ask(DEADLINE, |api| async move {
                match api.inspect_container(container, None::<InspectContainerOptions>).await {
                    Ok(found) => found.state.as_ref().and_then(read).ok_or_else(|| {
                        Error::Unavailable("it doesn't tell the container's state".to_owned())
                    }),
                    Err(error) => match said(error) {
                        Error::Absent => Ok(Status::Absent),
                        other => Err(other),
                    },
                }
            })
            .await
    }

    async fn wait(&self, container: &str) -> Result<Exit> {
        loop {
            let api = self.link.ask(DEADLINE, |api| async { Ok(api) }).await?;
            let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
            let mut ended = std::pin::pin!(api.wait_container(container, Some(options)));
            // Its answer only says when to look; the connection may also have died without a word.
            let (broken, has_ended) = match timeout(SILENCE, ended.next()).await {
                Ok(Some(Ok(_) | Err(ApiError::DockerContainerWaitError { .. }))) => (None, true),
                Err(_) => (None, false),
                Ok(Some(Err(error))) => (Some(said(error)), false),
                Ok(None) => (Some(Error::Unavailable("it hung up on a wait".to_owned())), false),
            };
            match (self.inspect(container).await?, broken) {
                (Status::Exited(exit), _) => return Ok(exit),
                (Status::Absent, _) => return Err(Error::Absent),
                (_, Some(error)) => return Err(error),
                // Never started counts as not running, so the answer came at once: this must not spin.
                (Status::Created, None) => tokio::time::sleep(Duration::from_millis(200)).await,
                (Status::Alive, None) if has_ended => return Err(Error::Restarted),
                (Status::Alive, None) => {}
            }
        }
    }

    fn output(&self, container: &str) -> BoxStream<'static, Result<Output>> {
        let following = Following::of(self, container);
        stream::unfold(Some(following), Following::next).boxed()
    }

    async fn list(&self) -> Result<Vec<Found>> {
        let filters = HashMap::from([("label", vec![format!("{FLEET}={}", self.fleet)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self
            .link
            .ask(DEADLINE, |api| async move { api.list_containers(Some(options)).await.map_err(said) })
            .await?;
        let mut found = Vec::with_capacity(listed.len());
        for container in listed {
            found.extend(self.found(container).await?);
        }
        Ok(found)
    }

    async fn remove(&self, container: &str) -> Result<()> {
        let removed = self
            .link
            .ask(DEADLINE, |api| async move {
                // Never by force, which would kill: only the ladder kills.
                let options = RemoveContainerOptionsBuilder::default().v(true).force(false).build();
                match api.remove_container(container, Some(options)).await {
                    Ok(()) => Ok(()),
                    Err(error) if is_going(&error) => Ok(()),
                    Err(error) => match said(error) {
                        Error::Absent => Ok(()),
                        other => Err(other),
                    },
                }
            })
            .await;
        if let (Ok(()), Some(host)) = (&removed, &self.host) {
            host.forget(container);
        }
        removed
    }
    async fn kill_by_host(&self, container: &str) -> Result<()> {
        match self.look(container, Host::kill).await {
            None => Err(Error::Refused("the engine is on another host".to_owned())),
            Some(Ok(Left::Alive(n))) => Err(Error::Unavailable(format!("{n} of its processes don't die"))),
            Some(Ok(Left::Unseen)) => {
                Err(Error::Unavailable("this host doesn't see its processes".to_owned()))
            }
            Some(Ok(Left::Unread)) => {
                Err(Error::Unavailable("this host couldn't look at its processes".to_owned()))
            }
            Some(Ok(Left::Empty | Left::Gone)) => Ok(()),
            Some(Err(error)) => Err(Error::Refused(error.to_string())),
        }
    }

    async fn left(&self, container: &str) -> Left {
        match &self.host {
            Some(_) => self.look(container, Host::left).await.unwrap_or(Left::Unread),
            None => Left::Unseen,
        }
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>> {
        let (mut found, volumes) = self.link.ask(DEADLINE, |api| leftovers::find(api, &self.fleet)).await?;
        match self.host {
            Some(_) => found.extend(leftovers::weigh_volumes(volumes).await),
            None => found.extend(volumes.into_iter().map(|(volume, _)| volume)),
        }
        Ok(found)
    }

    async fn weigh(&self, container: &str) -> (Option<OffsetDateTime>, Option<i64>) {
        self.link
            .ask(DEADLINE, |api| async move { Ok(leftovers::weigh(&api, container).await) })
            .await
            .unwrap_or_default()
    }

    async fn discard(&self, leftover: &Leftover) -> Result<()> {
        self.link.ask(DEADLINE, |api| leftovers::discard(api, leftover)).await
    }

    async fn cells_by_host(&self, work_dir: &Path) -> Result<Vec<super::host::Cell>> {
        let Some(host) = self.host.clone() else { return Ok(Vec::new()) };
        let work_dir = work_dir.to_owned();
        let looked = tokio::task::spawn_blocking(move || host.cells(&work_dir)).await;
        let cells = looked.map_err(|error| Error::Unavailable(error.to_string()))?;
        cells
            .map_err(|error| Error::Unavailable(format!("this host couldn't look at its processes: {error}")))
    }
}

/// Runs a program in a container and gathers what it says.
async fn executed(api: Api, container: &str, config: ExecConfig, limit: usize) -> Result<Executed> {
    let refused = |error: ApiError| match status(&error) {
        // A container that is over, or paused.
        Some(409) => Error::NotRunning,
        _ => said(error),
    };
    let id = api.create_exec(container, config).await.map_err(refused)?.id;
    let StartExecResults::Attached { mut output, .. } = api.start_exec(&id, None).await.map_err(refused)?
    else {
        return Err(Error::Unavailable("it keeps a program's output to itself".to_owned()));
    };
    let mut done = Executed::default();
    while let Some(piece) = output.next().await {
        match piece.map_err(said)? {
            LogOutput::StdOut { message } if !done.take_stdout(&message, limit) => return Ok(done),
            LogOutput::StdErr { message } => done.take_stderr(&message),
            _ => {}
        }
    }
    done.code = api.inspect_exec(&id).await.map_err(said)?.exit_code;
    Ok(done)
}

/// What a listing says, where it says anything.
fn stage(state: Listed) -> Option<Stage> {
    match state {
        Listed::CREATED => Some(Stage::Created),
        Listed::RUNNING | Listed::PAUSED | Listed::RESTARTING | Listed::REMOVING | Listed::STOPPING => {
            Some(Stage::Alive)
        }
        Listed::EXITED | Listed::DEAD => Some(Stage::Over),
        Listed::EMPTY => None,
    }
}

/// A state, when all of it fits together.
fn read(state: &ContainerState) -> Option<Status> {
    use ContainerStateStatusEnum as Is;
    let running = state.running?;
    match state.status? {
        Is::CREATED if !running => Some(Status::Created),
        Is::RUNNING | Is::PAUSED | Is::RESTARTING | Is::REMOVING | Is::STOPPING => Some(Status::Alive),
        Is::EXITED | Is::DEAD if !running && has_finished(state) => {
            Some(Status::Exited(Exit { code: state.exit_code?, oom: state.oom_killed.unwrap_or(false) }))
        }
        _ => None,
    }
}

/// Docker writes the year 1 for a time that never came.
fn has_finished(state: &ContainerState) -> bool {
    state.finished_at.as_deref().is_some_and(|at| !at.is_empty() && !at.starts_with("0001-"))
}

fn line(version: &SystemVersion, info: &SystemInfo) -> String {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    let cgroup = info.cgroup_version.map(|v| v.to_string()).unwrap_or_else(|| "?".to_owned());
    let security = info.security_options.iter().flatten().map(|option| {
        let name = option.split(',').find_map(|part| part.strip_prefix("name="));
        name.unwrap_or(option).to_owned()
    });
    format!(
        "Docker {} (API {}), {}, cgroup v{cgroup}, {}",
        or(&version.version),
        or(&version.api_version),
        or(&info.architecture),
        security.collect::<Vec<_>>().join(" "),
    )
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What an answer of the API means, unless the question gives it a meaning of its own.
fn said(error: ApiError) -> Error {
    match &error {
        ApiError::DockerResponseServerError { status_code: 404, message } if message.contains("ontainer") => {
            Error::Absent
        }
        ApiError::DockerResponseServerError { status_code: 400..500, message } => {
            Error::Refused(short(message))
        }
        _ => unavailable(error),
    }
}

/// The deepest cause says it best: that nobody listens there, rather than that a request failed.
fn unavailable(error: ApiError) -> Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Error::Unavailable(short(&cause.to_string()))
}

fn not_made(error: ApiError, image: &str) -> Error {
    match &error {
        ApiError::DockerResponseServerError { status_code: 409, .. } => Error::Exists,
        ApiError::DockerResponseServerError { status_code: 404, .. } => {
            Error::Refused(format!("it has no image {image:?}"))
        }
        _ => said(error),
    }
}

/// Whether a removal was refused because one is under way.
fn is_going(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code: 409, message }
        if message.contains("already in progress"))
}

/// One line of bearable length.
fn short(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
