//! How often passwords may be guessed: five failures a minute for each name, and for each address.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::address::Address;

/// Failures that are allowed within [`WINDOW`].
const FAILURES: usize = 5;

/// How long a failure counts.
const WINDOW: Duration = Duration::from_secs(60);

/// How many names and addresses are remembered. Beyond that everybody new waits: no room is no reason to stop counting.
const REMEMBERED: usize = 10_000;

/// Attempts that may wait for their turn to be checked at once; more would wait longer than a page may take.
const AT_ONCE: usize = 24;

/// Counts failed attempts, in memory: a restart forgets them, and several `serve`s count each for itself.
#[derive(Default)]
pub(crate) struct Throttle {
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    attempts: HashMap<u64, VecDeque<Instant>>,
    open: usize,
}

/// An attempt that counts as failed until it is said to have gone well.
#[must_use]
pub(crate) struct Attempt<'a> {
    throttle: &'a Throttle,
    keys: [u64; 2],
    at: Instant,
}

impl Throttle {
    /// Takes a place for an attempt, before the password is looked at, so that guesses made at the same time
    /// can't get past the limit.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn attempt(&self, name: &str, address: Address) -> Result<Attempt<'_>, Duration> {
        self.attempt_at(name, address, Instant::now())
    }

    fn attempt_at(&self, name: &str, address: Address, now: Instant) -> Result<Attempt<'_>, Duration> {
        let keys = [self.hasher.hash_one((0, name)), self.hasher.hash_one((1, network(address.0)))];
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.open >= AT_ONCE {
            return Err(Duration::from_secs(1));
        }
        if counts.attempts.len() + keys.len() > REMEMBERED {
            counts.attempts.retain(|_, times| times.back().is_some_and(|last| *last + WINDOW > now));
        }
        let full = counts.attempts.len() + keys.len() > REMEMBERED;
        for key in keys {
            match counts.attempts.get_mut(&key) {
                Some(times) => {
                    while times.front().is_some_and(|first| *first + WINDOW <= now) {
                        times.pop_front();
                    }
                    if let Some(first) = times.front().filter(|_| times.len() >= FAILURES) {
                        return Err(*first + WINDOW - now);
                    }
                }
                None if full => return Err(WINDOW),
                None => {}
            }
        }
        for key in keys {
            counts.attempts.entry(key).or_default().push_back(now);
        }
        counts.open += 1;
        Ok(Attempt { throttle: self, keys, at: now })
    }
}

impl Attempt<'_> {
    /// It was no guess: it doesn't count.
    pub(crate) fn forgive(self) {
        let mut counts = self.throttle.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for key in self.keys {
            if let Some(times) = counts.attempts.get_mut(&key) {
                if let Some(mine) = times.iter().position(|at| *at == self.at) {
                    times.remove(mine);
                }
                if times.is_empty() {
                    counts.attempts.remove(&key);
                }
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.throttle.counts.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
    }
}

/// What counts as one address: with IPv6 everybody has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u32) -> Address {
        Address(IpAddr::V4(n.into()))
    }

    #[test]
    fn the_sixth_guess_within_a_minute_waits() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for n in 0..5 {
            assert!(throttle.attempt_at("admin", from(n), start + Duration::from_secs(n.into())).is_ok());
        }
        let later = start + Duration::from_secs(10);
        assert_eq!(throttle.attempt_at("admin", from(9), later).err(), Some(Duration::from_secs(50)));
        assert!(throttle.attempt_at("other", from(9), later).is_ok());
        assert!(throttle.attempt_at("admin", from(9), start + WINDOW).is_ok());
        assert!(throttle.attempt_at("admin", from(9), start + WINDOW).is_err());
    }

    #[test]
    fn addresses_count_as_well_and_a_whole_ipv6_network_is_one() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let home = |n: u16| Address(IpAddr::V6([0x2001, 0xdb8, 0, 1, n, 0, 0, n].into()));
        for n in 0..5 {
            assert!(throttle.attempt_at(&n.to_string(), home(n), now).is_ok());
        }
        assert!(throttle.attempt_at("x", home(99), now).is_err());
    }

    #[test]
    fn what_goes_well_does_not_count() {
        let throttle = Throttle::default();
        for _ in 0..20 {
            throttle.attempt("admin", from(1)).unwrap().forgive();
        }
        assert!(throttle.counts.lock().unwrap().attempts.is_empty());
    }

    #[test]
    fn guesses_at_the_same_time_do_not_get_past_the_limit() {
        let throttle = Throttle::default();
        let held: Vec<_> = (0..20).filter_map(|n| throttle.attempt("admin", from(n)).ok()).collect();
        assert_eq!(held.len(), FAILURES);
    }

    #[test]
    fn memory_is_bounded_and_a_flood_makes_strangers_wait_but_forgets_nobody() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..5 {
            assert!(throttle.attempt_at("admin", from(0), now).is_ok());
        }
        for n in 1..20_000 {
            let _ = throttle.attempt_at(&n.to_string(), from(n), now);
        }
        assert!(throttle.counts.lock().unwrap().attempts.len() <= REMEMBERED);
        assert!(throttle.attempt_at("admin", from(u32::MAX), now).is_err());
        assert!(throttle.attempt_at("late", from(u32::MAX), now + WINDOW).is_ok());
    }
}
