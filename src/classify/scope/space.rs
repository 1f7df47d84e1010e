//! Vectors in groups: clusters where no groups are named, and the measure in which a group's spread is a sphere.

use std::collections::HashMap;

use crate::compute::dot;

/// Groups as numbers; without names, clusters of the vectors.
pub(super) fn numbered(groups: &[&str], vectors: &[Vec<f32>], count: usize) -> Vec<usize> {
    if groups.len() == count && groups.iter().any(|g| !g.is_empty()) {
        let mut names: HashMap<&str, usize> = HashMap::new();
        return groups
            .iter()
            .map(|g| {
                let next = names.len();
                *names.entry(g).or_insert(next)
            })
            .collect();
    }
    clusters(vectors)
}

/// Spherical k-means with about `sqrt(n)` clusters, seeded by the farthest first (Gonzalez 1985).
fn clusters(vectors: &[Vec<f32>]) -> Vec<usize> {
    const ROUNDS: usize = 6;
    let placed: Vec<usize> = (0..vectors.len()).filter(|&i| !vectors[i].is_empty()).collect();
    let wanted = (placed.len() as f32).sqrt().ceil() as usize;
    let mut groups: Vec<usize> = (0..vectors.len()).map(|i| i % wanted.max(8)).collect();
    let Some(&first) = placed.first() else { return groups };
    let mut centres = vec![vectors[first].clone()];
    let mut likeness: Vec<f32> = placed.iter().map(|&i| dot(&vectors[i], &centres[0])).collect();
    while centres.len() < wanted {
        let Some(farthest) = (0..placed.len()).min_by(|&a, &b| likeness[a].total_cmp(&likeness[b])) else { break };
        let centre = vectors[placed[farthest]].clone();
        for (near, &i) in likeness.iter_mut().zip(&placed) {
            *near = near.max(dot(&vectors[i], &centre));
        }
        centres.push(centre);
    }
    for _ in 0..ROUNDS {
        for &i in &placed {
            let nearest = (0..centres.len())
                .max_by(|&a, &b| dot(&vectors[i], &centres[a]).total_cmp(&dot(&vectors[i], &centres[b])));
            groups[i] = nearest.unwrap_or(0);
        }
        for (g, centre) in centres.iter_mut().enumerate() {
            let members: Vec<&Vec<f32>> = placed.iter().filter(|&&i| groups[i] == g).map(|&i| &vectors[i]).collect();
            if !members.is_empty() {
                *centre = mean(&members, centre.len());
                let norm = dot(centre, centre).sqrt().max(1e-6);
                centre.iter_mut().for_each(|x| *x /= norm);
            }
        }
    }
    groups
}

/// Turns a covariance into the unit one: the inverse of its Cholesky factor.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Whitening {
    /// Lower triangle, row by row.
    factor: Vec<f32>,
    dimensions: usize,
}

impl Whitening {
    /// Of centred rows. The covariance is shrunk towards a sphere the more, the fewer rows there are, and at least by
    /// `least_shrink`.
    pub fn of(rows: impl ExactSizeIterator<Item = Vec<f32>>, dimensions: usize, least_shrink: f64) -> Self {
        let (d, n) = (dimensions, rows.len().max(1));
        let mut covariance = vec![0.0f64; d * d];
        for row in rows {
            for i in 0..d {
                let (x, line) = (row[i] as f64, &mut covariance[i * d..i * d + i + 1]);
                line.iter_mut().zip(&row).for_each(|(c, y)| *c += x * *y as f64);
            }
        }
        let trace: f64 = (0..d).map(|i| covariance[i * d + i]).sum::<f64>() / n as f64;
        let shrink = (d as f64 / (n + d) as f64).max(least_shrink);
        let mut factor = vec![0.0f64; d * d];
        for i in 0..d {
            for j in 0..=i {
                let sphere = if i == j { shrink * trace / d as f64 + 1e-9 } else { 0.0 };
                let c = (1.0 - shrink) * covariance[i * d + j] / n as f64 + sphere;
                let (a, b) = (&factor[i * d..i * d + j], &factor[j * d..j * d + j]);
                let rest = c - a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
                factor[i * d + j] = if i == j { rest.max(1e-12).sqrt() } else { rest / factor[j * d + j] };
            }
        }
        Self { factor: factor.into_iter().map(|x| x as f32).collect(), dimensions: d }
    }

    /// Solves `factor * y = vector`.
    pub fn apply(&self, vector: &[f32]) -> Vec<f32> {
        let d = self.dimensions;
        let mut y = vec![0.0f32; d];
        for i in 0..d.min(vector.len()) {
            let line = &self.factor[i * d..i * d + i];
            y[i] = (vector[i] - dot(line, &y[..i])) / self.factor[i * d + i];
        }
        y
    }
}

pub(super) fn minus(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x - y).collect()
}

pub(super) fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

pub(super) fn mean(rows: &[&Vec<f32>], dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0f32; dimensions];
    rows.iter().for_each(|row| sum.iter_mut().zip(row.iter()).for_each(|(s, x)| *s += x));
    sum.iter_mut().for_each(|s| *s /= rows.len().max(1) as f32);
    sum
}
