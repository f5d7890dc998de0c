//! The engine's own notes of its containers, followed for the whole history, over its deaths and restarts.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use tokio::time::sleep;

use crate::history::{Ms, Note, Pen, Record, now};

/// How long the engine may take for an answer.
const DEADLINE_S: u64 = 20;

/// A way to the engine at this address, if it answers.
pub(crate) async fn reach(host: &str) -> Option<Docker> {
    let api = Docker::connect_with_unix(host, DEADLINE_S, API_DEFAULT_VERSION).ok()?;
    api.negotiate_version().await.ok()
}

/// Whether it answers.
pub(crate) async fn answers(host: String) -> bool {
    reach(&host).await.is_some()
}

/// Takes notes, for ever.
pub(crate) async fn take_notes(host: String, pen: Pen) {
    let mut taken = HashSet::new();
    let mut since: Ms = now() - 1000;
    loop {
        if let Some(api) = reach(&host).await {
            pen.write(&Record::EngineBack { at: now() });
            let filters = HashMap::from([("type", vec!["container"])]);
            let from = format!("{}.{:03}000000", since / 1000, since % 1000);
            let options = EventsOptionsBuilder::default().filters(&filters).since(&from).build();
            let mut events = api.events(Some(options));
            while let Some(Ok(event)) = events.next().await {
                let Some(note) = note(event) else { continue };
                since = since.max(note.at);
                // Those of the last moment are told again.
                if taken.insert(note.clone()) {
                    pen.write(&Record::Engine(note));
                }
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn note(event: EventMessage) -> Option<Note> {
    let actor = event.actor?;
    let facts = actor.attributes.unwrap_or_default();
    let did = event.action?;
    if did.starts_with("exec") {
        return None;
    }
    Some(Note {
        at: event.time_nano? / 1_000_000,
        did,
        container: actor.id?,
        run: facts.get("signalbox.run").and_then(|run| run.parse().ok()),
        worker: facts.get("signalbox.worker").cloned(),
        exit: facts.get("exitCode").and_then(|code| code.parse().ok()),
    })
}
