//! Which group a vector belongs to, and how much any group claims it: multinomial logistic regression, whose free
//! energy (the log-sum of its exponentiated logits; Liu et al. 2020) is low for what belongs to no group.

use super::scattered;
use crate::compute::dot;

const EPOCHS: usize = 12;
const BATCH: usize = 32;
const LEARNING_RATE: f32 = 0.5;
const L2: f32 = 1e-5;
/// Share of a group in a row's prediction below which the row teaches it nothing.
const LEAST_ERROR: f32 = 1e-3;

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Intents {
    /// A line of weights for each group.
    weights: Vec<f32>,
    bias: Vec<f32>,
    dimensions: usize,
}

impl Intents {
    /// Learns from vectors and the numbers of their groups, all below `groups`: Adagrad over small batches, in an
    /// order that never changes.
    pub fn of(rows: &[(&[f32], usize)], groups: usize) -> Self {
        let d = rows.first().map_or(0, |r| r.0.len());
        let mut it = Self { weights: vec![0.0; groups * d], bias: vec![0.0; groups], dimensions: d };
        let mut seen = vec![1e-6f32; groups * d];
        let mut seen_bias = vec![1e-6f32; groups];
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let mut gradient = vec![0.0f32; groups * d];
        let mut errors = vec![0.0f32; groups];
        for epoch in 0..EPOCHS {
            order.sort_by_key(|&i| scattered(i + epoch * rows.len()));
            for batch in order.chunks(BATCH) {
                errors.fill(0.0);
                for &i in batch {
                    let (vector, group) = rows[i];
                    let mut shares = it.logits(vector);
                    let top = shares.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                    shares.iter_mut().for_each(|s| *s = (*s - top).exp());
                    let sum: f32 = shares.iter().sum();
                    for (g, share) in shares.iter().enumerate() {
                        let error = (share / sum - f32::from(u8::from(g == group))) / batch.len() as f32;
                        if error.abs() * (batch.len() as f32) < LEAST_ERROR {
                            continue;
                        }
                        errors[g] += error;
                        let line = &mut gradient[g * d..(g + 1) * d];
                        line.iter_mut().zip(vector).for_each(|(sum, x)| *sum += error * x);
                    }
                }
                for g in (0..groups).filter(|&g| errors[g] != 0.0) {
                    for k in g * d..(g + 1) * d {
                        let step = gradient[k] + L2 * it.weights[k];
                        seen[k] += step * step;
                        it.weights[k] -= LEARNING_RATE * step / seen[k].sqrt();
                        gradient[k] = 0.0;
                    }
                    seen_bias[g] += errors[g] * errors[g];
                    it.bias[g] -= LEARNING_RATE * errors[g] / seen_bias[g].sqrt();
                }
            }
        }
        it
    }

    fn logits(&self, vector: &[f32]) -> Vec<f32> {
        let lines = self.weights.chunks_exact(self.dimensions.max(1));
        lines.zip(&self.bias).map(|(line, bias)| dot(line, vector) + bias).collect()
    }

    /// How much the groups claim the vector: the logarithm of the sum of their exponentiated logits.
    pub fn claim(&self, vector: &[f32]) -> f32 {
        let logits = self.logits(vector);
        let top = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        match top.is_finite() {
            true => top + logits.iter().map(|l| (l - top).exp()).sum::<f32>().ln(),
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_like_a_group_is_claimed_more_than_one_like_none() {
        let vectors: Vec<(Vec<f32>, usize)> = (0..120)
            .map(|i| {
                let mut v = vec![0.1 * (scattered(i) % 10) as f32 / 10.0; 6];
                v[i % 3] = 1.0;
                (v, i % 3)
            })
            .collect();
        let rows: Vec<(&[f32], usize)> = vectors.iter().map(|(v, g)| (v.as_slice(), *g)).collect();
        let intents = Intents::of(&rows, 3);
        let known = intents.claim(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(known > intents.claim(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]));
        assert!(known > intents.claim(&[0.58, 0.58, 0.58, 0.0, 0.0, 0.0]), "between all groups");
    }

    #[test]
    fn of_no_rows_nothing_is_claimed() {
        assert_eq!(Intents::of(&[], 0).claim(&[1.0]), 0.0);
    }
}
