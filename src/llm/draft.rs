//! Drafts of an answer's next tokens, looked up in the sequence itself. Pure data: no tensors, no clock.
//!
//! Support answers repeat their sources. Where the last tokens stand earlier in the prompt or the answer, what followed
//! them there is likely to follow again (prompt lookup decoding, Saxena 2023). The engine computes such a draft in the same
//! step as the last token, one row each, and draws as ever, row by row, for as long as what is drawn is what was drafted: so
//! the answer is the one that it would have been, and a draft only decides how many tokens a step gives.
//!
//! A row costs part of a step: little where one sequence decodes and weights are read for one row, nearly all of it where
//! many do ([`row_cost`]). A draft is as long as the chance of its last token pays for its row; chances are learnt from what
//! became of the sequence's earlier drafts. [`Drafter::credit`] bounds what a sequence can lose in all: what drafts gained,
//! and [`ALLOWANCE`] of its tokens.

use std::collections::HashMap;

/// A draft needs so many tokens in common with what it is taken from.
const LEAST_MATCH: usize = 3;
/// Tokens that are compared at most.
const MOST_MATCH: usize = 32;
/// Places that are looked at, the latest first.
const MOST_PLACES: usize = 32;
/// Steps' worth of rows that may be lost before anything was gained.
const FIRST_CREDIT: f32 = 1.0;
/// Most steps' worth that earlier gains allow to lose.
const MOST_CREDIT: f32 = 4.0;
/// What each step without a draft allows to lose, in steps.
const ALLOWANCE: f32 = 0.02;
/// How much of earlier experience counts after one more draft.
const MEMORY: f32 = 0.8;
/// How many tokens' experience the length of a match is worth.
const PRIOR_TOKENS: f32 = 2.0;
/// No place.
const NONE: u32 = u32::MAX;

/// Drafts one sequence's tokens.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// Where each run of tokens last ended.
    last: HashMap<[u32; LEAST_MATCH], u32>,
    /// By the end of a run: where the same run ended before.
    earlier: Vec<u32>,
    /// Drafted tokens that were accepted, and that were accepted or the first to be refused; both fading.
    accepted: f32,
    tried: f32,
    /// Steps' worth of rows that may still be lost.
    credit: f32,
    /// Rows of the draft underway, and what each costs.
    underway: (usize, f32),
}

impl Default for Drafter {
    fn default() -> Self {
        Self {
            last: HashMap::new(),
            earlier: vec![NONE; LEAST_MATCH],
            accepted: 0.0,
            tried: 0.0,
            credit: FIRST_CREDIT,
            underway: (0, 0.0),
        }
    }
}

/// What one more row costs, as a share of the step's time for each of the `decodes` sequences in it. Measured: a step of 8
/// rows takes 2 to 2.6 times as long as one of 1 (`benches/RESULTS.md`), so that beside one sequence a row costs a fifth of
/// the step; with what is drawn and copied for it, and some doubt, a little more is reckoned.
fn row_cost(decodes: usize) -> f32 {
    let decodes = decodes.max(1) as f32;
    decodes / (decodes + 2.5)
}

impl Drafter {
    /// What may follow `tokens`, `most` tokens at most; nothing where no draft would pay. The step has `decodes` sequences.
    pub fn propose(&mut self, tokens: &[u32], decodes: usize, most: usize) -> Vec<u32> {
        self.index(tokens);
        let cost = row_cost(decodes);
        let found = if most > 0 && self.credit > 0.0 { self.find(tokens) } else { None };
        let length = found.map_or(0, |(_, matched)| self.length(matched, cost).min(most));
        self.underway = (length, cost);
        if length == 0 {
            self.credit = (self.credit + ALLOWANCE).min(MOST_CREDIT);
        }
        let (from, end) = (found.map_or(0, |(end, _)| end), tokens.len());
        let mut draft: Vec<u32> = Vec::with_capacity(length);
        for at in from..from + length {
            // A text that repeats itself goes on beyond its end.
            draft.push(if at < end { tokens[at] } else { draft[at - end] });
        }
        draft
    }

    /// Takes note that only the first `length` tokens of the draft are computed.
    pub fn shorten(&mut self, length: usize) {
        self.underway.0 = self.underway.0.min(length);
    }

    /// Takes note of how many tokens of the draft were drawn.
    pub fn settle(&mut self, accepted: usize) {
        let (drafted, cost) = std::mem::take(&mut self.underway);
        let gained = accepted as f32 - cost * drafted as f32;
        self.credit = (self.credit + gained).min(MOST_CREDIT);
        self.accepted = self.accepted * MEMORY + accepted as f32;
        self.tried = self.tried * MEMORY + drafted.min(accepted + 1) as f32;
    }

    /// Notes where runs of tokens end, the run at the very end left out: it is what is looked up.
    fn index(&mut self, tokens: &[u32]) {
        for end in self.earlier.len()..tokens.len() {
            let run = std::array::from_fn(|n| tokens[end - LEAST_MATCH + n]);
            self.earlier.push(self.last.insert(run, end as u32).unwrap_or(NONE));
        }
    }

    /// Where what precedes is most like the end of `tokens`, and how many tokens are alike; of equals the latest.
    fn find(&self, tokens: &[u32]) -> Option<(usize, usize)> {
        let run: [u32; LEAST_MATCH] = tokens.last_chunk().copied()?;
        let mut end = self.last.get(&run).copied().unwrap_or(NONE);
        let mut best = None;
        for _ in 0..MOST_PLACES {
            if end == NONE {
                break;
            }
            let alike = tokens[..end as usize].iter().rev().zip(tokens.iter().rev());
            let matched = alike.take(MOST_MATCH).take_while(|(a, b)| a == b).count();
            if best.is_none_or(|(_, most)| matched > most) {
                best = Some((end as usize, matched));
            }
            end = self.earlier[end as usize];
        }
        best
    }

    /// The most tokens of which the last is as likely to be accepted as it costs.
    fn length(&self, matched: usize, cost: f32) -> usize {
        // Half of the matches of three tokens go on with the same one, nearly all of the long ones.
        let prior = 1.0 - 1.5 / matched.max(2) as f32;
        let chance = (self.accepted + PRIOR_TOKENS * prior) / (self.tried + PRIOR_TOKENS);
        let paying = cost.ln() / chance.min(0.99).ln();
        paying.min(self.credit / cost).max(0.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays an answer of known tokens: (steps, rows computed).
    fn play(prompt: &[u32], answer: &[u32], decodes: usize, most: usize) -> (usize, usize) {
        let mut drafter = Drafter::default();
        let mut tokens = prompt.to_vec();
        let (mut steps, mut rows, mut said) = (0, 0, 0);
        while said < answer.len() {
            let draft = drafter.propose(&tokens, decodes, most.min(answer.len() - said - 1));
            let accepted = draft.iter().zip(&answer[said..]).take_while(|(a, b)| a == b).count();
            if !draft.is_empty() {
                drafter.settle(accepted);
            }
            let drawn = (accepted + 1).min(answer.len() - said);
            tokens.extend_from_slice(&answer[said..said + drawn]);
            (steps, rows, said) = (steps + 1, rows + 1 + draft.len(), said + drawn);
        }
        (steps, rows)
    }

    fn words(count: u32, seed: u32) -> Vec<u32> {
        (0..count).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 7) % 5000).collect()
    }

    #[test]
    fn an_answer_that_repeats_its_passage_takes_a_fraction_of_the_steps() {
        let prompt = words(400, 1);
        let (steps, rows) = play(&prompt, &prompt[100..220], 1, 16);
        assert!(steps < 30, "{steps} steps for 120 tokens");
        assert!(rows < 150, "{rows} rows");
    }

    #[test]
    fn what_follows_the_longest_common_run_is_drafted() {
        let mut drafter = Drafter::default();
        let tokens = [9, 1, 2, 3, 40, 41, 42, 7, 1, 2, 3, 50, 51, 8, 9, 1, 2, 3];
        assert_eq!(drafter.propose(&tokens, 1, 3)[..2], [40, 41]);
        assert!(Drafter::default().propose(&[1, 2, 3, 4, 5, 6], 1, 8).is_empty());
        assert!(Drafter::default().propose(&[1, 2], 1, 8).is_empty());
    }

    #[test]
    fn a_text_that_repeats_itself_is_drafted_beyond_its_end() {
        let mut drafter = Drafter::default();
        assert_eq!(drafter.propose(&[5, 6, 5, 6, 5, 6, 5], 1, 3), [6, 5, 6]);
    }

    #[test]
    fn where_matches_mislead_the_cost_stays_within_a_few_per_cent() {
        // Every run of the answer stands in the prompt, and is followed by something else there.
        let (prompt, answer): (Vec<u32>, Vec<u32>) = {
            let answer = words(1000, 2);
            let prompt = answer.windows(4).flat_map(|run| [run[0], run[1], run[2], 6000]).collect();
            (prompt, answer)
        };
        let mut all = 0.0;
        for decodes in [1, 4, 8] {
            let (steps, rows) = play(&prompt, &answer, decodes, 16);
            let lost = row_cost(decodes) * (rows - steps) as f32;
            assert_eq!(steps, answer.len());
            assert!(lost < 0.03 * answer.len() as f32, "{lost} of {} steps", answer.len());
            all += lost;
        }
        assert!(all > 0.0, "nothing was drafted at all");
    }

    #[test]
    fn drafts_are_shorter_where_many_sequences_share_the_step() {
        let prompt = words(400, 3);
        let drafted = |decodes| {
            let (steps, rows) = play(&prompt, &prompt[50..250], decodes, 16);
            (rows - steps) as f32 / steps as f32
        };
        assert!(drafted(1) > 2.0 * drafted(12), "{} and {}", drafted(1), drafted(12));
        assert!(drafted(12) > 0.0);
    }

    #[test]
    fn no_draft_is_longer_than_asked_for() {
        let prompt = words(200, 4);
        let mut drafter = Drafter { credit: MOST_CREDIT, accepted: 100.0, tried: 100.0, ..Drafter::default() };
        let tokens = [&prompt[..], &prompt[20..60]].concat();
        for most in [0, 1, 5, 12] {
            assert_eq!(drafter.propose(&tokens, 1, most).len(), most);
        }
    }
}
