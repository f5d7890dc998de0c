//! What an engine keeps of ours that nothing uses: replaced agent images, volumes without a container.

use std::collections::HashMap;

use bollard::Docker as Api;
use bollard::query_parameters::{
    InspectContainerOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{CLAUDE_LABEL, Error, FLEET, Result, said};
use crate::model::found::{Kind, Leftover};

/// Untagged images that carry the agent image's label, and dangling volumes that carry our fleet's.
pub(super) async fn find(api: Api, fleet: &str) -> Result<Vec<Leftover>> {
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
    let volumes = volumes.volumes.into_iter().flatten().map(|volume| Leftover {
        kind: Kind::Volume,
        what: volume.name,
        run: None,
        detail: String::new(),
        bytes: None,
        since: None,
    });
    Ok(images.chain(volumes).collect())
}

/// Since when a container is there, and how much it has written beside its folders in memory.
pub(super) async fn weigh(api: &Api, container: &str) -> (Option<OffsetDateTime>, Option<i64>) {
    let options = InspectContainerOptionsBuilder::default().size(true).build();
    let Ok(found) = api.inspect_container(container, Some(options)).await else { return (None, None) };
    let since = found.created.as_deref().and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
    (since, found.size_rw)
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
