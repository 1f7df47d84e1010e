//! Figures of a detector on labelled rows: area under ROC, recall at a rate of false alarms, F1, and their intervals.

/// A row's score and whether it is what the detector looks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    pub score: f32,
    pub truth: bool,
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Figure {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.low, self.high)
    }
}

/// What a threshold finds and misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    pub hits: usize,
    pub misses: usize,
    pub false_alarms: usize,
    pub quiet: usize,
}

impl Counts {
    /// Counts rows; `fired` says for each row whether the detector fired.
    pub fn of(rows: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for (fired, truth) in rows {
            match (fired, truth) {
                (true, true) => counts.hits += 1,
                (false, true) => counts.misses += 1,
                (true, false) => counts.false_alarms += 1,
                (false, false) => counts.quiet += 1,
            }
        }
        counts
    }

    /// Harmonic mean of precision and recall; 0 where nothing was found.
    pub fn f1(&self) -> f64 {
        share(2 * self.hits, 2 * self.hits + self.misses + self.false_alarms)
    }
}

/// Probability that a positive row's score lies above a negative one's; ties count half (Mann and Whitney 1947).
/// `None` where one of the two kinds is missing.
pub fn roc_area(rows: &[Scored]) -> Option<f64> {
    let positives = rows.iter().filter(|r| r.truth).count();
    let negatives = rows.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut sorted: Vec<&Scored> = rows.iter().collect();
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    let (mut below, mut wins) = (0usize, 0.0f64);
    for group in sorted.chunk_by(|a, b| a.score == b.score) {
        let here = group.iter().filter(|r| r.truth).count();
        let others = group.len() - here;
        wins += here as f64 * (below as f64 + others as f64 / 2.0);
        below += others;
    }
    Some(wins / (positives as f64 * negatives as f64))
}

/// The lowest score from which no more than `rate` of the negative rows lie, among the rows' own scores.
pub fn threshold_at(rows: &[Scored], rate: f64) -> f32 {
    let mut negatives: Vec<f32> = rows.iter().filter(|r| !r.truth).map(|r| r.score).collect();
    negatives.sort_by(|a, b| b.total_cmp(a));
    let allowed = (negatives.len() as f64 * rate).floor() as usize;
    // Above the first that has to stay quiet: rows of its very score stay quiet with it.
    negatives.get(allowed).map_or(f32::NEG_INFINITY, |&quiet| quiet.next_up())
}

/// Share of the positive rows found where `rate` of the negatives raise a false alarm.
pub fn recall_at(rows: &[Scored], rate: f64) -> Option<f64> {
    let threshold = threshold_at(rows, rate);
    let counts = Counts::of(rows.iter().map(|r| (r.score >= threshold, r.truth)));
    (counts.hits + counts.misses > 0).then(|| share(counts.hits, counts.hits + counts.misses))
}

/// Share of negatives that stay quiet where `recall` of the positives is found.
pub fn kept_at(rows: &[Scored], recall: f64) -> Option<f64> {
    let turned: Vec<Scored> = rows.iter().map(|r| Scored { score: -r.score, truth: !r.truth }).collect();
    recall_at(&turned, 1.0 - recall)
}

/// A share with its Wilson interval at 95 % (Wilson 1927).
pub fn wilson(part: usize, all: usize) -> Figure {
    const Z: f64 = 1.959_964;
    if all == 0 {
        return Figure { value: f64::NAN, low: 0.0, high: 1.0 };
    }
    let (n, p) = (all as f64, part as f64 / all as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
    Figure { value: p, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// A figure of the rows with its percentile bootstrap interval: 500 resamples, drawn the same way every time.
pub fn bootstrap<T: Copy>(rows: &[T], figure: impl Fn(&[T]) -> Option<f64>) -> Option<Figure> {
    let value = figure(rows)?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        // splitmix64 (Steele, Lea and Flood 2014)
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    };
    let mut drawn: Vec<f64> =
        (0..500).filter_map(|_| figure(&(0..rows.len()).map(|_| rows[draw(rows.len())]).collect::<Vec<T>>())).collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get(((drawn.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(value);
    Some(Figure { value, low: at(0.025), high: at(0.975) })
}

/// `part` of `all`, 0 where there is nothing.
pub fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(scores: &[(f32, bool)]) -> Vec<Scored> {
        scores.iter().map(|&(score, truth)| Scored { score, truth }).collect()
    }

    #[test]
    fn the_area_counts_pairs_in_the_right_order_and_ties_half() {
        assert_eq!(roc_area(&rows(&[(0.9, true), (0.1, false)])), Some(1.0));
        assert_eq!(roc_area(&rows(&[(0.5, true), (0.5, false)])), Some(0.5));
        assert_eq!(roc_area(&rows(&[(0.2, true), (0.9, true), (0.5, false)])), Some(0.5));
        assert_eq!(roc_area(&rows(&[(0.2, true)])), None);
    }

    #[test]
    fn recall_is_taken_where_the_false_alarms_allow_it() {
        let set = rows(&[(0.9, true), (0.4, true), (0.5, false), (0.3, false), (0.2, false), (0.1, false)]);
        assert_eq!(recall_at(&set, 0.0), Some(0.5));
        assert_eq!(recall_at(&set, 0.25), Some(1.0));
        assert_eq!(kept_at(&set, 1.0), Some(0.75));
        let tied = rows(&[(0.5, true), (0.5, false), (0.5, false)]);
        assert_eq!(recall_at(&tied, 0.5), Some(0.0), "a tie with a quiet row stays quiet");
    }

    #[test]
    fn intervals_hold_the_value_and_are_the_same_every_time() {
        let figure = wilson(9, 10);
        assert!(figure.low > 0.5 && figure.high < 1.0 && (figure.value - 0.9).abs() < 1e-9);
        let set: Vec<Scored> = (0..60).map(|i| Scored { score: (i * 7 % 60) as f32, truth: i % 3 == 0 }).collect();
        let once = bootstrap(&set, roc_area).unwrap();
        assert_eq!(Some(once), bootstrap(&set, roc_area));
        assert!(once.low <= once.value && once.value <= once.high);
        assert_eq!(Counts::of([(true, true), (true, false), (false, true)].into_iter()).f1(), 0.5);
    }
}
