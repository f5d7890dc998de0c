//! The model API's list prices. What isn't on the list has no price here; there is no guessing.
//!
//! From Anthropic's public price list, <https://platform.claude.com/docs/en/about-claude/pricing>, as it was in November 2026.

use super::metered::Tokens;

/// Dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    input: f64,
    cache_write: f64,
    cache_write_1h: f64,
    cache_read: f64,
    output: f64,
}

impl Price {
    /// In the order of the list's columns.
    const fn new(input: f64, cache_write: f64, cache_write_1h: f64, cache_read: f64, output: f64) -> Self {
        Self { input, cache_write, cache_write_1h, cache_read, output }
    }

    /// The price of a call of `model`, by the name that the model API gives, with a prompt of so many tokens.
    pub fn of(model: &str, prompt: i64) -> Option<Self> {
        let name = undated(model.strip_prefix("claude-")?);
        let row = LIST.iter().find(|(names, longest, _)| names.contains(&name) && prompt <= *longest)?;
        Some(row.2)
    }

    /// What these tokens cost, in dollars.
    pub fn usd(&self, tokens: &Tokens) -> f64 {
        let parts = [
            (self.input, tokens.input),
            (self.cache_write, tokens.cache_write),
            (self.cache_write_1h, tokens.cache_write_1h),
            (self.cache_read, tokens.cache_read),
            (self.output, tokens.output),
        ];
        parts.into_iter().map(|(price, count)| price * count as f64).sum::<f64>() / 1e6
    }
}

/// Any prompt that fits.
const ANY: i64 = i64::MAX;

/// Names without `claude-`, the longest prompt that the price is for, and the price.
const LIST: &[(&[&str], i64, Price)] = &[
    (&["fable-5-1", "mythos-5-1"], ANY, Price::new(10.0, 12.5, 20.0, 0.25, 50.0)),
    (&["fable-5", "mythos-5"], ANY, Price::new(10.0, 12.5, 20.0, 1.0, 50.0)),
    (&["opus-5-5"], ANY, Price::new(4.0, 5.0, 8.0, 0.2, 20.0)),
    (
        &["opus-5", "opus-4-8", "opus-4-7", "opus-4-6", "opus-4-5"],
        ANY,
        Price::new(5.0, 6.25, 10.0, 0.5, 25.0),
    ),
    (&["opus-4-1", "opus-4"], ANY, Price::new(15.0, 18.75, 30.0, 1.5, 75.0)),
    (&["sonnet-5-5"], ANY, Price::new(2.0, 2.5, 4.0, 0.1, 10.0)),
    (&["sonnet-5"], ANY, Price::new(2.0, 2.5, 4.0, 0.2, 10.0)),
    (&["sonnet-4-6"], ANY, Price::new(3.0, 3.75, 6.0, 0.3, 15.0)),
    // A longer prompt has had another price at times.
    (&["sonnet-4-5", "sonnet-4"], 200_000, Price::new(3.0, 3.75, 6.0, 0.3, 15.0)),
    (&["haiku-5-5"], 100_000, Price::new(0.1, 0.125, 0.2, 0.01, 0.5)),
    (&["haiku-5-5"], ANY, Price::new(0.5, 0.625, 1.0, 0.05, 2.5)),
    (&["haiku-4-5"], ANY, Price::new(1.0, 1.25, 2.0, 0.1, 5.0)),
];

/// A model's name without the day of its snapshot: `opus-4-5-20251101` is an `opus-4-5`.
fn undated(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((rest, day)) if day.len() == 8 && day.bytes().all(|c| c.is_ascii_digit()) => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(model: &str, tokens: Tokens) -> Option<f64> {
        Price::of(model, tokens.prompt()).map(|price| price.usd(&tokens))
    }

    #[test]
    fn the_price_is_what_the_cli_reckons_for_the_same_tokens() {
        // `total_cost_usd` and `usage` of tests/samples/answer.jsonl and tool.jsonl.
        let answer = Tokens { input: 247, cache_write: 12_349, output: 52, ..Tokens::default() };
        assert!((usd("claude-opus-5-5", answer).unwrap() - 0.063773).abs() < 1e-9);
        let tool =
            Tokens { input: 497, cache_write: 12_349, cache_read: 12_203, output: 35, ..Tokens::default() };
        assert!((usd("claude-opus-5-5", tool).unwrap() - 0.0668736).abs() < 1e-9);
    }

    #[test]
    fn each_kind_has_its_price() {
        let million = 1_000_000;
        let none = Tokens::default;
        for (tokens, dollars) in [
            (Tokens { input: million, ..none() }, 1.0),
            (Tokens { cache_write: million, ..none() }, 1.25),
            (Tokens { cache_write_1h: million, ..none() }, 2.0),
            (Tokens { cache_read: million, ..none() }, 0.1),
            (Tokens { output: million, ..none() }, 5.0),
        ] {
            assert_eq!(usd("claude-haiku-4-5-20251001", tokens), Some(dollars));
        }
    }

    #[test]
    fn a_model_that_is_not_on_the_list_has_no_price() {
        for unknown in
            ["", "claude-", "claude-opus", "claude-opus-6", "opus-5-5", "claude-opus-5-5-x", "gpt-4"]
        {
            assert_eq!(Price::of(unknown, 1), None, "{unknown}");
        }
        assert_eq!(Price::of("claude-opus-4-20250514", 1), Price::of("claude-opus-4-1", 1));
        assert_ne!(Price::of("claude-opus-4-5-20251101", 1), Price::of("claude-opus-4-20250514", 1));
    }

    #[test]
    fn a_long_prompt_may_have_another_price_or_none() {
        assert_ne!(Price::of("claude-haiku-5-5", 100_000), Price::of("claude-haiku-5-5", 100_001));
        assert!(Price::of("claude-sonnet-4-5", 200_000).is_some());
        assert_eq!(Price::of("claude-sonnet-4-5", 200_001), None);
    }
}
