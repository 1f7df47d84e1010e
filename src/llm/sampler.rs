//! Logits to one token: penalties and biases, then temperature, top-k, top-p and min-p, then one draw.
//!
//! Each sequence has its own random numbers, so a seed gives the same answer alone and in a batch.
//! Top-p is nucleus sampling (Holtzman et al., 2019); min-p is Nguyen et al., 2024; the repetition penalty is CTRL's
//! (Keskar et al., 2019); presence and frequency penalties are OpenAI's, over the answer so far.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use llguidance::toktrie::SimpleVob;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{LlmError, SamplingParams};

/// Most alternatives whose log-probabilities can be asked for (OpenAI's limit).
pub const MAX_TOP_LOGPROBS: usize = 20;

/// The token drawn, with log-probabilities where they were asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub token: u32,
    pub logprobs: Option<Logprobs>,
}

/// Natural logarithms of the model's own probabilities, before penalties, biases and temperature.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logprobs {
    pub chosen: f32,
    /// Best first.
    pub top: Vec<(u32, f32)>,
}

/// Draws a sequence's tokens.
pub(crate) struct Sampler {
    params: SamplingParams,
    top_logprobs: Option<usize>,
    rng: StdRng,
    /// Tokens of prompt and answer, for the repetition penalty.
    seen: HashSet<u32>,
    /// How often each token stands in the answer.
    counts: HashMap<u32, u32>,
}

impl SamplingParams {
    /// Checks every field against its range and the model's vocabulary.
    ///
    /// # Errors
    /// [`LlmError::InvalidParameter`] with the field, the refused value and the range.
    pub fn validate(&self, vocab: usize) -> Result<(), LlmError> {
        fn within(field: &str, value: f32, low: f32, high: f32) -> Result<(), LlmError> {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(LlmError::InvalidParameter(format!("`{field}` is {value}; it must lie between {low} and {high}")))
        }
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 10.0)?;
        for (token, bias) in &self.logit_bias {
            if *token as usize >= vocab {
                return Err(LlmError::InvalidParameter(format!(
                    "`logit_bias` names token {token}; this model's tokens are 0 to {}",
                    vocab.saturating_sub(1)
                )));
            }
            within(&format!("logit_bias[{token}]"), *bias, -100.0, 100.0)?;
        }
        Ok(())
    }
}

impl Sampler {
    /// `params` are valid. Without a seed one is drawn.
    pub fn new(params: SamplingParams, top_logprobs: Option<usize>, prompt: &[u32]) -> Self {
        let rng = match params.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_rng(&mut rand::rng()),
        };
        let seen = if params.repetition_penalty == 1.0 { HashSet::new() } else { prompt.iter().copied().collect() };
        Self { params, top_logprobs, rng, seen, counts: HashMap::new() }
    }

    /// Draws the next token, one of `allowed` where that is given, and remembers it. `logits` are overwritten.
    ///
    /// # Errors
    /// [`LlmError::Engine`] if a logit is NaN or no token is possible.
    pub fn sample(&mut self, logits: &mut [f32], allowed: Option<&SimpleVob>) -> Result<Sample, LlmError> {
        if let Some(token) = logits.iter().position(|l| l.is_nan()) {
            return Err(LlmError::Engine(format!("the model gave NaN as the logit of token {token}")));
        }
        let raw = self.top_logprobs.map(|top| raw_logprobs(logits, top));
        let chosen_before = self.top_logprobs.map(|_| logits.to_vec());
        self.shape(logits);
        if let Some(allowed) = allowed {
            forbid_others(logits, allowed);
        }
        let token = if self.params.temperature == 0.0 { argmax(logits)? } else { self.draw(logits)? };
        if self.params.repetition_penalty != 1.0 {
            self.seen.insert(token);
        }
        *self.counts.entry(token).or_default() += 1;
        let logprobs = raw.zip(chosen_before).map(|((log_sum, top), before)| Logprobs {
            chosen: before[token as usize] - log_sum,
            top: top.into_iter().map(|(id, logit)| (id, logit - log_sum)).collect(),
        });
        Ok(Sample { token, logprobs })
    }

    /// Penalties and biases.
    fn shape(&self, logits: &mut [f32]) {
        let params = &self.params;
        for token in &self.seen {
            let logit = &mut logits[*token as usize];
            *logit = if *logit > 0.0 { *logit / params.repetition_penalty } else { *logit * params.repetition_penalty };
        }
        if params.presence_penalty != 0.0 || params.frequency_penalty != 0.0 {
            for (token, count) in &self.counts {
                logits[*token as usize] -= params.presence_penalty + params.frequency_penalty * *count as f32;
            }
        }
        for (token, bias) in &params.logit_bias {
            logits[*token as usize] += bias;
        }
    }

    fn draw(&mut self, logits: &[f32]) -> Result<u32, LlmError> {
        let best = logits[argmax(logits)? as usize];
        let scale = 1.0 / self.params.temperature as f64;
        let mut candidates: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(id, logit)| (id as u32, ((logit - best) as f64 * scale).exp()))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        if self.params.top_k > 0 && self.params.top_k < candidates.len() {
            select_best(&mut candidates, self.params.top_k);
            candidates.truncate(self.params.top_k);
        }
        if self.params.top_p < 1.0 {
            keep_nucleus(&mut candidates, self.params.top_p as f64);
        }
        if self.params.min_p > 0.0 {
            // Weights are relative to the best token's.
            candidates.retain(|(_, weight)| *weight >= self.params.min_p as f64);
        }
        // In order of ids: rounding that swaps near-equal candidates then cannot move the draw.
        candidates.sort_unstable_by_key(|(id, _)| *id);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.rng.random::<f64>() * total;
        for (id, weight) in &candidates {
            rest -= weight;
            if rest < 0.0 {
                return Ok(*id);
            }
        }
        candidates.last().map(|(id, _)| *id).ok_or_else(|| LlmError::Engine("no token is possible".into()))
    }
}

/// Makes all tokens but `allowed` impossible.
fn forbid_others(logits: &mut [f32], allowed: &SimpleVob) {
    for (logits, bits) in logits.chunks_mut(32).zip(allowed.as_slice().iter().copied().chain(std::iter::repeat(0))) {
        if bits == u32::MAX {
            continue;
        }
        for (n, logit) in logits.iter_mut().enumerate() {
            if bits & (1 << n) == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn by_weight((a_id, a): &(u32, f64), (b_id, b): &(u32, f64)) -> Ordering {
    b.total_cmp(a).then(a_id.cmp(b_id))
}

/// Moves the `count` best candidates to the front, best first.
fn select_best(candidates: &mut [(u32, f64)], count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, by_weight);
    }
    let end = count.min(candidates.len());
    candidates[..end].sort_unstable_by(by_weight);
}

/// Keeps the fewest best candidates whose share of the whole reaches `top_p`; at least one.
fn keep_nucleus(candidates: &mut Vec<(u32, f64)>, top_p: f64) {
    let wanted = candidates.iter().map(|(_, weight)| weight).sum::<f64>() * top_p;
    let mut sorted = 64;
    loop {
        // Sorting the whole vocabulary is what costs; the nucleus is mostly small.
        select_best(candidates, sorted);
        let mut sum = 0.0;
        for (i, (_, weight)) in candidates.iter().take(sorted).enumerate() {
            sum += weight;
            if sum >= wanted {
                return candidates.truncate(i + 1);
            }
        }
        if sorted >= candidates.len() {
            return;
        }
        sorted *= 8;
    }
}

/// The best token; of equals the one with the lowest id.
fn argmax(logits: &[f32]) -> Result<u32, LlmError> {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    match logits.get(best) {
        Some(logit) if logit.is_finite() => Ok(best as u32),
        Some(logit) => Err(LlmError::Engine(format!("the best logit is {logit}: no token is possible"))),
        None => Err(LlmError::Engine("the model gave no logits".into())),
    }
}

/// The logarithm of the sum of all exponentials, and the best tokens' logits.
fn raw_logprobs(logits: &[f32], top: usize) -> (f32, Vec<(u32, f32)>) {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|l| (*l as f64 - best).exp()).sum();
    let mut ranked: Vec<(u32, f64)> = logits.iter().enumerate().map(|(id, l)| (id as u32, *l as f64)).collect();
    select_best(&mut ranked, top);
    ranked.truncate(top);
    ((best + sum.ln()) as f32, ranked.into_iter().map(|(id, l)| (id, l as f32)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> SamplingParams {
        SamplingParams { seed: Some(7), ..SamplingParams::default() }
    }

    fn draws(params: SamplingParams, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(params, None, &[]);
        (0..count).map(|_| sampler.sample(&mut logits.to_vec(), None).unwrap().token).collect()
    }

    #[test]
    fn temperature_zero_takes_the_best_and_of_equals_the_lowest_id() {
        let greedy = SamplingParams { temperature: 0.0, ..params() };
        assert_eq!(draws(greedy, &[0.5, 2.0, 2.0, -1.0], 3), [1, 1, 1]);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens_and_another_seed_others() {
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32 * 0.3).collect();
        let first = draws(params(), &logits, 40);
        assert_eq!(first, draws(params(), &logits, 40));
        assert_ne!(first, draws(SamplingParams { seed: Some(8), ..params() }, &logits, 40));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        let drawn = draws(params(), &logits, 20_000);
        for (id, share) in [(0u32, 0.6), (1, 0.3), (2, 0.1)] {
            let seen = drawn.iter().filter(|t| **t == id).count() as f64 / 20_000.0;
            assert!((seen - share).abs() < 0.015, "token {id}: {seen} drawn, {share} expected");
        }
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        let logits = [0.5f32.ln(), 0.25f32.ln(), 0.15f32.ln(), 0.1f32.ln()];
        let kept = |params| draws(params, &logits, 500).into_iter().collect::<HashSet<_>>();
        assert_eq!(kept(params()), HashSet::from([0, 1, 2, 3]));
        assert_eq!(kept(SamplingParams { top_k: 2, ..params() }), HashSet::from([0, 1]));
        assert_eq!(kept(SamplingParams { top_p: 0.7, ..params() }), HashSet::from([0, 1]));
        assert_eq!(kept(SamplingParams { top_p: 0.0, ..params() }), HashSet::from([0]));
        assert_eq!(kept(SamplingParams { min_p: 0.25, ..params() }), HashSet::from([0, 1, 2]));
    }

    #[test]
    fn a_wide_nucleus_is_exact_beyond_the_first_sorted_part() {
        let mut candidates: Vec<(u32, f64)> = (0..1000).map(|id| (id, 1.0)).collect();
        keep_nucleus(&mut candidates, 0.9);
        assert_eq!(candidates.len(), 900);
    }

    #[test]
    fn penalties_push_down_what_was_said() {
        let greedy = SamplingParams { temperature: 0.0, ..params() };
        let logits = [2.0, 1.5, 0.0];
        assert_eq!(draws(SamplingParams { presence_penalty: 1.0, ..greedy.clone() }, &logits, 3), [0, 1, 0]);
        assert_eq!(draws(SamplingParams { frequency_penalty: 1.0, ..greedy.clone() }, &logits, 4), [0, 1, 0, 1]);
        let mut sampler = Sampler::new(SamplingParams { repetition_penalty: 2.0, ..greedy.clone() }, None, &[0]);
        assert_eq!(sampler.sample(&mut logits.to_vec(), None).unwrap().token, 1, "the prompt counts as said");
        assert_eq!(draws(SamplingParams { logit_bias: vec![(2, 50.0)], ..greedy }, &logits, 1), [2]);
    }

    #[test]
    fn logprobs_are_the_models_own_whatever_the_sampling() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let params = SamplingParams { logit_bias: vec![(2, 100.0)], temperature: 0.3, ..params() };
        let sample = Sampler::new(params, Some(2), &[]).sample(&mut logits.to_vec(), None).unwrap();
        let logprobs = sample.logprobs.unwrap();
        assert_eq!(sample.token, 2);
        assert!((logprobs.chosen - 0.2f32.ln()).abs() < 1e-5);
        assert_eq!(logprobs.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1]);
        assert!((logprobs.top[1].1 - 0.3f32.ln()).abs() < 1e-5);
    }

    #[test]
    fn only_what_is_allowed_is_drawn_and_logprobs_stay_the_models_own() {
        let logits: Vec<f32> = (0..70).map(|i| i as f32 / 10.0).collect();
        let mut allowed = SimpleVob::alloc(70);
        [3, 40].into_iter().for_each(|token| allowed.allow_token(token));
        for temperature in [0.0, 2.0] {
            let params = SamplingParams { temperature, logit_bias: vec![(69, 100.0)], ..params() };
            let mut sampler = Sampler::new(params, Some(1), &[]);
            let drawn: HashSet<_> =
                (0..200).map(|_| sampler.sample(&mut logits.clone(), Some(&allowed)).unwrap().token).collect();
            assert_eq!(drawn, if temperature == 0.0 { HashSet::from([40]) } else { HashSet::from([3, 40]) });
        }
        let sample = Sampler::new(params(), Some(1), &[]).sample(&mut logits.clone(), Some(&allowed)).unwrap();
        assert_eq!(sample.logprobs.unwrap().top[0].0, 69);
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        for temperature in [0.0, 1.0] {
            let mut sampler = Sampler::new(SamplingParams { temperature, ..params() }, Some(1), &[]);
            let error = sampler.sample(&mut [0.0, f32::NAN], None).unwrap_err();
            assert!(error.to_string().contains("NaN as the logit of token 1"), "{error}");
            assert!(sampler.sample(&mut [f32::NEG_INFINITY; 3], None).is_err());
            assert!(sampler.sample(&mut [], None).is_err());
        }
    }

    #[test]
    fn a_parameter_out_of_range_is_refused_with_its_name_value_and_range() {
        let message = |params: SamplingParams| params.validate(100).unwrap_err().to_string();
        assert_eq!(
            message(SamplingParams { temperature: 2.5, ..params() }),
            "`temperature` is 2.5; it must lie between 0 and 2"
        );
        assert_eq!(
            message(SamplingParams { top_p: f32::NAN, ..params() }),
            "`top_p` is NaN; it must lie between 0 and 1"
        );
        assert_eq!(
            message(SamplingParams { logit_bias: vec![(100, 1.0)], ..params() }),
            "`logit_bias` names token 100; this model's tokens are 0 to 99"
        );
        assert!(message(SamplingParams { logit_bias: vec![(9, -101.0)], ..params() }).contains("logit_bias[9]"));
        assert!(params().validate(100).is_ok());
    }
}
