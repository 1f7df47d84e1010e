//! Is a message like anything that a company is asked? Learnt from examples of what is in scope alone.
//!
//! Several plain measures of strangeness are taken of a message: cosine with the nearest examples, the distance to the
//! nearest *group* (an intent, or a cluster where none are named) under the groups' common, shrunk covariance, against
//! the distance to all examples at once (Lee et al. 2018; Ren et al. 2021, "relative Mahalanobis"), how many of its
//! words any example has, and how much of one example's words it shares. What each is worth is learnt by playing the
//! stranger: whole groups are hidden, and what they ask must look strange to the rest.

use std::collections::HashMap;

use super::logistic::{Detector, Training, train_detector};
use super::ngrams::Features;

/// Nearest examples that are looked at.
const NEAREST: usize = 8;
/// Times that groups are hidden.
const FOLDS: usize = 4;
/// Most rows judged a fold.
const JUDGED: usize = 700;
/// Share of in-scope messages that may be called strange.
const SPARED_SHARE: f32 = 0.05;
/// Letters of a word that count: an ending says nothing of the subject.
const STEM_LETTERS: usize = 5;

/// What is in scope.
pub struct Scope {
    base: Base,
    dense: Option<Detector>,
    words: Option<Detector>,
    /// Strangeness from which a message is out of scope.
    pub threshold: f32,
}

impl Scope {
    /// Learns from examples: their texts, vectors (empty where a text has none), and groups ("" or missing: none named).
    pub fn learn(texts: &[&str], vectors: &[Vec<f32>], groups: &[&str]) -> Self {
        let groups = numbered(groups, vectors, texts.len());
        let (mut dense, mut words) = (Vec::new(), Vec::new());
        for fold in 0..FOLDS {
            let hidden = |i: usize| scattered(groups[i]) % FOLDS == fold;
            let kept: Vec<usize> = (0..texts.len()).filter(|&i| !hidden(i) && scattered(i) % FOLDS != fold).collect();
            let base = Base::of(&kept, texts, vectors, &groups);
            let asked = (0..texts.len()).filter(|&i| hidden(i) || scattered(i) % FOLDS == fold);
            let (strange, usual): (Vec<usize>, Vec<usize>) = asked.partition(|&i| hidden(i));
            for (label, rows) in [("strange", strange), ("usual", usual)] {
                let step = rows.len().div_ceil(JUDGED).max(1);
                for &i in rows.iter().step_by(step) {
                    let row =
                        |signs: &[f32]| Training { features: Features::signed("", &[], signs), label: label.into() };
                    words.push(row(&base.word_signs(texts[i], None)));
                    if !vectors[i].is_empty() {
                        dense.push(row(&base.signs(texts[i], &vectors[i], None)));
                    }
                }
            }
        }
        let train = |rows: &[Training]| {
            let rows: Vec<&Training> = rows.iter().collect();
            train_detector(&rows, "strange", |label| label == "usual", SPARED_SHARE, 0.3)
        };
        let all: Vec<usize> = (0..texts.len()).collect();
        let (dense, words) = (train(&dense), train(&words));
        let threshold = dense.as_ref().or(words.as_ref()).map_or(1.0, |d| d.threshold);
        Self { base: Base::of(&all, texts, vectors, &groups), dense, words, threshold }
    }

    /// Probability that the message is out of scope: 0..1. `vector`: empty where there is none.
    pub fn strangeness(&self, text: &str, vector: &[f32]) -> f32 {
        let read = |detector: &Option<Detector>, signs: &[f32]| {
            detector.as_ref().map(|d| d.probability(&Features::signed("", &[], signs)))
        };
        let by_words = || read(&self.words, &self.base.word_signs(text, None));
        match vector.is_empty() || self.dense.is_none() {
            true => by_words().unwrap_or(0.0),
            false => read(&self.dense, &self.base.signs(text, vector, None)).unwrap_or(0.0),
        }
    }

    /// The measures themselves, for a detector that knows more: each about -1..1; 0 where there is no vector.
    /// An example's own text does not count for itself.
    pub fn signs(&self, text: &str, vector: &[f32]) -> Vec<f32> {
        let own = self.base.texts.get(text).copied();
        match vector.is_empty() || self.base.rows.is_empty() {
            true => {
                let mut signs = self.base.word_signs(text, own);
                signs.resize(WORD_SIGNS + DENSE_SIGNS, 0.0);
                signs
            }
            false => self.base.signs(text, vector, own),
        }
    }
}

const WORD_SIGNS: usize = 5;
const DENSE_SIGNS: usize = 7;

/// The examples, ready to be compared.
struct Base {
    texts: HashMap<String, u32>,
    /// (number, unit vector, group) of the examples that have one.
    rows: Vec<(u32, Vec<f32>, usize)>,
    /// Under `within`: the groups' means; under `whole`: the mean of all.
    means: Vec<Vec<f32>>,
    within: Whitening,
    centre: Vec<f32>,
    whole: Whitening,
    /// Mean squared distances of the examples themselves.
    usual: (f32, f32),
    /// Word stem -> examples that have it.
    postings: HashMap<String, Vec<u32>>,
    /// Length of each example in its words' rarity.
    lengths: HashMap<u32, f32>,
    count: usize,
}

impl Base {
    fn of(kept: &[usize], texts: &[&str], vectors: &[Vec<f32>], groups: &[usize]) -> Self {
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
            means: Vec::new(),
            within: Whitening::default(),
            centre: Vec::new(),
            whole: Whitening::default(),
            usual: (1.0, 1.0),
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
        self.within = Whitening::of(rows.iter().map(|(_, v, g)| minus(v, &means[g])), dimensions);
        self.whole = Whitening::of(rows.iter().map(|(_, v, _)| minus(v, &centre)), dimensions);
        self.means = groups.iter().map(|(g, _)| self.within.apply(&means[g])).collect();
        self.centre = self.whole.apply(&centre);
        self.rows = rows;
        let sample = self.rows.iter().step_by(self.rows.len().div_ceil(200).max(1));
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

    fn signs(&self, text: &str, vector: &[f32], own: Option<u32>) -> Vec<f32> {
        let mut signs = self.word_signs(text, own);
        let mut likeness: Vec<(f32, usize)> =
            self.rows.iter().filter(|r| Some(r.0) != own).map(|(_, v, g)| (dot(vector, v), *g)).collect();
        if likeness.len() > NEAREST {
            likeness.select_nth_unstable_by(NEAREST, |a, b| b.0.total_cmp(&a.0));
            likeness.truncate(NEAREST);
        }
        likeness.sort_by(|a, b| b.0.total_cmp(&a.0));
        let first = likeness.first().copied().unwrap_or_default();
        let average = likeness.iter().map(|l| l.0).sum::<f32>() / likeness.len().max(1) as f32;
        let agree = likeness.iter().filter(|l| l.1 == first.1).count() as f32 / NEAREST as f32;
        let (near, all) = self.distances(vector);
        let (near, all) = (near / self.usual.0, all / self.usual.1);
        signs.extend([
            1.0 - first.0,
            1.0 - average,
            1.0 - agree,
            near.min(4.0) - 1.0,
            all.min(4.0) - 1.0,
            (near - all).clamp(-2.0, 2.0),
            (1.0 - first.0) * (1.0 - agree),
        ]);
        signs
    }

    fn word_signs(&self, text: &str, own: Option<u32>) -> Vec<f32> {
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
        ]
    }

    /// 0 (in every example) to 1 (in none).
    fn rarity(&self, stem: &str) -> f32 {
        let n = self.count.max(1) as f32;
        let df = self.postings.get(stem).map_or(0, Vec::len) as f32;
        ((n + 1.0) / (df + 0.5)).ln().max(0.05) / (2.0 * (n + 1.0)).ln()
    }
}

/// Groups as numbers; without names, clusters of the vectors.
fn numbered(groups: &[&str], vectors: &[Vec<f32>], count: usize) -> Vec<usize> {
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
#[derive(Default)]
struct Whitening {
    /// Lower triangle, row by row.
    factor: Vec<f32>,
    dimensions: usize,
}

impl Whitening {
    /// Of centred rows. The covariance is shrunk towards a sphere the more, the fewer rows there are.
    fn of(rows: impl ExactSizeIterator<Item = Vec<f32>>, dimensions: usize) -> Self {
        let (d, n) = (dimensions, rows.len().max(1));
        let mut covariance = vec![0.0f64; d * d];
        for row in rows {
            for i in 0..d {
                let (x, line) = (row[i] as f64, &mut covariance[i * d..i * d + i + 1]);
                line.iter_mut().zip(&row).for_each(|(c, y)| *c += x * *y as f64);
            }
        }
        let trace: f64 = (0..d).map(|i| covariance[i * d + i]).sum::<f64>() / n as f64;
        let shrink = d as f64 / (n + d) as f64;
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
    fn apply(&self, vector: &[f32]) -> Vec<f32> {
        let d = self.dimensions;
        let mut y = vec![0.0f32; d];
        for i in 0..d.min(vector.len()) {
            let line = &self.factor[i * d..i * d + i];
            y[i] = (vector[i] - dot(line, &y[..i])) / self.factor[i * d + i];
        }
        y
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn minus(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x - y).collect()
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn mean(rows: &[&Vec<f32>], dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0f32; dimensions];
    rows.iter().for_each(|row| sum.iter_mut().zip(row.iter()).for_each(|(s, x)| *s += x));
    sum.iter_mut().for_each(|s| *s /= rows.len().max(1) as f32);
    sum
}

/// A number that looks drawn by chance but is always the same.
fn scattered(n: usize) -> usize {
    ((n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

/// Distinct beginnings of the words.
fn stems(text: &str) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of words: a toy embedding in which shared words are near.
    fn vector(text: &str) -> Vec<f32> {
        let mut v = vec![0.0f32; 48];
        for stem in stems(text) {
            let place = stem.bytes().fold(7usize, |h, b| h.wrapping_mul(31).wrapping_add(b as usize)) % 48;
            v[place] += 1.0;
        }
        let norm = dot(&v, &v).sqrt().max(1e-6);
        v.iter().map(|x| x / norm).collect()
    }

    fn examples() -> Vec<String> {
        let things = ["invoice", "widget", "password", "agent", "colour", "sound", "domain", "report"];
        let asks = ["how do i change the", "where is my", "cannot find the", "please show me the", "delete this"];
        things.iter().flat_map(|t| asks.iter().map(move |a| format!("{a} {t}"))).collect()
    }

    fn scope(dense: bool) -> Scope {
        let texts = examples();
        let vectors: Vec<Vec<f32>> = texts.iter().map(|t| if dense { vector(t) } else { Vec::new() }).collect();
        let groups: Vec<&str> = texts.iter().map(|t| t.rsplit(' ').next().unwrap_or("")).collect();
        Scope::learn(&texts.iter().map(|t| t.as_str()).collect::<Vec<_>>(), &vectors, &groups)
    }

    #[test]
    fn a_stranger_is_stranger_than_a_usual_question_with_vectors_and_without() {
        for dense in [true, false] {
            let scope = scope(dense);
            let of = |text: &str| scope.strangeness(text, &if dense { vector(text) } else { Vec::new() });
            assert!(of("where is the invoice") < of("capital city of mongolia and its rivers"), "dense: {dense}");
            assert!(of("where is the invoice") < of("в каком году основан город"), "dense: {dense}");
        }
    }

    #[test]
    fn whitening_makes_the_covariance_a_sphere() {
        let rows: Vec<Vec<f32>> = (0..4000)
            .map(|i| {
                let (a, b) =
                    ((scattered(i) % 2001) as f32 / 1000.0 - 1.0, (scattered(i + 9000) % 2001) as f32 / 1000.0 - 1.0);
                vec![3.0 * a, a + 0.5 * b]
            })
            .collect();
        let whitening = Whitening::of(rows.clone().into_iter(), 2);
        let placed: Vec<Vec<f32>> = rows.iter().map(|r| whitening.apply(r)).collect();
        let moment = |i: usize, j: usize| placed.iter().map(|r| r[i] * r[j]).sum::<f32>() / placed.len() as f32;
        assert!((moment(0, 0) - 1.0).abs() < 0.05 && (moment(1, 1) - 1.0).abs() < 0.05 && moment(0, 1).abs() < 0.05);
    }

    #[test]
    fn without_examples_nothing_is_known_and_nothing_breaks() {
        let scope = Scope::learn(&[], &[], &[]);
        assert_eq!(scope.strangeness("anything", &[1.0]), 0.0);
    }
}
