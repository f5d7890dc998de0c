//! The settings of one's bells, and the log of what was rung.

use std::collections::HashMap;

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use secrecy::SecretString;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::address::Address;
use super::device::Device;
use super::error::Result;
use super::fleet::Fleet;
use super::form::Form;
use super::page::{Frame, Place, go_to, show, show_again};
use super::show::Moment;
use super::{Site, ringing};
use crate::clock;
use crate::db::{self, Bell, NewBell, RingLine, Superuser};
use crate::model::bell::{BellKind, Happening};
use crate::model::text;

/// Where the settings are.
pub(crate) const HERE: &str = "/account/bells";

/// The longest name, and the longest and shortest secret.
const NAME_MAX: usize = 60;
const SECRET: std::ops::RangeInclusive<usize> = 16..=400;

/// How long a daily try may be under way before it counts as not arrived.
const ARRIVES_WITHIN: Duration = Duration::hours(1);

/// An address, as it was filled in; what it listens for comes as a field for each.
#[derive(Deserialize)]
pub(crate) struct Filled {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    secret: String,
    #[serde(flatten)]
    listens: HashMap<String, String>,
}

impl Filled {
    fn empty() -> Self {
        let listens = Happening::ALL.iter().filter(|what| what.of_a_new_bell());
        Self {
            kind: BellKind::Webhook.word().to_owned(),
            name: String::new(),
            url: String::new(),
            secret: String::new(),
            listens: listens.map(|what| (what.word().to_owned(), "yes".to_owned())).collect(),
        }
    }

    fn parse(&self, site: &Site) -> std::result::Result<Parsed, String> {
        let kind: BellKind =
            self.kind.parse().map_err(|_| "Choose what kind of address it is.".to_owned())?;
        if kind == BellKind::Device {
            return Err("A device is made a bell from the device itself.".to_owned());
        }
        let url = site.ringer.reach().address(&self.url).map_err(|error| error.to_string())?;
        let secret = self.secret.trim();
        match kind {
            BellKind::Webhook if !SECRET.contains(&secret.len()) => {
                return Err(format!("The secret needs {} to {} characters.", SECRET.start(), SECRET.end()));
            }
            _ if secret.len() > *SECRET.end() || secret.contains(|c: char| c.is_control()) => {
                return Err("The secret is too long, or holds a character that can’t be sent.".to_owned());
            }
            _ => {}
        }
        let secret = (kind != BellKind::Slack && !secret.is_empty()).then(|| SecretString::from(secret));
        let name = name(&self.name, url.host_str())?;
        Ok(Parsed { kind, name, url: String::from(url).into(), secret, listens: listens(&self.listens) })
    }
}

struct Parsed {
    kind: BellKind,
    name: String,
    url: SecretString,
    secret: Option<SecretString>,
    listens: Vec<Happening>,
}

/// What a bell is called: what was typed, or else what it is.
pub(crate) fn name(typed: &str, otherwise: Option<&str>) -> std::result::Result<String, String> {
    let typed = text::inert_line(typed);
    match (typed.chars().count(), otherwise) {
        (0, Some(otherwise)) => Ok(otherwise.chars().take(NAME_MAX).collect()),
        (0, None) => Err("Give it a name.".to_owned()),
        (..=NAME_MAX, _) => Ok(typed),
        (n, _) => Err(format!("The name is {n} characters long; {NAME_MAX} is the most.")),
    }
}

/// What is ticked.
pub(crate) fn listens(fields: &HashMap<String, String>) -> Vec<Happening> {
    let ticked = |what: &&Happening| fields.get(what.word()).is_some_and(|value| value == "yes");
    Happening::ALL.iter().filter(ticked).copied().collect()
}

/// What may be listened for, in a person's words, and whether it is.
struct Tick {
    name: &'static str,
    label: &'static str,
    on: bool,
}

fn ticks(listens: &[Happening]) -> Vec<Tick> {
    let tick = |what: &Happening| Tick { name: what.word(), label: label(*what), on: listens.contains(what) };
    Happening::ALL.iter().map(tick).collect()
}

fn label(what: Happening) -> &'static str {
    match what {
        Happening::Unconfirmed => "A stop unproven for a minute",
        Happening::Stuck => "A run is stuck",
        Happening::Lost => "A run is lost",
        Happening::Failed => "A run failed or timed out",
        Happening::OverBudget => "A run is over budget",
        Happening::Succeeded => "A run succeeded",
        Happening::RedHandle => "The red handle is pulled",
        Happening::WorkerSilent => "A worker is silent",
    }
}

/// How a bell is, at a glance.
struct Sign {
    shape: &'static str,
    tone: &'static str,
    word: &'static str,
}

/// When its last daily try was sent, if it hasn't arrived.
fn missing(bell: &Bell) -> Option<OffsetDateTime> {
    let (sent, came) = bell.canary;
    sent.filter(|sent| came.is_none_or(|came| came < *sent))
}

fn sign(bell: &Bell, now: OffsetDateTime) -> Sign {
    let unheard = missing(bell).is_some_and(|sent| now - sent > ARRIVES_WITHIN);
    let (shape, tone, word) = match bell {
        Bell { dropped_at: Some(_), .. } => ("lost", "lost", "Dropped"),
        Bell { last: Some((_, Some(_))), .. } => ("failed", "bad", "Not reached"),
        _ if unheard => ("unconfirmed", "wait", "Not heard of"),
        Bell { last: Some(_), .. } => ("succeeded", "go", "Reached"),
        _ => ("queued", "off", "Not tried yet"),
    };
    Sign { shape, tone, word }
}

struct Card {
    sign: Sign,
    ticks: Vec<Tick>,
    /// How many of them are on, in words.
    rings_for: String,
    made: Moment,
    seen: Moment,
    last: Option<(Moment, Option<String>)>,
    /// When a daily try last arrived, and when one was sent that hasn't.
    came: Option<Moment>,
    on_its_way: Option<Moment>,
    bell: Bell,
}

fn card(bell: Bell, now: OffsetDateTime) -> Card {
    let moment = |at| Moment::new(at, now);
    let rings_for = match bell.listens.len() {
        0 => "Rings for nothing".to_owned(),
        n if n == Happening::ALL.len() => "Rings for everything".to_owned(),
        n => format!("Rings for {n} of {}", Happening::ALL.len()),
    };
    Card {
        sign: sign(&bell, now),
        ticks: ticks(&bell.listens),
        rings_for,
        made: moment(bell.made_at),
        seen: moment(bell.seen_at),
        last: bell.last.clone().map(|(at, trouble)| (moment(at), trouble)),
        came: bell.canary.1.map(moment),
        on_its_way: missing(&bell).map(moment),
        bell,
    }
}

#[derive(Template)]
#[template(path = "bells/index.html")]
struct BellsPage<'a> {
    frame: Frame,
    key: String,
    device: String,
    device_ticks: Vec<Tick>,
    cards: Vec<Card>,
    filled: &'a Filled,
    kinds: [(BellKind, &'static str); 3],
    filled_ticks: Vec<Tick>,
    problem: Option<&'a str>,
}

/// The page.
pub(crate) async fn index(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    device: Device,
) -> Result<HttpResponse> {
    page(&by, &site, &fleet, device, &Filled::empty(), None).await
}

async fn page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    device: Device,
    filled: &Filled,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let key = ringing::key(site).await?.public();
    let now = clock::now();
    let cards = site.db.bells(by).await?.into_iter().map(|bell| card(bell, now)).collect();
    let frame = fleet.frame(&site.db, by, Place::Account).await?;
    let of_new: Vec<Happening> = Happening::ALL.iter().copied().filter(|what| what.of_a_new_bell()).collect();
    show_again(
        problem,
        &BellsPage {
            frame,
            key,
            device: device.0.unwrap_or_else(|| "This device".to_owned()),
            device_ticks: ticks(&of_new),
            cards,
            filled,
            kinds: [
                (BellKind::Webhook, "Webhook, signed"),
                (BellKind::Ntfy, "ntfy"),
                (BellKind::Slack, "Slack"),
            ],
            filled_ticks: ticks(&listens(&filled.listens)),
            problem,
        },
    )
}

/// Adds an address.
pub(crate) async fn add(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    device: Device,
    address: Address,
    filled: Form<Filled>,
) -> Result<HttpResponse> {
    let parsed = match filled.parse(&site) {
        Ok(parsed) => parsed,
        Err(problem) => return page(&by, &site, &fleet, device, &filled, Some(&problem)).await,
    };
    let new = NewBell {
        kind: parsed.kind,
        name: &parsed.name,
        url: &parsed.url,
        secret: parsed.secret.as_ref(),
        listens: &parsed.listens,
    };
    match site.db.add_bell(&by, &new, Some(&address.to_string())).await {
        Ok(()) => Ok(go_to(HERE)),
        Err(db::Error::Conflict(why)) => page(&by, &site, &fleet, device, &filled, Some(&why)).await,
        Err(error) => Err(error.into()),
    }
}

/// A line of the log.
struct Line {
    ring: RingLine,
    text: String,
    at: Moment,
    tone: &'static str,
    what: String,
}

fn line(ring: RingLine, now: OffsetDateTime) -> Line {
    let moment = |at| Moment::new(at, now);
    let tries = match ring.tries {
        1 => "one try".to_owned(),
        n => format!("{n} tries"),
    };
    let trouble = ring.trouble.clone().unwrap_or_else(|| "The bell is gone.".to_owned());
    let (tone, what) = match (ring.taken_at, ring.given_up_at, ring.arrived_at) {
        (Some(_), _, Some(came)) => ("go", format!("arrived at {}", moment(came).lately())),
        (Some(taken), ..) => ("go", format!("taken at {}", moment(taken).lately())),
        (None, Some(_), _) => ("bad", format!("given up after {tries}. {trouble}")),
        (None, None, _) if ring.trouble.is_some() => {
            ("wait", format!("{tries}; again at {}. {trouble}", moment(ring.due_at).lately()))
        }
        (None, None, _) => ("wait", "on its way".to_owned()),
    };
    Line { text: ring.told.text(ring.kind), at: moment(ring.at), tone, what, ring }
}

#[derive(Template)]
#[template(path = "bells/rings.html")]
struct RingsPage {
    frame: Frame,
    lines: Vec<Line>,
}

/// The log, newest first.
pub(crate) async fn rings(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let now = clock::now();
    let lines = site.db.rings(&by).await?.into_iter().map(|ring| line(ring, now)).collect();
    let frame = fleet.frame(&site.db, &by, Place::Account).await?;
    show(&RingsPage { frame, lines })
}
