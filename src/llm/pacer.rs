//! How many prompt tokens a step may carry while other sequences decode, so that their streams do not stutter.

/// Sizes prompt chunks so that a step takes about the wanted time, whatever the machine and its neighbours do.
#[derive(Debug)]
pub(crate) struct Pacer {
    wanted_s: f64,
    /// Most tokens of a chunk.
    most: usize,
    chunk: f64,
}

/// A chunk is never smaller: prompts must end some day.
const LEAST: f64 = 8.0;
/// The first chunk, before anything was measured.
const FIRST: f64 = 32.0;
/// Prompt tokens of a step from which its time says how fast the machine reads.
const TELLING: usize = 128;
/// How far one measurement moves the size: down fast, up slowly, as congestion control does.
const CHANGE: (f64, f64) = (0.5, 1.25);

impl Pacer {
    pub fn new(wanted_s: f64, most: usize) -> Self {
        Self { wanted_s, most: most.max(1), chunk: FIRST }
    }

    /// Most prompt tokens for the next step.
    pub fn chunk_tokens(&self) -> usize {
        (self.chunk as usize).min(self.most)
    }

    /// Takes note of a step of `seconds` with so many decodes and prompt tokens.
    pub fn measured(&mut self, decodes: usize, prompt_tokens: usize, seconds: f64) {
        if decodes == 0 && prompt_tokens >= TELLING {
            // Nobody waited, but it says how fast this machine reads: half of what it would read in time is safe.
            let safe = 0.5 * self.wanted_s / seconds.max(1e-6) * prompt_tokens as f64;
            self.chunk = self.chunk.max(safe.min(self.most as f64));
        }
        // Only a step with a whole chunk says whether the chunk is too small or too large.
        if decodes > 0 && prompt_tokens >= self.chunk_tokens() {
            let change = (self.wanted_s / seconds.max(1e-6)).clamp(CHANGE.0, CHANGE.1);
            self.chunk = (self.chunk * change).clamp(LEAST, (self.most as f64).max(LEAST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs steps that take 30 ms and so many ms for each prompt token.
    fn run(pacer: &mut Pacer, steps: usize, token_ms: f64) {
        for _ in 0..steps {
            let chunk = pacer.chunk_tokens();
            pacer.measured(4, chunk, 0.03 + token_ms / 1000.0 * chunk as f64);
        }
    }

    #[test]
    fn chunks_follow_the_machine_so_that_steps_take_the_wanted_time() {
        let mut pacer = Pacer::new(0.15, 64);
        run(&mut pacer, 20, 5.0);
        assert!((22..=25).contains(&pacer.chunk_tokens()), "{pacer:?}");
        run(&mut pacer, 20, 3.0);
        assert!((38..=41).contains(&pacer.chunk_tokens()), "{pacer:?}");
    }

    #[test]
    fn chunks_stay_within_their_bounds_and_recover_from_a_bad_moment() {
        let mut pacer = Pacer::new(0.15, 64);
        run(&mut pacer, 50, 0.1);
        assert_eq!(pacer.chunk_tokens(), 64);
        run(&mut pacer, 50, 900.0);
        assert_eq!(pacer.chunk_tokens(), 8);
        run(&mut pacer, 20, 0.1);
        assert_eq!(pacer.chunk_tokens(), 64);
        assert_eq!(Pacer::new(0.15, 4).chunk_tokens(), 4);
    }

    #[test]
    fn a_prompt_read_while_nobody_waits_tells_a_safe_chunk_at_once() {
        let mut pacer = Pacer::new(0.12, 256);
        pacer.measured(0, 512, 0.3);
        assert_eq!(pacer.chunk_tokens(), 102);
        pacer.measured(0, 40, 0.001);
        pacer.measured(0, 512, 60.0);
        assert_eq!(pacer.chunk_tokens(), 102);
        pacer.measured(0, 512, 0.01);
        assert_eq!(pacer.chunk_tokens(), 256);
    }

    #[test]
    fn steps_without_a_whole_chunk_change_nothing() {
        let mut pacer = Pacer::new(0.15, 64);
        pacer.measured(0, 512, 3.0);
        pacer.measured(4, 0, 3.0);
        pacer.measured(4, 5, 0.001);
        assert_eq!(pacer.chunk_tokens(), 32);
    }
}
