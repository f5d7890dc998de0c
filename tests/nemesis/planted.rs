//! Worlds with a bug planted in them: the checker must find it, and must find nothing in the same world without.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use secrecy::ExposeSecret;
use signalbox::config::{self, Env};
use signalbox::db::{Db, Role};
use signalbox::engine::docker::Docker;
use signalbox::queue::Queue;
use signalbox::worker::{self, Leave, Parts, Times};
use sqlx::raw_sql;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::checker::story::Story;
use crate::checker::{self, Violation, summary};
use crate::history::read;
use crate::lived::{end, settle};
use crate::seat::Seat;
use crate::wire::Is;
use crate::wishes::Thumbs;
use crate::world::{Plan, World, random};

/// How long a run may take for what takes a second.
const SOON: Duration = Duration::from_secs(40);

pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    pub(crate) thumbs: Thumbs,
    out: PathBuf,
}

impl Stage {
    pub(crate) async fn set(plan: Plan) -> Self {
        let out = std::env::temp_dir().join(format!("nemesis-{}", random(4)));
        let world = Arc::new(World::make(&out, plan).await);
        Self { thumbs: Thumbs::of(&world), world, out }
    }

    /// A run that is told to go on until it is stopped, once it runs.
    pub(crate) async fn running(&self) -> i64 {
        let run = self.thumbs.start("stubborn 0", &random(8)).await.expect("a run");
        self.until(run, "running").await;
        run
    }

    pub(crate) async fn until(&self, run: i64, state: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let asked = sqlx::query_scalar::<_, String>("select state from runs where id = $1");
            let is = asked.bind(run).fetch_one(&self.world.sql).await.unwrap();
            if is == state {
                return;
            }
            assert!(Instant::now() < deadline, "run {run} is {is}, not {state}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The end of it, and what the checker says.
    pub(crate) async fn judged(self) -> Vec<Violation> {
        settle(&self.world, &self.thumbs).await;
        drop(self.thumbs);
        end(self.world).await;
        let records = read(&self.out.join("history.jsonl"));
        let story = Story::of(&records);
        let found = checker::violations(&story);
        for run in story.runs() {
            println!("{}", summary::timeline(&story, run));
        }
        println!("{found:#?}");
        let _ = std::fs::remove_dir_all(&self.out);
        found
    }
}

fn points(found: &[Violation]) -> Vec<u8> {
    let mut points: Vec<u8> = found.iter().map(|violation| violation.point).collect();
    points.dedup();
    points
}

/// Takes the fence out of a worker's statements, on their way to Postgres.
fn without_fences(bytes: &mut [u8]) {
    for (what, instead) in [("r.fence = mine.fence", "true"), ("fence = $3", "$3 = $3")] {
        let mut from = 0;
        while let Some(at) = bytes[from..].windows(what.len()).position(|window| window == what.as_bytes()) {
            let place = &mut bytes[from + at..from + at + what.len()];
            place.fill(b' ');
            place[..instead.len()].copy_from_slice(instead.as_bytes());
            from += at + what.len();
        }
    }
}

/// Two workers of one name on what could be two hosts, one the copy of the other's disk, so that their seats don't tell them
/// apart: the second takes the first one's run over.
async fn two_of_one_name(edit: Option<crate::wire::Edit>) -> Vec<Violation> {
    let stage = Stage::set(Plan { workers: vec!["box", "box"], start: 1, edit, ..Plan::default() }).await;
    stage.running().await;
    let [first, second] = [0, 1].map(|n| stage.world.seats[n].folder.join("box"));
    std::fs::create_dir_all(&second).unwrap();
    std::fs::copy(first.join("seat"), second.join("seat")).unwrap();
    stage.world.start_worker(&stage.world.seats[1]).await;
    // The first one's next renewal.
    sleep(Duration::from_secs(13)).await;
    // Whatever it is by now, it isn't for the first to go on.
    stage.world.signal_worker(&stage.world.seats[0], Signal::SIGTERM).await;
    stage.judged().await
}

pub(crate) async fn the_fence_check_removed_is_caught() {
    let found = two_of_one_name(Some(without_fences)).await;
    assert!(points(&found).contains(&6), "{found:?}");
    assert!(
        found.iter().any(|violation| violation.says.starts_with("box.1 wrote under fence 2")),
        "{found:?}"
    );
}

pub(crate) async fn the_fence_check_in_place_is_fine() {
    assert_eq!(two_of_one_name(None).await, []);
}

/// What every tool in this field does: a stop changes the row, and hopes.
const HOPE: &str = "
create function nemesis.hope() returns trigger language plpgsql as $$
begin
    if new.wish = 'stop' and old.wish = 'run' and old.state = 'running' then
        new.state = 'ended'; new.outcome = 'terminated'; new.end_step = 'sigkill'; new.lease_until = null;
        new.confirmed_at = clock_timestamp(); new.ended_at = clock_timestamp();
    end if;
    return new;
end $$;
create trigger hope before update on runs for each row execute function nemesis.hope();
";

pub(crate) async fn evidence_before_the_engines_word_is_caught() {
    let stage = Stage::set(Plan { workers: vec!["box"], start: 1, ..Plan::default() }).await;
    raw_sql(HOPE).execute(&stage.world.sql).await.unwrap();
    let run = stage.running().await;
    stage.thumbs.stop(run, true).await;
    stage.thumbs.look(run).await;
    stage.until(run, "ended").await;
    let found = stage.judged().await;
    assert!(points(&found).contains(&3), "{found:?}");
    let lived_on = |violation: &Violation| violation.says.contains("after \"terminated\" was confirmed");
    assert!(found.iter().any(lived_on), "{found:?}");
    assert!(found.iter().any(|violation| violation.says.starts_with("its page claimed")), "{found:?}");
}

/// A worker in this process, with times of its own.
fn hire(world: &World, seat: &Seat, times: Times) -> (Leave, JoinHandle<()>) {
    let life = world.begin_life(seat);
    let variables = world.worker_variables(seat, &life);
    let lookup = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
    let settings = config::Work::from_env(&Env::of(&lookup), "host").unwrap();
    let stores = &settings.stores;
    let engine = Docker::connect(settings.docker_host.as_deref(), &stores.fleet, &settings.name).unwrap();
    let parts = Parts {
        db: Db::new(stores.database_url.expose_secret(), Role::Worker, 10).unwrap(),
        queue: Queue::new(stores.redis_url.expose_secret(), &stores.fleet).unwrap(),
        engine: Arc::new(engine.with_image(&settings.image)),
        settings,
        times,
    };
    let leave = Leave::default();
    let (told, (ready, _)) = (leave.clone(), oneshot::channel());
    (leave, tokio::spawn(async move { worker::work(parts, told, ready).await.unwrap() }))
}

/// A worker that can't reach Postgres for longer than its lease.
async fn cut_off(times: Times) -> Vec<Violation> {
    let stage = Stage::set(Plan { workers: vec!["box"], start: 0, ..Plan::default() }).await;
    let seat = &stage.world.seats[0];
    let (leave, work) = hire(&stage.world, seat, times);
    let run = stage.running().await;
    seat.postgres.set(Is::Hanging);
    stage.until(run, "lost").await;
    sleep(Duration::from_secs(3)).await;
    seat.postgres.set(Is::Whole);
    stage.until(run, "ended").await;
    leave.hand_over.cancel();
    work.await.unwrap();
    stage.judged().await
}

pub(crate) async fn the_self_fence_off_is_caught() {
    let found = cut_off(Times { fence: Duration::from_secs(3600), ..Times::default() }).await;
    assert!(points(&found).contains(&7), "{found:?}");
}

pub(crate) async fn the_self_fence_on_is_fine() {
    assert_eq!(cut_off(Times::default()).await, []);
}
