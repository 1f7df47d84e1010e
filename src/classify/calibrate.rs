//! Scores to probabilities, and a threshold that spares protected rows.

/// Platt's sigmoid `p = 1 / (1 + exp(-(slope * score + offset)))`
/// (Platt 1999, with the smoothed targets of Lin, Lin and Weng 2007).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Platt {
    pub slope: f32,
    pub offset: f32,
}

impl Platt {
    /// Probability of the label at this score.
    pub fn probability(&self, score: f32) -> f32 {
        1.0 / (1.0 + (-(self.slope * score + self.offset)).exp())
    }

    /// Fits held-out (score, is the label) pairs by Newton's method; falls back to the plain sigmoid where one
    /// of the two kinds is missing.
    pub fn fit(pairs: &[(f32, bool)]) -> Self {
        let positives = pairs.iter().filter(|(_, y)| *y).count() as f64;
        let negatives = pairs.len() as f64 - positives;
        let (mut a, mut b) = (1.0f64, 0.0f64);
        if positives == 0.0 || negatives == 0.0 {
            return Self { slope: 1.0, offset: 0.0 };
        }
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        for _ in 0..50 {
            let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
            for &(score, label) in pairs {
                let (s, target) = (score as f64, if label { high } else { low });
                let p = 1.0 / (1.0 + (-(a * s + b)).exp());
                let (error, weight) = (p - target, p * (1.0 - p));
                ga += error * s;
                gb += error;
                haa += weight * s * s;
                hab += weight * s;
                hbb += weight;
            }
            let det = haa * hbb - hab * hab;
            if det.abs() < 1e-12 {
                break;
            }
            let (da, db) = ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det);
            a -= da.clamp(-2.0, 2.0);
            b -= db.clamp(-2.0, 2.0);
            if da.abs() + db.abs() < 1e-6 {
                break;
            }
        }
        if a.is_finite() && b.is_finite() && a > 0.0 {
            Self { slope: a as f32, offset: b as f32 }
        } else {
            Self { slope: 1.0, offset: 0.0 }
        }
    }
}

/// The lowest threshold, at least `floor`, above which no more than `share` of the protected rows' probabilities lie.
pub fn sparing_threshold(protected: &[f32], share: f32, floor: f32) -> f32 {
    let mut sorted: Vec<f32> = protected.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let allowed = (sorted.len() as f32 * share).floor() as usize;
    match sorted.get(allowed) {
        Some(&first_spared) => (first_spared + 0.02).clamp(floor, 0.98),
        None => floor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_scores_mean_higher_probabilities_and_the_middle_is_even() {
        let pairs: Vec<(f32, bool)> = (-20..=20).map(|i| (i as f32 / 5.0, i > 0)).collect();
        let platt = Platt::fit(&pairs);
        assert!(platt.probability(3.0) > 0.9 && platt.probability(-3.0) < 0.1);
        assert!((platt.probability(0.1) - 0.5).abs() < 0.15);
    }

    #[test]
    fn a_threshold_spares_the_protected_rows() {
        let protected = [0.1, 0.2, 0.7, 0.3];
        assert!(sparing_threshold(&protected, 0.0, 0.5) > 0.7);
        assert_eq!(sparing_threshold(&protected, 0.25, 0.5), 0.5);
        assert_eq!(sparing_threshold(&[], 0.0, 0.6), 0.6);
    }
}
