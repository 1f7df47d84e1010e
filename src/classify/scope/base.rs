//! Examples made ready to be compared with: their words and letters, their vectors and groups.

use std::collections::{BTreeMap, HashMap};

use super::super::gallery::{Catalogue, Gallery};
use super::super::ngrams::char_ngrams;
use super::intents::Intents;
use super::space::{Whitening, mean, minus, squared};

/// Nearest examples that are averaged.
const NEAREST: usize = 8;
/// Nearest examples among which the best group is sought, and how many of a group's are averaged.
const NEIGHBOURS: usize = 60;
const OF_A_GROUP: usize = 10;
/// How much of a sphere every covariance gets, however many rows there are: far from the examples, the directions in
/// which they hardly vary would otherwise decide all.
const LEAST_SHRINK: f64 = 0.2;
/// Letters of a word that count: an ending says nothing of the subject.
const STEM_LETTERS: usize = 5;
/// Those that decide alone, among the measures of words and letters, and among all: the others only speak beside
/// what else a detector knows.
pub(super) const DECIDING_WORDS: [usize; 3] = [0, 1, 5];
pub(super) const DECIDING: [usize; 6] = [1, 5, WORD_SIGNS + 1, WORD_SIGNS + 5, WORD_SIGNS + 7, WORD_SIGNS + 8];
/// Measures of words and letters, and of all.
pub(super) const WORD_SIGNS: usize = 6;
pub(super) const SIGNS: usize = WORD_SIGNS + 9;

/// The examples, ready to be compared.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Base {
    texts: HashMap<String, u32>,
    /// (number, place of its vector, group) of the examples that have one.
    rows: Vec<(u32, u32, usize)>,
    vectors: Gallery,
    /// Under `within`: the groups' means; under `whole`: the mean of all.
    means: Vec<Vec<f32>>,
    within: Whitening,
    centre: Vec<f32>,
    whole: Whitening,
    /// Mean squared distances of the examples themselves.
    usual: (f32, f32),
    intents: Intents,
    /// Mean and spread of the groups' claims on the examples.
    claims: (f32, f32),
    letters: Letters,
    /// Word stem -> examples that have it.
    postings: HashMap<String, Vec<u32>>,
    /// Length of each example in its words' rarity.
    lengths: HashMap<u32, f32>,
    count: usize,
}

impl Base {
    pub fn of(kept: &[usize], texts: &[&str], vectors: &[Vec<f32>], groups: &[usize]) -> Self {
        let rows: Vec<(u32, Vec<f32>, usize)> = kept
            .iter()
            .filter(|&&i| !vectors[i].is_empty())
            .map(|&i| (i as u32, vectors[i].clone(), groups[i]))
            .collect();
        let mut postings: HashMap<String, Vec<u32>> = HashMap::new();
        for &i in kept {
            for stem in stems(texts[i]) {
                postings.entry(stem).or_default().push(i as u32);
            }
        }
        let known: HashMap<String, u32> = kept.iter().map(|&i| (texts[i].to_string(), i as u32)).collect();
        let mut base = Self {
            texts: known,
            rows: Vec::new(),
            vectors: Gallery::default(),
            means: Vec::new(),
            within: Whitening::default(),
            centre: Vec::new(),
            whole: Whitening::default(),
            usual: (1.0, 1.0),
            intents: Intents::default(),
            claims: (0.0, 1.0),
            letters: Letters::of(kept, texts),
            postings,
            lengths: HashMap::new(),
            count: kept.len(),
        };
        let length = |i: usize| stems(texts[i]).iter().map(|s| base.rarity(s)).sum::<f32>();
        let lengths = kept.iter().map(|&i| (i as u32, length(i))).collect();
        base.lengths = lengths;
        base.place(rows);
        base
    }

    /// Means and covariances of the vectors.
    fn place(&mut self, rows: Vec<(u32, Vec<f32>, usize)>) {
        let Some(dimensions) = rows.first().map(|r| r.1.len()) else { return };
        let mut by_group: HashMap<usize, Vec<&Vec<f32>>> = HashMap::new();
        rows.iter().for_each(|(_, v, g)| by_group.entry(*g).or_default().push(v));
        let mut groups: Vec<(usize, Vec<&Vec<f32>>)> = by_group.into_iter().collect();
        groups.sort_by_key(|(g, _)| *g);
        let means: HashMap<usize, Vec<f32>> = groups.iter().map(|(g, v)| (*g, mean(v, dimensions))).collect();
        let centre = mean(&rows.iter().map(|r| &r.1).collect::<Vec<_>>(), dimensions);
        self.within = Whitening::of(rows.iter().map(|(_, v, g)| minus(v, &means[g])), dimensions, LEAST_SHRINK);
        self.whole = Whitening::of(rows.iter().map(|(_, v, _)| minus(v, &centre)), dimensions, LEAST_SHRINK);
        self.means = groups.iter().map(|(g, _)| self.within.apply(&means[g])).collect();
        self.centre = self.whole.apply(&centre);
        let numbers: HashMap<usize, usize> = groups.iter().enumerate().map(|(n, (g, _))| (*g, n)).collect();
        let lessons: Vec<(&[f32], usize)> = rows.iter().map(|(_, v, g)| (v.as_slice(), numbers[g])).collect();
        self.intents = Intents::of(&lessons, groups.len());
        let claims: Vec<f32> =
            lessons.iter().step_by(lessons.len().div_ceil(200).max(1)).map(|r| self.intents.claim(r.0)).collect();
        let middle = claims.iter().sum::<f32>() / claims.len().max(1) as f32;
        let spread = claims.iter().map(|c| (c - middle) * (c - middle)).sum::<f32>() / claims.len().max(1) as f32;
        self.claims = (middle, spread.sqrt().max(1e-3));
        let catalogue = Catalogue::of(rows.iter().map(|r| r.1.as_slice()));
        self.rows = rows.iter().filter_map(|(n, v, g)| Some((*n, catalogue.place(v)?, *g))).collect();
        self.vectors = catalogue.gallery;
        let sample = rows.iter().step_by(rows.len().div_ceil(200).max(1));
        let distances: Vec<(f32, f32)> = sample.map(|(_, v, _)| self.distances(v)).collect();
        let average = |of: fn(&(f32, f32)) -> f32| {
            (distances.iter().map(of).sum::<f32>() / distances.len().max(1) as f32).max(1e-3)
        };
        self.usual = (average(|d| d.0), average(|d| d.1));
    }

    /// Squared distances to the nearest group and to the centre of all.
    fn distances(&self, vector: &[f32]) -> (f32, f32) {
        let placed = self.within.apply(vector);
        let near = self.means.iter().map(|m| squared(&placed, m)).fold(f32::INFINITY, f32::min);
        (near, squared(&self.whole.apply(vector), &self.centre))
    }

    pub fn signs(&self, text: &str, vector: &[f32], own: Option<u32>) -> Vec<f32> {
        let mut signs = self.word_signs(text, own);
        let all = self.vectors.placed(vector).likeness;
        let others = self.rows.iter().filter(|r| Some(r.0) != own);
        let mut likeness: Vec<(f32, usize)> = others.map(|(_, place, g)| (all[*place as usize], *g)).collect();
        if likeness.len() > NEIGHBOURS {
            likeness.select_nth_unstable_by(NEIGHBOURS, |a, b| b.0.total_cmp(&a.0));
            likeness.truncate(NEIGHBOURS);
        }
        likeness.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = best_group(&likeness);
        likeness.truncate(NEAREST);
        let first = likeness.first().copied().unwrap_or_default();
        let average = likeness.iter().map(|l| l.0).sum::<f32>() / likeness.len().max(1) as f32;
        let agree = likeness.iter().filter(|l| l.1 == first.1).count() as f32 / NEAREST as f32;
        let (near, all) = self.distances(vector);
        let (near, all) = (near / self.usual.0, all / self.usual.1);
        let claim = (self.claims.0 - self.intents.claim(vector)) / self.claims.1;
        signs.extend([
            1.0 - first.0,
            1.0 - average,
            1.0 - agree,
            near.min(4.0) - 1.0,
            all.min(4.0) - 1.0,
            (near - all).clamp(-2.0, 2.0),
            (1.0 - first.0) * (1.0 - agree),
            1.0 - best,
            (claim / 3.0).clamp(-2.0, 2.0),
        ]);
        signs
    }

    /// The number of an example's text.
    pub fn number(&self, text: &str) -> Option<u32> {
        self.texts.get(text).copied()
    }

    pub fn word_signs(&self, text: &str, own: Option<u32>) -> Vec<f32> {
        let stems = stems(text);
        let holds = |stem: &String| self.postings.get(stem).is_some_and(|rows| rows.iter().any(|r| Some(*r) != own));
        let all: f32 = stems.iter().map(|s| self.rarity(s)).sum::<f32>().max(1e-3);
        let known: f32 = stems.iter().filter(|s| holds(s)).map(|s| self.rarity(s)).sum();
        let mut shared: HashMap<u32, f32> = HashMap::new();
        for stem in &stems {
            let rarity = self.rarity(stem);
            for row in self.postings.get(stem).into_iter().flatten().filter(|r| Some(**r) != own) {
                *shared.entry(*row).or_default() += rarity;
            }
        }
        let nearest = shared
            .iter()
            .map(|(row, sum)| sum / (all * self.lengths.get(row).copied().unwrap_or(1.0).max(1e-3)).sqrt())
            .fold(0.0, f32::max);
        let unknown = stems.iter().filter(|s| !holds(s)).count();
        vec![
            1.0 - known / all,
            1.0 - nearest,
            (unknown as f32 / 3.0).min(1.0),
            (stems.len() as f32 / 12.0).min(1.0),
            f32::from(u8::from(stems.is_empty())),
            1.0 - self.letters.nearest(text, own),
        ]
    }

    /// 0 (in every example) to 1 (in none).
    fn rarity(&self, stem: &str) -> f32 {
        let n = self.count.max(1) as f32;
        let df = self.postings.get(stem).map_or(0, Vec::len) as f32;
        ((n + 1.0) / (df + 0.5)).ln().max(0.05) / (2.0 * (n + 1.0)).ln()
    }
}

/// Highest mean likeness of the nearest examples of one group; a group with few among the neighbours is not the best.
fn best_group(likeness: &[(f32, usize)]) -> f32 {
    let last = likeness.last().map_or(0.0, |l| l.0);
    let mut sums: HashMap<usize, (f32, usize)> = HashMap::new();
    for (like, group) in likeness {
        let (sum, count) = sums.entry(*group).or_default();
        if *count < OF_A_GROUP {
            (*sum, *count) = (*sum + like, *count + 1);
        }
    }
    // Those that are not among the neighbours are at most as near as the last that is.
    sums.values().map(|(sum, n)| (sum + (OF_A_GROUP - n) as f32 * last) / OF_A_GROUP as f32).fold(0.0, f32::max)
}

/// The examples' letters: n-grams weighted by how rare they are.
#[derive(serde::Serialize, serde::Deserialize)]
struct Letters {
    /// Hashed n-gram -> (example, weight), the weights of an example of L2 norm 1.
    postings: BTreeMap<u32, Vec<(u32, f32)>>,
    count: f32,
}

impl Letters {
    fn of(kept: &[usize], texts: &[&str]) -> Self {
        let mut postings: BTreeMap<u32, Vec<(u32, f32)>> = BTreeMap::new();
        for &i in kept {
            for (gram, weight) in char_ngrams(texts[i]) {
                postings.entry(gram).or_default().push((i as u32, weight));
            }
        }
        let mut letters = Self { postings, count: kept.len() as f32 };
        let rarity: HashMap<u32, f32> = letters.postings.keys().map(|g| (*g, letters.rarity(*g))).collect();
        let mut lengths: HashMap<u32, f32> = HashMap::new();
        for (gram, rows) in &mut letters.postings {
            for (row, weight) in rows {
                *weight *= rarity[gram];
                *lengths.entry(*row).or_default() += *weight * *weight;
            }
        }
        for (row, weight) in letters.postings.values_mut().flatten() {
            *weight /= lengths[row].sqrt().max(1e-6);
        }
        letters
    }

    fn rarity(&self, gram: u32) -> f32 {
        ((self.count + 1.0) / (self.postings.get(&gram).map_or(0, Vec::len) as f32 + 1.0)).ln() + 1.0
    }

    /// Cosine with the nearest example: 0..1.
    fn nearest(&self, text: &str, own: Option<u32>) -> f32 {
        let mut grams = char_ngrams(text);
        grams.iter_mut().for_each(|(gram, weight)| *weight *= self.rarity(*gram));
        let length = grams.iter().map(|(_, w)| w * w).sum::<f32>().sqrt().max(1e-6);
        let mut shared: HashMap<u32, f32> = HashMap::new();
        for (gram, weight) in &grams {
            for (row, other) in self.postings.get(gram).into_iter().flatten() {
                *shared.entry(*row).or_default() += weight * other;
            }
        }
        shared.iter().filter(|(row, _)| Some(**row) != own).map(|(_, sum)| sum / length).fold(0.0, f32::max)
    }
}

/// Distinct beginnings of the words.
pub(super) fn stems(text: &str) -> Vec<String> {
    let lowered = text.to_lowercase();
    let mut stems: Vec<String> = lowered
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(|w| w.chars().take(STEM_LETTERS).collect())
        .collect();
    stems.sort();
    stems.dedup();
    stems
}
