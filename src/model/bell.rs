//! Bells: what they listen for, what they are told, and in which words. The words are read on lock screens, by anybody.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;
use time::OffsetDateTime;

use super::words;

/// A bell's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BellId(pub i64);

impl fmt::Display for BellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BellId {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

words! {
    /// What a bell may listen for.
    Happening {
        /// A stop without proof for a minute.
        Unconfirmed = "unconfirmed",
        /// A run that lives and gets nowhere.
        Stuck = "stuck",
        /// A run whose worker fell silent.
        Lost = "lost",
        /// A run that failed, or ran out of time.
        Failed = "failed",
        /// A run that had spent its budget.
        OverBudget = "over_budget",
        /// A run that did its work.
        Succeeded = "succeeded",
        /// The red handle was pulled.
        RedHandle = "red_handle",
        /// A worker that isn't heard of, and isn't drained.
        WorkerSilent = "worker_silent",
    }
}

impl Happening {
    /// What a new bell listens for: whatever needs somebody.
    pub fn of_a_new_bell(self) -> bool {
        self != Self::Succeeded
    }
}

words! {
    /// What kind of bell.
    BellKind {
        /// A browser's push subscription.
        Device = "device",
        /// An address that takes signed JSON.
        Webhook = "webhook",
        /// A topic of ntfy.
        Ntfy = "ntfy",
        /// An incoming webhook of Slack.
        Slack = "slack",
    }
}

words! {
    /// Why a bell rings.
    RingKind {
        /// Something happened.
        Told = "told",
        /// To see whether it still reaches the device, once a day.
        Canary = "canary",
        /// Its owner wants to hear it.
        Test = "test",
    }
}

/// What a ring tells: numbers, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Told {
    /// Runs that need somebody.
    pub needs: i64,
    /// Runs that did their work.
    pub done: i64,
    /// Workers that fell silent.
    pub workers: i64,
    /// The red handle was pulled.
    pub handle: bool,
}

impl Told {
    /// In words that say nothing of what is run, or by whom.
    pub fn text(&self, kind: RingKind) -> String {
        match kind {
            RingKind::Canary => return "This device is reached.".to_owned(),
            RingKind::Test => return "This is a test. Nothing needs you.".to_owned(),
            RingKind::Told => {}
        }
        let counted = |n: i64, one: &str, many: &str| match n {
            ..=0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {many}")),
        };
        let parts = [
            self.handle.then(|| "Everything was stopped".to_owned()),
            counted(self.needs, "run needs you", "runs need you"),
            counted(self.workers, "worker needs you", "workers need you"),
            counted(self.done, "run is done", "runs are done"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Where a ring goes; each part of it is as good as a password.
#[derive(Debug, Clone)]
pub struct Target {
    /// What kind of bell.
    pub kind: BellKind,
    /// Its address.
    pub url: SecretString,
    /// What pushes to it are encrypted with.
    pub keys: Option<PushKeys>,
    /// What rings are signed with, or presented to it.
    pub secret: Option<SecretString>,
}

/// A subscription's own keys (RFC 8291, section 2).
#[derive(Clone)]
pub struct PushKeys {
    /// Its public key, a point on P-256, uncompressed.
    pub p256dh: [u8; 65],
    /// Its authentication secret.
    pub auth: [u8; 16],
}

impl fmt::Debug for PushKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushKeys").finish_non_exhaustive()
    }
}

/// A ring, as it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    /// Its number; the same at each try.
    pub id: i64,
    /// Why.
    pub kind: RingKind,
    /// What it tells.
    pub told: Told,
    /// Since when it is to be told.
    pub at: OffsetDateTime,
}

/// How long after a try that failed a ring is tried again, in seconds: five tries within an hour.
const AGAIN_AFTER_S: [i64; 4] = [60, 300, 900, 2340];

/// How long after its `tries`th try a ring is tried again; none when it is given up.
pub fn again_after_s(tries: i64) -> Option<i64> {
    let tried = usize::try_from(tries).ok()?;
    AGAIN_AFTER_S.get(tried.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_tells_numbers_and_nothing_else() {
        let text = |told: Told| told.text(RingKind::Told);
        assert_eq!(text(Told { needs: 1, ..Told::default() }), "1 run needs you");
        assert_eq!(text(Told { needs: 3, ..Told::default() }), "3 runs need you");
        assert_eq!(text(Told { done: 1, ..Told::default() }), "1 run is done");
        let all = Told { needs: 2, done: 4, workers: 1, handle: true };
        assert_eq!(text(all), "Everything was stopped, 2 runs need you, 1 worker needs you, 4 runs are done");
    }

    #[test]
    fn a_ring_is_tried_five_times_within_an_hour_and_then_given_up() {
        let pauses: Vec<i64> = (1..).map_while(again_after_s).collect();
        assert_eq!(pauses.len(), 4);
        assert!(pauses.iter().sum::<i64>() <= 3600 && pauses.is_sorted());
        assert_eq!((again_after_s(0), again_after_s(5), again_after_s(-1)), (None, None, None));
    }
}
