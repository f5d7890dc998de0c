//! Who can do what next: workers, engines, the server, the superuser, and fate.

use stateright::{Model, Property};

use super::postgres::Answer;
use super::world::{
    Cause, Container, Engine, Entry, FENCE, Host, LAPSED, Lease, Mode, Outcome, Phase, State, Statement, Up,
    World, Write,
};
use super::{Protocol, properties};

/// How a statement fares on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Carried out, and answered.
    Heard,
    /// Carried out; the answer is lost.
    Unheard,
    /// Given up, and carried out later.
    Late,
}

/// One step. The number is the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Wish(Mode, bool),
    LoseLapsed,
    Tick,
    /// What was given up is carried out.
    CarryOutLate,
    /// From here on there are no faults, and nobody wishes.
    Calm,
    Claim(usize, Way),
    CatchUp(usize, Way),
    Renew(usize, Way),
    Write(usize, Way),
    Letter(usize),
    Fence(usize),
    Supervise(usize),
    /// The host's own kill: it works while the engine hangs.
    HostKill(usize),
    /// SIGINT, heeded or not.
    Interrupt(usize, bool),
    Sweep(usize),
    GiveUpWaiting(usize),
    Create(usize),
    Start(usize),
    Die(usize),
    ExitByItself(usize),
    Kill(usize),
    Restart(usize),
    Freeze(usize),
    Thaw(usize),
    Cut(usize),
    Mend(usize),
    Stall(usize),
    Unstall(usize),
}

impl Step {
    fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Kill(_)
                | Self::Freeze(_)
                | Self::Cut(_)
                | Self::Stall(_)
                | Self::Claim(_, Way::Unheard | Way::Late)
                | Self::CatchUp(_, Way::Unheard | Way::Late)
                | Self::Renew(_, Way::Unheard | Way::Late)
                | Self::Write(_, Way::Unheard | Way::Late)
        )
    }

    /// What goes on when there are no more faults. Left out is all that could go on for ever.
    fn is_calm(self) -> bool {
        !self.is_fault()
            && !matches!(
                self,
                Self::Wish(..)
                    | Self::Tick
                    | Self::Calm
                    | Self::Claim(..)
                    | Self::Renew(..)
                    | Self::ExitByItself(_)
                    | Self::Interrupt(_, true)
            )
    }
}

/// What can happen at a host.
fn at(host: usize) -> [Step; 28] {
    [
        Step::CatchUp(host, Way::Heard),
        Step::CatchUp(host, Way::Unheard),
        Step::Renew(host, Way::Heard),
        Step::Renew(host, Way::Unheard),
        Step::Renew(host, Way::Late),
        Step::Write(host, Way::Heard),
        Step::Write(host, Way::Unheard),
        Step::Write(host, Way::Late),
        Step::Interrupt(host, true),
        Step::Interrupt(host, false),
        Step::Letter(host),
        Step::Fence(host),
        Step::Supervise(host),
        Step::HostKill(host),
        Step::Sweep(host),
        Step::GiveUpWaiting(host),
        Step::Create(host),
        Step::Start(host),
        Step::Die(host),
        Step::ExitByItself(host),
        Step::Kill(host),
        Step::Restart(host),
        Step::Freeze(host),
        Step::Thaw(host),
        Step::Cut(host),
        Step::Mend(host),
        Step::Stall(host),
        Step::Unstall(host),
    ]
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let may = |step: &Step| match world.calm {
            Some(_) => step.is_calm(),
            None => !step.is_fault() || world.faults < self.faults,
        };
        steps.extend(
            [Step::LoseLapsed, Step::Tick, Step::CarryOutLate, Step::Calm].iter().filter(|it| may(it)),
        );
        for mode in [Mode::Graceful, Mode::Force] {
            steps.extend([Step::Wish(mode, true), Step::Wish(mode, false)].iter().filter(|it| may(it)));
        }
        for host in 0..world.hosts.len() {
            steps.extend(
                [Way::Heard, Way::Unheard].map(|way| Step::Claim(host, way)).iter().filter(|it| may(it)),
            );
            // Whatever befalls a host where nothing is going on, it might as well have been slow.
            if !world.is_idle(host) {
                steps.extend(at(host).iter().filter(|it| may(it)));
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        if !self.step(&mut next, step) {
            return None;
        }
        next.forget_old_fences();
        if next == *world {
            return None;
        }
        next.faults += u8::from(step.is_fault());
        if let Some(steps) = world.calm {
            next.calm = Some(steps + u8::from(self.counts_calm_steps));
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Protocol {
    /// Takes a step; false when it can't be taken.
    fn step(&self, world: &mut World, step: Step) -> bool {
        match step {
            Step::Wish(mode, told) => return world.wish(mode, told),
            Step::LoseLapsed => world.lose_lapsed(),
            Step::Tick => return self.tick(world),
            Step::CarryOutLate => {
                let Some(late) = world.late.take() else { return false };
                world.carry_out(self.rules, late);
            }
            // Nothing is left to settle where nobody wished, or where it is over.
            Step::Calm => {
                if world.row.wish.is_none() || matches!(world.row.state, State::Ended(_)) {
                    return false;
                }
                world.calm = Some(0);
            }
            Step::Claim(host, way) => return self.claim(world, host, way),
            Step::CatchUp(host, way) => return self.catch_up(world, host, way),
            Step::Renew(host, way) => return self.renew(world, host, way),
            Step::Write(host, way) => return self.write(world, host, way),
            Step::Letter(host) => return letter(world, host),
            Step::Fence(host) => return self.fence(world, host),
            Step::Supervise(host) => return self.supervise(&mut world.hosts[host]),
            Step::HostKill(host) => return host_kill(&mut world.hosts[host]),
            Step::Interrupt(host, heeded) => return interrupt(&mut world.hosts[host], heeded),
            Step::Sweep(host) => return self.sweep(world, host),
            Step::GiveUpWaiting(host) => return give_up_waiting(&mut world.hosts[host]),
            Step::Create(_) | Step::Start(_) | Step::Die(_) | Step::ExitByItself(_) => {
                return engine(world, step);
            }
            _ => return fate(world, step),
        }
        true
    }

    /// A third of a lease passes. It doesn't where somebody who is awake has something to do that can't wait: clocks are
    /// bounded, and a third of a lease is long.
    fn tick(&self, world: &mut World) -> bool {
        let urgent = |host: &Host| {
            let engine = !host.engine.stalled
                && (host.engine.create
                    || host.engine.start
                    || host.engine.container == Some(Container::Dying));
            let mut tried = *host;
            let due = self.fence_is_due(host)
                || host.entry.is_some_and(|entry| entry.forced()) && self.supervise(&mut tried);
            let renewal =
                reaches_postgres(host) && host.entry.is_some_and(|entry| entry.timer > 0 && !entry.forced());
            engine || renewal || host.up == Up::Awake && due
        };
        if world.hosts.iter().any(urgent) {
            return false;
        }
        if world.row.state.held() {
            world.row.age = (world.row.age + 1).min(LAPSED);
        }
        for entry in world.hosts.iter_mut().filter_map(|host| host.entry.as_mut()) {
            entry.timer = (entry.timer + 1).min(FENCE);
        }
        true
    }

    fn fence_is_due(&self, host: &Host) -> bool {
        let overdue = host.entry.is_some_and(|entry| entry.timer >= FENCE && !entry.forced());
        host.up == Up::Awake && overdue && !self.rules.never_fences_itself
    }

    fn fence(&self, world: &mut World, host: usize) -> bool {
        let due = self.fence_is_due(&world.hosts[host]);
        if let Some(entry) = world.hosts[host].entry.as_mut().filter(|_| due) {
            entry.order(Mode::Force, Cause::CutOff);
        }
        due
    }

    fn claim(&self, world: &mut World, host: usize, way: Way) -> bool {
        let queued = world.row.state == State::Queued && !world.to_stop(self.rules);
        // The workers are alike: the first claim may as well be the first one's.
        let first = world.row.fence > 0 || host == 0;
        if !queued || !first || !reaches_postgres(&world.hosts[host]) || world.hosts[host].entry.is_some() {
            return false;
        }
        let lease = world.claim(host);
        if way == Way::Heard {
            world.enter(lease, Phase::Fresh, None, false);
        }
        true
    }

    /// `Worker::catch_up`: compares the roster with Postgres.
    fn catch_up(&self, world: &mut World, host: usize, way: Way) -> bool {
        if !reaches_postgres(&world.hosts[host]) {
            return false;
        }
        let (held, wish, ran) = (world.held_by(host), world.row.wish, world.row.state == State::Running);
        match &mut world.hosts[host].entry {
            Some(entry) if way == Way::Heard => match (held, wish) {
                (false, _) => entry.order(Mode::Force, Cause::LeaseGone),
                (true, Some(mode)) => entry.order(mode, Cause::Wish),
                (true, None) => return false,
            },
            Some(_) => return false,
            None => {
                let Some(lease) = world.adopt(self.rules, host) else { return false };
                if way == Way::Heard {
                    let order = wish.map(|mode| (mode, Cause::Wish));
                    world.enter(lease, Phase::Asking, order, ran);
                }
            }
        }
        true
    }

    fn renew(&self, world: &mut World, host: usize, way: Way) -> bool {
        let Some(entry) = world.hosts[host].entry else { return false };
        let statement = Statement { lease: entry.lease, write: Write::Renew };
        let Some(answer) = self.send(world, statement, way) else { return false };
        let stalled = world.hosts[host].engine.stalled;
        let Some(entry) = world.hosts[host].entry.as_mut().filter(|_| way == Way::Heard) else { return true };
        match answer {
            Answer::Done => (entry.timer, entry.on_time) = (0, !stalled),
            Answer::Conflict | Answer::Fenced => entry.order(Mode::Force, Cause::LeaseGone),
        }
        true
    }

    /// Sends a statement; what is heard of it counts only where it came back.
    fn send(&self, world: &mut World, statement: Statement, way: Way) -> Option<Answer> {
        if !reaches_postgres(&world.hosts[statement.lease.host]) {
            return None;
        }
        if way == Way::Late {
            let free = world.late.is_none();
            world.late = Some(statement);
            return free.then_some(Answer::Done);
        }
        Some(world.carry_out(self.rules, statement))
    }

    /// The supervisor's next statement, and what follows from its answer.
    fn write(&self, world: &mut World, host: usize, way: Way) -> bool {
        let Some(entry) = world.hosts[host].entry else { return false };
        let write = match entry.phase {
            Phase::Live if !entry.marked => Write::MarkRunning,
            Phase::Unstarted if entry.wished() => Write::End(Outcome::Terminated),
            Phase::Unstarted => Write::Release,
            Phase::Over(outcome) => Write::End(outcome),
            _ => return false,
        };
        let statement = Statement { lease: entry.lease, write };
        let Some(answer) = self.send(world, statement, way) else { return false };
        if way != Way::Heard {
            return true;
        }
        let mut entry = entry;
        let stays = match (write, answer) {
            (Write::MarkRunning, answer) => {
                entry.marked = true;
                if answer == Answer::Fenced {
                    entry.order(Mode::Force, Cause::LeaseGone);
                }
                true
            }
            (Write::Release, Answer::Conflict) => {
                entry.phase = Phase::Over(Outcome::Terminated);
                true
            }
            (Write::Release, _) => false,
            (Write::End(_) | Write::Renew, answer) => {
                if answer == Answer::Fenced {
                    world.settle(host);
                }
                entry.phase = Phase::Written;
                true
            }
        };
        world.hosts[host].entry = stays.then_some(entry);
        true
    }

    /// The supervisor's next step with its engine. True when there is one.
    fn supervise(&self, host: &mut Host) -> bool {
        let (engine, Some(mut entry)) = (&mut host.engine, host.entry) else { return false };
        if host.up != Up::Awake || engine.stalled {
            return false;
        }
        match (entry.phase, engine.container) {
            (Phase::Fresh, _) if entry.order.is_some() => entry.phase = Phase::Unstarted,
            (Phase::Fresh, _) => (engine.create, entry.phase) = (true, Phase::Creating),
            (Phase::Made, _) => (engine.start, entry.phase) = (true, Phase::Starting),
            (Phase::Asking, Some(Container::Created)) => entry.phase = Phase::Removing,
            (Phase::Asking, Some(_)) => entry.phase = Phase::Live,
            (Phase::Asking, None) if entry.marked => entry.phase = Phase::Over(outcome(entry.wished())),
            (Phase::Asking, None) => entry.phase = Phase::Unstarted,
            (Phase::Removing, _) => {
                engine.remove();
                entry.phase = Phase::Asking;
            }
            (Phase::Live, Some(Container::Exited) | None) => {
                entry.phase = Phase::Over(outcome(entry.wished() && entry.sent.is_some()));
            }
            (Phase::Live, _) if entry.sent == Some(Mode::Force) => {
                if !self.rules.writes_the_end_before_the_engine_says_so {
                    return false;
                }
                entry.phase = Phase::Over(outcome(entry.wished()));
            }
            // After SIGINT the ladder climbs by itself.
            (Phase::Live, _) if entry.forced() || entry.sent.is_some() => {
                entry.sent = Some(Mode::Force);
                engine.container = Some(Container::Dying);
            }
            (Phase::Written, _) => {
                engine.remove();
                host.entry = None;
                return true;
            }
            _ => return false,
        }
        host.entry = Some(entry);
        true
    }

    /// The sweep: what nobody holds is killed and removed; a lost run is settled by the engine's word.
    fn sweep(&self, world: &mut World, number: usize) -> bool {
        let host = &world.hosts[number];
        let can = reaches_postgres(host) && !host.engine.stalled && host.entry.is_none();
        if !can || world.held_by(number) {
            return false;
        }
        let lost = world.lost_by(number);
        let settles_first = self.rules.settles_what_never_started_before_it_is_removed;
        match world.hosts[number].engine.container {
            None | Some(Container::Exited) if lost => world.settle(number),
            Some(Container::Created) if lost && settles_first => world.settle(number),
            Some(Container::Alive) => world.hosts[number].engine.container = Some(Container::Dying),
            Some(Container::Created | Container::Exited) => world.hosts[number].engine.remove(),
            Some(Container::Dying) | None => return false,
        }
        true
    }
}

fn outcome(terminated: bool) -> Outcome {
    if terminated { Outcome::Terminated } else { Outcome::Other }
}

fn reaches_postgres(host: &Host) -> bool {
    host.up == Up::Awake && !host.cut
}

impl Engine {
    /// Never by force: what lives stays. With the container go the requests to start it.
    fn remove(&mut self) {
        if !self.lives() {
            (self.container, self.start) = (None, false);
        }
    }
}

impl World {
    fn enter(&mut self, lease: Lease, phase: Phase, order: Option<(Mode, Cause)>, ran: bool) {
        let on_time = !self.hosts[lease.host].engine.stalled;
        let entry = Entry { lease, timer: 0, order, sent: None, marked: ran, phase, on_time };
        self.hosts[lease.host].entry = Some(entry);
    }
}

/// A command is taken out of the stream. It may be an old one.
fn letter(world: &mut World, host: usize) -> bool {
    let host = &mut world.hosts[host];
    if host.up != Up::Awake {
        return false;
    }
    let Some(mode) = host.letter.take() else { return false };
    if let Some(entry) = &mut host.entry {
        entry.order(mode, Cause::Wish);
    }
    true
}

fn interrupt(host: &mut Host, heeded: bool) -> bool {
    let (engine, Some(entry)) = (&mut host.engine, &mut host.entry) else { return false };
    let due = entry.phase == Phase::Live
        && matches!(entry.order, Some((Mode::Graceful, _)))
        && entry.sent.is_none()
        && engine.container == Some(Container::Alive);
    if !due || host.up != Up::Awake || engine.stalled {
        return false;
    }
    entry.sent = Some(Mode::Graceful);
    if heeded {
        engine.container = Some(Container::Exited);
    }
    true
}

/// Only the kernel knows of this death until the engine is back.
fn host_kill(host: &mut Host) -> bool {
    let (engine, entry) = (&mut host.engine, host.entry.as_mut());
    let Some(entry) = entry.filter(|entry| entry.phase == Phase::Live && entry.forced()) else {
        return false;
    };
    let due = host.up == Up::Awake && engine.stalled && engine.lives();
    if due {
        (engine.container, entry.sent) = (Some(Container::Exited), Some(Mode::Force));
    }
    due
}

/// The engine took too long over a start; it may still happen.
fn give_up_waiting(host: &mut Host) -> bool {
    let (stalled, Some(entry)) = (host.engine.stalled, &mut host.entry) else { return false };
    let waits = matches!(entry.phase, Phase::Creating | Phase::Starting);
    if host.up != Up::Awake || !stalled || !waits {
        return false;
    }
    entry.phase = Phase::Asking;
    true
}

/// An engine does what it was asked, or a container ends by itself.
fn engine(world: &mut World, step: Step) -> bool {
    let (Step::Create(host) | Step::Start(host) | Step::Die(host) | Step::ExitByItself(host)) = step else {
        return false;
    };
    let host = &mut world.hosts[host];
    let engine = &mut host.engine;
    let phase = host.entry.as_mut().map(|entry| &mut entry.phase);
    match step {
        Step::Create(_) if engine.create && !engine.stalled => {
            engine.create = false;
            let there = engine.container.is_some();
            engine.container = engine.container.or(Some(Container::Created));
            if let Some(phase) = phase.filter(|phase| **phase == Phase::Creating) {
                *phase = if there { Phase::Asking } else { Phase::Made };
            }
        }
        Step::Start(_) if engine.start && !engine.stalled => {
            engine.start = false;
            let starts = engine.container == Some(Container::Created);
            if starts {
                engine.container = Some(Container::Alive);
            }
            if let Some(phase) = phase.filter(|phase| **phase == Phase::Starting) {
                *phase = if starts { Phase::Live } else { Phase::Asking };
            }
        }
        Step::Die(_) if engine.container == Some(Container::Dying) && !engine.stalled => {
            engine.container = Some(Container::Exited);
        }
        Step::ExitByItself(_) if engine.container == Some(Container::Alive) => {
            engine.container = Some(Container::Exited);
        }
        _ => return false,
    }
    true
}

/// What befalls a host, and what is put right again.
fn fate(world: &mut World, step: Step) -> bool {
    let (Step::Kill(host)
    | Step::Restart(host)
    | Step::Freeze(host)
    | Step::Thaw(host)
    | Step::Cut(host)
    | Step::Mend(host)
    | Step::Stall(host)
    | Step::Unstall(host)) = step
    else {
        return false;
    };
    let host = &mut world.hosts[host];
    let excuse = |host: &mut Host| {
        if let Some(entry) = &mut host.entry {
            entry.on_time = false;
        }
    };
    match (step, host.up) {
        (Step::Kill(_), Up::Awake | Up::Frozen) => (host.up, host.entry) = (Up::Dead, None),
        (Step::Restart(_), Up::Dead) => host.up = Up::Awake,
        (Step::Freeze(_), Up::Awake) => {
            host.up = Up::Frozen;
            excuse(host);
        }
        (Step::Thaw(_), Up::Frozen) => host.up = Up::Awake,
        (Step::Cut(_), _) if !host.cut => host.cut = true,
        (Step::Mend(_), _) if host.cut => host.cut = false,
        (Step::Stall(_), _) if !host.engine.stalled => {
            host.engine.stalled = true;
            excuse(host);
        }
        (Step::Unstall(_), _) if host.engine.stalled => host.engine.stalled = false,
        _ => return false,
    }
    true
}
