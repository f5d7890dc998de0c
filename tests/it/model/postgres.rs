//! The statements of `db/lease.rs` and `db/runs.rs`, each at one stroke.

use super::Rules;
use super::world::{LAPSED, Lease, Mode, Outcome, Row, State, Statement, World, Write};

/// What a statement under a lease answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// A stop was wished meanwhile.
    Conflict,
    Fenced,
}

impl World {
    /// Every change of the row goes through here: what was stopped stays stopped.
    fn set_state(&mut self, state: State) {
        if matches!(self.row.state, State::Ended(_)) && self.row.state != state {
            self.revived = true;
        }
        self.row.state = state;
        if !state.held() {
            self.row.age = 0;
        }
    }

    fn take(&mut self, host: usize, grow: bool) -> Lease {
        self.row.fence += u8::from(grow);
        self.row.age = 0;
        self.overtake();
        Lease { host, fence: self.row.fence, overtaken: false }
    }

    /// Whether a stop is wished, as far as a claim and a release look.
    pub(super) fn to_stop(&self, rules: Rules) -> bool {
        self.row.wish.is_some() && !rules.takes_runs_that_are_to_stop
    }

    /// `Db::claim`.
    pub(super) fn claim(&mut self, host: usize) -> Lease {
        self.revived |= self.row.wish.is_some();
        self.set_state(State::Starting);
        self.row.worker = Some(host);
        self.take(host, true)
    }

    /// `Db::adopt`.
    pub(super) fn adopt(&mut self, rules: Rules, host: usize) -> Option<Lease> {
        let adopts = self.held_by(host) && self.row.age < LAPSED;
        adopts.then(|| self.take(host, !rules.adopts_under_the_old_fence))
    }

    /// `Db::mark_running`, `release`, `end`, `renew`.
    pub(super) fn carry_out(&mut self, rules: Rules, statement: Statement) -> Answer {
        let Statement { lease, write } = statement;
        let Row { state, worker, .. } = self.row;
        let named = worker == Some(lease.host) && (rules.ignores_fences || self.row.fence == lease.fence);
        let next = match write {
            _ if !named => None,
            Write::Release if state == State::Starting && self.to_stop(rules) => return Answer::Conflict,
            Write::Release => (state == State::Starting).then_some(State::Queued),
            Write::MarkRunning => state.held().then_some(State::Running),
            Write::End(outcome) if state.held() => Some(State::Ended(outcome)),
            // Ending it twice is fine.
            Write::End(_) => matches!(state, State::Ended(_)).then_some(state),
            Write::Renew => state.held().then_some(state),
        };
        let Some(next) = next else { return Answer::Fenced };
        self.ghost |= lease.overtaken;
        self.set_state(next);
        match write {
            Write::Renew => self.row.age = 0,
            Write::Release => self.row.worker = None,
            _ => {}
        }
        Answer::Done
    }

    /// `Db::settle_lost`.
    pub(super) fn settle(&mut self, host: usize) {
        if self.lost_by(host) {
            let wished = self.row.wish.is_some();
            self.set_state(State::Ended(if wished { Outcome::Terminated } else { Outcome::Other }));
        }
    }

    /// `Db::lose_lapsed`.
    pub(super) fn lose_lapsed(&mut self) {
        if self.row.state.held() && self.row.age == LAPSED {
            self.set_state(State::Lost);
            self.row.fence += 1;
            self.overtake();
        }
    }

    /// `Db::wish_stop`, and the command, if it gets as far as Redis.
    pub(super) fn wish(&mut self, mode: Mode, told: bool) -> bool {
        let fresh = self.row.wish.is_none_or(|held| held < mode);
        if !fresh || matches!(self.row.state, State::Ended(_)) {
            return false;
        }
        self.row.wish = Some(mode);
        if self.row.state == State::Queued {
            self.set_state(State::Ended(Outcome::Terminated));
        } else if let Some(worker) = self.row.worker.filter(|_| told) {
            let letter = &mut self.hosts[worker].letter;
            *letter = (*letter).max(Some(mode));
        } else if told {
            return false;
        }
        true
    }
}
