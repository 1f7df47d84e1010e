//! Ordering what a search found by a cross-encoder.

use super::chunk::embedded_text;
use super::{KbError, Passage};
use crate::embed::Reranker;

/// Passages that are read again, best first; the cross-encoder reads each together with the query.
const RERANKED: usize = 16;

/// Puts the first passages in the order of their scores; a passage's `score` then only orders, as before.
///
/// # Errors
/// Where the model fails.
pub(super) fn order(reranker: &Reranker, query: &str, passages: &mut [Passage]) -> Result<(), KbError> {
    let first = passages.len().min(RERANKED);
    let texts: Vec<String> = passages[..first].iter().map(|passage| embedded_text(&passage.chunk)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let scores = reranker.rerank(query, &texts)?.scores;
    for (passage, score) in passages.iter_mut().zip(scores) {
        passage.score = score;
    }
    // Fused scores are far below 1: what was not read again stays behind, in its order.
    passages[first..].iter_mut().for_each(|passage| passage.score -= 1.0);
    passages.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(())
}
