//! Logistic detectors: one label against all others, over hashed n-grams and a sentence vector.
//!
//! Trained by Adagrad over rows in a fixed order (Duchi, Hazan and Singer 2011), with rare labels weighted up.
//! Held-out scores of a k-fold split calibrate the detector and set its threshold.

use super::calibrate::{Platt, sparing_threshold};
use super::ngrams::{BUCKETS, Features, SIGNS};

const EPOCHS: usize = 12;
const LEARNING_RATE: f32 = 0.3;
const L2: f32 = 5e-4;
const FOLDS: usize = 4;
/// The sentence vector's weight beside the n-grams, both of unit length.
const DENSE_SCALE: f32 = 1.5;

/// A labelled row.
#[derive(Debug, Clone)]
pub struct Training {
    pub features: Features,
    pub label: String,
    /// Rows of one family are held out together, since they are too alike to test each other.
    pub family: u32,
}

/// A trained, calibrated detector of one label.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Detector {
    pub label: String,
    weights: Weights,
    platt: Platt,
    /// Probability from which the label counts as found.
    pub threshold: f32,
}

impl Detector {
    /// Calibrated probability of the label: 0..1.
    pub fn probability(&self, features: &Features) -> f32 {
        self.platt.probability(self.weights.score(features))
    }
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Weights {
    sparse: Vec<f32>,
    dense: Vec<f32>,
    bias: f32,
}

impl Weights {
    fn score(&self, row: &Features) -> f32 {
        let sparse: f32 = row.sparse.iter().map(|&(b, w)| self.sparse[b as usize] * w).sum();
        let dense: f32 = self.dense.iter().zip(&row.dense).map(|(a, b)| a * b * DENSE_SCALE).sum();
        sparse + dense + self.bias
    }

    fn fit<'a>(rows: impl Iterator<Item = (&'a Features, bool)> + Clone, dimensions: usize) -> Self {
        let mut w = Self { sparse: vec![0.0; BUCKETS + SIGNS], dense: vec![0.0; dimensions], bias: 0.0 };
        let mut seen = Self { sparse: vec![1e-4; BUCKETS + SIGNS], dense: vec![1e-4; dimensions], bias: 1e-4 };
        let positives = rows.clone().filter(|(_, y)| *y).count().max(1) as f32;
        let all = rows.clone().count().max(1) as f32;
        let boost = ((all - positives) / positives).clamp(1.0, 6.0).sqrt();
        let step = |weight: &mut f32, sum: &mut f32, gradient: f32| {
            *sum += gradient * gradient;
            *weight -= LEARNING_RATE * gradient / sum.sqrt();
        };
        for _ in 0..EPOCHS {
            for (row, label) in rows.clone() {
                let p = 1.0 / (1.0 + (-w.score(row)).exp());
                let error = if label { (p - 1.0) * boost } else { p };
                for &(b, x) in &row.sparse {
                    let b = b as usize;
                    let gradient = error * x + L2 * w.sparse[b];
                    step(&mut w.sparse[b], &mut seen.sparse[b], gradient);
                }
                for (d, &x) in row.dense.iter().enumerate().take(dimensions) {
                    let gradient = error * x * DENSE_SCALE + L2 * w.dense[d];
                    step(&mut w.dense[d], &mut seen.dense[d], gradient);
                }
                step(&mut w.bias, &mut seen.bias, error);
            }
        }
        w
    }
}

/// A detector, and what it would have said of its own lesson.
#[derive(Debug, Clone)]
pub struct Taught {
    pub detector: Detector,
    /// Each row's probability, by weights that never saw the row's family.
    pub held_out: Vec<f32>,
}

/// Trains a detector; `None` where no row has its label.
///
/// `protected` says which rows' labels must hardly ever be mistaken for the detector's own: the threshold lets at most
/// `share` of them through.
pub fn teach(
    rows: &[Training],
    label: &str,
    protected: impl Fn(&str) -> bool,
    share: f32,
    floor: f32,
) -> Option<Taught> {
    if !rows.iter().any(|r| r.label == label) {
        return None;
    }
    let dimensions = rows.iter().map(|r| r.features.dense.len()).max().unwrap_or(0);
    let fold_of = |row: &Training| row.family as usize % FOLDS;
    let fit = |left_out: Option<usize>| {
        let kept = rows.iter().filter(|r| left_out.is_none_or(|fold| fold_of(r) != fold));
        Weights::fit(kept.map(|r| (&r.features, r.label == label)), dimensions)
    };
    let mut scores = vec![0.0; rows.len()];
    for fold in 0..FOLDS {
        let weights = fit(Some(fold));
        for (i, row) in rows.iter().enumerate().filter(|(_, r)| fold_of(r) == fold) {
            scores[i] = weights.score(&row.features);
        }
    }
    let pairs: Vec<(f32, bool)> = rows.iter().zip(&scores).map(|(r, &s)| (s, r.label == label)).collect();
    let platt = Platt::fit(&pairs);
    let held_out: Vec<f32> = scores.iter().map(|&score| platt.probability(score)).collect();
    let spared = rows.iter().zip(&held_out).filter(|(r, _)| r.label != label && protected(&r.label));
    let spared: Vec<f32> = spared.map(|(_, &probability)| probability).collect();
    let threshold = sparing_threshold(&spared, share, floor);
    let detector = Detector { label: label.to_string(), weights: fit(None), platt, threshold };
    Some(Taught { detector, held_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Training> {
        let row = |text: &str, label: &str, family| Training {
            features: Features::new(text, &[]),
            label: label.into(),
            family,
        };
        let mut rows = Vec::new();
        let spam =
            ["buy cheap watches now", "cheap loans click here", "win money now click", "best casino bonus click"];
        let fine =
            ["how do i change the color", "where are my invoices", "the widget does not appear", "invite an agent"];
        for round in 0..6 {
            for text in spam {
                rows.push(row(&format!("{text} {round}"), "spam", round));
            }
            for text in fine {
                rows.push(row(&format!("{text} {round}"), "ok", round));
            }
        }
        rows
    }

    fn spam_detector() -> Detector {
        teach(&rows(), "spam", |l| l == "ok", 0.01, 0.5).expect("there is spam").detector
    }

    #[test]
    fn a_detector_finds_its_label_and_spares_the_rest() {
        let spam = spam_detector();
        assert!(spam.probability(&Features::new("click here for cheap casino money", &[])) > spam.threshold);
        assert!(spam.probability(&Features::new("how do i change where the widget appears", &[])) < spam.threshold);
        assert!(teach(&rows(), "missing", |l| l == "ok", 0.01, 0.5).is_none());
    }

    #[test]
    fn training_twice_gives_the_same_detector() {
        let text = Features::new("cheap widget invoices", &[]);
        assert_eq!(spam_detector().probability(&text), spam_detector().probability(&text));
    }
}
