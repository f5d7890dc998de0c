//! The middle: a container is watched, its output pumped and orders obeyed, until the engine says that it is over.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument, info_span};

use super::super::Worker;
use super::super::ladder::Ladder;
use super::super::pump::{Pump, Said};
use super::super::reporter::Report;
use super::super::roster::Order;
use super::super::verdict::{self, Cause, Known, Verdict};
use super::{Job, RETRY, Supervisor};
use crate::clock;
use crate::db;
use crate::engine::{self, Exit, Left, Signal, Status};
use crate::model::event;
use crate::model::run::{Cgroup, Evidence, Outcome, RESULT_MAX, Step, StopMode};
use crate::model::span::between;
use crate::model::text;
use crate::telemetry;

/// How long the rest of the output is waited for once the container is over: as long as Postgres may be away without
/// the lease lapsing, and then some.
const DRAIN: Duration = Duration::from_secs(60);
/// What SIGKILL ended has no last word to wait for: the proof of its death isn't kept waiting by all that it wrote before.
const GLANCE: Duration = Duration::from_millis(500);

/// Between two looks whether a run is stuck that shall be stopped then.
const LOOK: Duration = Duration::from_secs(1);
/// How long what was printed between two lives of the worker may take to be read.
const CATCHES_UP: Duration = Duration::from_secs(10);

/// How often in a row an engine must say that it has no such container, where nobody else can see what became of it.
const ABSENCES: u32 = 3;

/// An engine that hasn't answered a SIGKILL for this long wasn't what killed.
const PROMPT: Duration = Duration::from_millis(500);

/// How a container's life ended, and what had been done about it by then.
struct Over {
    /// None when the engine says that the container is gone.
    exit: Option<Exit>,
    cgroup: Cgroup,
    cause: Option<Cause>,
    ladder: Option<Ladder>,
    /// Whether a signal had gone out by then.
    tried: bool,
}

impl Supervisor<'_> {
    /// Watches over a container until the engine says that it is over, and writes the end.
    pub(super) async fn live(&mut self, container: &str) {
        let worker = self.worker;
        let job = self.job;
        let lease = &job.lease;
        self.report.send_modify(|report| report.container = Some(container.to_owned()));
        worker.roster.settled_in(lease.run(), container);
        let said =
            Said { watch: self.job.watch.clone(), heard_at: Some(clock::now()), ..self.said_before().await };
        let (said, heard) = watch::channel(said);
        let pump = Pump::new(worker, lease, container.to_owned(), self.job.stored, said);
        let mut pump = Box::pin(pump.run());
        let mut refused = false;
        let (over, pumped) = {
            let over = self.until_over(container, heard.clone());
            tokio::pin!(over);
            let mut pumped = false;
            loop {
                tokio::select! {
                    over = &mut over => break (over, pumped),
                    done = &mut pump, if !pumped => {
                        pumped = true;
                        if let Err(stopped) = done {
                            refused = true;
                            let order = Order::new(StopMode::Force, stopped.cause());
                            worker.roster.order(lease.run(), order);
                        }
                    }
                }
            }
        };
        let Over { exit, cgroup, cause, ladder, tried } = over;
        if cause.is_none() {
            self.keeper.over();
        }
        let confirmed_at = clock::now();
        self.keeper.close();
        let killed = ladder.as_ref().and_then(Ladder::delivered) == Some(Signal::Kill);
        let patience = if killed { GLANCE } else { DRAIN };
        let mut whole = pumped
            || match timeout(patience, &mut pump).await {
                Ok(done) => {
                    refused = done.is_err();
                    true
                }
                Err(_) => false,
            };
        self.unheard = refused || !whole;
        let stop_all = worker.notes.behind(worker, self.began());
        let (verdict, exit_code) = {
            let heard = heard.borrow();
            self.said =
                heard.result.as_ref().map(|result| text::head(&text::inert(&result.text), RESULT_MAX - 1));
            let known = Known {
                result: heard.result.as_ref(),
                last_words: &heard.last_words,
                cause,
                by_host: ladder.as_ref().is_some_and(Ladder::by_host_alone),
                tried,
                stuck: self.stuck.as_deref(),
                stop_all,
                delivered: ladder.and_then(|ladder| match exit {
                    Some(exit) => ladder.behind(exit.code),
                    None => ladder.delivered(),
                }),
            };
            (
                exit.map_or_else(|| vanished(&known), |exit| verdict::judge(exit, &known)),
                exit.map(|exit| exit.code),
            )
        };
        let evidence = Evidence {
            container: Some(container.to_owned()),
            exit_code,
            step: verdict.step,
            confirmed_at,
            cgroup: Some(cgroup),
        };
        self.end(verdict, evidence).await;
        if !whole {
            whole = timeout(DRAIN, &mut pump).await.is_ok();
        }
        if !whole {
            tracing::warn!(run = %lease.run(), "the end of the output didn't come");
            let what = "transcript cut short";
            let detail = "the end of its output didn't come in time";
            if let Err(error) =
                worker.parts.db.note_of_worker(worker.name(), what, Some(lease.run()), detail).await
            {
                tracing::warn!(run = %lease.run(), %error, "nor can that be noted");
            }
        }
    }

    /// What the output said in a former life.
    pub(super) async fn said_before(&mut self) -> Said {
        if self.job.stored.stdout == 0 {
            return Said::default();
        }
        loop {
            match self.worker.parts.db.stored_result(&self.job.lease).await {
                Ok(line) => {
                    let result = line.as_deref().and_then(event::stored_result);
                    let rests_since = result.is_some().then(Instant::now);
                    return Said { result, rests_since, ..Said::default() };
                }
                // What it said is worth less than that it be stopped.
                Err(db::Error::Unavailable(_)) if self.order().is_some() => return Said::default(),
                Err(db::Error::Unavailable(_)) => {
                    tokio::select! { () = sleep(RETRY) => {}, _ = self.orders.changed() => {} }
                }
                Err(error) => {
                    tracing::error!(%error, "the stored result can't be read");
                    return Said::default();
                }
            }
        }
    }

    /// Waits for the engine's word that the container is over, climbing the ladder as soon as there is an order.
    async fn until_over(&mut self, container: &str, mut heard: watch::Receiver<Said>) -> Over {
        let worker = self.worker;
        let run = self.job.lease.run();
        let times = worker.parts.times.ladder.unwrap_or(self.job.agent.ladder);
        let time_is_up = self.time_is_up();
        let (mut cause, mut ladder): (_, Option<Ladder>) = (None, None);
        let report = self.report.clone();
        let over = over(worker, container, &report, self.job);
        tokio::pin!(over);
        let mut sending: Option<Sending<'_>> = None;
        loop {
            let now = Instant::now();
            let order = *self.orders.borrow_and_update();
            if let Some(order) = order {
                // Also one that follows another: what it delivers is noted before anything comes of it.
                self.obey(order);
                match &mut ladder {
                    None => {
                        cause = Some(order.cause);
                        if let Some((exit, cgroup)) = self.save_first(container, over.as_mut()).await {
                            return Over { exit, cgroup, cause, ladder, tried: false };
                        }
                        let mode = self.orders.borrow_and_update().map_or(order.mode, |order| order.mode);
                        let ladder = ladder.insert(Ladder::begin(mode, times, Instant::now()));
                        if let Some(step) = self.job.step {
                            ladder.tried_before(step);
                        }
                        // While the engine was starting it.
                        if self.report.borrow().progress.host_killed_at.is_some() {
                            ladder.killed_by_host();
                        }
                        // What is due now is due at once.
                        continue;
                    }
                    Some(ladder) if order.mode == StopMode::Force => ladder.force(now),
                    Some(_) => {}
                }
            }
            if let Some(ladder) = &mut ladder {
                ladder.climb_if_due(now);
                // What an engine leaves unanswered holds up no higher rung.
                if let Some(waiting) = sending.take_if(|sending| sending.signal != ladder.rung()) {
                    ladder.unanswered(waiting.signal);
                }
                if sending.is_none()
                    && let Some(signal) = ladder.due(now)
                {
                    self.report_try(ladder);
                    let stop = worker.roster.stop_of(run);
                    let span =
                        info_span!(target: telemetry::TRACE, parent: &stop, "signal", signal = signal.name());
                    let sent = send(worker, container, signal, report.clone()).instrument(span);
                    sending = Some(Sending { signal, since: now, sent: Box::pin(sent) });
                }
            }
            if ladder.is_none()
                && let Some(evidence) = self.is_stuck(&heard.borrow())
            {
                self.report.send_modify(|report| report.progress.unasked = Some(verdict::stuck(&evidence)));
                self.stuck = Some(evidence);
                worker.roster.order(run, Order::new(StopMode::Graceful, Cause::Stuck));
            }
            let is_sending = sending.is_some();
            let next = ladder.as_ref().and_then(|l| if is_sending { l.climbs_at() } else { Some(l.next()) });
            let rests_until = heard.borrow_and_update().rests_since.map(|since| since + times.linger);
            tokio::select! {
                biased;
                (exit, cgroup) = &mut over => {
                    // Not counting what is only now on its way.
                    let tried = ladder.as_ref().is_some_and(Ladder::has_tried);
                    if let Some(ladder) = &mut ladder {
                        self.take_silence(ladder, sending);
                    }
                    return Over { exit, cgroup, cause, ladder, tried };
                }
                sent = answered(&mut sending) => {
                    sending = None;
                    if let Some(ladder) = &mut ladder {
                        self.take_answer(ladder, sent);
                    }
                }
                _ = self.orders.changed() => {}
                () = at(next) => {}
                () = sleep_until(time_is_up), if ladder.is_none() => {
                    worker.roster.order(run, Order::new(StopMode::Graceful, Cause::TimeLimit));
                }
                () = sleep(LOOK), if self.job.watch.patience.stops && ladder.is_none() => {}
                () = at(rests_until), if ladder.is_none() => {
                    worker.roster.order(run, Order::new(StopMode::Graceful, Cause::Lingered));
                }
                Ok(()) = heard.changed() => {}
            }
        }
    }

    /// What shows that it is stuck, when its agent wants such a run stopped.
    fn is_stuck(&self, said: &Said) -> Option<String> {
        let now = clock::now();
        let reads_on = self.job.ran.is_some() && between(self.job.taken_at, now) < CATCHES_UP;
        if reads_on || !said.watch.patience.stops {
            return None;
        }
        let engine_answers = self.report.borrow().trouble.is_none() && self.worker.engine_down().is_none();
        let heard_at = said.heard_at.filter(|_| engine_answers);
        let verdict = said.watch.judge(heard_at, None, now)?;
        verdict.cause.may_stop().then_some(verdict.evidence)
    }

    /// When this life of the worker, or a former one, started the container; roughly.
    fn began(&self) -> time::OffsetDateTime {
        self.job.taken_at - self.job.ran.unwrap_or_default()
    }

    /// When the agent's time limit will be reached, the time in a former life included.
    fn time_is_up(&self) -> Instant {
        Instant::now() + self.job.agent.limits.time.saturating_sub(self.job.ran.unwrap_or_default())
    }

    fn take_answer(&self, ladder: &mut Ladder, sent: Sent) {
        if matches!(sent.engine, Err(engine::Error::Unavailable(_))) {
            ladder.unanswered(sent.signal);
        }
        if sent.by_host {
            ladder.killed_by_host();
        }
        // An engine that finds nobody to kill any more has answered as well.
        if sent.by_host && matches!(sent.engine, Err(engine::Error::NotRunning)) {
            ladder.killed_by_engine();
        }
        ladder.sent(sent.engine.is_ok(), Instant::now());
        self.report_step(ladder, sent.engine.err());
    }

    /// The end came before the answer to the signal that was on its way. A daemon that hung will have killed nobody.
    fn take_silence(&self, ladder: &mut Ladder, sending: Option<Sending<'_>>) {
        let Some(sending) = sending else { return };
        if self.report.borrow().progress.host_killed_at.is_some() {
            ladder.killed_by_host();
        }
        ladder.unanswered(sending.signal);
        if sending.signal == Signal::Kill && sending.since.elapsed() < PROMPT {
            ladder.killed_by_engine();
        }
    }

    /// Says which rung is being tried. What the engine said to the last try stands until it has answered this one.
    fn report_try(&self, ladder: &Ladder) {
        let step = Some(ladder.step());
        self.report.send_if_modified(|report| {
            let changed = report.progress.step != step;
            if changed {
                report.progress.step = step;
                report.progress.step_at = Some(clock::now());
            }
            changed
        });
    }

    /// Says which rung was tried, and what the engine said to it.
    fn report_step(&self, ladder: &Ladder, error: Option<engine::Error>) {
        let now = clock::now();
        let next_at = now + ladder.next().saturating_duration_since(Instant::now());
        let trouble = match error {
            // It may be over by now; the engine's word on that is on its way.
            None | Some(engine::Error::NotRunning | engine::Error::Absent) => None,
            Some(error) => Some(format!("On worker {}, {error}", self.job.lease.worker())),
        };
        let step = Some(ladder.step());
        self.report.send_modify(|report| {
            let progress = &mut report.progress;
            if progress.step != step {
                progress.step = step;
                progress.step_at = Some(now);
            }
            progress.trouble = trouble;
            progress.next_at = Some(next_at);
        });
    }
}

/// A signal on its way.
struct Sending<'a> {
    signal: Signal,
    since: Instant,
    sent: BoxFuture<'a, Sent>,
}

/// What became of it.
struct Sent {
    signal: Signal,
    engine: engine::Result<()>,
    by_host: bool,
}

/// Sends a signal through the engine; SIGKILL also from the host's own kernel, at the same moment, since a daemon that
/// hangs takes a request and does nothing.
async fn send(worker: &Worker, container: &str, signal: Signal, report: watch::Sender<Report>) -> Sent {
    let engine = &worker.parts.engine;
    if signal != Signal::Kill {
        return Sent { signal, engine: engine.signal(container, signal).await, by_host: false };
    }
    let by_host = async {
        let killed = engine.kill_by_host(container).await;
        match &killed {
            Ok(()) => report.send_modify(|report| {
                report.progress.host_killed_at.get_or_insert_with(clock::now);
            }),
            Err(error) => tracing::debug!(container, %error, "not killed by the host"),
        }
        killed.is_ok()
    };
    let (engine, by_host) = tokio::join!(engine.signal(container, signal), by_host);
    Sent { signal, engine, by_host }
}

/// The answer to what is being sent; never, when nothing is.
async fn answered(sending: &mut Option<Sending<'_>>) -> Sent {
    match sending {
        Some(sending) => (&mut sending.sent).await,
        None => std::future::pending().await,
    }
}

/// Waits for a moment; for ever, when there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The verdict on a container that is gone, its exit with it.
fn vanished(known: &Known<'_>) -> Verdict {
    let wished = known.cause == Some(Cause::Wish) && known.delivered.is_some();
    let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
    Verdict { outcome, reason: "The engine says that its container is gone.".to_owned(), step: Step::Absent }
}

/// Waits for the engine's own word that a container is over, and for this host's that nothing of it is left; asks again for
/// as long as either doesn't answer.
async fn over(
    worker: &Worker,
    container: &str,
    report: &watch::Sender<Report>,
    job: &Job,
) -> (Option<Exit>, Cgroup) {
    let (engine, name) = (&worker.parts.engine, job.lease.worker());
    let (mut absences, mut lived) = (0, false);
    loop {
        match engine.inspect(container).await {
            Ok(Status::Exited(exit)) => return (Some(exit), emptied(worker, container, report, name).await),
            Ok(Status::Absent) => {
                absences += 1;
                match absent(worker, container, absences, job).await {
                    Ok(cgroup) => return (None, cgroup),
                    Err(why) => trouble(report, format!("On worker {name}, {why}")),
                }
                sleep(RETRY).await;
                continue;
            }
            Err(error) => {
                trouble(report, format!("On worker {name}, {error}"));
                sleep(RETRY).await;
                continue;
            }
            Ok(status @ (Status::Created | Status::Alive)) => {
                absences = 0;
                lived |= status == Status::Alive;
                report.send_if_modified(|report| report.trouble.take().is_some());
            }
        }
        // Its answer says when to look, no more; but that one which had ended lives again is a thing to act on.
        match engine.wait(container).await {
            Ok(_) => {}
            Err(engine::Error::Restarted) if lived => {
                worker.roster.order(job.lease.run(), Order::new(StopMode::Force, Cause::Restarted));
            }
            Err(error) => {
                tracing::debug!(%error, "waiting broke off");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What proves that a container is gone of which the engine knows nothing, `times` in a row by now; or why that is no proof. Nothing
/// is killed for it: an engine may have forgotten what lives.
async fn absent(worker: &Worker, container: &str, times: u32, job: &Job) -> Result<Cgroup, String> {
    match worker.parts.engine.left(container).await {
        Left::Alive(n) => {
            Err(format!("the engine knows nothing of its container, and {n} of its processes live"))
        }
        Left::Unread => {
            Err("the engine knows nothing of its container, and this host couldn't look".to_owned())
        }
        Left::Empty => Ok(Cgroup::Empty),
        Left::Gone => Ok(Cgroup::Gone),
        Left::Unseen if times < ABSENCES => Err("the engine knows nothing of its container".to_owned()),
        Left::Unseen => match worker.is_engine_of(job.engine.as_deref()).await {
            Ok(true) => Ok(Cgroup::Unseen),
            Ok(false) => {
                Err("another container engine answers than the one that it was started on".to_owned())
            }
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Waits until the container's control group is empty, killing what outlived the engine's report.
async fn emptied(worker: &Worker, container: &str, report: &watch::Sender<Report>, name: &str) -> Cgroup {
    let engine = &worker.parts.engine;
    let mut pause = Duration::from_millis(2);
    loop {
        match engine.left(container).await {
            Left::Empty => return Cgroup::Empty,
            Left::Gone => return Cgroup::Gone,
            Left::Unseen => return Cgroup::Unseen,
            Left::Unread => {
                trouble(
                    report,
                    format!("On worker {name}, nobody could look whether it left processes behind."),
                );
            }
            Left::Alive(n) => {
                if pause > Duration::from_millis(100) {
                    trouble(
                        report,
                        format!("On worker {name}, {n} of its processes outlived the container."),
                    );
                }
                if let Err(error) = engine.kill_by_host(container).await {
                    tracing::warn!(container, %error, "what outlived the container can't be killed");
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY);
    }
}

fn trouble(report: &watch::Sender<Report>, text: String) {
    report.send_if_modified(|report| {
        let changed = report.trouble.as_ref() != Some(&text);
        report.trouble = Some(text);
        changed
    });
}
