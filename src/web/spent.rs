//! What runs have cost, in words: how much, and by whose word.

use super::show::{count, dollars};
use crate::model::metered::{Cost, Metered, Spent, Tokens};
use crate::model::run::Run;

/// A cost as a list shows it.
pub(crate) fn brief(cost: Cost) -> String {
    match cost {
        Cost::Estimated(usd) | Cost::Metered(usd) => dollars(usd),
        Cost::AtLeast(usd) => format!("≥ {}", dollars(usd)),
    }
}

/// What a run has cost, and who says so; none when nobody does.
pub(crate) fn of_run(run: &Run) -> Option<String> {
    let so_far = if run.state.is_over() { "" } else { " so far" };
    let Some(cost) = run.cost() else {
        return run.metered.as_ref().map(|metered| match tokens(metered) {
            Some(tokens) => {
                format!("{tokens}{so_far}, metered at its gate; what they cost isn’t on the price list")
            }
            None => "not known: its gate couldn’t read what the model API said".to_owned(),
        });
    };
    Some(match cost {
        Cost::Estimated(usd) => format!("{}{so_far}, by the CLI’s estimate", dollars(usd)),
        Cost::Metered(usd) => format!("{}{so_far}, metered at its gate", dollars(usd)),
        Cost::AtLeast(usd) => format!("at least {}{so_far}, metered at its gate", dollars(usd)),
    })
}

/// What the gate has metered of a run, in dollars.
pub(crate) fn metered(metered: &Metered) -> String {
    let cost = Cost::of(None, metered.usd, metered.is_least());
    cost.map_or_else(|| "not on the price list".to_owned(), brief)
}

/// Its tokens; none when none are known.
pub(crate) fn tokens(metered: &Metered) -> Option<String> {
    let all = &metered.tokens;
    let least = if metered.partly { "at least " } else { "" };
    (*all != Tokens::default())
        .then(|| format!("{least}{} tokens in, {} out", count(all.prompt()), count(all.output)))
}

/// What many runs have cost together, and of how many it isn't known; none when there is nothing to say.
pub(crate) fn of_many(spent: &Spent) -> Option<String> {
    let least = if spent.at_least { "at least " } else { "" };
    let unknown = match spent.unknown {
        1 => "of one run it isn’t known".to_owned(),
        n => format!("of {} runs it isn’t known", count(n)),
    };
    match (spent.usd, spent.unknown) {
        (None, 0) => None,
        (None, _) => Some(format!("Spent so far: {unknown}")),
        (Some(usd), 0) => Some(format!("Spent so far: {least}{}", dollars(usd))),
        (Some(usd), _) => Some(format!("Spent so far: {least}{}; {unknown}", dollars(usd))),
    }
}
