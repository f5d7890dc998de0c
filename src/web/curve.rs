//! How what a run took grew: two small curves, drawn here as SVG.

use std::fmt::Write as _;

use time::OffsetDateTime;

use super::show::{Moment, count, dollars, span};
use crate::model::metered::Point;

/// The size of a curve, in its own units.
pub(crate) const WIDTH: f64 = 240.0;
pub(crate) const HEIGHT: f64 = 56.0;

/// A curve.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    /// What it ends at.
    pub(crate) value: String,
    /// What it shows, in words.
    pub(crate) words: String,
    /// The `d` of its line, and of what lies under it.
    pub(crate) line: String,
    pub(crate) under: String,
    /// How long it is.
    pub(crate) span: String,
}

/// The curves of a run that has begun then; none while there is nothing to be seen of them.
pub(crate) fn curves(points: &[Point], began: Option<OffsetDateTime>) -> Vec<Curve> {
    let (Some(began), Some(last)) = (began, points.last()) else { return Vec::new() };
    if points.len() < 2 {
        return Vec::new();
    }
    let span = span(Moment::new(began, last.at).age());
    let draw = |id, name, read: fn(&Point) -> Option<f64>, write: fn(f64) -> String| {
        let points: Vec<(OffsetDateTime, f64)> =
            points.iter().filter_map(|point| Some((point.at, read(point)?))).collect();
        let end = points.last()?.1;
        if end <= 0.0 {
            return None;
        }
        let value = write(end);
        let words = format!("{name}: it grew to {value} in {span}.");
        let line = line(&points, began, end);
        let under = format!("{line}V{HEIGHT}H0Z");
        Some(Curve { id, name, value, words, line, under, span: span.clone() })
    };
    let tokens = |point: &Point| Some(point.tokens_in.saturating_add(point.tokens_out) as f64);
    [
        draw("cost-curve", "Cost over time", |point| point.usd, dollars),
        draw("tokens-curve", "Tokens over time", tokens, |tokens| count(tokens as i64)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Steps, since nothing is known between two points; from nothing at the beginning.
fn line(points: &[(OffsetDateTime, f64)], began: OffsetDateTime, top: f64) -> String {
    let whole = points.last().map_or(0.0, |(at, _)| (*at - began).as_seconds_f64()).max(1.0);
    let mut d = format!("M0 {HEIGHT}");
    for (at, value) in points {
        let x = ((*at - began).as_seconds_f64() / whole).clamp(0.0, 1.0) * WIDTH;
        let y = HEIGHT - (value / top).clamp(0.0, 1.0) * (HEIGHT - 2.0);
        // Writing to a String can't fail.
        let _ = write!(d, "H{x:.1}V{y:.1}");
    }
    d
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn point(s: u64, usd: Option<f64>, tokens: i64) -> Point {
        let at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(s);
        Point { at, usd, tokens_in: tokens, tokens_out: 0 }
    }

    #[test]
    fn a_curve_ends_at_the_top_and_says_so_in_words() {
        let began = Some(OffsetDateTime::UNIX_EPOCH);
        let drawn = curves(&[point(5, Some(0.25), 10), point(10, Some(0.5), 1200)], began);
        assert_eq!(drawn[0].line, "M0 56H120.0V29.0H240.0V2.0");
        assert_eq!(drawn[0].words, "Cost over time: it grew to $0.50 in 10 s.");
        assert_eq!((drawn[1].value.as_str(), drawn.len()), ("1,200", 2));
    }

    #[test]
    fn what_is_not_known_is_not_drawn() {
        let began = Some(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(curves(&[point(5, None, 10)], began), []);
        let drawn = curves(&[point(5, None, 10), point(9, None, 20)], began);
        assert_eq!(drawn.iter().map(|curve| curve.id).collect::<Vec<_>>(), ["tokens-curve"]);
        assert_eq!(curves(&[point(5, None, 10), point(9, None, 20)], None), []);
    }
}
