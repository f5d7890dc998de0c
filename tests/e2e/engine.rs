//! The engine's word, asked past the worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, KillContainerOptions, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

/// How long the engine may take for an answer.
const DEADLINE_S: u64 = 120;

/// One fleet's containers at an engine.
#[derive(Clone)]
pub(crate) struct Witness {
    api: Docker,
    fleet: String,
    deaths: Arc<Mutex<Vec<Death>>>,
}

/// The engine's own note of a container's end.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) container: String,
    pub(crate) at: OffsetDateTime,
    pub(crate) exit_code: i64,
}

/// A line that a container printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Printed {
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Witness {
    /// Looks at an engine, and takes notes of the deaths in this fleet from now on.
    pub(crate) async fn at(host: &str, fleet: &str) -> Self {
        let api = if host.starts_with("unix://") {
            Docker::connect_with_unix(host, DEADLINE_S, API_DEFAULT_VERSION)
        } else {
            Docker::connect_with_http(host, DEADLINE_S, API_DEFAULT_VERSION)
        };
        let api = api.unwrap().negotiate_version().await.unwrap();
        let witness = Self { api, fleet: fleet.to_owned(), deaths: Arc::default() };
        tokio::spawn(witness.clone().take_notes());
        witness
    }

    fn ours(&self) -> HashMap<&'static str, Vec<String>> {
        HashMap::from([("label", vec![format!("signalbox.fleet={}", self.fleet)])])
    }

    async fn take_notes(self) {
        let mut filters = self.ours();
        filters.insert("event", vec!["die".to_owned()]);
        let mut events = self.api.events(Some(EventsOptionsBuilder::default().filters(&filters).build()));
        while let Some(Ok(event)) = events.next().await {
            self.deaths.lock().unwrap().extend(death(event));
        }
    }

    /// The containers that died since the test began, each as often as it did.
    pub(crate) fn deaths(&self) -> Vec<Death> {
        self.deaths.lock().unwrap().clone()
    }

    /// Ids of all containers of the fleet, dead ones included.
    pub(crate) async fn containers(&self) -> Vec<String> {
        self.list(true).await
    }

    /// Ids of those that are alive.
    pub(crate) async fn alive(&self) -> Vec<String> {
        self.list(false).await
    }

    async fn list(&self, all: bool) -> Vec<String> {
        let options = ListContainersOptionsBuilder::default().all(all).filters(&self.ours()).build();
        let listed = self.api.list_containers(Some(options)).await.unwrap();
        listed.into_iter().filter_map(|container| container.id).collect()
    }

    /// All that the engine tells of a container; none when it has none of that id.
    pub(crate) async fn inspect(&self, id: &str) -> Option<ContainerInspectResponse> {
        self.api.inspect_container(id, None::<InspectContainerOptions>).await.ok()
    }

    /// What a container has printed so far.
    pub(crate) async fn printed(&self, id: &str) -> Printed {
        self.read(id, false).await
    }

    /// What a container prints, to its end.
    pub(crate) fn follow(&self, id: &str) -> JoinHandle<Printed> {
        let (witness, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move { witness.read(&id, true).await })
    }

    async fn read(&self, id: &str, follow: bool) -> Printed {
        let options =
            LogsOptionsBuilder::default().follow(follow).stdout(true).stderr(true).tail("all").build();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut pieces = self.api.logs(id, Some(options));
        while let Some(Ok(piece)) = pieces.next().await {
            match piece {
                LogOutput::StdOut { message } => out.extend(message),
                LogOutput::StdErr { message } => err.extend(message),
                LogOutput::StdIn { .. } | LogOutput::Console { .. } => panic!("{id} has a terminal"),
            }
        }
        Printed { stdout: lines(&out), stderr: lines(&err) }
    }

    /// Clears away what is left of the fleet.
    pub(crate) async fn clear(&self) {
        for id in self.containers().await {
            let _ = self.api.kill_container(&id, None::<KillContainerOptions>).await;
            let options = RemoveContainerOptionsBuilder::default().v(true).force(true).build();
            let _ =
                tokio::time::timeout(Duration::from_secs(10), self.api.remove_container(&id, Some(options)))
                    .await;
        }
    }
}

fn death(event: EventMessage) -> Option<Death> {
    let actor = event.actor?;
    Some(Death {
        container: actor.id?,
        at: OffsetDateTime::from_unix_timestamp_nanos(event.time_nano?.into()).ok()?,
        exit_code: actor.attributes?.get("exitCode")?.parse().ok()?,
    })
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}
