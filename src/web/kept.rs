//! What is kept of transcripts: how much, since when, by which rule, and what goes next.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use time::OffsetDateTime;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::page::{Frame, Place, show};
use super::show::{Moment, count};
use crate::clock;
use crate::config::Keep;
use crate::db::{Dropped, Kept, Part, Superuser};
use crate::model::run::RunId;

#[derive(Template)]
#[template(path = "kept/index.html")]
struct KeptPage {
    frame: Frame,
    first: String,
    rest: String,
    rule: Vec<(&'static str, String)>,
    comes: Vec<(&'static str, String)>,
    parts: Vec<Row>,
    /// How many partitions between the newest and the oldest aren't named.
    unnamed: i64,
    dropped: Vec<Row>,
    now: Moment,
}

/// The transcripts of some runs.
struct Row {
    runs: String,
    at: Option<Moment>,
    size: String,
    more: String,
    /// The run that keeps it, because it isn't over.
    lives: Option<RunId>,
}

/// The page.
pub(crate) async fn index(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let (kept, frame) = tokio::join!(site.db.kept(&by), fleet.frame(&site.db, &by, Place::Health));
    show(&page(frame?, kept?, &site.keep, clock::now()))
}

fn page(frame: Frame, kept: Kept, keep: &Keep, now: OffsetDateTime) -> KeptPage {
    let rest = match kept.parts.iter().find_map(|part| part.since) {
        Some(since) => {
            format!("About {} events, since {}.", count(kept.about), Moment::new(since, now).day())
        }
        None => "No run has begun yet.".to_owned(),
    };
    let unnamed = kept.count - kept.parts.len() as i64;
    KeptPage {
        frame,
        first: format!("Transcripts take {}.", size(kept.bytes)),
        rest,
        rule: rule(keep),
        comes: comes(&kept, keep, now),
        parts: kept
            .parts
            .iter()
            .rev()
            .filter(|part| part.since.is_some())
            .map(|part| row(part, now))
            .collect(),
        unnamed,
        dropped: kept.dropped.iter().map(|dropped| gone(dropped, now)).collect(),
        now: Moment::new(now, now),
    }
}

fn rule(keep: &Keep) -> Vec<(&'static str, String)> {
    let days = match keep.days {
        Some(1) => "for a day after their runs have ended".to_owned(),
        Some(days) => format!("for {} days after their runs have ended", count(days.into())),
        None => "for ever".to_owned(),
    };
    let most = keep.bytes.map(|bytes| size(bytes) + " in all");
    vec![("Kept", days), ("At most", most.unwrap_or_else(|| "as much as there is room for".to_owned()))]
}

fn comes(kept: &Kept, keep: &Keep, now: OffsetDateTime) -> Vec<(&'static str, String)> {
    let ready: Vec<&Part> = kept.parts.iter().filter(|part| part.since.is_none()).collect();
    let room = match ready.as_slice() {
        [] => "nothing is made ahead".to_owned(),
        [one] => format!("one partition, for runs from {} on", count(one.first)),
        [first, ..] => format!("{} partitions, for runs from {} on", ready.len(), count(first.first)),
    };
    vec![("Next to go", next(kept, keep, now)), ("Ready", room)]
}

/// What goes next, and when.
fn next(kept: &Kept, keep: &Keep, now: OffsetDateTime) -> String {
    if keep.days.is_none() && keep.bytes.is_none() {
        return "nothing ever does".to_owned();
    }
    let Some(part) = kept.parts.iter().find(|part| part.full && part.lives.is_none()) else {
        return "nothing yet: no partition is full and over".to_owned();
    };
    let over = keep.bytes.map(|bytes| kept.bytes - bytes);
    let due = keep.days.zip(part.until).map(|(days, until)| until + time::Duration::days(days.into()));
    let when = match (over, due) {
        (Some(over), _) if over > 0 => format!("now: there is {} too much", size(over)),
        (_, Some(due)) if due > now => format!("not before {}", Moment::new(due, now).day()),
        (_, Some(_)) => "as soon as the last of them has been over for so long".to_owned(),
        (Some(over), None) => format!("when {} more has come", size(-over)),
        (None, None) => "nothing ever does".to_owned(),
    };
    format!("runs {}, {when}", range(part.first, part.last))
}

fn row(part: &Part, now: OffsetDateTime) -> Row {
    let about = part.about.filter(|n| part.full || *n > 0).map(|n| format!("about {} events", count(n)));
    let state = (!part.full).then(|| "takes what comes".to_owned());
    Row {
        runs: range(part.first, part.last),
        at: part.since.map(|since| Moment::new(since, now)),
        size: size(part.bytes),
        more: about.into_iter().chain(state).collect::<Vec<_>>().join(", "),
        lives: part.lives.filter(|_| part.full),
    }
}

fn gone(dropped: &Dropped, now: OffsetDateTime) -> Row {
    Row {
        runs: range(dropped.first, dropped.last),
        at: Some(Moment::new(dropped.at, now)),
        size: size(dropped.bytes),
        more: format!("kept {}", dropped.kept),
        lives: None,
    }
}

fn range(first: i64, last: i64) -> String {
    format!("{}–{}", count(first), count(last))
}

/// What a run's page says in place of its transcript when that was dropped.
pub(crate) fn silence(dropped: &Dropped, now: OffsetDateTime) -> String {
    format!(
        "Its transcript was dropped on {}, as configured (kept {}). Its receipt and its figures stay.",
        Moment::new(dropped.at, now).day(),
        dropped.kept
    )
}

/// Bytes, in the units that the rule is written in.
fn size(bytes: i64) -> String {
    let in_units = |unit: f64| bytes as f64 / unit;
    match bytes {
        ..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{:.0} kB", in_units(1e3)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", in_units(1e6)),
        _ if bytes % 1_000_000_000 == 0 => format!("{} GB", count(bytes / 1_000_000_000)),
        _ => format!("{:.1} GB", in_units(1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: i64, full: bool, lives: Option<i64>) -> Part {
        let since = Some(OffsetDateTime::UNIX_EPOCH);
        let lives = lives.map(RunId);
        Part { first, last: first + 9, about: Some(5), bytes: 10, since, until: since, lives, full }
    }

    fn kept(parts: Vec<Part>) -> Kept {
        Kept { count: parts.len() as i64, parts, bytes: 3_000_000_000, about: 5, dropped: Vec::new() }
    }

    fn keep(days: Option<i32>, gb: Option<i64>) -> Keep {
        Keep { days, bytes: gb.map(|gb| gb * 1_000_000_000), ..Keep::default() }
    }

    #[test]
    fn sizes_read_well() {
        let sizes = [0, 999, 24_576, 1_500_000, 3_000_000_000, 1_250_000_000].map(size);
        assert_eq!(sizes, ["0 bytes", "999 bytes", "25 kB", "1.5 MB", "3 GB", "1.2 GB"]);
    }

    #[test]
    fn it_says_what_goes_next_and_when() {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(10);
        let kept = kept(vec![part(10, true, Some(13)), part(20, true, None), part(30, false, None)]);
        for (days, gb, says) in [
            (None, None, "nothing ever does"),
            (Some(30), None, "runs 20–29, not before 1970-01-31"),
            (Some(5), None, "runs 20–29, as soon as the last of them has been over for so long"),
            (None, Some(2), "runs 20–29, now: there is 1 GB too much"),
            (Some(30), Some(2), "runs 20–29, now: there is 1 GB too much"),
            (None, Some(4), "runs 20–29, when 1 GB more has come"),
        ] {
            assert_eq!(next(&kept, &keep(days, gb), now), says);
        }
        let young = self::kept(vec![part(30, false, None)]);
        assert!(next(&young, &keep(Some(5), None), now).starts_with("nothing yet"));
    }
}
