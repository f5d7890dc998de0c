//! What the model knows of: one run's row, two hosts with a worker and an engine each, and what is on its way.

/// `runs.state`, with the outcome where it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    Starting,
    Running,
    Lost,
    Ended(Outcome),
}

impl State {
    pub(super) fn held(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Terminated,
    /// Any other: succeeded, failed, timed out.
    Other,
}

/// Of a wish, an order or a signal. `Force` outranks `Graceful`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Graceful,
    Force,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Wish,
    CutOff,
    LeaseGone,
}

/// 0 before the first claim. Fences only grow and none comes twice, so all old ones are alike: see
/// [`World::forget_old_fences`].
pub(super) type Fence = u8;

/// The right to the run, as somebody remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) host: usize,
    pub(super) fence: Fence,
    /// Somebody has taken the run since, or it was declared lost. Nobody knows that but the model: fences are there to
    /// tell it.
    pub(super) overtaken: bool,
}

/// The run's row in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) state: State,
    pub(super) wish: Option<Mode>,
    pub(super) worker: Option<usize>,
    pub(super) fence: Fence,
    /// Thirds of a lease since it was granted, by Postgres's clock; at [`LAPSED`] it has lapsed.
    pub(super) age: u8,
}

/// A lease lasts this many ticks.
pub(super) const LAPSED: u8 = 3;
/// A worker fences itself after this many.
pub(super) const FENCE: u8 = 2;

/// A container of the run, at one host's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Created,
    Alive,
    /// SIGKILL was taken; it isn't dead yet.
    Dying,
    Exited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Engine {
    pub(super) container: Option<Container>,
    /// Its daemon hangs: it does nothing, and answers nobody.
    pub(super) stalled: bool,
    /// A request to make the container is on its way, perhaps from somebody who has died since.
    pub(super) create: bool,
    /// A request to start the one that was made is.
    pub(super) start: bool,
}

impl Engine {
    pub(super) fn lives(&self) -> bool {
        matches!(self.container, Some(Container::Alive | Container::Dying))
    }
}

/// Where a supervisor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Claimed; nothing was asked of the engine.
    Fresh,
    /// The request to make the container is out.
    Creating,
    /// It was made.
    Made,
    /// The request to start it is out.
    Starting,
    /// Asks what became of the container.
    Asking,
    /// Removes one that was made and never started.
    Removing,
    /// Watches over it.
    Live,
    /// There is none: the run goes back to the queue, or ends as stopped before it started.
    Unstarted,
    /// It is over; the end must be written.
    Over(Outcome),
    /// The end is written; the container must go.
    Written,
}

/// A run on a worker's roster, with its supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) lease: Lease,
    /// Ticks since the last renewal that is known to have succeeded was asked for, by the worker's clock.
    pub(super) timer: u8,
    pub(super) order: Option<(Mode, Cause)>,
    /// The highest signal that the engine took.
    pub(super) sent: Option<Mode>,
    /// Whether the start is on record.
    pub(super) marked: bool,
    pub(super) phase: Phase,
    /// Neither frozen nor with an engine that hangs since that renewal.
    pub(super) on_time: bool,
}

impl Entry {
    /// The first cause stays; `force` outranks `graceful`.
    pub(super) fn order(&mut self, mode: Mode, cause: Cause) {
        self.order = match self.order {
            None => Some((mode, cause)),
            Some((held, first)) => Some((held.max(mode), first)),
        };
    }

    pub(super) fn forced(&self) -> bool {
        matches!(self.order, Some((Mode::Force, _)))
    }

    pub(super) fn wished(&self) -> bool {
        matches!(self.order, Some((_, Cause::Wish)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Up {
    Awake,
    /// Under SIGSTOP.
    Frozen,
    Dead,
}

/// A host: its worker, and its engine, which outlives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) up: Up,
    /// Postgres is out of reach.
    pub(super) cut: bool,
    /// A command in its stream.
    pub(super) letter: Option<Mode>,
    pub(super) entry: Option<Entry>,
    pub(super) engine: Engine,
}

/// What a supervisor writes under its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    MarkRunning,
    Release,
    End(Outcome),
    Renew,
}

/// A statement, with the lease that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) lease: Lease,
    pub(super) write: Write,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    pub(super) row: Row,
    pub(super) hosts: [Host; 2],
    /// A statement whose sender has given it up, and that Postgres will carry out some time.
    pub(super) late: Option<Statement>,
    /// How many faults there were.
    pub(super) faults: u8,
    /// Once there will be no more of them: the steps since.
    pub(super) calm: Option<u8>,
    /// A statement took effect whose sender wasn't the holder.
    pub(super) ghost: bool,
    /// A run that was wished to stop was taken, or one that had ended left its end.
    pub(super) revived: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let host = Host { up: Up::Awake, cut: false, letter: None, entry: None, engine: Engine::default() };
        let row = Row { state: State::Queued, wish: None, worker: None, fence: 0, age: 0 };
        Self { row, hosts: [host; 2], late: None, faults: 0, calm: None, ghost: false, revived: false }
    }

    pub(super) fn living(&self) -> usize {
        self.hosts.iter().filter(|host| host.engine.lives()).count()
    }

    /// Whether this host's worker holds the run.
    pub(super) fn held_by(&self, host: usize) -> bool {
        self.row.worker == Some(host) && self.row.state.held()
    }

    /// Whether this host's worker held the run when it was lost.
    pub(super) fn lost_by(&self, host: usize) -> bool {
        self.row.worker == Some(host) && self.row.state == State::Lost
    }

    /// Nothing of the run is here, nor was.
    pub(super) fn is_idle(&self, host: usize) -> bool {
        let Host { up, cut, entry, engine, letter } = self.hosts[host];
        let well = up == Up::Awake && !cut && !engine.stalled;
        let late = self.late.is_some_and(|late| late.lease.host == host);
        let busy = entry.is_some() || engine != Engine::default() || letter.is_some() || late;
        well && !busy && self.row.worker != Some(host)
    }

    /// Every lease that somebody remembers.
    fn leases(&mut self) -> impl Iterator<Item = &mut Lease> {
        let entries = self.hosts.iter_mut().filter_map(|host| host.entry.as_mut());
        let late = self.late.as_mut();
        entries.map(|entry| &mut entry.lease).chain(late.map(|late| &mut late.lease))
    }

    /// The run is taken from whoever held it.
    pub(super) fn overtake(&mut self) {
        self.leases().for_each(|lease| lease.overtaken = true);
    }

    /// The newest fence becomes 1, all others 0.
    pub(super) fn forget_old_fences(&mut self) {
        let newest = self.row.fence;
        self.leases().for_each(|lease| lease.fence = Fence::from(lease.fence == newest));
        self.row.fence = newest.min(1);
    }
}
