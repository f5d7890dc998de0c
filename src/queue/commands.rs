//! Commands: a stream per worker, a consumer group that is made anew whenever it is missing.

use std::time::Duration;

use redis::streams::{StreamReadOptions, StreamReadReply};

use super::{Queue, Result, within};
use crate::model::run::{RunId, StopMode};
use crate::model::trace::TraceParent;

/// What a worker is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// A stop was wished; Postgres has the wish.
    Stop(RunId, StopMode),
    /// The same, and the work is to be saved before the first signal.
    SaveAndStop(RunId, StopMode),
    /// Somebody wants to know what a stop would lose.
    Look(RunId),
}

impl Command {
    /// As it lies in the stream.
    fn fields(self) -> Vec<(&'static str, String)> {
        let stop = |run: RunId, mode: StopMode| {
            vec![("do", "stop".to_owned()), ("run", run.to_string()), ("mode", mode.word().to_owned())]
        };
        match self {
            Self::Stop(run, mode) => stop(run, mode),
            Self::SaveAndStop(run, mode) => [stop(run, mode), vec![("save", "yes".to_owned())]].concat(),
            Self::Look(run) => vec![("do", "look".to_owned()), ("run", run.to_string())],
        }
    }

    fn read(field: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let run = field("run")?.parse().ok()?;
        let mode = || field("mode")?.parse().ok();
        Some(match (field("do")?.as_str(), field("save").is_some()) {
            ("stop", false) => Self::Stop(run, mode()?),
            ("stop", true) => Self::SaveAndStop(run, mode()?),
            ("look", _) => Self::Look(run),
            _ => return None,
        })
    }
}

/// A command as it lies in the stream.
#[derive(Debug, Clone)]
pub struct Letter {
    id: String,
    /// What to do; none when it can't be read.
    pub command: Option<Command>,
    /// What it goes on with, when that is traced.
    pub trace: Option<TraceParent>,
}

/// A worker's end of its stream: a connection of its own, since reading blocks it.
pub struct Inbox {
    connection: redis::aio::MultiplexedConnection,
    stream: String,
}

/// Whether a key holds something else than what a command is for (Redis's documentation, "Key types").
fn is_no_stream(error: &redis::RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

const GROUP: &str = "work";
/// The field of a command that says what it goes on with.
const TRACE: &str = "traceparent";
/// How many commands go in one packet.
const PACKET: usize = 250;
/// How long putting many commands on many streams may take, all together.
const MANY_WITHIN: Duration = Duration::from_secs(1);
/// How long a read waits in Redis before it asks again.
const BLOCK: Duration = Duration::from_secs(5);

impl Queue {
    fn commands_key(&self, worker: &str) -> String {
        format!("{}:commands:{worker}", self.prefix)
    }

    /// Puts a command on a worker's stream, with its place in a trace when it has one.
    ///
    /// # Errors
    /// [`super::Unavailable`] when Redis doesn't answer; the worker will find the wish in Postgres.
    pub async fn command(&self, worker: &str, command: Command, trace: Option<TraceParent>) -> Result<()> {
        let mut connection = self.connection().await?;
        let add = self.add(worker, command, trace);
        within(add.query_async::<String>(&mut connection)).await.map(drop)
    }

    fn add(&self, worker: &str, command: Command, trace: Option<TraceParent>) -> redis::Cmd {
        let mut add = redis::cmd("XADD");
        add.arg(self.commands_key(worker)).arg("*").arg(command.fields());
        if let Some(trace) = trace {
            add.arg(TRACE).arg(trace.to_string());
        }
        add
    }

    /// Puts many commands on their workers' streams, a packet at a time, within a second.
    ///
    /// # Errors
    /// [`super::Unavailable`] when Redis doesn't answer, or not in time; the workers will find the wishes in Postgres.
    pub async fn commands(&self, commands: &[(String, Command)], trace: Option<TraceParent>) -> Result<()> {
        let send = async {
            for packet in commands.chunks(PACKET) {
                let mut pipe = redis::pipe();
                for (worker, command) in packet {
                    pipe.add_command(self.add(worker, *command, trace)).ignore();
                }
                let mut connection = self.connection().await?;
                within(pipe.query_async::<()>(&mut connection)).await?;
            }
            Ok(())
        };
        match tokio::time::timeout(MANY_WITHIN, send).await {
            Ok(sent) => sent,
            Err(_) => Err(super::Unavailable(format!("not done within {} ms", MANY_WITHIN.as_millis()))),
        }
    }

    /// How many commands a worker hasn't finished with; none when something lies in their place that is no stream.
    ///
    /// # Errors
    /// [`super::Unavailable`] when Redis doesn't answer.
    pub async fn commands_waiting(&self, worker: &str) -> Result<Option<i64>> {
        let mut connection = self.connection().await?;
        let count = async {
            match redis::cmd("XLEN").arg(self.commands_key(worker)).query_async(&mut connection).await {
                Err(error) if is_no_stream(&error) => Ok(None),
                counted => counted.map(Some),
            }
        };
        within(count).await
    }

    /// Opens a worker's end, and makes the stream and its group if they are missing.
    ///
    /// # Errors
    /// [`super::Unavailable`] when Redis doesn't answer.
    pub async fn inbox(&self, worker: &str) -> Result<Inbox> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(super::DEADLINE))
            .set_response_timeout(Some(BLOCK + Duration::from_secs(1)));
        let connect = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut inbox = Inbox { connection: within(connect).await?, stream: self.commands_key(worker) };
        inbox.make_group().await?;
        Ok(inbox)
    }
}

impl Inbox {
    /// From the stream's beginning, so that commands written while nobody had a group are read too. Whatever else lies under
    /// its name goes: the name is ours, and nothing is kept there that Postgres doesn't know.
    async fn make_group(&mut self) -> Result<()> {
        let mut make = redis::cmd("XGROUP");
        make.arg("CREATE").arg(&self.stream).arg(GROUP).arg("0").arg("MKSTREAM");
        let mut made = make.query_async::<()>(&mut self.connection).await;
        if made.as_ref().is_err_and(is_no_stream) {
            tracing::warn!(
                key = self.stream,
                "something that is no stream lies where commands belong: it is deleted"
            );
            redis::cmd("DEL").arg(&self.stream).query_async::<()>(&mut self.connection).await?;
            made = make.query_async(&mut self.connection).await;
        }
        match made {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The next commands; waits as long as it takes. `again` gives those that were read before and not [`Self::done`],
    /// which is where a worker begins after a restart.
    ///
    /// # Errors
    /// [`super::Unavailable`] when the connection is gone.
    pub async fn next(&mut self, again: bool) -> Result<Vec<Letter>> {
        let options = StreamReadOptions::default().group(GROUP, "worker").count(64);
        let options = if again { options } else { options.block(BLOCK.as_millis() as usize) };
        let from = if again { "0" } else { ">" };
        loop {
            let read = redis::cmd("XREADGROUP")
                .arg(&options)
                .arg("STREAMS")
                .arg(&self.stream)
                .arg(from)
                .query_async::<Option<StreamReadReply>>(&mut self.connection)
                .await;
            match read {
                Err(error) if error.code() == Some("NOGROUP") => self.make_group().await?,
                Err(error) => return Err(error.into()),
                Ok(reply) => {
                    let ids = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
                    let letters: Vec<Letter> = ids.map(Letter::read).collect();
                    if again || !letters.is_empty() {
                        return Ok(letters);
                    }
                }
            }
        }
    }

    /// These commands were taken; they leave the stream.
    ///
    /// # Errors
    /// [`super::Unavailable`] when the connection is gone; the commands will come again, which is harmless.
    pub async fn done(&mut self, letters: &[Letter]) -> Result<()> {
        let ids: Vec<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        redis::pipe()
            .cmd("XACK")
            .arg(&self.stream)
            .arg(GROUP)
            .arg(&ids)
            .ignore()
            .cmd("XDEL")
            .arg(&self.stream)
            .arg(&ids)
            .ignore()
            .query_async::<()>(&mut self.connection)
            .await?;
        Ok(())
    }
}

impl Letter {
    fn read(entry: redis::streams::StreamId) -> Self {
        let field = |name: &str| entry.get::<String>(name);
        let trace = field(TRACE).and_then(|trace| trace.parse().ok());
        Self { command: Command::read(field), trace, id: entry.id.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_were_written() {
        let run = RunId(7);
        for command in [
            Command::Stop(run, StopMode::Force),
            Command::SaveAndStop(run, StopMode::Graceful),
            Command::Look(run),
        ] {
            let fields = command.fields();
            let field =
                |name: &str| fields.iter().find(|(has, _)| *has == name).map(|(_, value)| value.clone());
            assert_eq!(Command::read(field), Some(command));
        }
        assert_eq!(Command::read(|name| (name == "run").then(|| "7".to_owned())), None);
    }
}
