//! How many prompt tokens a step may carry while other sequences decode, so that their streams do not stutter.

/// Learns what a prompt token costs on this machine, and sizes chunks so that a step takes about `target_s`.
#[derive(Debug)]
pub(crate) struct Pacer {
    target_s: f64,
    /// Most tokens of a chunk.
    most: usize,
    /// Seconds of a step without prompt tokens.
    decode_s: f64,
    /// Seconds that one prompt token adds; 0 until known.
    token_s: f64,
}

/// A chunk is never smaller: prompts must end some day.
const LEAST: usize = 8;
/// The first chunk, before anything was measured.
const FIRST: usize = 32;
/// Weight of a new measurement: old ones fade within some ten steps, also where a machine's neighbours come and go.
const FADE: f64 = 0.25;

impl Pacer {
    pub fn new(target_s: f64, most: usize) -> Self {
        Self { target_s, most: most.max(1), decode_s: 0.0, token_s: 0.0 }
    }

    /// Most prompt tokens for the next step.
    pub fn chunk_tokens(&self) -> usize {
        let wanted = match self.token_s > 0.0 {
            true => ((self.target_s - self.decode_s) / self.token_s) as usize,
            false => FIRST,
        };
        wanted.max(LEAST).min(self.most)
    }

    /// Takes note of a step that took `seconds`.
    pub fn measured(&mut self, decodes: usize, prompt_tokens: usize, seconds: f64) {
        if prompt_tokens == 0 {
            self.decode_s = fade(self.decode_s, seconds);
        } else {
            let decode_s = if decodes > 0 { self.decode_s.min(seconds / 2.0) } else { 0.0 };
            self.token_s = fade(self.token_s, (seconds - decode_s) / prompt_tokens as f64);
        }
    }
}

fn fade(old: f64, new: f64) -> f64 {
    if old == 0.0 { new } else { old + FADE * (new - old) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_shrink_on_a_slow_machine_until_steps_take_the_wanted_time() {
        let mut pacer = Pacer::new(0.15, 64);
        for _ in 0..20 {
            let chunk = pacer.chunk_tokens();
            pacer.measured(4, chunk, 0.03 + 0.005 * chunk as f64);
            pacer.measured(4, 0, 0.03);
        }
        assert!((20..=25).contains(&pacer.chunk_tokens()), "{pacer:?}");
    }

    #[test]
    fn chunks_stay_within_their_bounds() {
        let mut pacer = Pacer::new(0.15, 64);
        pacer.measured(0, 512, 0.1);
        assert_eq!(pacer.chunk_tokens(), 64);
        (0..50).for_each(|_| pacer.measured(4, 8, 9.0));
        assert_eq!(pacer.chunk_tokens(), LEAST);
        assert_eq!(Pacer::new(0.15, 4).chunk_tokens(), 4);
    }
}
