//! What the model API's records say of tokens, and for which price.

use serde::Deserialize;

use crate::model::metered::Tokens;

/// The most tokens of a kind that a call can be believed to have taken.
const BELIEVED: u64 = 1 << 32;

/// A record of an answer: an event of a stream, or the whole message. Everything else in it is passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    #[serde(rename = "type")]
    kind: String,
    /// Of a `message_start`.
    message: Option<Message>,
    /// Of a whole message.
    model: Option<String>,
    /// Of a `message_delta` and of a whole message.
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Message {
    model: Option<String>,
    usage: Option<Usage>,
}

/// As the Messages API documents it; in a stream the counts are cumulative.
#[derive(Debug, Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    server_tool_use: Option<ServerTools>,
    service_tier: Option<String>,
    speed: Option<String>,
    inference_geo: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ServerTools {
    web_search_requests: Option<u64>,
}

/// What an answer has said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The model, by the API's own name for it.
    pub(super) model: Option<String>,
    /// What it has taken; none before anything was said of it.
    pub(super) tokens: Option<Tokens>,
    /// It is billed by other prices than the list's.
    pub(super) special: bool,
    /// It has searched the web, which is billed by the search.
    pub(super) searched: bool,
    /// Something of it couldn't be believed.
    pub(super) unbelievable: bool,
    /// How many tokens its answer has was said after its beginning.
    output: bool,
    /// It said that it is over.
    over: bool,
}

impl Said {
    /// Takes in one record.
    pub(super) fn hear(&mut self, record: Record) {
        match (&*record.kind, record.message) {
            ("message_start", Some(message)) => self.usage(message.model, message.usage),
            ("message_delta", _) => {
                self.output |= record.usage.as_ref().is_some_and(|usage| usage.output_tokens.is_some());
                self.usage(None, record.usage);
            }
            ("message_stop", _) => self.over = true,
            ("message", _) => {
                (self.output, self.over) = (true, true);
                self.usage(record.model, record.usage);
            }
            _ => {}
        }
    }

    /// Whether all that there was to say was said.
    pub(super) fn is_whole(&self) -> bool {
        self.over && self.output && self.model.is_some() && self.tokens.is_some()
    }

    fn usage(&mut self, model: Option<String>, usage: Option<Usage>) {
        if self.model.is_none() {
            self.model = model;
        }
        let Some(usage) = usage else { return };
        self.special |= usage.is_special();
        let searches = usage.server_tool_use.as_ref().and_then(|tools| tools.web_search_requests);
        self.searched |= searches.is_some_and(|count| count > 0);
        let before = self.tokens.unwrap_or_default();
        let counted = usage.tokens(&before);
        self.unbelievable |= counted.is_none();
        // Cumulative, so that the larger one counts.
        self.tokens = counted.map(|tokens| before.with(&tokens, i64::max)).or(self.tokens);
    }
}

impl Usage {
    /// Its tokens; none when they can't be.
    fn tokens(&self, before: &Tokens) -> Option<Tokens> {
        let believed = |count: Option<u64>| {
            let count = count.unwrap_or_default();
            i64::try_from(count).ok().filter(|_| count <= BELIEVED)
        };
        let split = self.cache_creation.as_ref();
        let written_1h = believed(split.and_then(|split| split.ephemeral_1h_input_tokens))?;
        let written_5m = believed(split.and_then(|split| split.ephemeral_5m_input_tokens))?;
        let written = believed(self.cache_creation_input_tokens)?;
        let known_1h = written_1h.max(before.cache_write_1h);
        Some(Tokens {
            input: believed(self.input_tokens)?,
            // What isn't said to be kept for an hour is kept for five minutes, which is what the API does unasked.
            cache_write: written_5m.max(written - known_1h).max(0),
            cache_write_1h: written_1h,
            cache_read: believed(self.cache_read_input_tokens)?,
            output: believed(self.output_tokens)?,
        })
    }

    /// Another tier, the fast mode, or a place that is charged for.
    fn is_special(&self) -> bool {
        let other = |word: &Option<String>, plain: &[&str]| {
            word.as_deref().is_some_and(|word| !plain.contains(&word))
        };
        other(&self.service_tier, &["", "standard"])
            || other(&self.speed, &["", "standard"])
            || other(&self.inference_geo, &["", "global", "not_available"])
    }
}
