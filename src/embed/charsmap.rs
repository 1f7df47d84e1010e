//! SentencePiece's normalisation of text, by the map that a vocabulary brings along (`precompiled_charsmap`).
//!
//! The map replaces the longest known beginning of what is left of a text, again and again ("№" by "No", a letter with a mark
//! by one letter). It is a trie in a double array (Aoe 1989, "An efficient digital search algorithm by using a double-array
//! structure", in the bit layout of darts-clone), then the replacements, each ended by a zero byte. Afterwards
//! runs of spaces are one, and a word begins with U+2581.

/// SentencePiece's mark for a space.
const SPACE: char = '\u{2581}';

/// The map of a vocabulary.
pub(super) struct Charsmap {
    trie: Vec<u32>,
    replacements: String,
}

impl Charsmap {
    /// Reads `precompiled_charsmap`; an empty one replaces nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self { trie: Vec::new(), replacements: String::new() });
        }
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or("is shorter than its header")?;
        let size = u32::from_le_bytes(*size) as usize;
        let (trie, replacements) = rest.split_at_checked(size).ok_or("is shorter than its header says")?;
        let (trie, left) = trie.as_chunks::<4>();
        if !left.is_empty() || trie.is_empty() {
            return Err(format!("has a trie of {size} bytes"));
        }
        let replacements = std::str::from_utf8(replacements).map_err(|_| "has replacements that are not UTF-8")?;
        Ok(Self {
            trie: trie.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            replacements: replacements.to_string(),
        })
    }

    /// The text in the form that the vocabulary spells.
    pub fn normalize(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 2);
        let mut in_word = false;
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let (taken, becomes) = self.longest(rest).unwrap_or((first.len_utf8(), &rest[..first.len_utf8()]));
            for c in becomes.chars() {
                if c != ' ' && !in_word {
                    out.push(SPACE);
                }
                in_word = c != ' ';
                if in_word {
                    out.push(c);
                }
            }
            rest = &rest[taken..];
        }
        out
    }

    /// The length of the longest beginning of `text` that is replaced, and by what.
    fn longest(&self, text: &str) -> Option<(usize, &str)> {
        // A unit holds a label (bits 0 to 7, and 31), whether an end follows (8), and the distance to the children.
        let distance = |unit: u32| (unit >> 10) << ((unit & (1 << 9)) >> 6);
        let mut at = distance(*self.trie.first()?) as usize;
        let mut longest = None;
        for (i, byte) in text.bytes().enumerate() {
            at ^= byte as usize;
            let Some(&unit) = self.trie.get(at) else { break };
            if byte == 0 || unit & (1 << 31 | 0xFF) != byte as u32 {
                break;
            }
            at ^= distance(unit) as usize;
            if unit & (1 << 8) != 0
                && let Some(&end) = self.trie.get(at)
            {
                longest = Some((i + 1, (end & !(1 << 31)) as usize));
            }
        }
        let (taken, from) = longest.filter(|(taken, _)| text.is_char_boundary(*taken))?;
        let becomes = self.replacements.get(from..)?;
        becomes.find('\0').map(|end| (taken, &becomes[..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of one letter: "a" becomes "bc".
    fn one_letter() -> Vec<u8> {
        let mut units = vec![0u32; 512];
        units[0] = 1 << 10;
        // The child of the root by `a`, with an end behind it whose replacement begins at 1.
        units[1 ^ b'a' as usize] = b'a' as u32 | 1 << 8 | 256 << 10;
        units[(1 ^ b'a' as usize) ^ 256] = 1 << 31 | 1;
        let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(b"\0bc\0");
        bytes
    }

    #[test]
    fn letters_are_replaced_and_spaces_become_beginnings_of_words() {
        let map = Charsmap::read(&one_letter()).unwrap();
        assert_eq!(map.normalize("  xa  a\n "), "▁xbc▁bc\n");
        assert_eq!(map.normalize("   "), "");
        assert_eq!(Charsmap::read(&[]).unwrap().normalize("a b"), "▁a▁b");
    }

    #[test]
    fn a_damaged_map_is_refused_or_replaces_nothing() {
        let whole = one_letter();
        for (damaged, reason) in [
            (whole[..3].to_vec(), "shorter than its header"),
            (whole[..100].to_vec(), "shorter than its header says"),
            ([&[2, 0, 0, 0], &whole[4..]].concat(), "trie of 2 bytes"),
            ([&whole[..whole.len() - 3], &[0xFF, 0]].concat(), "not UTF-8"),
        ] {
            let said = Charsmap::read(&damaged).err().unwrap();
            assert!(said.contains(reason), "{said}");
        }
        // Every unit points far out, or to a replacement that is not there.
        for unit in [u32::MAX, b'a' as u32 | 1 << 8 | 1 << 9 | 0x7F_FFFF << 10] {
            let mut wild = whole.clone();
            for at in (4..4 + 2048).step_by(4) {
                wild[at..at + 4].copy_from_slice(&unit.to_le_bytes());
            }
            assert_eq!(Charsmap::read(&wild).unwrap().normalize("aя"), "▁aя");
        }
    }
}
