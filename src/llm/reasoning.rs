//! A thinking model's train of thought, told apart from its answer.
//!
//! Such models write `<think>…</think>` first; some templates open it themselves. What stands within goes to the client as
//! `reasoning_content`, never as the answer.

pub(crate) const OPEN: &str = "<think>";
pub(crate) const CLOSE: &str = "</think>";

/// Splits an answer, piece by piece.
#[derive(Debug)]
pub struct ReasoningSplit {
    state: State,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space came.
    Before,
    Thinking,
    /// The thought has ended; white space before the answer is dropped.
    Between,
    Answering,
}

impl ReasoningSplit {
    /// `opened`: the prompt ends within a thought already.
    pub fn new(opened: bool) -> Self {
        Self { state: if opened { State::Thinking } else { State::Before }, held: String::new() }
    }

    /// Thought and answer that are known now that `text` came.
    pub fn push(&mut self, text: &str) -> (String, String) {
        self.held.push_str(text);
        let mut thought = String::new();
        if self.state == State::Before {
            let begun = self.held.trim_start();
            if let Some(after) = begun.strip_prefix(OPEN) {
                self.held = after.to_string();
                self.state = State::Thinking;
            } else if !OPEN.starts_with(begun) {
                self.state = State::Answering;
            } else {
                return Default::default();
            }
        }
        if self.state == State::Thinking {
            match self.held.find(CLOSE) {
                Some(at) => {
                    thought = self.held[..at].to_string();
                    self.held.drain(..at + CLOSE.len());
                    self.state = State::Between;
                }
                None => {
                    let tail = |at: &usize| CLOSE.starts_with(&self.held[*at..]);
                    let kept = self.held.char_indices().map(|(at, _)| at).find(tail).unwrap_or(self.held.len());
                    return (self.held.drain(..kept).collect(), String::new());
                }
            }
        }
        if self.state == State::Between {
            self.held = self.held.trim_start().to_string();
            if !self.held.is_empty() {
                self.state = State::Answering;
            }
        }
        (thought, std::mem::take(&mut self.held))
    }

    /// What was held back, at the answer's end.
    pub fn finish(&mut self) -> (String, String) {
        let rest = std::mem::take(&mut self.held);
        if self.state == State::Thinking { (rest, String::new()) } else { (String::new(), rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(opened: bool, text: &str, size: usize) -> (String, String) {
        let mut split = ReasoningSplit::new(opened);
        let chars: Vec<char> = text.chars().collect();
        let mut pieces: Vec<(String, String)> =
            chars.chunks(size).map(|piece| split.push(&piece.iter().collect::<String>())).collect();
        pieces.push(split.finish());
        let (thoughts, answers): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        (thoughts.concat(), answers.concat())
    }

    #[test]
    fn thought_and_answer_are_told_apart_wherever_pieces_end() {
        for size in 1..12 {
            assert_eq!(
                split(false, "\n<think>a < b\n</think>\n\nHi <think>", size),
                ("a < b\n".into(), "Hi <think>".into())
            );
            assert_eq!(split(true, "so</think>Hi", size), ("so".into(), "Hi".into()));
            assert_eq!(split(false, "Hi </think>", size), (String::new(), "Hi </think>".into()));
            assert_eq!(split(true, "never </thi", size), ("never </thi".into(), String::new()));
        }
    }
}
