//! Tokens' bytes to text that may be sent: whole characters only, and never a part of a stop string.

/// Turns the bytes of one answer into text, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct TextStream {
    stops: Vec<String>,
    /// Bytes that may be the beginning of a character.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
    /// Bytes of text released so far.
    released: usize,
    stopped: bool,
}

impl TextStream {
    /// Empty stop strings are ignored.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(), ..Self::default() }
    }

    /// Text that can be sent now that `bytes` came. Nothing comes after a stop string.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.bytes.extend_from_slice(bytes);
        let (text, rest) = split_incomplete(&self.bytes);
        self.held.push_str(&text);
        self.bytes.drain(..self.bytes.len() - rest);
        self.release(false)
    }

    /// The rest of the text, at the answer's end. A character that never was completed becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let rest = std::mem::take(&mut self.bytes);
        self.held.push_str(&String::from_utf8_lossy(&rest));
        self.release(true)
    }

    /// True once a stop string was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Where the next text begins, in bytes of text from the answer's start: what is held back included.
    pub fn position(&self) -> usize {
        self.released + self.held.len()
    }

    /// Bytes of text released so far.
    pub fn released(&self) -> usize {
        self.released
    }

    fn release(&mut self, all: bool) -> String {
        let (end, stopped) = match first_stop(&self.held, &self.stops) {
            Some(start) => (start, true),
            None if all => (self.held.len(), false),
            None => (self.held.len() - partial_stop(&self.held, &self.stops), false),
        };
        let text: String = self.held.drain(..end).collect();
        self.released += text.len();
        if stopped {
            self.stopped = true;
            self.held.clear();
        }
        text
    }
}

/// Decodes all of `bytes` but an incomplete character at their end; the second value is that rest's length.
fn split_incomplete(bytes: &[u8]) -> (String, usize) {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return (text, 0);
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                match error.error_len() {
                    None => return (text, after.len()),
                    Some(invalid) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &after[invalid..];
                    }
                }
            }
        }
    }
}

/// Where the stop string begins that is complete first. (Not the one that begins first: the result would then depend
/// on where tokens end.) Of those that end together the longest.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops
        .iter()
        .filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)))
        .min()
        .map(|(_, start)| start)
}

/// Length of the longest end of `text` with which a stop string begins.
fn partial_stop(text: &str, stops: &[String]) -> usize {
    let begins = |tail: &str| stops.iter().any(|stop| stop.len() > tail.len() && stop.starts_with(tail));
    text.char_indices().map(|(at, _)| &text[at..]).find(|tail| begins(tail)).map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut stream = TextStream::new(&stops.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let mut out: Vec<String> = pieces.iter().map(|p| stream.push(p)).collect();
        out.push(stream.finish());
        (out, stream.stopped())
    }

    #[test]
    fn a_character_that_spans_tokens_waits_until_it_is_whole() {
        let face = "🙂".as_bytes();
        assert_eq!(stream(&[], &[&face[..1], &face[1..3], &face[3..], b"!"]).0, ["", "", "🙂", "!", ""]);
    }

    #[test]
    fn bytes_that_can_be_no_character_become_the_replacement_character() {
        assert_eq!(stream(&[], &[b"a\xff", b"b"]).0, ["a\u{fffd}", "b", ""]);
        assert_eq!(stream(&[], &[b"a\xf0\x9f", b"b"]).0, ["a", "\u{fffd}b", ""]);
        assert_eq!(stream(&[], &[b"a\xf0\x9f"]).0, ["a", "\u{fffd}"], "also when the answer ends within one");
    }

    #[test]
    fn a_stop_string_across_tokens_is_never_shown() {
        let (out, stopped) = stream(&["\nUser:"], &[b"Hello", b"\nUs", b"er", b": x"]);
        assert_eq!((out.concat().as_str(), stopped), ("Hello", true));
        assert_eq!(out[0], "Hello", "text that can begin no stop string is sent at once");
    }

    #[test]
    fn a_stop_string_that_only_began_is_shown_after_all() {
        let (out, stopped) = stream(&["###"], &[b"a #", b"# b", b" #"]);
        assert_eq!((out, stopped), (vec!["a ".to_string(), "## b".into(), " ".into(), "#".into()], false));
    }

    #[test]
    fn a_stop_string_within_a_character_border_keeps_whole_characters() {
        let (out, stopped) = stream(&["é"], &[b"caf\xc3", b"\xa9 au lait"]);
        assert_eq!((out.concat().as_str(), stopped), ("caf", true));
    }

    #[test]
    fn the_result_does_not_depend_on_where_tokens_end() {
        let text = "one abcde two — пример END";
        for stops in [vec!["abcde", "c"], vec!["END", "NOT"], vec!["при", "пример"], vec!["e t", "tw"]] {
            let whole = stream(&stops, &[text.as_bytes()]);
            for size in 1..7 {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                let cut = stream(&stops, &pieces);
                assert_eq!((cut.0.concat(), cut.1), (whole.0.concat(), whole.1), "{stops:?} in pieces of {size}");
            }
        }
    }
}
