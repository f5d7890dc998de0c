//! The beginning: a container is started, or the one that a former life started is found.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{RETRY, Supervisor};
use crate::clock;
use crate::engine::{self, Cell, Found, Left, Stage};
use crate::model::run::StopMode;
use crate::worker::notes;
use crate::worker::roster::Order;
use crate::worker::verdict::Cause;

/// What became of the attempt to have a container.
pub(super) enum Container {
    /// It is there: alive, or over already.
    There(String),
    /// It never started, and the engine has confirmed that there is none; why.
    NeverStarted(String),
    /// It was there once, and the engine says it isn't any more.
    Gone,
    /// The host killed it while the engine was starting it; the engine has nothing of it left.
    KilledInStart(String),
}

impl Supervisor<'_> {
    /// Starts the container, or finds the one that a former life started.
    pub(super) async fn container(&mut self, dir: &Path) -> Container {
        let Some(token) = &self.job.token else { return self.find(dir).await };
        if let Some(order) = self.order() {
            self.obey(order);
            return Container::NeverStarted("Stopped before it started.".into());
        }
        if self.worker.gates.are_closed() {
            return Container::NeverStarted("The red handle is pulled.".into());
        }
        let cell = Cell {
            run: self.job.lease.run().0,
            fence: self.job.lease.fence(),
            image: self.job.agent.image.clone().unwrap_or_else(|| self.worker.parts.settings.image.clone()),
            model: self.job.agent.model.clone(),
            limits: self.job.agent.limits,
            gate_dir: dir.to_owned(),
            gate_token: token.clone(),
        };
        // A worker that was frozen between the claim and here has no right to the run any more.
        if !self.worker.roster.holds(self.job.lease.run(), self.worker.parts.times.fence) {
            return Container::NeverStarted("Its worker had lost the lease before the start.".into());
        }
        // The first look is for a `stop-all` that came since the claim, the second for one that found nothing to kill yet.
        if let Some(why) = notes::forbids(self.worker) {
            return Container::NeverStarted(why);
        }
        let (started, killed) = self.start(&cell).await;
        if notes::forbids(self.worker).is_some() {
            let order = Order::new(StopMode::Force, Cause::StopAll);
            self.worker.roster.order(self.job.lease.run(), order);
        }
        match started {
            Ok(container) => {
                self.worker.starts.worked(self.job.lease.run());
                Container::There(container)
            }
            Err(error) => self.not_started(dir, &error, killed).await,
        }
    }

    /// The engine hasn't started it: what became of it. What another try wouldn't help is the run's end; anything else
    /// may pass, so the run is given back, and the engine left alone for a while.
    async fn not_started(&mut self, dir: &Path, error: &engine::Error, killed: Option<String>) -> Container {
        let run = self.job.lease.run();
        tracing::warn!(%run, %error, "the container didn't start");
        let why = failure(error);
        let last = match error {
            engine::Error::Refused(_) => Some(error.to_string()),
            _ => self.worker.starts.failed(run, &why, Instant::now()).map(|given_up| {
                let (tries, minutes) = (given_up.tries, given_up.within.as_secs() / 60);
                format!("{why}; it was tried {tries} times within {minutes} minutes")
            }),
        };
        match (self.find(dir).await, killed, last) {
            // It did start, so it is never given back to the queue.
            (Container::NeverStarted(_) | Container::Gone, Some(killed), _) => {
                Container::KilledInStart(killed)
            }
            (Container::NeverStarted(_), None, Some(why)) => {
                self.refused(&why).await;
                Container::NeverStarted(String::new())
            }
            (Container::NeverStarted(_) | Container::Gone, None, _) => {
                Container::NeverStarted(format!("On worker {}, {why}", self.worker.name()))
            }
            (Container::There(container), ..) => {
                self.worker.starts.worked(run);
                Container::There(container)
            }
            (killed @ Container::KilledInStart(_), ..) => killed,
        }
    }

    /// Has the engine start the container. When a stop comes while it hangs over that, the host looks for what has come to
    /// life already, and kills it; which container that was comes second.
    async fn start(&self, cell: &Cell) -> (engine::Result<String>, Option<String>) {
        let engine = self.engine();
        let (mut killed, began) = (None, Instant::now());
        let mut starting = engine.start(cell);
        loop {
            tokio::select! {
                started = &mut starting => return (started, killed),
                () = sleep(RETRY) => {
                    // A graceful stop has its own rungs as soon as the engine answers; one that hangs must not keep it waiting.
                    let due = self.order().is_some_and(|order| {
                        order.mode == StopMode::Force || began.elapsed() > engine::DEADLINE
                    });
                    if due && let Ok(Some(container)) = engine.find_by_host(&cell.gate_dir).await {
                        match engine.kill_by_host(&container).await {
                            Ok(()) => self.report.send_modify(|report| {
                                report.progress.host_killed_at.get_or_insert_with(clock::now);
                            }),
                            Err(error) => {
                                tracing::warn!(run = cell.run, %error, "what is being started can't be killed");
                            }
                        }
                        killed = Some(container);
                    }
                }
            }
        }
    }

    /// Asks the engine, until it answers, what became of this run's container. One that was made and never started is
    /// removed; nothing is said of it before it is gone.
    pub(super) async fn find(&mut self, dir: &Path) -> Container {
        let run = self.job.lease.run().0;
        let mut obeyed = false;
        let mut round = self.job.round;
        loop {
            if let Some(order) = self.order().filter(|_| !obeyed) {
                self.obey(order);
                obeyed = true;
            }
            let since = round.take().unwrap_or_else(Instant::now);
            let found = match self.worker.listing.since(since, self.engine()).await {
                Ok(found) => found.iter().find(|found| found.run == run).cloned(),
                Err(error) => {
                    self.troubled(&error, Instant::now() + RETRY);
                    // What is to be stopped isn't left alone until the engine answers again: this host may see it.
                    if obeyed && let Ok(Some(container)) = self.engine().find_by_host(dir).await {
                        return Container::There(container);
                    }
                    self.pause(RETRY, obeyed).await;
                    continue;
                }
            };
            self.calm();
            match found {
                Some(Found { container, stage: Stage::Created, .. }) => {
                    if let Err(error) = self.engine().remove(&container).await {
                        tracing::warn!(run, %error, "a container that never started can't be removed");
                        self.troubled(&error, Instant::now() + RETRY);
                        self.pause(RETRY, obeyed).await;
                    } else if let Left::Alive(_) = self.engine().left(&container).await {
                        // The engine has lost sight of what it had started.
                        return Container::KilledInStart(container);
                    }
                }
                Some(Found { container, .. }) => return Container::There(container),
                None => match self.unlisted(dir).await {
                    Ok(container) => return container,
                    Err(error) => {
                        self.troubled(&error, Instant::now() + RETRY);
                        self.pause(RETRY, obeyed).await;
                    }
                },
            }
        }
    }

    /// What it means that the engine lists no container: nothing, as long as its processes can be seen, or when it isn't the
    /// engine that the run was claimed for.
    async fn unlisted(&self, dir: &Path) -> engine::Result<Container> {
        if let Some(container) = self.engine().find_by_host(dir).await? {
            return Ok(Container::There(container));
        }
        if !self.worker.is_engine_of(self.job.engine.as_deref()).await? {
            return Err(engine::Error::Unavailable("another one answers in its place".into()));
        }
        Ok(match self.job.ran {
            Some(_) => Container::Gone,
            None => Container::NeverStarted("The worker was restarted before the start.".into()),
        })
    }

    /// Sleeps, but not through a new order.
    pub(super) async fn pause(&mut self, pause: Duration, obeyed: bool) {
        if obeyed {
            sleep(pause).await;
        } else {
            tokio::select! { () = sleep(pause) => {}, _ = self.orders.changed() => {} }
        }
    }

    pub(super) fn troubled(&self, error: &engine::Error, next: Instant) {
        let text = format!("On worker {}, {error}", self.job.lease.worker());
        let next_at = clock::now() + next.saturating_duration_since(Instant::now());
        let stopping = self.order().is_some();
        self.report.send_if_modified(|report| {
            if stopping {
                report.progress.trouble = Some(text);
                report.progress.next_at = Some(next_at);
            } else if report.trouble.as_ref() != Some(&text) {
                report.trouble = Some(text);
            } else {
                return false;
            }
            true
        });
    }

    pub(super) fn calm(&self) {
        self.report.send_if_modified(|report| {
            let had = report.trouble.take().is_some();
            report.progress.trouble.take().is_some() || had
        });
    }
}

/// A failed start in words that also fit runs which weren't tried.
fn failure(error: &engine::Error) -> String {
    match error {
        engine::Error::Unavailable(why) => format!("the container engine failed to start a run: {why}"),
        other => other.to_string(),
    }
}
