//! What the nearest examples of a text are: of a label, or not.

use std::collections::HashMap;

use super::gallery::Catalogue;
use super::logistic::Training;
use super::ngrams::{BUCKETS, Features};

/// Nearest examples of each kind that are averaged.
const NEAREST: usize = 3;
/// Most examples without the label that are kept.
const MOST: usize = 3000;

/// Examples of a label and others, by letters and by vectors.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Nearest {
    rows: Vec<Example>,
    /// Hashed n-gram -> (row, weight).
    postings: HashMap<u32, Vec<(u32, f32)>>,
    count: f32,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Example {
    own: bool,
    family: u32,
    /// Its vector's number in the gallery.
    place: Option<u32>,
}

impl Nearest {
    pub fn of(rows: &[Training], label: &str, catalogue: &Catalogue) -> Self {
        let step = rows.iter().filter(|r| r.label != label).count().div_ceil(MOST).max(1);
        let mut others = 0;
        let kept: Vec<&Training> = rows
            .iter()
            .filter(|r| {
                others += usize::from(r.label != label);
                r.label == label || others % step == 0
            })
            .collect();
        let mut it = Self { count: kept.len() as f32, ..Self::default() };
        for (i, row) in kept.iter().enumerate() {
            let place = catalogue.place(&row.features.dense);
            it.rows.push(Example { own: row.label == label, family: row.family, place });
            for (gram, weight) in letters(&row.features) {
                it.postings.entry(gram).or_default().push((i as u32, weight));
            }
        }
        let rarity: HashMap<u32, f32> = it.postings.keys().map(|g| (*g, it.rarity(*g))).collect();
        let mut lengths = vec![0.0f32; kept.len()];
        for (gram, postings) in &mut it.postings {
            for (row, weight) in postings {
                *weight *= rarity[gram];
                lengths[*row as usize] += *weight * *weight;
            }
        }
        for (row, weight) in it.postings.values_mut().flatten() {
            *weight /= lengths[*row as usize].sqrt().max(1e-6);
        }
        it
    }

    fn rarity(&self, gram: u32) -> f32 {
        ((self.count + 1.0) / (self.postings.get(&gram).map_or(0, Vec::len) as f32 + 1.0)).ln() + 1.0
    }

    /// How much nearer the label's examples are than the others, by letters and, where there is a vector, by it.
    /// `likeness`: to the vectors of the gallery; `family`: whose rows do not count.
    pub fn leans(&self, features: &Features, likeness: &[f32], family: Option<u32>) -> Vec<f32> {
        let mut grams: Vec<(u32, f32)> = letters(features).collect();
        grams.iter_mut().for_each(|(gram, weight)| *weight *= self.rarity(*gram));
        let length = grams.iter().map(|(_, w)| w * w).sum::<f32>().sqrt().max(1e-6);
        let mut shared = vec![0.0f32; self.rows.len()];
        for (gram, weight) in &grams {
            for (row, other) in self.postings.get(gram).into_iter().flatten() {
                shared[*row as usize] += weight * other / length;
            }
        }
        let mut leans = vec![self.lean(shared.iter().copied().zip(&self.rows), family)];
        if !features.dense.is_empty() {
            let like = |row: &Example| likeness.get(row.place? as usize).copied();
            leans.push(self.lean(self.rows.iter().filter_map(|row| Some((like(row)?, row))), family));
        }
        leans
    }

    fn lean<'a>(&self, likeness: impl Iterator<Item = (f32, &'a Example)>, family: Option<u32>) -> f32 {
        let mut best = [[0.0f32; NEAREST]; 2];
        for (like, row) in likeness.filter(|(_, r)| Some(r.family) != family) {
            let best = &mut best[usize::from(row.own)];
            if like > best[NEAREST - 1] {
                best[NEAREST - 1] = like;
                best.sort_by(|a, b| b.total_cmp(a));
            }
        }
        let mean = |best: [f32; NEAREST]| best.iter().sum::<f32>() / NEAREST as f32;
        mean(best[1]) - mean(best[0])
    }
}

fn letters(features: &Features) -> impl Iterator<Item = (u32, f32)> + '_ {
    features.sparse.iter().copied().filter(|(gram, _)| (*gram as usize) < BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_leans_to_the_label_of_what_is_near_and_its_own_family_does_not_count() {
        let row = |text: &str, vector: [f32; 2], label: &str, family: u32| Training {
            features: Features::new(text, &vector),
            label: label.into(),
            family,
        };
        let rows = [
            row("cheap watches", [1.0, 0.0], "spam", 1),
            row("cheap watches here", [0.9, 0.1], "spam", 2),
            row("where is my invoice", [0.0, 1.0], "ok", 3),
            row("my invoice is wrong", [0.1, 0.9], "ok", 4),
        ];
        let catalogue = Catalogue::of(rows.iter().map(|r| r.features.dense.as_slice()));
        let nearest = Nearest::of(&rows, "spam", &catalogue);
        let leans = |text: &str, vector: &[f32], family| {
            nearest.leans(&Features::new(text, vector), &catalogue.gallery.placed(vector).likeness, family)
        };
        assert!(leans("cheap watches", &[1.0, 0.0], None).iter().all(|lean| *lean > 0.3));
        assert!(leans("the invoice", &[0.0, 1.0], None).iter().all(|lean| *lean < -0.1));
        assert_eq!(leans("cheap watches", &[], None).len(), 1, "no vector, no opinion of it");
        assert!(leans("cheap watches", &[1.0, 0.0], Some(1))[0] < leans("cheap watches", &[1.0, 0.0], None)[0]);
        let none = Nearest::of(&[], "spam", &Catalogue::default());
        assert_eq!(none.leans(&Features::new("words", &[1.0]), &[], None), [0.0, 0.0]);
    }
}
