//! A world as one number, so that hundreds of thousands of them are told apart in good time.

use std::hash::{Hash, Hasher};

use super::world::{Cause, Container, Entry, Host, Lease, Mode, Outcome, Phase, State, Up, World, Write};

/// Digits of different bases, one after the other, and always as many: different worlds are different numbers.
#[derive(Default)]
struct Packed(u128);

impl Packed {
    fn digit(&mut self, digit: u8, base: u8) {
        debug_assert!(digit < base, "{digit} is no digit of base {base}");
        self.0 = self.0 * u128::from(base) + u128::from(digit);
    }

    /// In place of digits that aren't there: zeros, the bases of which are these together.
    fn nothing(&mut self, bases: u128) {
        self.0 *= bases;
    }

    fn host(&mut self, host: &Host) {
        let Host { up, cut, letter, entry, engine } = *host;
        let up = match up {
            Up::Awake => 0,
            Up::Frozen => 1,
            Up::Dead => 2,
        };
        self.digit(up, 3);
        self.digit(cut.into(), 2);
        self.digit(mode(letter), 3);
        let container = match engine.container {
            None => 0,
            Some(Container::Created) => 1,
            Some(Container::Alive) => 2,
            Some(Container::Dying) => 3,
            Some(Container::Exited) => 4,
        };
        self.digit(container, 5);
        for flag in [engine.stalled, engine.create, engine.start] {
            self.digit(flag.into(), 2);
        }
        self.digit(entry.is_some().into(), 2);
        match entry {
            Some(entry) => self.entry(entry),
            None => self.nothing(8 * 4 * 3 * 3 * 3 * 2 * 2 * 11),
        }
    }

    fn entry(&mut self, entry: Entry) {
        let Entry { lease, timer, order, sent, marked, phase, on_time } = entry;
        self.lease(lease);
        self.digit(timer, 4);
        self.digit(mode(order.map(|(mode, _)| mode)), 3);
        let cause = match order {
            None | Some((_, Cause::Wish)) => 0,
            Some((_, Cause::CutOff)) => 1,
            Some((_, Cause::LeaseGone)) => 2,
        };
        self.digit(cause, 3);
        self.digit(mode(sent), 3);
        self.digit(marked.into(), 2);
        self.digit(on_time.into(), 2);
        let phase = match phase {
            Phase::Fresh => 0,
            Phase::Creating => 1,
            Phase::Made => 2,
            Phase::Starting => 3,
            Phase::Asking => 4,
            Phase::Removing => 5,
            Phase::Live => 6,
            Phase::Unstarted => 7,
            Phase::Over(Outcome::Terminated) => 8,
            Phase::Over(Outcome::Other) => 9,
            Phase::Written => 10,
        };
        self.digit(phase, 11);
    }

    fn lease(&mut self, lease: Lease) {
        self.digit(u8::from(lease.host == 1), 2);
        self.digit(lease.fence, 2);
        self.digit(lease.overtaken.into(), 2);
    }
}

fn mode(mode: Option<Mode>) -> u8 {
    match mode {
        None => 0,
        Some(Mode::Graceful) => 1,
        Some(Mode::Force) => 2,
    }
}

impl World {
    fn packed(&self) -> u128 {
        let mut packed = Packed::default();
        let row = self.row;
        let state = match row.state {
            State::Queued => 0,
            State::Starting => 1,
            State::Running => 2,
            State::Lost => 3,
            State::Ended(Outcome::Terminated) => 4,
            State::Ended(Outcome::Other) => 5,
        };
        packed.digit(state, 6);
        packed.digit(mode(row.wish), 3);
        packed.digit(row.worker.map_or(0, |host| 1 + u8::from(host == 1)), 3);
        packed.digit(row.fence, 2);
        packed.digit(row.age, 4);
        for host in &self.hosts {
            packed.host(host);
        }
        packed.digit(self.faults, 16);
        packed.digit(self.calm.map_or(0, |steps| steps + 1), 64);
        packed.digit(self.ghost.into(), 2);
        packed.digit(self.revived.into(), 2);
        packed.digit(self.late.is_some().into(), 2);
        if let Some(late) = self.late {
            packed.lease(late.lease);
            let write = match late.write {
                Write::MarkRunning => 0,
                Write::Release => 1,
                Write::Renew => 2,
                Write::End(Outcome::Terminated) => 3,
                Write::End(Outcome::Other) => 4,
            };
            packed.digit(write, 5);
        } else {
            packed.nothing(8 * 5);
        }
        packed.0
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u128(self.packed());
    }
}
