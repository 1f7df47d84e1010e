//! A few measures of one thing as one probability: logistic regression on standardised measures, held close to their
//! plain sum. Made for measures that are each good and that agree: a free fit would learn the quirks of its lesson.

use super::calibrate::{Platt, sparing_threshold};

/// Weight of the squared weights beside the mean loss.
const RIDGE: f64 = 0.07;
const ROUNDS: usize = 400;
const STEP: f64 = 0.5;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Stack {
    mean: Vec<f32>,
    spread: Vec<f32>,
    weights: Vec<f32>,
    platt: Platt,
    /// Probability from which the answer is yes.
    pub threshold: f32,
}

impl Stack {
    /// Learns from (measures, answer); at most `spared_share` of the rows that are answered with no reach the
    /// threshold. `None` where one of the answers is missing.
    pub fn fit(rows: &[(&[f32], bool)], spared_share: f32, floor: f32) -> Option<Self> {
        let count = rows.first()?.0.len();
        if rows.iter().all(|r| r.1) || rows.iter().all(|r| !r.1) {
            return None;
        }
        let n = rows.len() as f32;
        let mean: Vec<f32> = (0..count).map(|k| rows.iter().map(|r| r.0[k]).sum::<f32>() / n).collect();
        let spread = |k: usize| (rows.iter().map(|r| (r.0[k] - mean[k]).powi(2)).sum::<f32>() / n).sqrt().max(1e-3);
        let spread: Vec<f32> = (0..count).map(spread).collect();
        let mut it =
            Self { mean, spread, weights: vec![0.0; count], platt: Platt { slope: 1.0, offset: 0.0 }, threshold: 1.0 };
        let standard: Vec<(Vec<f32>, bool)> = rows.iter().map(|(row, y)| (it.standard(row), *y)).collect();
        let yes = standard.iter().filter(|r| r.1).count() as f64;
        // Both answers weigh the same, so that the offset may stay out: Platt's sigmoid finds it.
        let (of_yes, of_no) = (0.5 / yes, 0.5 / (standard.len() as f64 - yes));
        let mut bias = 0.0f64;
        for _ in 0..ROUNDS {
            let mut slope = vec![0.0f64; count];
            let mut level = 0.0f64;
            for (row, y) in &standard {
                let score = it.score(row) as f64 + bias;
                let p = 1.0 / (1.0 + (-score).exp());
                let error = if *y { (p - 1.0) * of_yes } else { p * of_no };
                slope.iter_mut().zip(row).for_each(|(s, x)| *s += error * *x as f64);
                level += error;
            }
            for (weight, slope) in it.weights.iter_mut().zip(slope) {
                *weight -= (STEP * (slope + RIDGE * *weight as f64)) as f32;
            }
            bias -= STEP * level;
        }
        let scored: Vec<(f32, bool)> = standard.iter().map(|(row, y)| (it.score(row), *y)).collect();
        it.platt = Platt::fit(&scored);
        let no: Vec<f32> = scored.iter().filter(|r| !r.1).map(|r| it.platt.probability(r.0)).collect();
        it.threshold = sparing_threshold(&no, spared_share, floor);
        Some(it)
    }

    fn standard(&self, row: &[f32]) -> Vec<f32> {
        row.iter().zip(&self.mean).zip(&self.spread).map(|((x, m), s)| ((x - m) / s).clamp(-4.0, 4.0)).collect()
    }

    fn score(&self, standard: &[f32]) -> f32 {
        standard.iter().zip(&self.weights).map(|(x, w)| x * w).sum()
    }

    /// Probability of yes: 0..1.
    pub fn probability(&self, row: &[f32]) -> f32 {
        self.platt.probability(self.score(&self.standard(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_that_agree_are_added_and_noise_is_not() {
        let rows: Vec<(Vec<f32>, bool)> = (0..400)
            .map(|i| {
                let (yes, noise) = (i % 2 == 0, (i * 37 % 101) as f32 / 50.0);
                let of = |k: usize| f32::from(u8::from(yes)) + (i * k % 89) as f32 / 60.0;
                (vec![of(31), of(53), noise], yes)
            })
            .collect();
        let rows: Vec<(&[f32], bool)> = rows.iter().map(|(r, y)| (r.as_slice(), *y)).collect();
        let stack = Stack::fit(&rows, 0.05, 0.3).expect("both answers are there");
        assert!(
            stack.weights[0] > 0.2 && stack.weights[1] > 0.2 && stack.weights[2].abs() < 0.1,
            "{:?}",
            stack.weights
        );
        let found = |yes: bool| rows.iter().filter(|r| r.1 == yes && stack.probability(r.0) >= stack.threshold).count();
        assert!(found(false) <= 10 && found(true) > 100, "{} {}", found(false), found(true));
    }

    #[test]
    fn of_one_answer_nothing_is_learnt() {
        assert!(Stack::fit(&[(&[1.0], true), (&[0.0], true)], 0.05, 0.3).is_none());
        assert!(Stack::fit(&[], 0.05, 0.3).is_none());
    }
}
