//! Worlds that are lived: for minutes by `make nemesis`, for a short while by the tests; and how they are judged.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::checker::story::Story;
use crate::checker::{self, summary};
use crate::dice::Dice;
use crate::faults::{Fault, Nemesis};
use crate::history::{Record, now, read};
use crate::wishes::Thumbs;
use crate::world::{Plan, World, random};
use crate::{variable, witness, world};

/// How long everything may take to settle once the faults are over.
const SETTLES_WITHIN: Duration = Duration::from_secs(70);

/// Three workers, and all of it by chance.
pub(crate) async fn nemesis(seconds: u64, seed: Option<u64>) -> ExitCode {
    if let Some(what) = world::lacks() {
        println!("the nemesis can't be had here: this machine lacks {what}");
        return ExitCode::from(2);
    }
    let seed = seed.unwrap_or_else(|| u64::from_str_radix(&random(4), 16).unwrap());
    let out = variable("SIGNALBOX_NEMESIS_OUT")
        .map_or_else(|| std::env::temp_dir().join(format!("nemesis-{seed}")), PathBuf::from);
    println!("nemesis: {seconds} s, seed {seed}, history in {}", out.display());
    live(&out, seconds, Dice::new(seed), seed).await;
    judge(&out)
}

/// One world, from its beginning to its end. A signal ends it early, in order.
async fn live(out: &Path, seconds: u64, mut dice: Dice, seed: u64) {
    let workers = vec!["box-1", "box-2", "box-3"];
    let plan = Plan { workers, start: 3, seed, seconds, ..Plan::default() };
    let world = Arc::new(World::make(out, plan).await);
    println!("nemesis: the world is made");
    let planted = plant(&world).await;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let (thumbs, nemesis) = (Thumbs::of(&world), Nemesis::of(&world));
    let keeper = tokio::spawn(keep(world.clone()));
    let taker = tokio::spawn(thumbs.clone().take_back());
    let wishes = tokio::spawn(thumbs.clone().play_until(deadline, dice.another()));
    let rage = tokio::spawn(nemesis.clone().rage_until(deadline, dice.another()));
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt()).unwrap(), signal(SignalKind::terminate()).unwrap());
    let asked_to_end = tokio::select! {
        () = tokio::time::sleep_until(deadline) => false,
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    };
    if asked_to_end {
        println!("nemesis: interrupted; cleaning up");
        // The janitor does it, once we are gone.
        std::process::exit(130);
    }
    nemesis.heal.cancel();
    let settling = async {
        rage.await.unwrap();
        wishes.await.unwrap();
        settle(&world, &thumbs).await;
    };
    tokio::select! {
        () = settling => {}
        _ = interrupt.recv() => std::process::exit(130),
        _ = terminate.recv() => std::process::exit(130),
    }
    for task in [keeper, taker] {
        task.abort();
        let _ = task.await;
    }
    unplant(&world, &planted).await;
    drop((thumbs, nemesis));
    end(world).await;
}

/// The faults are over: what lives is stopped, and given time to settle.
pub(crate) async fn settle(world: &World, thumbs: &Thumbs) {
    world.pen.write(&Record::Healed { at: now() });
    let in_time = thumbs.stop_all(SETTLES_WITHIN).await;
    // A look at what comes after the last end.
    sleep(Duration::from_secs(3)).await;
    world.pen.write(&Record::Settled { at: now(), in_time });
}

/// Ends a world that nobody else holds any more.
pub(crate) async fn end(world: Arc<World>) {
    let mut world = world;
    for _ in 0..100 {
        match Arc::try_unwrap(world) {
            Ok(world) => return world.end().await,
            Err(still) => world = still,
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("somebody holds on to the world");
}

async fn keep(world: Arc<World>) {
    loop {
        sleep(Duration::from_millis(500)).await;
        world.look_after().await;
    }
}

/// Puts containers there: strangers' ones that must be left alone, and an orphan of ours that must not live.
async fn plant(world: &World) -> Vec<String> {
    let api = witness::reach(&world.docker_host).await.unwrap();
    let ours = [
        ("signalbox.fleet", "nemesis"),
        ("signalbox.worker", "box-2"),
        ("signalbox.run", "888888"),
        ("signalbox.fence", "1"),
    ];
    let others = [
        ("signalbox.fleet", "another"),
        ("signalbox.worker", "box-2"),
        ("signalbox.run", "888889"),
        ("signalbox.fence", "1"),
    ];
    let mut planted = Vec::new();
    for (n, labels) in [&ours[..], &others[..], &[]].into_iter().enumerate() {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = ContainerCreateBody {
            image: Some("nemesis-agent:latest".to_owned()),
            entrypoint: Some(vec!["sleep".to_owned(), "100000".to_owned()]),
            labels: Some(labels),
            network_disabled: Some(true),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                init: Some(true),
                // An engine that is killed ends all; strangers' containers come back with it, as theirs do.
                restart_policy: (n > 0).then(|| bollard::models::RestartPolicy {
                    name: Some(bollard::models::RestartPolicyNameEnum::ALWAYS),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&format!("planted-{n}")).build();
        let id = api.create_container(Some(options), body).await.unwrap().id;
        world.pen.write(&Record::Planted { at: now(), container: id.clone(), ours: n == 0 });
        api.start_container(&id, None::<StartContainerOptions>).await.unwrap();
        planted.push(id);
    }
    planted
}

/// Looks at the end what became of them.
async fn unplant(world: &World, planted: &[String]) {
    let api = witness::reach(&world.docker_host).await.unwrap();
    for container in planted {
        let found = api.inspect_container(container, None::<InspectContainerOptions>).await;
        let alive = found.is_ok_and(|found| found.state.is_some_and(|state| state.running == Some(true)));
        world.pen.write(&Record::Left { at: now(), container: container.clone(), alive });
    }
}

/// Reads a history and says what it is worth.
pub(crate) fn judge(out: &Path) -> ExitCode {
    let records = read(&out.join("history.jsonl"));
    let story = Story::of(&records);
    let violations = checker::violations(&story);
    println!("{}", summary::summary(&story));
    let mut told = Vec::new();
    for violation in &violations {
        let run = violation.run.map_or(String::new(), |run| format!("run {run}: "));
        println!("VIOLATION of {}: {run}{}", violation.point, violation.says);
        if let Some(run) = violation.run.filter(|run| !told.contains(run) && told.len() < 12) {
            told.push(run);
            print!("{}", summary::timeline(&story, run));
        }
    }
    match violations.len() {
        0 => {
            println!("nemesis: the guarantee held (seed {})", story.seed);
            ExitCode::SUCCESS
        }
        n => {
            println!("nemesis: {n} violations (seed {}); history in {}", story.seed, out.display());
            ExitCode::FAILURE
        }
    }
}

/// Faults of each kind, one after the other and over each other, always the same.
const SHORT: [(u64, Fault, usize, u64); 14] = [
    (2_000, Fault::WorkerKilled, 0, 1_500),
    (4_000, Fault::RedisKilled, 0, 3_000),
    (6_000, Fault::PostgresKilled, 0, 800),
    (9_000, Fault::EngineFrozen, 0, 4_000),
    (10_000, Fault::PostgresHangs, 1, 24_000),
    (12_000, Fault::ServerKilled, 0, 500),
    (14_000, Fault::RedisFlushed, 0, 5_000),
    (15_000, Fault::WorkerFrozen, 2, 33_000),
    (17_000, Fault::PostgresHangsUp, 0, 2_000),
    (20_000, Fault::EngineCut, 0, 3_000),
    (24_000, Fault::PostgresFrozen, 0, 2_500),
    (28_000, Fault::WorkerKilled, 0, 500),
    (32_000, Fault::EngineKilled, 0, 1_000),
    (36_000, Fault::RedisReadOnly, 0, 3_000),
];

pub(crate) async fn a_short_world_keeps_the_guarantee() {
    let out = std::env::temp_dir().join(format!("nemesis-{}", random(4)));
    let plan =
        Plan { workers: vec!["box-1", "box-2", "box-3"], start: 3, seed: 1, seconds: 45, ..Plan::default() };
    let world = Arc::new(World::make(&out, plan).await);
    let (thumbs, nemesis) = (Thumbs::of(&world), Nemesis::of(&world));
    let keeper = tokio::spawn(keep(world.clone()));
    let taker = tokio::spawn(thumbs.clone().take_back());
    let begun = Instant::now();
    let wishes = tokio::spawn(thumbs.clone().play_until(begun + Duration::from_secs(45), Dice::new(1)));
    let faults: Vec<_> = SHORT
        .into_iter()
        .map(|(at, fault, seat, lasts)| {
            let nemesis = nemesis.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(begun + Duration::from_millis(at)).await;
                nemesis.inflict(fault, seat, Duration::from_millis(lasts)).await;
            })
        })
        .collect();
    for fault in faults {
        fault.await.unwrap();
    }
    wishes.await.unwrap();
    settle(&world, &thumbs).await;
    for task in [keeper, taker] {
        task.abort();
        let _ = task.await;
    }
    drop((thumbs, nemesis));
    end(world).await;
    assert!(judge(&out) == ExitCode::SUCCESS, "the guarantee is broken; history in {}", out.display());
    let _ = std::fs::remove_dir_all(&out);
}
