//! A container's output, followed to its end, and made whole where the engine cut it short.

use bollard::container::LogOutput;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{DEADLINE, Docker, Engine, Error, Logs, Output, Result, SILENCE, Status, said};

/// A log longer than this isn't read a second time.
const AGAIN_MAX: usize = 64 * 1024 * 1024;

/// A container's output on its way.
pub(super) struct Following {
    docker: Docker,
    container: String,
    logs: Option<Logs>,
    /// How many bytes of each stream were given.
    given: Amount,
    /// Once the container is over and its log is read again: how many bytes of each are still to be passed over.
    again: Option<Amount>,
}

/// So many bytes of standard output and of standard error.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    stdout: usize,
    stderr: usize,
}

impl Following {
    /// The output of this container, from its first byte on.
    pub(super) fn of(docker: &Docker, container: &str) -> Self {
        let (docker, container) = (docker.clone(), container.to_owned());
        Self { docker, container, logs: None, given: Amount::default(), again: None }
    }

    /// The next piece. After an error there is none: whoever wants more starts again from the first byte.
    pub(super) async fn next(following: Option<Self>) -> Option<(Result<Output>, Option<Self>)> {
        let mut following = following?;
        match following.piece().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(following))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }

    async fn piece(&mut self) -> Result<Option<Output>> {
        let mut over = false;
        loop {
            let logs = match &mut self.logs {
                Some(logs) => logs,
                none => none.insert(self.docker.logs(&self.container, self.again.is_none()).await?),
            };
            match timeout(SILENCE, logs.next()).await {
                Ok(Some(Ok(LogOutput::StdOut { message }))) => {
                    if let Some(fresh) = self.fresh(message, |bytes| &mut bytes.stdout) {
                        return Ok(Some(Output::Stdout(fresh)));
                    }
                }
                Ok(Some(Ok(LogOutput::StdErr { message }))) => {
                    if let Some(fresh) = self.fresh(message, |bytes| &mut bytes.stderr) {
                        return Ok(Some(Output::Stderr(fresh)));
                    }
                }
                Ok(Some(Ok(_))) => return Err(Error::Unavailable("its log can't be read".to_owned())),
                Ok(Some(Err(error))) => return Err(said(error)),
                Ok(None) if self.again.is_some() => return Ok(None),
                Ok(None) if self.is_whole().await? => return Ok(None),
                // A followed log has been seen to end before all was read that the container had written.
                Ok(None) => (self.again, self.logs) = (Some(self.given), None),
                // An engine has been seen to follow the log of a container that was over, for ever.
                Err(_) if over => return Err(Error::Unavailable("its log doesn't end".to_owned())),
                Err(_) => over = matches!(self.docker.inspect(&self.container).await, Ok(Status::Exited(_))),
            }
        }
    }

    /// What of a piece wasn't given yet.
    fn fresh(&mut self, mut message: Bytes, of: fn(&mut Amount) -> &mut usize) -> Option<Bytes> {
        if let Some(passing) = self.again.as_mut().map(of) {
            let passed = message.split_to((*passing).min(message.len()));
            *passing -= passed.len();
        }
        *of(&mut self.given) += message.len();
        (!message.is_empty()).then_some(message)
    }

    /// Whether nothing more can come of a followed log that has ended: there is none any more, or it is too long to be read
    /// again. An engine that shuts down ends its answers properly too, so the container must be over.
    async fn is_whole(&mut self) -> Result<bool> {
        match timeout(DEADLINE, self.docker.wait(&self.container)).await {
            Ok(Ok(_)) => Ok(self.given.stdout + self.given.stderr > AGAIN_MAX),
            Ok(Err(Error::Absent)) => Ok(true),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Unavailable("its log ended before the container".to_owned())),
        }
    }
}
