//! What an engine keeps of ours that nothing uses: replaced agent images, volumes without a container.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::Docker as Api;
use bollard::query_parameters::{
    InspectContainerOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::{CLAUDE_LABEL, DEADLINE, Error, FLEET, Result, said};
use crate::engine::weight;
use crate::model::found::{Kind, Leftover};

/// Untagged images that carry the agent image's label, and dangling volumes that carry our fleet's; each volume with its
/// folder on the engine's host.
pub(super) async fn find(api: Api, fleet: &str) -> Result<(Vec<Leftover>, Vec<(Leftover, PathBuf)>)> {
    let only = |label: String| HashMap::from([("dangling", vec!["true".to_owned()]), ("label", vec![label])]);
    let images = ListImagesOptionsBuilder::default().filters(&only(CLAUDE_LABEL.to_owned())).build();
    let images = api.list_images(Some(images)).await.map_err(said)?;
    let volumes = ListVolumesOptionsBuilder::default().filters(&only(format!("{FLEET}={fleet}"))).build();
    let volumes = api.list_volumes(Some(volumes)).await.map_err(said)?;
    let images = images.into_iter().map(|image| Leftover {
        kind: Kind::Image,
        detail: match image.labels.get(CLAUDE_LABEL) {
            Some(version) => format!("Claude Code {version}"),
            None => String::new(),
        },
        what: image.id,
        run: None,
        bytes: Some(image.size),
        since: OffsetDateTime::from_unix_timestamp(image.created).ok(),
    });
    let volumes = volumes.volumes.into_iter().flatten().map(|volume| {
        let leftover = Leftover {
            kind: Kind::Volume,
            what: volume.name,
            run: None,
            detail: String::new(),
            bytes: None,
            since: volume.created_at.as_deref().and_then(moment),
        };
        (leftover, PathBuf::from(volume.mountpoint))
    });
    Ok((images.collect(), volumes.collect()))
}

/// Weighs volumes on this host, for as long as there is time: an engine says their size only after weighing everything.
pub(super) async fn weigh_volumes(volumes: Vec<(Leftover, PathBuf)>) -> Vec<Leftover> {
    let until = Instant::now() + DEADLINE;
    let mut weighed = Vec::with_capacity(volumes.len());
    for (mut volume, folder) in volumes {
        let weight = timeout_at(until, spawn_blocking(move || weight::weigh(&folder)));
        if let Ok(Ok(bytes)) = weight.await {
            volume.bytes = bytes;
        }
        weighed.push(volume);
    }
    weighed
}

/// Since when a container is there, and how much it has written beside its folders in memory.
pub(super) async fn weigh(api: &Api, container: &str) -> (Option<OffsetDateTime>, Option<i64>) {
    let options = InspectContainerOptionsBuilder::default().size(true).build();
    let Ok(found) = api.inspect_container(container, Some(options)).await else { return (None, None) };
    (found.created.as_deref().and_then(moment), found.size_rw)
}

/// A time as the engine writes it.
fn moment(at: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(at, &Rfc3339).ok()
}

/// Removes one that nothing uses; the engine refuses otherwise.
pub(super) async fn discard(api: Api, leftover: &Leftover) -> Result<()> {
    match leftover.kind {
        Kind::Image => {
            let options = RemoveImageOptionsBuilder::default().force(false).build();
            api.remove_image(&leftover.what, Some(options), None).await.map(drop).map_err(said)
        }
        Kind::Volume => {
            let options = RemoveVolumeOptionsBuilder::default().force(false).build();
            api.remove_volume(&leftover.what, Some(options)).await.map_err(said)
        }
        Kind::Container | Kind::Run | Kind::Folder => {
            Err(Error::Refused("it is neither an image nor a volume".to_owned()))
        }
    }
}
