//! Hybrid search: two legs, merged by reciprocal rank (Cormack, Clarke and Büttcher, SIGIR 2009).

use std::cmp::Ordering::Equal;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::Index;
use super::lexical::{LexicalQuery, scope};
use crate::embed::Role;
use crate::kb::{KbError, Passage, SearchQuery, SourceKind, detect_lang};

/// How flat the merge is: rank r counts 1 / (60 + r).
const RRF_K: f32 = 60.0;
/// Hits taken from each leg.
const LEG_HITS: usize = 50;

impl Index {
    /// Passages for a query, best first.
    pub fn search(&self, query: &SearchQuery<'_>) -> Result<Vec<Passage>, KbError> {
        if query.text.trim().is_empty() || query.limit == 0 {
            return Ok(Vec::new());
        }
        let lang = query.lang.map_or_else(|| detect_lang(query.text, &self.languages), str::to_string);
        let scopes = self.scopes(query);
        let hits = LEG_HITS.max(query.limit * 3);
        let lexical_query =
            LexicalQuery { text: query.text, lang: &lang, kinds: query.kinds, scopes: &scopes, limit: hits };
        let lexical = self.stored.lexical.search(&lexical_query)?;
        let vector = self.query_vector(query, &lang)?;
        let dense = match &vector {
            Some(vector) => self.dense_hits(vector, &lang, query.kinds, &scopes, hits)?,
            None => Vec::new(),
        };
        let bm25: HashMap<u32, f32> = lexical.iter().copied().collect();
        let order = fused(&[&dense, &lexical.iter().map(|(at, _)| *at).collect::<Vec<_>>()]);
        let stems = self.vocabulary.query(query.text);
        let by_glossary = self.embedder.reads_by_glossary(&lang);
        let mut passages = Vec::with_capacity(query.limit);
        let mut kept: Vec<u32> = Vec::with_capacity(query.limit);
        for (at, score) in order {
            if kept.iter().any(|other| self.says_the_same(*other, at)) {
                continue;
            }
            kept.push(at);
            let chunk = &self.chunks[at as usize];
            let cosines = match (&vector, &self.stored.dense) {
                (Some(vector), Some(dense)) => dense.cosines(vector, at),
                _ => Vec::new(),
            };
            let best = |cosines: &[f32]| cosines.iter().copied().reduce(f32::max);
            passages.push(Passage {
                score,
                cosine: best(&cosines),
                text_cosine: cosines.first().copied(),
                question_cosine: best(cosines.get(1..).unwrap_or_default()),
                bm25: bm25.get(&at).copied(),
                by_glossary,
                coverage: self.vocabulary.coverage(&stems, at, &chunk.lang),
                question_coverage: self.vocabulary.question_coverage(&stems, chunk),
                chunk: chunk.clone(),
            });
            if passages.len() == query.limit {
                break;
            }
        }
        Ok(passages)
    }

    /// What the operator may use besides everyone's chunks: its sample answers and its instruction.
    fn scopes(&self, query: &SearchQuery<'_>) -> Vec<String> {
        let Some(operator) = query.operator else { return Vec::new() };
        let instruction = match query.version {
            Some(version) => Some(format!("operators/{operator}/{version}.md")),
            None => self.active_instructions.get(operator).cloned(),
        };
        std::iter::once(format!("operators/{operator}")).chain(instruction).collect()
    }

    /// The query's vector, or `None` where the dense leg stands still.
    fn query_vector(&self, query: &SearchQuery<'_>, lang: &str) -> Result<Option<Vec<f32>>, KbError> {
        let text = self.embedder.readable(lang, query.text);
        if !self.embedder.reads(lang) && !self.told_of_language.swap(true, Ordering::Relaxed) {
            let (model, reads) = (self.embedder.id(), self.embedder.languages().join(", "));
            let how = if text.is_some() { "by words, and by rough English from a glossary" } else { "by words alone" };
            tracing::warn!(
                lang,
                model,
                reads,
                "the embedding model does not read this language: such questions are looked up {how}; \
                 set models.embed to a multilingual model to compare meanings fully"
            );
        }
        match (text, query.vector) {
            (None, _) => Ok(None),
            _ if self.stored.dense.is_none() => Ok(None),
            (_, Some(vector)) => Ok(Some(vector.to_vec())),
            (Some(text), None) => Ok(self.embedder.embed(&[&*text], Role::Query)?.vectors.pop()),
        }
    }

    /// Chunks by the nearest of their vectors, best first.
    fn dense_hits(
        &self,
        vector: &[f32],
        lang: &str,
        kinds: &[SourceKind],
        scopes: &[String],
        hits: usize,
    ) -> Result<Vec<u32>, KbError> {
        let Some(dense) = &self.stored.dense else { return Ok(Vec::new()) };
        let glossed = self.embedder.reads_by_glossary(lang);
        let allowed = |at: u32| {
            self.chunks.get(at as usize).is_some_and(|chunk| {
                // Rough English is compared with its like only.
                let comparable = chunk.lang == lang || !(glossed || self.embedder.reads_by_glossary(&chunk.lang));
                let in_scope = chunk.operator.is_none() || scopes.contains(&scope(chunk));
                comparable && in_scope && (kinds.is_empty() || kinds.contains(&chunk.kind))
            })
        };
        let mut chunks: Vec<u32> = Vec::with_capacity(hits);
        // A chunk has several vectors; ask for more of them than chunks are wanted.
        for (key, _) in dense.search(vector, hits * 3, allowed)? {
            if !chunks.contains(&key.chunk) {
                chunks.push(key.chunk);
            }
        }
        chunks.truncate(hits);
        Ok(chunks)
    }

    fn says_the_same(&self, a: u32, b: u32) -> bool {
        let (first, second) = (&self.chunks[a as usize], &self.chunks[b as usize]);
        first.kind == second.kind && first.lang == second.lang && self.vocabulary.are_alike(a, b)
    }
}

/// Merges ranked lists: (item, score), best first; equals in the order of their positions.
fn fused(lists: &[&[u32]]) -> Vec<(u32, f32)> {
    let mut scores: HashMap<u32, f32> = HashMap::new();
    for list in lists {
        for (rank, at) in list.iter().enumerate() {
            *scores.entry(*at).or_default() += 1.0 / (RRF_K + rank as f32 + 1.0);
        }
    }
    let mut order: Vec<(u32, f32)> = scores.into_iter().collect();
    order.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Equal).then(a.0.cmp(&b.0)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_legs_find_comes_before_what_one_finds() {
        let order: Vec<u32> = fused(&[&[1, 2, 3], &[4, 2]]).into_iter().map(|(at, _)| at).collect();
        assert_eq!(order[0], 2);
        assert_eq!(order[1..3], [1, 4]);
    }
}
