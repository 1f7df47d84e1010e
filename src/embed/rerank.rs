//! Reranking with a cross-encoder: question and passage are read together, and one score says how well the passage
//! answers (Nogueira & Cho, arXiv:1901.04085). Slower than comparing vectors and better, so it orders the few that a
//! search found.
//!
//! The scores are those of the model's own head, through a logistic function: 0..1, comparable within one question.
//! Everything is `f32`: a score is a small difference of large numbers.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokenizers::{Encoding, TruncationDirection};

use super::encoder::{Encoder, Input};
use super::folder::EncoderConfig;
use super::vocabulary::Words;
use super::weights::{self, Head};
use super::{EmbedError, gguf, groups, load_words, read_weights};
use crate::compute::encoder::Precision;
use crate::compute::for_each_index;

/// A question may take at most this share of what the model reads.
const QUESTION_SHARE: usize = 2;

/// A cross-encoder. Cheap to clone; calls block (use `spawn_blocking` from async code).
#[derive(Clone)]
pub struct Reranker {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    words: Words,
    encoder: Encoder,
    head: Head,
    max_tokens: usize,
}

/// A question with a passage, as the model reads it.
struct Pair {
    ids: Vec<u32>,
    second_from: usize,
    cut: bool,
}

/// How well passages answer a question, in the order of the passages.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankScores {
    /// 0..1
    pub scores: Vec<f32>,
    /// Tokens read of all pairs.
    pub tokens: usize,
    /// A passage, or the question beside it, was longer than the model reads.
    pub cut: Vec<bool>,
}

impl Reranker {
    /// Loads a folder with `config.json`, `tokenizer.json` and `model.safetensors` of a sequence classifier with one
    /// score: BERT (MiniLM), XLM-RoBERTa (bge-reranker) or ModernBERT (gte-reranker); or a GGUF file of such a model.
    ///
    /// # Errors
    /// Names the file that is missing, broken or of another architecture, and what to do.
    pub fn load(id: &str, dir: &Path) -> Result<Self, EmbedError> {
        let (config, words, (encoder, head)) = if dir.extension().is_some_and(|end| end == "gguf") {
            let (file, config, words) = gguf::read_reranker(dir)?;
            let parts = weights::load_gguf_with_head(dir, &file, &config, Precision::F32)?;
            (config, words, parts)
        } else {
            let config = EncoderConfig::read(dir)?;
            let (words, _) = load_words(dir, &config)?;
            let (path, bytes) = read_weights(dir)?;
            let parts = weights::load_with_head(&path, &bytes, &config, Precision::F32)?;
            (config, words, parts)
        };
        let inner = Inner { id: id.into(), words, encoder, head, max_tokens: config.max_tokens() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name it was loaded under.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Tokens that are read of a question with a passage.
    pub fn max_tokens(&self) -> usize {
        self.inner.max_tokens
    }

    /// How well each passage answers the question.
    ///
    /// # Errors
    /// `Compute` where the model itself fails.
    pub fn rerank(&self, question: &str, passages: &[&str]) -> Result<RerankScores, EmbedError> {
        let mut scores = self.logits(question, passages)?;
        scores.scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
        Ok(scores)
    }

    /// The same with the head's own scores.
    fn logits(&self, question: &str, passages: &[&str]) -> Result<RerankScores, EmbedError> {
        let inner = &*self.inner;
        let question = inner.words.encode(question.trim())?;
        let read: Vec<OnceLock<Result<Pair, EmbedError>>> = passages.iter().map(|_| OnceLock::new()).collect();
        for_each_index(passages.len(), |at| {
            read[at].get_or_init(|| inner.pair(question.clone(), passages[at]));
        });
        let read = read.into_iter().filter_map(OnceLock::into_inner).collect::<Result<Vec<Pair>, _>>()?;
        let mut order: Vec<usize> = (0..read.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(read[*at].ids.len()));
        let groups = groups(&order, |at| read[at].ids.len());
        let scores: Vec<OnceLock<f32>> = read.iter().map(|_| OnceLock::new()).collect();
        for_each_index(groups.len(), |group| {
            let members = groups[group];
            let inputs = members.iter().map(|at| Input { ids: &read[*at].ids, second_from: read[*at].second_from });
            let inputs: Vec<Input<'_>> = inputs.collect();
            inner.encoder.forward(&inputs, |member, tokens| {
                scores[members[member]].get_or_init(|| inner.head.score(tokens));
            });
        });
        Ok(RerankScores {
            scores: scores.into_iter().filter_map(OnceLock::into_inner).collect(),
            tokens: read.iter().map(|pair| pair.ids.len()).sum(),
            cut: read.iter().map(|pair| pair.cut).collect(),
        })
    }
}

impl Inner {
    /// Joins question and passage; the passage's end is cut where both are too long, the question's beyond its share.
    fn pair(&self, mut question: Encoding, passage: &str) -> Result<Pair, EmbedError> {
        let room = self.max_tokens.saturating_sub(self.words.added(true)).max(2);
        let mut passage = self.words.encode(passage.trim())?;
        let whole = question.len() + passage.len();
        question.truncate((room / QUESTION_SHARE).max(1), 0, TruncationDirection::Right);
        passage.truncate((room - question.len().min(room)).max(1), 0, TruncationDirection::Right);
        let cut = question.len() + passage.len() < whole;
        let joined = self.words.complete(question, Some(passage))?;
        let ids = joined.get_ids().to_vec();
        let second_from = joined.get_type_ids().iter().position(|kind| *kind > 0).unwrap_or(ids.len());
        Ok(Pair { ids, second_from, cut })
    }
}

#[cfg(test)]
#[path = "rerank_tests.rs"]
mod tests;
