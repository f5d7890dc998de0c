//! A reply in the Messages API's own shapes: as a stream of events, or whole.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;

use crate::record::Entry;
use crate::script::{Cue, Speech};

/// Everything about a reply but the words.
pub(crate) struct Reply {
    pub id: String,
    pub model: String,
    /// Size of the request; what it costs is reckoned from it.
    pub request_bytes: usize,
    /// Whether an earlier request of the conversation has filled the prompt cache.
    pub cached: bool,
    /// Makes the ids of tool calls differ from turn to turn.
    pub call_prefix: String,
    pub cues: Vec<Cue>,
}

/// What goes to the client: bytes, or the error that breaks the connection.
pub(crate) type Chunk = io::Result<Bytes>;

/// A token is about four characters of English.
const BYTES_A_TOKEN: usize = 4;

impl Reply {
    /// Sends the reply event by event. Ends early when the client goes away.
    pub(crate) async fn stream(self, to: Sender<Chunk>, mut entry: Entry) {
        let mut teller = Teller { to, entry: &mut entry, block: 0, letters: 0 };
        if let Ok(ending) = teller.tell(&self).await {
            entry.ends(ending);
        }
    }

    /// The reply as one message, after as long as streaming it would take; `None` when it is cut.
    pub(crate) async fn whole(&self) -> Option<Value> {
        let mut content = Vec::new();
        let mut letters = 0;
        for cue in &self.cues {
            tokio::time::sleep(cue.length()).await;
            match cue {
                Cue::Cut => return None,
                Cue::Text(speech) => content.push(json!({ "type": "text", "text": speech.full() })),
                Cue::Think(speech) => content.push(json!({
                    "type": "thinking", "thinking": speech.full(), "signature": SIGNATURE })),
                Cue::Tool { name, input } => content.push(self.call(content.len(), name, input)),
                _ => {}
            }
            letters += cue.letters();
        }
        let mut message = self.message(&content);
        let (reason, details) = self.stop();
        message["stop_reason"] = reason.into();
        message["stop_details"] = details;
        message["usage"] = self.usage(letters);
        Some(message)
    }

    fn message(&self, content: &[Value]) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": null, "stop_sequence": null, "usage": self.usage(0),
        })
    }

    fn call(&self, index: usize, name: &str, input: &Value) -> Value {
        let id = format!("toolu_{}_{index}", self.call_prefix);
        json!({ "type": "tool_use", "id": id, "name": name, "input": input })
    }

    fn usage(&self, letters: usize) -> Value {
        let prompt = self.request_bytes / BYTES_A_TOKEN;
        // Nearly all of a prompt is the same from turn to turn.
        let fresh = prompt / 50 + 1;
        let (read, written) = if self.cached { (prompt - fresh, 0) } else { (0, prompt) };
        json!({
            "input_tokens": fresh, "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read, "output_tokens": letters / BYTES_A_TOKEN + 1,
            "service_tier": "standard",
        })
    }

    fn stop(&self) -> (String, Value) {
        let told = self.cues.iter().find_map(|cue| match cue {
            Cue::Stop { reason, details } => Some((reason.clone(), details.clone().unwrap_or_default())),
            _ => None,
        });
        let calls = self.cues.iter().any(|cue| matches!(cue, Cue::Tool { .. }));
        told.unwrap_or_else(|| (if calls { "tool_use" } else { "end_turn" }.to_owned(), Value::Null))
    }
}

/// A client that went away is noticed within twice this time.
const PING_EVERY: Duration = Duration::from_millis(250);

/// Thinking is signed by the real API; nobody checks it here.
const SIGNATURE: &str = "c3RhbmQtaW4=";

/// The client went away.
struct Gone;

struct Teller<'a> {
    to: Sender<Chunk>,
    entry: &'a mut Entry,
    block: usize,
    letters: usize,
}

impl Teller<'_> {
    async fn tell(&mut self, reply: &Reply) -> Result<&'static str, Gone> {
        self.event(json!({ "type": "message_start", "message": reply.message(&[]) })).await?;
        self.event(json!({ "type": "ping" })).await?;
        for cue in &reply.cues {
            match cue {
                Cue::Text(speech) => {
                    self.speak(json!({ "type": "text", "text": "" }), "text", speech, None).await?;
                }
                Cue::Think(speech) => {
                    let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                    self.speak(block, "thinking", speech, Some(SIGNATURE)).await?;
                }
                Cue::Tool { name, input } => self.call(reply.call(self.block, name, input)).await?,
                Cue::Ping { times, pace } => {
                    for _ in 0..*times {
                        self.event(json!({ "type": "ping" })).await?;
                        self.wait(*pace).await?;
                    }
                }
                Cue::Pause(length) => self.wait(*length).await?,
                Cue::Cut => {
                    let broken = io::Error::new(io::ErrorKind::ConnectionReset, "cut by the scenario");
                    self.to.send(Err(broken)).await.map_err(|_| Gone)?;
                    return Ok("cut");
                }
                Cue::Error { .. } | Cue::Stop { .. } => {}
            }
        }
        let (reason, details) = reply.stop();
        let mut delta = json!({ "stop_reason": reason, "stop_sequence": null });
        if !details.is_null() {
            delta["stop_details"] = details;
        }
        let usage = reply.usage(self.letters);
        self.event(json!({ "type": "message_delta", "delta": delta, "usage": usage })).await?;
        self.event(json!({ "type": "message_stop" })).await?;
        Ok("whole")
    }

    async fn speak(
        &mut self,
        block: Value,
        kind: &str,
        speech: &Speech,
        signature: Option<&str>,
    ) -> Result<(), Gone> {
        self.open(block).await?;
        for _ in 0..speech.times {
            for piece in speech.pieces() {
                self.letters += piece.len();
                self.delta(json!({ "type": format!("{kind}_delta"), kind: piece })).await?;
                self.dawdle(speech.pace).await?;
            }
        }
        if let Some(signature) = signature {
            self.delta(json!({ "type": "signature_delta", "signature": signature })).await?;
        }
        self.close().await
    }

    async fn call(&mut self, mut call: Value) -> Result<(), Gone> {
        let input = std::mem::replace(&mut call["input"], json!({})).to_string();
        self.letters += input.len();
        self.open(call).await?;
        self.delta(json!({ "type": "input_json_delta", "partial_json": input })).await?;
        self.close().await
    }

    async fn open(&mut self, block: Value) -> Result<(), Gone> {
        let index = self.block;
        self.event(json!({ "type": "content_block_start", "index": index, "content_block": block })).await
    }

    async fn delta(&mut self, delta: Value) -> Result<(), Gone> {
        self.event(json!({ "type": "content_block_delta", "index": self.block, "delta": delta })).await
    }

    async fn close(&mut self) -> Result<(), Gone> {
        let index = self.block;
        self.block += 1;
        self.event(json!({ "type": "content_block_stop", "index": index })).await
    }

    async fn event(&mut self, event: Value) -> Result<(), Gone> {
        let name = event["type"].as_str().unwrap_or_default();
        let text = format!("event: {name}\ndata: {event}\n\n");
        self.entry.sent(text.len());
        self.to.send(Ok(text.into())).await.map_err(|_| Gone)
    }

    /// Waits, with a ping now and then: only a write tells that the client went away.
    async fn dawdle(&mut self, mut length: Duration) -> Result<(), Gone> {
        while length > PING_EVERY {
            self.wait(PING_EVERY).await?;
            self.event(json!({ "type": "ping" })).await?;
            length -= PING_EVERY;
        }
        self.wait(length).await
    }

    async fn wait(&self, length: Duration) -> Result<(), Gone> {
        if length.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(length) => Ok(()),
            () = self.to.closed() => Err(Gone),
        }
    }
}

impl Speech {
    fn pieces(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.words.as_str();
        std::iter::from_fn(move || {
            let end = rest.char_indices().nth(self.chunk).map_or(rest.len(), |(at, _)| at);
            let (piece, after) = rest.split_at(end);
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    }

    fn full(&self) -> String {
        self.words.repeat(usize::try_from(self.times).unwrap_or(0))
    }

    fn length(&self) -> Duration {
        let events = self.pieces().count() as u64 * self.times;
        self.pace.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX))
    }
}

impl Cue {
    fn length(&self) -> Duration {
        match self {
            Self::Text(speech) | Self::Think(speech) => speech.length(),
            Self::Ping { times, pace } => pace.saturating_mul(u32::try_from(*times).unwrap_or(u32::MAX)),
            Self::Pause(length) => *length,
            _ => Duration::ZERO,
        }
    }

    fn letters(&self) -> usize {
        match self {
            Self::Text(speech) | Self::Think(speech) => {
                speech.words.len() * usize::try_from(speech.times).unwrap_or(0)
            }
            Self::Tool { input, .. } => input.to_string().len(),
            _ => 0,
        }
    }
}
