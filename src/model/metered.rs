//! What a run has cost: by what its gate has metered, and by the CLI's own word.

/// Tokens of one kind of price each, as the model API counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, neither read from the cache nor written to it.
    pub input: i64,
    /// Written to the cache for five minutes.
    pub cache_write: i64,
    /// Written to the cache for an hour.
    pub cache_write_1h: i64,
    /// Read from the cache.
    pub cache_read: i64,
    /// Of the answer.
    pub output: i64,
}

impl Tokens {
    /// All of the prompt, whatever its price.
    pub fn prompt(&self) -> i64 {
        let parts = [self.input, self.cache_write, self.cache_write_1h, self.cache_read];
        parts.into_iter().fold(0, i64::saturating_add)
    }

    /// Each kind by itself, from two of these.
    #[must_use]
    pub fn with(&self, other: &Self, each: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            input: each(self.input, other.input),
            cache_write: each(self.cache_write, other.cache_write),
            cache_write_1h: each(self.cache_write_1h, other.cache_write_1h),
            cache_read: each(self.cache_read, other.cache_read),
            output: each(self.output, other.output),
        }
    }
}

/// What one call of the model has taken so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Taken {
    /// Its tokens.
    pub tokens: Tokens,
    /// What they cost; none where no list price is known.
    pub usd: Option<f64>,
}

/// What the gate of a run has metered so far, over all its lives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metered {
    /// Calls of the model.
    pub calls: i64,
    /// What they took together.
    pub tokens: Tokens,
    /// Dollars, by list price; none while no call had one.
    pub usd: Option<f64>,
    /// Not all that was said of them could be read: they took at least this much.
    pub partly: bool,
    /// Some of it has no list price: it cost at least this much.
    pub unpriced: bool,
}

impl Metered {
    /// Whether it cost more than is counted here, by an amount that isn't known.
    pub fn is_least(&self) -> bool {
        self.partly || self.unpriced
    }

    /// Counts what a call has taken by `now`; `before` is what was counted of it already, none the first time.
    pub fn count(&mut self, before: Option<&Taken>, now: &Taken) {
        self.calls = self.calls.saturating_add(i64::from(before.is_none()));
        let before = before.copied().unwrap_or_default();
        let more = now.tokens.with(&before.tokens, i64::saturating_sub);
        self.tokens = self.tokens.with(&more, i64::saturating_add);
        if let Some(usd) = now.usd {
            let more = usd - before.usd.unwrap_or_default();
            self.usd = Some(self.usd.unwrap_or_default() + more);
        }
    }
}

/// What a run had taken by then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When.
    pub at: time::OffsetDateTime,
    /// Dollars, by list price; none while no call had one.
    pub usd: Option<f64>,
    /// Tokens of prompts.
    pub tokens_in: i64,
    /// Tokens of answers.
    pub tokens_out: i64,
}

/// What a run has cost in US dollars, and who says so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cost {
    /// The CLI's estimate.
    Estimated(f64),
    /// Metered at the gate, by list price.
    Metered(f64),
    /// Metered at the gate, and something more that isn't known.
    AtLeast(f64),
}

/// Two who add up the same calls may be this far apart.
const ROUNDED: f64 = 1.0 - 1e-6;

impl Cost {
    /// The CLI's word where it has one, else the meter's; none where nobody knows. What an agent runs in can write the CLI's
    /// word, so it may claim more than its gate saw, and not less.
    pub fn of(estimated: Option<f64>, metered: Option<f64>, at_least: bool) -> Option<Self> {
        let less = |usd: f64| metered.is_some_and(|metered| usd < metered * ROUNDED);
        let metered = metered.map(if at_least { Self::AtLeast } else { Self::Metered });
        estimated.filter(|usd| !less(*usd)).map(Self::Estimated).or(metered)
    }

    /// The number.
    pub fn usd(self) -> f64 {
        match self {
            Self::Estimated(usd) | Self::Metered(usd) | Self::AtLeast(usd) => usd,
        }
    }
}

/// What many runs have cost together, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Dollars of those of which it is known; none when it is of none.
    pub usd: Option<f64>,
    /// Whether some of these cost more, by an amount that isn't known.
    pub at_least: bool,
    /// Of how many that were taken by a worker it isn't known at all.
    pub unknown: i64,
}

impl Spent {
    /// One more run, which a worker has taken.
    pub fn add(&mut self, cost: Option<Cost>) {
        match cost {
            Some(cost) => {
                self.usd = Some(self.usd.unwrap_or_default() + cost.usd());
                self.at_least |= matches!(cost, Cost::AtLeast(_));
            }
            None => self.unknown += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(output: i64, usd: Option<f64>) -> Taken {
        Taken { tokens: Tokens { input: 10, output, ..Tokens::default() }, usd }
    }

    #[test]
    fn a_call_counts_once_however_often_it_says_more() {
        let mut metered = Metered::default();
        metered.count(None, &taken(1, Some(0.25)));
        metered.count(Some(&taken(1, Some(0.25))), &taken(7, Some(0.75)));
        metered.count(None, &taken(2, None));
        assert_eq!((metered.calls, metered.tokens.input, metered.tokens.output), (2, 20, 9));
        assert_eq!(metered.usd, Some(0.75), "what has no price adds nothing");
    }

    #[test]
    fn what_has_no_price_costs_no_nought() {
        let mut metered = Metered::default();
        metered.count(None, &taken(2, None));
        assert_eq!((metered.calls, metered.usd), (1, None));
    }

    #[test]
    fn sums_do_not_overflow() {
        let mut metered = Metered::default();
        for _ in 0..3 {
            metered.count(None, &taken(i64::MAX, None));
        }
        assert_eq!(metered.tokens.output, i64::MAX);
        let most = Tokens { input: i64::MAX, cache_read: 1, ..Tokens::default() };
        assert_eq!(most.prompt(), i64::MAX);
    }

    #[test]
    fn the_clis_word_comes_before_the_meters() {
        assert_eq!(Cost::of(Some(0.5), Some(0.4), true), Some(Cost::Estimated(0.5)));
        assert_eq!(Cost::of(Some(0.3), Some(0.1 + 0.2), false), Some(Cost::Estimated(0.3)));
        assert_eq!(Cost::of(Some(0.0), Some(0.4), false), Some(Cost::Metered(0.4)), "a claim of less");
        assert_eq!(Cost::of(None, Some(0.4), false), Some(Cost::Metered(0.4)));
        assert_eq!(Cost::of(None, Some(0.4), true).map(Cost::usd), Some(0.4));
        assert_eq!(Cost::of(None, None, true), None);
    }

    #[test]
    fn what_is_not_known_of_some_is_no_nought() {
        let mut spent = Spent::default();
        spent.add(None);
        assert_eq!((spent.usd, spent.unknown), (None, 1));
        for cost in [Cost::Estimated(0.5), Cost::AtLeast(0.25)] {
            spent.add(Some(cost));
        }
        assert_eq!(spent, Spent { usd: Some(0.75), at_least: true, unknown: 1 });
    }
}
