//! A counted share, a mean, and a difference of pairs, each with its 95 % interval.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// `part` of `all`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub part: usize,
    pub all: usize,
}

impl Share {
    pub fn count(&mut self, hit: bool) {
        self.part += usize::from(hit);
        self.all += 1;
    }

    /// 0..1; 1 of nothing.
    pub fn value(&self) -> f64 {
        if self.all == 0 { 1.0 } else { self.part as f64 / self.all as f64 }
    }

    /// Wilson's 95 % interval: (low, high).
    pub fn interval(&self) -> (f64, f64) {
        if self.all == 0 {
            return (0.0, 1.0);
        }
        const Z: f64 = 1.959_964;
        let (n, p) = (self.all as f64, self.value());
        let centre = p + Z * Z / (2.0 * n);
        let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
    }
}

impl std::fmt::Display for Share {
    /// `148 of 177  0.836 [0.774, 0.883]`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.interval();
        write!(f, "{:>4} of {:<4} {:.3} [{low:.3}, {high:.3}]", self.part, self.all, self.value())
    }
}

/// A mean of figures, one of each question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Mean {
    pub value: f64,
    /// Half the width of the normal 95 % interval.
    pub margin: f64,
}

impl Mean {
    pub fn of(figures: impl Iterator<Item = f64>) -> Self {
        let figures: Vec<f64> = figures.collect();
        let n = figures.len().max(1) as f64;
        let value = figures.iter().sum::<f64>() / n;
        let variance = figures.iter().map(|f| (f - value).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Self { value, margin: 1.959_964 * (variance / n).sqrt() }
    }
}

impl std::fmt::Display for Mean {
    /// `0.412 [0.350, 0.474]`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.value - self.margin, self.value + self.margin)
    }
}

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// The difference of two ratios (second minus first) over the same units, with the percentile interval of a paired
/// bootstrap (Efron and Tibshirani 1993, chapter 13): units are drawn whole. Each unit brings, for both, what it adds
/// above and below the line. The same seed gives the same interval.
pub fn paired_bootstrap(units: &[[(f64, f64); 2]], seed: u64, draws: usize) -> Interval {
    let ratio = |(above, below): (f64, f64)| if below == 0.0 { 0.0 } else { above / below };
    let difference = |sums: [(f64, f64); 2]| ratio(sums[1]) - ratio(sums[0]);
    let add = |sums: &mut [(f64, f64); 2], unit: &[(f64, f64); 2]| {
        for (sum, unit) in sums.iter_mut().zip(unit) {
            *sum = (sum.0 + unit.0, sum.1 + unit.1);
        }
    };
    let mut all = [(0.0, 0.0); 2];
    units.iter().for_each(|unit| add(&mut all, unit));
    let value = difference(all);
    if units.is_empty() || draws == 0 {
        return Interval { value, low: value, high: value };
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut drawn: Vec<f64> = (0..draws)
        .map(|_| {
            let mut sums = [(0.0, 0.0); 2];
            (0..units.len()).for_each(|_| add(&mut sums, &units[random.random_range(0..units.len())]));
            difference(sums)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((draws as f64 - 1.0) * share).round() as usize];
    Interval { value, low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pairs_share_cancels_out_of_their_difference() {
        // Units of very different difficulty; the second is better by a little in each.
        let units: Vec<[(f64, f64); 2]> = (0..50).map(|n| [(f64::from(n), 50.0), (f64::from(n) + 2.0, 50.0)]).collect();
        let found = paired_bootstrap(&units, 7, 1000);
        assert!((found.value - 0.04).abs() < 1e-9 && found.low > 0.039 && found.high < 0.041, "{found:?}");
        assert_eq!(found, paired_bootstrap(&units, 7, 1000));
        assert_eq!(paired_bootstrap(&[], 7, 1000), Interval::default());
    }

    #[test]
    fn the_interval_holds_the_share_and_narrows_with_the_count() {
        let (few, many) = (Share { part: 9, all: 10 }, Share { part: 900, all: 1000 });
        let width = |s: Share| s.interval().1 - s.interval().0;
        assert!(few.interval().0 < 0.9 && 0.9 < few.interval().1 && width(many) < width(few) / 5.0);
        assert_eq!(Mean::of([0.5; 4].into_iter()).to_string(), "0.500 [0.500, 0.500]");
        assert_eq!(Share { part: 148, all: 177 }.to_string(), " 148 of 177  0.836 [0.775, 0.883]");
    }
}
