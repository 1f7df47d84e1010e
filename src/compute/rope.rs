//! Rotary position embeddings (Su et al. 2021, "RoFormer").

/// Which elements of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeKind {
    /// Neighbours: (0, 1), (2, 3), … (llama files, whose weights are stored in this order).
    Interleaved,
    /// First half with second half: (0, d/2), (1, d/2 + 1), … (qwen).
    Halves,
}

/// A model's rotation: its pairs and their frequencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    pub kind: RopeKind,
    /// Radians per position, one for each pair. `2 * frequencies.len()` elements of a head are rotated; the rest
    /// stay as they are.
    pub frequencies: Vec<f64>,
    /// Factor of cosines and sines; above 1 where a scaling to longer contexts sharpens attention, else 1.
    pub amplitude: f64,
}

/// Cosines and sines for the rows of one step, `[row][pair]`.
#[derive(Debug, Clone)]
pub struct RopeRows {
    pub kind: RopeKind,
    /// Pairs in a row.
    pub pairs: usize,
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
}

impl Rope {
    /// Plain frequencies `base^(-2i/dims)`, each divided by `factor(i)` (1 for none).
    pub fn new(kind: RopeKind, dims: usize, base: f64, factor: impl Fn(usize) -> f64) -> Self {
        let frequencies = (0..dims / 2).map(|i| base.powf(-2.0 * i as f64 / dims as f64) / factor(i)).collect();
        Self { kind, frequencies, amplitude: 1.0 }
    }

    /// Angles of the given positions, computed in `f64` so that far positions keep their precision.
    pub fn rows(&self, positions: impl Iterator<Item = usize>) -> RopeRows {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in &self.frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push((c * self.amplitude) as f32);
                sin.push((s * self.amplitude) as f32);
            }
        }
        RopeRows { kind: self.kind, pairs: self.frequencies.len(), cos, sin }
    }
}

impl RopeRows {
    /// Rotates one head of row `row` in place. (Inlined, so that a kernel compiles it with its own instruction set.)
    #[inline(always)]
    pub fn rotate(&self, row: usize, head: &mut [f32]) {
        // Plain counting: in a kernel of AVX-512 an iterator's `next` is a call for every pair.
        let pairs = self.pairs;
        let (cos, sin) = (&self.cos[row * pairs..][..pairs], &self.sin[row * pairs..][..pairs]);
        let head = &mut head[..2 * pairs];
        match self.kind {
            RopeKind::Interleaved => {
                for i in 0..pairs {
                    let (a, b) = (head[2 * i], head[2 * i + 1]);
                    head[2 * i] = a * cos[i] - b * sin[i];
                    head[2 * i + 1] = a * sin[i] + b * cos[i];
                }
            }
            RopeKind::Halves => {
                let (first, second) = head.split_at_mut(pairs);
                for i in 0..pairs {
                    let (a, b) = (first[i], second[i]);
                    first[i] = a * cos[i] - b * sin[i];
                    second[i] = a * sin[i] + b * cos[i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_rotates_nothing() {
        for kind in [RopeKind::Interleaved, RopeKind::Halves] {
            let rows = Rope::new(kind, 8, 10_000.0, |_| 1.0).rows([0].into_iter());
            let mut head: Vec<f32> = (0..10).map(|i| i as f32).collect();
            rows.rotate(0, &mut head);
            assert_eq!(head, (0..10).map(|i| i as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_score_depends_only_on_the_distance_between_positions() {
        for kind in [RopeKind::Interleaved, RopeKind::Halves] {
            let rope = Rope::new(kind, 16, 10_000.0, |_| 1.0);
            let score = |p: usize, q: usize| {
                let rows = rope.rows([p, q].into_iter());
                let mut a: Vec<f32> = (0..16).map(|i| (i as f32 * 0.7).sin()).collect();
                let mut b: Vec<f32> = (0..16).map(|i| (i as f32 * 1.3).cos()).collect();
                rows.rotate(0, &mut a);
                rows.rotate(1, &mut b);
                a.iter().zip(&b).map(|(x, y)| x * y).sum::<f32>()
            };
            assert!((score(3, 10) - score(4003, 4010)).abs() < 1e-4);
            assert!((score(3, 10) - score(3, 11)).abs() > 1e-3);
        }
    }

    #[test]
    fn elements_beyond_the_rotated_pairs_stay() {
        let rows = Rope::new(RopeKind::Halves, 4, 100.0, |_| 1.0).rows([7].into_iter());
        let mut head = vec![1.0f32; 8];
        rows.rotate(0, &mut head);
        assert_eq!(head[4..], [1.0; 4]);
        assert_ne!(head[..4], [1.0; 4]);
    }
}
