//! One look for all who wait for the same: whoever comes before it begins is given what it finds, and nobody who comes later, so
//! that what had changed when somebody asked is always in what they are shown.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex as Plain, MutexGuard, PoisonError};

use tokio::sync::{Mutex, broadcast};

/// Looks at things by their names.
pub(crate) struct Turns<K, T> {
    doors: Plain<HashMap<K, Door<T>>>,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self { doors: Plain::default() }
    }
}

/// Before one thing.
struct Door<T> {
    /// Whoever looks at it holds this.
    turn: Arc<Mutex<()>>,
    /// Who looks next will tell it here; until they begin one may still wait for them.
    next: Option<broadcast::Sender<T>>,
    /// How many look or are about to.
    lookers: usize,
}

/// One who looks, or is about to.
struct Looker<'a, K: Eq + Hash, T> {
    turns: &'a Turns<K, T>,
    name: K,
    begun: bool,
}

enum Place<'a, K: Eq + Hash, T> {
    Looks(Looker<'a, K, T>, Arc<Mutex<()>>),
    Waits(broadcast::Receiver<T>),
}

impl<K: Clone + Eq + Hash, T: Clone> Turns<K, T> {
    /// What a look finds that begins after this is called. One look goes on at a time; all who come meanwhile share the next.
    pub(crate) async fn look(&self, name: K, look: impl AsyncFn() -> T) -> T {
        loop {
            match self.place(&name) {
                Place::Looks(mut looker, turn) => {
                    let _turn = turn.lock().await;
                    let told = looker.begin();
                    let found = look().await;
                    // Nobody may have waited.
                    let _ = told.map(|told| told.send(found.clone()));
                    return found;
                }
                Place::Waits(mut told) => {
                    if let Ok(found) = told.recv().await {
                        return found;
                    }
                    // Whoever was to look has left.
                }
            }
        }
    }

    fn place(&self, name: &K) -> Place<'_, K, T> {
        let mut doors = self.doors();
        let new = || Door { turn: Arc::default(), next: None, lookers: 0 };
        let door = doors.entry(name.clone()).or_insert_with(new);
        if let Some(next) = &door.next {
            return Place::Waits(next.subscribe());
        }
        door.next = Some(broadcast::channel(1).0);
        door.lookers += 1;
        Place::Looks(Looker { turns: self, name: name.clone(), begun: false }, Arc::clone(&door.turn))
    }
}

impl<K, T> Turns<K, T> {
    fn doors(&self) -> MutexGuard<'_, HashMap<K, Door<T>>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, T> Looker<'_, K, T> {
    /// From here on nobody waits for this look who doesn't already.
    fn begin(&mut self) -> Option<broadcast::Sender<T>> {
        self.begun = true;
        self.turns.doors().get_mut(&self.name).and_then(|door| door.next.take())
    }
}

impl<K: Eq + Hash, T> Drop for Looker<'_, K, T> {
    fn drop(&mut self) {
        let mut doors = self.turns.doors();
        let Some(door) = doors.get_mut(&self.name) else { return };
        if !self.begun {
            door.next = None;
        }
        door.lookers -= 1;
        if door.lookers == 0 {
            doors.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::Poll;

    use futures_util::future::join_all;
    use futures_util::poll;
    use tokio::sync::Notify;

    use super::*;

    /// What is looked at, how often that was done, and what lets a look end.
    #[derive(Default)]
    struct World {
        row: Cell<u32>,
        looks: Cell<u32>,
        go_on: Notify,
    }

    impl World {
        async fn look(&self) -> u32 {
            let seen = self.row.get();
            self.looks.set(self.looks.get() + 1);
            self.go_on.notified().await;
            seen
        }
    }

    #[tokio::test]
    async fn all_who_come_while_one_looks_share_the_next_look_and_see_what_changed_before_they_came() {
        let (turns, world) = (Turns::default(), World::default());
        let mut first = pin!(turns.look("list", || world.look()));
        assert!(poll!(&mut first).is_pending());
        world.row.set(1);
        let mut others = pin!(join_all((0..5).map(|_| turns.look("list", || world.look()))));
        assert!(poll!(&mut others).is_pending());
        assert_eq!(world.looks.get(), 1, "they wait for their turn");
        world.go_on.notify_one();
        assert_eq!(poll!(&mut first), Poll::Ready(0), "it had looked before");
        assert!(poll!(&mut others).is_pending());
        // What changes while they look is seen by who comes now, and by them only if it was before.
        world.row.set(2);
        let mut last = pin!(turns.look("list", || world.look()));
        assert!(poll!(&mut last).is_pending());
        world.go_on.notify_one();
        assert_eq!(others.await, [1; 5]);
        assert!(poll!(&mut last).is_pending());
        world.go_on.notify_one();
        assert_eq!((last.await, world.looks.get()), (2, 3));
        assert!(turns.doors().is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn nobody_waits_for_who_looks_at_something_else() {
        let (turns, world) = (Turns::default(), World::default());
        let mut one = pin!(turns.look("list", || world.look()));
        assert!(poll!(&mut one).is_pending());
        assert_eq!(turns.look("another", async || 7).await, 7);
        world.go_on.notify_one();
        assert_eq!(one.await, 0);
    }

    #[tokio::test]
    async fn when_the_one_who_was_to_look_leaves_another_one_does() {
        let (turns, world) = (Turns::default(), World::default());
        let mut first = Box::pin(turns.look("list", || world.look()));
        assert!(poll!(&mut first).is_pending());
        let mut next = Box::pin(turns.look("list", || world.look()));
        assert!(poll!(&mut next).is_pending());
        let mut waits = pin!(turns.look("list", || world.look()));
        assert!(poll!(&mut waits).is_pending());
        // One leaves before the look, and one in the middle of it.
        drop(next);
        assert!(poll!(&mut waits).is_pending());
        drop(first);
        world.row.set(3);
        assert!(poll!(&mut waits).is_pending());
        assert_eq!(world.looks.get(), 2);
        world.go_on.notify_one();
        assert_eq!(waits.await, 3);
        assert!(turns.doors().is_empty(), "nothing is kept");
    }
}
