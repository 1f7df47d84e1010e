//! Bounds on what a schema leaves open, so that a weak model comes to an end.
//!
//! A grammar says what may come, not when to stop: a small model writes a text, a list or a number without end. Here the
//! JSON written so far is followed byte by byte, and tokens that would pass a limit are taken away as long as the grammar
//! leaves others. Every value stays valid; only open lengths are cut. The limits shrink with the room that is left, so a
//! caller who allows more tokens gets longer texts and lists.

use serde_json::Value;

/// Deepest nesting that is counted; what lies deeper counts with the last.
const LEVELS: usize = 48;
/// Most entries of a list or an object where the schema names no number.
const MOST_ENTRIES: u16 = 64;
/// Most nested lists and objects, where fewer are possible.
const MOST_LEVELS: usize = 12;
/// Longest number, in characters: more digits than a 64-bit float has.
const LONGEST_NUMBER: usize = 22;
/// A text may always have so many characters.
const SHORTEST_TEXT: usize = 16;

/// Lengths that a schema names itself; within them nothing is cut.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OpenEnds {
    text: usize,
    entries: u16,
}

/// What may not be passed now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    text: usize,
    entries: u16,
    levels: usize,
}

/// Where in a JSON value the answer is.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonRun {
    /// Entries begun in each open list or object.
    entries: [u16; LEVELS],
    levels: usize,
    /// Characters of the text that is open.
    text: Option<usize>,
    escaped: bool,
    /// Characters of the number that is open.
    number: usize,
}

impl Default for JsonRun {
    fn default() -> Self {
        Self { entries: [0; LEVELS], levels: 0, text: None, escaped: false, number: 0 }
    }
}

impl OpenEnds {
    /// The largest lengths that a schema names anywhere.
    pub fn of(schema: &Value) -> Self {
        let mut open = Self::default();
        open.read(schema);
        open
    }

    fn read(&mut self, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                    match name.as_str() {
                        "maxLength" | "minLength" => self.text = self.text.max(number),
                        "maxItems" | "minItems" | "maxProperties" | "minProperties" => {
                            self.entries = self.entries.max(u16::try_from(number).unwrap_or(u16::MAX));
                        }
                        "const" | "enum" | "default" | "examples" => {}
                        _ => self.read(value),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| self.read(value)),
            _ => {}
        }
    }

    /// A text may take an eighth of the room (at four characters a token); in the second half of the answer no list or
    /// object is begun or lengthened that can do without.
    pub fn limits(&self, run: &JsonRun, room: usize, max_tokens: usize) -> Limits {
        let late = room.saturating_mul(2) < max_tokens;
        Limits {
            text: self.text.max(SHORTEST_TEXT.max(room / 2)),
            entries: self.entries.max(if late { 1 } else { MOST_ENTRIES }),
            levels: if late { run.levels.max(1) } else { MOST_LEVELS },
        }
    }
}

impl JsonRun {
    /// Goes on by a token's bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte, None);
        }
    }

    /// True if a token would pass a limit.
    pub fn passes(&self, bytes: &[u8], limits: &Limits) -> bool {
        let mut run = *self;
        bytes.iter().any(|byte| run.step(*byte, Some(limits)))
    }

    /// True within a text to which any token of `longest` bytes may be added.
    pub fn text_is_short(&self, longest: usize, limits: &Limits) -> bool {
        self.text.is_some_and(|text| text + longest <= limits.text)
    }

    /// One byte on; true if that passes a limit.
    fn step(&mut self, byte: u8, limits: Option<&Limits>) -> bool {
        if let Some(text) = &mut self.text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'"' => self.text = None,
                // Not the first byte of a character.
                0x80..0xc0 => {}
                _ => {
                    self.escaped = byte == b'\\';
                    *text += 1;
                    return limits.is_some_and(|limits| *text > limits.text);
                }
            }
            return false;
        }
        let level = self.levels.min(LEVELS - 1);
        let digit = matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        self.number = if digit { self.number + 1 } else { 0 };
        match byte {
            b'"' => self.text = Some(0),
            b'{' | b'[' => {
                self.levels += 1;
                self.entries[self.levels.min(LEVELS - 1)] = 1;
                return limits.is_some_and(|limits| self.levels > limits.levels);
            }
            b'}' | b']' => self.levels = self.levels.saturating_sub(1),
            b',' => {
                self.entries[level] = self.entries[level].saturating_add(1);
                return limits.is_some_and(|limits| self.entries[level] > limits.entries);
            }
            // A power of ten soon leaves what a 64-bit float holds.
            b'e' | b'E' => return limits.is_some() && self.number > 1,
            _ if digit => return limits.is_some() && self.number > LONGEST_NUMBER,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(json: &str) -> JsonRun {
        let mut run = JsonRun::default();
        run.take(json.as_bytes());
        run
    }

    fn limits(room: usize) -> Limits {
        OpenEnds::default().limits(&at("{"), room, 100)
    }

    #[test]
    fn a_text_must_end_once_it_has_its_share_of_the_room() {
        let run = at("{\"a\": \"0123456789012345678901234567890123456789012345");
        assert!(run.passes(b"6789012345", &limits(100)));
        assert!(!run.passes(b"6\"", &limits(100)) && !run.passes(b"\", \"b", &limits(100)));
        assert!(!at("{\"a\": \"\\\"").passes("ы".repeat(15).as_bytes(), &limits(0)), "characters count, not bytes");
        assert!(at("{\"a\": \"").passes("\\t".repeat(17).as_bytes(), &limits(0)), "escaped ones count as well");
    }

    #[test]
    fn late_in_an_answer_lists_are_not_lengthened_nor_begun() {
        let run = at("{\"a\": [1");
        assert!(run.passes(b", 2", &limits(40)) && !run.passes(b", 2", &limits(60)));
        assert!(!run.passes(b"]", &limits(40)));
        assert!(at("{\"a\": [[1]").passes(b",[", &limits(40)));
    }

    #[test]
    fn a_number_without_end_must_end() {
        assert!(at("{\"a\": 0.1234567890123456789").passes(b"01", &limits(100)));
        assert!(at("{\"a\": 12").passes(b"e9", &limits(100)) && !at("{\"a\": tru").passes(b"e, ", &limits(100)));
        assert!(!at("{\"a\": 1234").passes(b"56, \"b\": 78", &limits(100)));
    }

    #[test]
    fn lengths_that_the_schema_names_are_kept() {
        let open = OpenEnds::of(&json!({"properties": {"a": {"maxLength": 300}, "b": {"minItems": 90}}}));
        let limits = open.limits(&at("{"), 10, 1000);
        assert_eq!((limits.text, limits.entries), (300, 90));
    }
}
