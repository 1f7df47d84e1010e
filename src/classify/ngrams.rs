//! Hashed character n-grams: a text as a sparse unit vector that survives typos, inflection and mixed alphabets.

/// Size of the hashed space.
pub const BUCKETS: usize = 1 << 14;
/// Most signs beside the n-grams.
pub const SIGNS: usize = 64;
/// Weight of the n-grams beside signs: a sign says more than any letters.
const BESIDE_SIGNS: f32 = 0.6;
/// Longest run of characters that is read; a classifier of messages needs no more.
const MAX_CHARS: usize = 600;

/// One text's features.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// (bucket, weight), buckets ascending: n-grams with weights of L2 norm 1, from [`BUCKETS`] on the signs.
    pub sparse: Vec<(u32, f32)>,
    /// A sentence vector; empty where there is none.
    pub dense: Vec<f32>,
}

impl Features {
    /// The n-grams of `text` and, beside them, its vector.
    pub fn new(text: &str, dense: &[f32]) -> Self {
        Self { sparse: char_ngrams(text), dense: dense.to_vec() }
    }

    /// The same with signs beside them: what rules saw in the text, each about 0..1, at most [`SIGNS`].
    pub fn signed(text: &str, dense: &[f32], signs: &[f32]) -> Self {
        let mut features = Self::new(text, dense);
        features.sparse.iter_mut().for_each(|(_, w)| *w *= BESIDE_SIGNS);
        let signs = signs.iter().take(SIGNS).enumerate().filter(|(_, s)| **s != 0.0);
        features.sparse.extend(signs.map(|(i, s)| ((BUCKETS + i) as u32, *s)));
        features
    }
}

/// Character 3- to 5-grams inside words and whole words, lower-cased; counts damped by the logarithm.
pub fn char_ngrams(text: &str) -> Vec<(u32, f32)> {
    let mut counts: std::collections::BTreeMap<u32, f32> = std::collections::BTreeMap::new();
    let lowered: String = text.chars().take(MAX_CHARS).flat_map(char::to_lowercase).collect();
    let mut previous: Option<String> = None;
    for word in lowered.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        let padded: Vec<char> = std::iter::once('<').chain(word.chars()).chain(std::iter::once('>')).collect();
        for size in 3..=5 {
            for gram in padded.windows(size) {
                *counts.entry(bucket(gram.iter().copied())).or_default() += 1.0;
            }
        }
        *counts.entry(bucket(word.chars().chain("#w".chars()))).or_default() += 1.0;
        if let Some(before) = &previous {
            *counts.entry(bucket(before.chars().chain(" ".chars()).chain(word.chars()))).or_default() += 1.0;
        }
        previous = Some(word.to_string());
    }
    let mut grams: Vec<(u32, f32)> = counts.into_iter().map(|(b, n)| (b, 1.0 + f32::ln(n))).collect();
    let norm = grams.iter().map(|(_, w)| w * w).sum::<f32>().sqrt();
    if norm > 0.0 {
        grams.iter_mut().for_each(|(_, w)| *w /= norm);
    }
    grams
}

/// FNV-1a over the characters, folded into the space.
fn bucket(chars: impl Iterator<Item = char>) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for c in chars {
        hash = (hash ^ c as u64).wrapping_mul(0x0100_0000_01b3);
    }
    ((hash ^ (hash >> 29)) % BUCKETS as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &[(u32, f32)], b: &[(u32, f32)]) -> f32 {
        a.iter().map(|(x, w)| b.iter().filter(|(y, _)| x == y).map(|(_, v)| w * v).sum::<f32>()).sum()
    }

    #[test]
    fn a_typo_leaves_texts_near_and_another_subject_far() {
        let text = char_ngrams("заблокировать посетителя");
        assert!(cosine(&text, &char_ngrams("заблокровать посетителя")) > 0.5);
        assert!(cosine(&text, &char_ngrams("сменить тариф")) < 0.2);
    }

    #[test]
    fn an_empty_text_has_no_features() {
        assert!(char_ngrams(" ...!?").is_empty());
    }
}
