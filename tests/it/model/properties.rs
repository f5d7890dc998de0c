//! What must hold in every state: the guarantee, and signs that the model isn't empty.

use stateright::Property;

use super::Protocol;
use super::world::{LAPSED, Outcome, Phase, State, Up, World};

pub(super) const ONE_CONTAINER: &str = "at most one container of a run lives";
pub(super) const ENGINES_WORD: &str = "a run that has ended has no living container, then or later";
pub(super) const WISHED: &str = "terminated was wished";
pub(super) const STAYS_STOPPED: &str = "what was stopped stays stopped";
pub(super) const NO_GHOST: &str = "only the holder's statements take effect";
pub(super) const STOPS_ITSELF: &str = "a worker that is cut off stops its container before the lease lapses";
pub(super) const CONFIRMED: &str = "every stop is confirmed once the faults are over";
pub(super) const SETTLES: &str = "and within a bounded number of steps";

/// More steps than any calm takes.
const CALM_STEPS: u8 = 40;

pub(super) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_CONTAINER, |_, world: &World| world.living() <= 1),
        Property::always(ENGINES_WORD, |_, world: &World| !ended(world) || world.living() == 0),
        Property::always(WISHED, |_, world: &World| !terminated(world) || world.row.wish.is_some()),
        Property::always(STAYS_STOPPED, |_, world: &World| !world.revived),
        Property::always(NO_GHOST, |_, world: &World| !world.ghost),
        Property::always(STOPS_ITSELF, |_, world: &World| (0..2).all(|host| stops_itself(world, host))),
        Property::eventually(CONFIRMED, |_, world: &World| ended(world)),
        Property::always(SETTLES, |_, world: &World| world.calm.is_none_or(|steps| steps < CALM_STEPS)),
        Property::sometimes("a run is lost", |_, world: &World| world.row.state == State::Lost),
        Property::sometimes("a run is taken over by the next life of its worker", |_, world: &World| {
            world.hosts[0].entry.is_some_and(|entry| entry.marked && entry.phase == Phase::Asking)
        }),
        Property::sometimes("a run is given back, and taken by another worker", |_, world: &World| {
            world.row.worker == Some(1)
        }),
        Property::sometimes("a statement under an old fence is on its way", |_, world: &World| {
            world.late.is_some_and(|late| late.lease.fence < world.row.fence)
        }),
        Property::sometimes("a stop waits for an engine that hangs", |_, world: &World| {
            world.calm.is_none()
                && world.row.wish.is_some()
                && world.hosts[0].engine.stalled
                && world.living() == 1
        }),
    ]
}

fn ended(world: &World) -> bool {
    matches!(world.row.state, State::Ended(_))
}

fn terminated(world: &World) -> bool {
    world.row.state == State::Ended(Outcome::Terminated)
}

fn stops_itself(world: &World, number: usize) -> bool {
    let host = &world.hosts[number];
    let on_time = host.up == Up::Awake && host.entry.is_some_and(|entry| entry.on_time);
    let lapsed = !world.held_by(number) || world.row.age == LAPSED;
    !(on_time && lapsed && host.engine.lives())
}
