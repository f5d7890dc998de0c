//! Lost and found: what hosts hold and no run accounts for, and the other way about.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

use super::Site;
use super::address::Address;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::page::{Frame, Place, go_to, show};
use super::show::{self, Moment};
use crate::clock;
use crate::db::Superuser;
use crate::model::found::{Finding, Kind};

#[derive(Template)]
#[template(path = "found/index.html")]
struct FoundPage {
    frame: Frame,
    first: String,
    open: Vec<Item>,
    gone: Vec<Item>,
    now: Moment,
}

struct Item {
    finding: Finding,
    what: String,
    name: &'static str,
    age: Option<Moment>,
    size: Option<String>,
    /// The one thing that can be done about it.
    action: Option<&'static str>,
    says: Option<String>,
    gone: Option<Moment>,
}

/// The page.
pub(crate) async fn index(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let (open, gone) = site.db.findings(&by).await?;
    let frame = fleet.frame(&site.db, &by, Place::Workers).await?;
    let now = clock::now();
    let items = |findings: Vec<Finding>| findings.into_iter().map(|finding| item(finding, now)).collect();
    let first = match open.len() {
        0 => "Everything is accounted for.".to_owned(),
        1 => "One thing isn’t accounted for.".to_owned(),
        n => format!("{} things aren’t accounted for.", show::word(n)),
    };
    show(&FoundPage { frame, first, open: items(open), gone: items(gone), now: Moment::new(now, now) })
}

fn item(finding: Finding, now: time::OffsetDateTime) -> Item {
    let (name, action) = match finding.leftover.kind {
        Kind::Container => ("Container without a run", "Kill and remove"),
        Kind::Run => ("Run without a container", "Look at it"),
        Kind::Folder => ("Folder of a run that is over", "Remove"),
        Kind::Image => ("Replaced agent image", "Remove"),
        Kind::Volume => ("Volume without a container", "Remove"),
    };
    let says = match (&finding.done, &finding.wished) {
        (Some((done, by, _)), _) => Some(format!("{done} By {by}.")),
        (None, Some((by, _))) if finding.worker_alive => {
            Some(format!("{by} wants it cleared away; it is being done."))
        }
        (None, Some((by, _))) => {
            Some(format!("{by} wants it cleared away; worker {} is silent.", finding.worker))
        }
        (None, None) => None,
    };
    let what = match finding.leftover.kind {
        Kind::Container => show::short(&finding.leftover.what),
        _ => finding.leftover.what.clone(),
    };
    Item {
        what,
        name,
        age: finding.leftover.since.map(|at| Moment::new(at, now)),
        size: finding.leftover.bytes.map(size),
        action: (finding.gone_at.is_none() && (finding.wished.is_none() || finding.done.is_some()))
            .then_some(action),
        says,
        gone: finding.gone_at.map(|at| Moment::new(at, now)),
        finding,
    }
}

/// Bytes, in the unit that reads best.
fn size(bytes: i64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    match bytes {
        ..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        1_048_576..1_073_741_824 => format!("{mib:.1} MiB"),
        _ => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// Wishes that something be cleared away; its worker does it within seconds.
pub(crate) async fn clear(
    by: Superuser,
    site: Data<Site>,
    address: Address,
    finding: actix_web::web::Path<String>,
) -> Result<HttpResponse> {
    let finding: i64 = finding.parse().map_err(|_| Error::NotFound)?;
    site.db.wish_cleared(&by, finding, Some(&address.to_string())).await?;
    Ok(go_to("/found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let sizes = [0, 1023, 1024, 1_500_000, 3_000_000_000].map(size);
        assert_eq!(sizes, ["0 bytes", "1023 bytes", "1 KiB", "1.4 MiB", "2.8 GiB"]);
    }
}
