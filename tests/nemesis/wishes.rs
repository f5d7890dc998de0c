//! Wishes: what a superuser with many thumbs wants, through the real pages, with each form and its answer written down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep};

use crate::browser::RunPage;
use crate::dice::Dice;
use crate::history::{Ms, Page, Record, Wish, now};
use crate::world::{World, random};

/// More runs than that aren't kept waiting, but for the great stops.
const WAITING_MAX: usize = 14;
/// Between two great stops, at least.
const GREAT_STOP_EVERY: Duration = Duration::from_secs(45);
/// How many requests may be under way.
const AT_ONCE: usize = 150;

/// How often each kind of agent plays.
const PLAYS: [(u64, &str); 8] = [
    (24, "quick"),
    (20, "long"),
    (20, "stubborn"),
    (12, "forks"),
    (8, "late"),
    (6, "crash"),
    (5, "flood"),
    (5, "lingers"),
];

/// A prompt for one of them.
fn play(dice: &mut Dice) -> String {
    match dice.weighted(&PLAYS) {
        "flood" => format!("flood {}", dice.between(500, 4000)),
        "lingers" => format!("lingers {}", dice.between(5, 30)),
        "crash" => format!("crash {}", dice.between(1, 60)),
        play => format!("{play} {}", dice.between(5, 150)),
    }
}

/// Sends forms and reads pages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Thumbs {
    world: Arc<World>,
    /// Runs that weren't over when Postgres was last asked; and the newest.
    living: Arc<Mutex<(Vec<i64>, i64)>>,
    room: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
enum Deed {
    Start,
    StartTwice,
    StopAtOnce,
    Stop,
    StopTwice,
    StopInVain,
    StopMany,
    Hold,
    Look,
    GreatStop,
    Handle,
}

impl Thumbs {
    pub(crate) fn of(world: &Arc<World>) -> Self {
        Self { world: world.clone(), living: Arc::default(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends a form; gives where it leads, if that is a run.
    async fn click(&self, wish: Wish, path: &str, form: &[(&str, &str)]) -> Option<i64> {
        let _room = self.room.acquire().await.unwrap();
        let click = self.world.clicks.fetch_add(1, Ordering::Relaxed);
        self.world.pen.write(&Record::Asked { at: now(), click, wish });
        match self.world.browser.try_post(path, form).await {
            Ok(answer) => {
                let to = answer.location.as_deref().and_then(|to| to.strip_prefix("/runs/")?.parse().ok());
                let record = Record::Answered { at: now(), click, status: answer.status, run: to };
                self.world.pen.write(&record);
                to.filter(|_| answer.status == 303)
            }
            Err(error) => {
                let why = format!("{error:?}").chars().take(120).collect();
                self.world.pen.write(&Record::Unanswered { at: now(), click, why });
                None
            }
        }
    }

    pub(crate) async fn start(&self, play: &str, once: &str) -> Option<i64> {
        let form = [("agent", "claude-code"), ("prompt", play), ("title", ""), ("once", once)];
        let wish = Wish::Start { play: play.to_owned(), once: once.to_owned() };
        self.click(wish, "/runs", &form).await
    }

    pub(crate) async fn stop(&self, run: i64, force: bool) {
        self.stop_and(run, force, false).await;
    }

    /// A stop, perhaps once the work is saved.
    async fn stop_and(&self, run: i64, force: bool, save: bool) {
        let mode = if force { "force" } else { "graceful" };
        let form = [("mode", mode), ("preset", "It loops"), ("save", if save { "yes" } else { "" })];
        let wish = Wish::Stop { stop: run, force, save };
        self.click(wish, &format!("/runs/{run}/terminate"), &form).await;
    }

    /// Opens a run's page and notes what it says.
    pub(crate) async fn look(&self, run: i64) {
        let _room = self.room.acquire().await.unwrap();
        let asked = now();
        let unread = |why| self.world.pen.write(&Record::Unread { at: now(), run, why });
        let answer = match self.world.browser.try_get(&format!("/runs/{run}")).await {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => return unread(answer.status.to_string()),
            Err(error) => return unread(format!("{error:?}").chars().take(120).collect()),
        };
        let answered = now();
        let page = RunPage { body: answer.body };
        let data = |name: &str| page.data(name).to_owned();
        let (state, outcome, wish) = (data("state"), data("outcome"), data("wish"));
        let confirmed = ms(page.data("confirmed"));
        self.world.pen.write(&Record::Page(Page { asked, answered, run, state, outcome, wish, confirmed }));
    }

    /// Asks Postgres, when it answers, which runs live.
    pub(crate) async fn see_who_lives(&self) -> Option<usize> {
        let living = "select id from runs where state <> 'ended' order by id";
        let ask = async {
            let living = sqlx::query_scalar::<_, i64>(living).fetch_all(&self.world.sql).await.ok()?;
            let newest = sqlx::query_scalar::<_, Option<i64>>("select max(id) from runs");
            Some((living, newest.fetch_one(&self.world.sql).await.ok()?.unwrap_or(0)))
        };
        let seen = tokio::time::timeout(Duration::from_secs(1), ask).await.ok()??;
        let count = seen.0.len();
        *self.living.lock().await = seen;
        Some(count)
    }

    /// Wishes, for as long as told.
    pub(crate) async fn play_until(self, deadline: Instant, mut dice: Dice) {
        let mut under_way = tokio::task::JoinSet::new();
        let mut great = Instant::now();
        while Instant::now() < deadline {
            self.see_who_lives().await;
            let waiting = self.living.lock().await.0.len();
            let room = u64::from(waiting < WAITING_MAX);
            let great_is_due = u64::from(great.elapsed() > GREAT_STOP_EVERY);
            let deed = dice.weighted(&[
                (26 * room, Deed::Start),
                (3 * room, Deed::StartTwice),
                (6 * room, Deed::StopAtOnce),
                (15, Deed::Stop),
                (5, Deed::StopTwice),
                (3, Deed::StopInVain),
                (2, Deed::StopMany),
                (1, Deed::Hold),
                (22, Deed::Look),
                (3 * great_is_due, Deed::GreatStop),
                (3 * great_is_due, Deed::Handle),
            ]);
            if matches!(deed, Deed::GreatStop | Deed::Handle) {
                great = Instant::now();
            }
            let (thumbs, own) = (self.clone(), dice.another());
            under_way.spawn(async move { thumbs.act(deed, own).await });
            while let Some(done) = under_way.try_join_next() {
                done.unwrap();
            }
            sleep(dice.millis(30, 350)).await;
        }
        while let Some(done) = under_way.join_next().await {
            done.unwrap();
        }
    }

    async fn act(self, deed: Deed, mut dice: Dice) {
        let (living, newest) = self.living.lock().await.clone();
        let one = dice.one(&living);
        let force = dice.chance(60);
        match (deed, one) {
            (Deed::Start, _) => {
                self.start(&play(&mut dice), &random(8)).await;
            }
            (Deed::StartTwice, _) => {
                let (play, once) = (play(&mut dice), random(8));
                tokio::join!(self.start(&play, &once), self.start(&play, &once));
            }
            (Deed::StopAtOnce, _) => {
                if let Some(run) = self.start(&play(&mut dice), &random(8)).await {
                    sleep(dice.millis(0, 400)).await;
                    self.stop(run, force).await;
                }
            }
            (Deed::Stop, Some(run)) => {
                self.stop_and(run, force, dice.chance(15)).await;
                self.look(run).await;
            }
            (Deed::StopTwice, Some(run)) => {
                tokio::join!(self.stop(run, force), self.stop(run, false), self.stop(run, true));
                self.look(run).await;
            }
            (Deed::StopInVain, _) if dice.chance(30) => self.stop(9_999_999, force).await,
            (Deed::StopInVain, _) if newest > 0 => {
                let back = i64::try_from(dice.below(40)).unwrap();
                self.stop((newest - back).max(1), force).await;
            }
            (Deed::Look, _) if newest > 0 => {
                let back = i64::try_from(dice.below(25)).unwrap();
                self.look((newest - back).max(1)).await;
            }
            (Deed::StopMany, Some(_)) => self.stop_many(&living[living.len() / 2..], force).await,
            (Deed::Hold, _) => {
                let worker = dice.one(&["box-1", "box-2", "box-3"]).unwrap();
                let drain = format!("/workers/{worker}/drain");
                self.other(dice.one(&["/hold", drain.as_str()]).unwrap()).await;
            }
            (Deed::GreatStop, _) => self.great_stop(dice).await,
            (Deed::Handle, _) => self.pull().await,
            _ => {}
        }
    }

    /// Stops several by one form.
    async fn stop_many(&self, runs: &[i64], force: bool) {
        let (mode, once) = (if force { "force" } else { "graceful" }, random(8));
        let list = runs.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let form = [("runs", list.as_str()), ("mode", mode), ("once", &once), ("preset", "It loops")];
        self.click(Wish::StopMany { stops: runs.to_vec(), force }, "/stops", &form).await;
    }

    /// Pulls the red handle.
    async fn pull(&self) {
        let pulled = sqlx::query_scalar::<_, bool>("select handle is not null from fleet");
        let asked = tokio::time::timeout(Duration::from_secs(1), pulled.fetch_one(&self.world.sql)).await;
        let fresh = asked.is_ok_and(|pulled| pulled.is_ok_and(|pulled| !pulled));
        self.click(Wish::Handle { fresh }, "/handle", &[("preset", "It loops")]).await;
    }

    /// Sends a form that is about no run.
    async fn other(&self, path: &str) {
        let form = [("preset", "It loops"), ("although", "100000")];
        self.click(Wish::Else { path: path.to_owned() }, path, &form).await;
    }

    /// Takes back what holds the fleet, when it has stood for a while; for ever.
    pub(crate) async fn take_back(self) {
        loop {
            sleep(Duration::from_secs(7)).await;
            let drained =
                sqlx::query_scalar::<_, String>("select name from workers where drained_at is not null");
            let Ok(drained) = drained.fetch_all(&self.world.sql).await else { continue };
            for worker in drained {
                self.other(&format!("/workers/{worker}/undrain")).await;
            }
            let standing = "select handle is not null, held_at is not null from fleet";
            let standing = sqlx::query_as::<_, (bool, bool)>(standing).fetch_one(&self.world.sql).await;
            match standing {
                Ok((true, _)) => {
                    self.other("/handle/gates").await;
                    self.other("/handle/queue").await;
                }
                Ok((false, true)) => self.other("/hold/release").await,
                _ => {}
            }
        }
    }

    /// A hundred runs, and a hundred stops at once.
    async fn great_stop(&self, mut dice: Dice) {
        let plays: Vec<(String, String)> = (0..100).map(|_| (play(&mut dice), random(8))).collect();
        let started = join_all(plays.iter().map(|(play, once)| self.start(play, once))).await;
        sleep(dice.millis(0, 3000)).await;
        join_all(started.into_iter().flatten().map(|run| self.stop(run, true))).await;
    }

    /// Stops all that lives, and waits until nothing does. False when it took too long.
    pub(crate) async fn stop_all(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut again = Instant::now();
        while Instant::now() < deadline {
            if self.see_who_lives().await == Some(0) {
                return true;
            }
            if Instant::now() >= again {
                let living = self.living.lock().await.0.clone();
                join_all(living.iter().map(|run| self.stop(*run, true))).await;
                again = Instant::now() + Duration::from_secs(5);
            }
            sleep(Duration::from_millis(200)).await;
        }
        false
    }
}

/// Milliseconds since 1970, of a time as pages write it; none for nothing.
fn ms(text: &str) -> Option<Ms> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}
