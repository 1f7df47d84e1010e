//! What a text's windows and its beginning say together, by its length.
//!
//! The oddest of `n` honest windows is the odder, the larger `n` is. How much of that is chance is learnt from texts of
//! all lengths: the examples themselves, and pages put together from honest windows, with an attack among them or not.
//! Each window counts as it looked while its own family was held out.

use std::ops::Range;

use crate::classify::Stack;

use super::{FLOOR, MOST, SPARED_PAGES, SPARED_TEXTS};

/// Share of the windows that are averaged as the text's suspicious part, and the fewest.
const BODY: f32 = 0.25;
/// Sizes of pages put together, in windows, and how many of each.
const SIZES: [usize; 5] = [4, 8, 16, 32, MOST];
const OF_EACH: usize = 48;
/// One attack among so many windows of a page.
const ATTACK_EACH: usize = 8;
/// Windows from which a text is long. Pages are put together from such texts.
const OF_A_PAGE: usize = 3;

/// A text of the lesson.
pub(super) struct Lesson {
    /// Its windows among all.
    pub windows: Range<usize>,
    pub attack: bool,
}

/// What is weighed: the oddest window, the oddest part, the beginning, and how many windows there are.
fn measures(windows: &[f32], whole: f32) -> [f32; 4] {
    let mut logits: Vec<f32> = windows.iter().map(|p| logit(*p)).collect();
    logits.sort_by(|a, b| b.total_cmp(a));
    let body = ((logits.len() as f32 * BODY).ceil() as usize).max(2).min(logits.len());
    let together = logits[..body].iter().sum::<f32>() / body.max(1) as f32;
    let oddest = logits.first().copied().unwrap_or(-8.0);
    [oddest, together, logit(whole), (logits.len().max(1) as f32).ln()]
}

/// The weights for messages of a few windows, and for long texts. In a message one odd sentence is the attack; a page
/// holds an odd sentence by chance, so there the odd part as a whole has to speak.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Length {
    short: Stack,
    long: Stack,
}

impl Length {
    /// Probability that a text of these windows and this beginning is an attack, on a scale with one threshold for all.
    pub fn probability(&self, windows: &[f32], whole: f32) -> f32 {
        let measures = measures(windows, whole);
        match windows.len() < OF_A_PAGE {
            true => self.short.probability(&measures),
            false => {
                let surer = logit(self.long.threshold) - logit(self.short.threshold);
                sigmoid(logit(self.long.probability(&measures)) - surer)
            }
        }
    }

    pub fn threshold(&self) -> f32 {
        self.short.threshold
    }
}

/// Learns the weights from texts, their windows' and their beginnings' held-out probabilities.
pub(super) fn learn(texts: &[Lesson], windows: &[f32], wholes: &[f32]) -> Option<Length> {
    let mut rows: Vec<([f32; 4], bool)> = texts
        .iter()
        .zip(wholes)
        .filter(|(t, _)| !t.windows.is_empty())
        .map(|(t, whole)| (measures(&windows[t.windows.clone()], *whole), t.attack))
        .collect();
    let long = |t: &&usize| !texts[**t].attack && texts[**t].windows.len() >= OF_A_PAGE;
    let numbers: Vec<usize> = (0..texts.len()).collect();
    let honest: Vec<usize> = numbers.iter().filter(long).copied().collect();
    let attacks: Vec<usize> = numbers.iter().filter(|&&t| texts[t].attack).copied().collect();
    for size in SIZES {
        for turn in 0..OF_EACH.min(honest.len()) {
            let first = turn * honest.len() / OF_EACH.min(honest.len());
            let pages = (0..honest.len()).map(|next| honest[(first + next) % honest.len()]);
            let page: Vec<f32> =
                pages.flat_map(|t| windows[texts[t].windows.clone()].iter().copied()).take(size).collect();
            let whole = wholes[honest[first]];
            rows.push((measures(&page, whole), false));
            if attacks.is_empty() {
                continue;
            }
            let hidden = (0..size.div_ceil(ATTACK_EACH)).map(|n| attacks[(turn * 31 + size + n * 7) % attacks.len()]);
            let hidden = hidden.flat_map(|t| windows[texts[t].windows.clone()].iter().copied());
            let poisoned: Vec<f32> = hidden.chain(page).take(MOST).collect();
            rows.push((measures(&poisoned, whole), true));
        }
    }
    let stack = |long: bool, spared_share: f32| {
        let of_length = rows.iter().filter(|(m, _)| (m[3] >= (OF_A_PAGE as f32).ln()) == long);
        let rows: Vec<(&[f32], bool)> = of_length.map(|(m, attack)| (m.as_slice(), *attack)).collect();
        Stack::fit(&rows, spared_share, FLOOR)
    };
    let short = stack(false, SPARED_TEXTS)?;
    let long = stack(true, SPARED_PAGES).unwrap_or_else(|| short.clone());
    Some(Length { short, long })
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

fn logit(p: f32) -> f32 {
    let p = p.clamp(1e-4, 1.0 - 1e-4);
    (p / (1.0 - p)).ln()
}
