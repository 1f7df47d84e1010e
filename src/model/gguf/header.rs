//! A GGUF file's header: metadata and the list of tensors, read where they lie.
//!
//! Vocabularies make most of it, hundreds of thousands of texts; lists are therefore only walked over, and remembered
//! by their place. Whatever the bytes are, reading ends in a value or a reason, and takes no more memory than the
//! header has bytes.

use std::collections::HashMap;
use std::ops::Range;

/// Lists within lists go no deeper.
const MOST_NESTING: usize = 8;

/// ggml's limit.
const MOST_DIMENSIONS: u32 = 4;

/// What a key stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Every kind of whole number.
    Whole(i128),
    Single(f32),
    Double(f64),
    Flag(bool),
    Text(String),
    List(List),
}

/// A list in the file.
#[derive(Debug, Clone)]
pub(super) struct List {
    kind: u32,
    pub(super) len: usize,
    bytes: Range<usize>,
}

/// A tensor as the header describes it.
pub(super) struct TensorInfo {
    /// Outermost first.
    pub(super) dims: Vec<usize>,
    /// ggml's number of its format.
    pub(super) format: u32,
    /// From the start of the data.
    pub(super) offset: u64,
}

/// All of a header.
pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: HashMap<String, TensorInfo>,
    /// Texts in lists that are no UTF-8, by their place, with what is wrong in them replaced.
    pub(super) mended: HashMap<usize, String>,
    /// Bytes of the header.
    pub(super) len: usize,
}

/// ggml's numbers of kinds of values.
const TEXT: u32 = 8;
const LIST: u32 = 9;

/// Bytes of a value of this kind, where they are always as many.
fn size_of(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// A value of a kind that has a size, from exactly so many bytes.
fn fixed(kind: u32, bytes: &[u8]) -> Option<Value> {
    Some(match (kind, bytes) {
        (0, [b]) => Value::Whole((*b).into()),
        (1, [b]) => Value::Whole((*b as i8).into()),
        (7, [b @ (0 | 1)]) => Value::Flag(*b == 1),
        (2, _) => Value::Whole(u16::from_le_bytes(bytes.try_into().ok()?).into()),
        (3, _) => Value::Whole(i16::from_le_bytes(bytes.try_into().ok()?).into()),
        (4, _) => Value::Whole(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        (5, _) => Value::Whole(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        (6, _) => Value::Single(f32::from_le_bytes(bytes.try_into().ok()?)),
        (10, _) => Value::Whole(u64::from_le_bytes(bytes.try_into().ok()?).into()),
        (11, _) => Value::Whole(i64::from_le_bytes(bytes.try_into().ok()?).into()),
        (12, _) => Value::Double(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    })
}

impl List {
    /// Its values, where their kind has a size; `file` is what the header was read from.
    pub(super) fn values<'a>(&'a self, file: &'a [u8]) -> Option<impl Iterator<Item = Option<Value>> + 'a> {
        let bytes = file.get(self.bytes.clone())?;
        Some(bytes.chunks_exact(size_of(self.kind)?).map(|bytes| fixed(self.kind, bytes)))
    }

    /// Its texts, where it is of texts.
    pub(super) fn texts<'a>(&self, file: &'a [u8], mended: &'a HashMap<usize, String>) -> Option<Vec<&'a str>> {
        if self.kind != TEXT {
            return None;
        }
        let mut cursor = Cursor { bytes: file.get(..self.bytes.end)?, at: self.bytes.start };
        let mut texts = Vec::with_capacity(self.len);
        for _ in 0..self.len {
            let bytes = cursor.text_bytes().ok()?;
            let text = match std::str::from_utf8(bytes) {
                Ok(text) => text,
                Err(_) => mended.get(&(cursor.at - bytes.len()))?,
            };
            texts.push(text);
        }
        Some(texts)
    }
}

/// A place in the header.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("its header ends within a value, at byte {}", self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn u64(&mut self) -> Result<u64, String> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    fn length(&mut self) -> Result<usize, String> {
        usize::try_from(self.u64()?).map_err(|_| format!("a length at byte {} is too large", self.at - 8))
    }

    fn text_bytes(&mut self) -> Result<&'a [u8], String> {
        let len = self.length()?;
        self.take(len)
    }

    /// A text. Some writers end theirs with zeros, and some write what is no UTF-8.
    fn text(&mut self) -> Result<String, String> {
        let bytes = self.text_bytes()?;
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn value(&mut self, kind: u32, mended: &mut HashMap<usize, String>) -> Result<Value, String> {
        match (size_of(kind), kind) {
            (Some(size), _) => {
                let bytes = self.take(size)?;
                fixed(kind, bytes).ok_or_else(|| format!("the value at byte {} is no flag", self.at - size))
            }
            (None, TEXT) => Ok(Value::Text(self.text()?)),
            (None, LIST) => Ok(Value::List(self.list(mended, 0)?)),
            _ => Err(format!("it has a value of the unknown kind {kind} at byte {}", self.at)),
        }
    }

    /// Walks over a list.
    fn list(&mut self, mended: &mut HashMap<usize, String>, nesting: usize) -> Result<List, String> {
        if nesting > MOST_NESTING {
            return Err(format!("lists are nested too deep at byte {}", self.at));
        }
        let (kind, len) = (self.u32()?, self.length()?);
        let start = self.at;
        match (size_of(kind), kind) {
            (Some(size), _) => {
                let bytes = len.checked_mul(size).ok_or_else(|| format!("the list at byte {start} is too long"))?;
                self.take(bytes)?;
            }
            (None, TEXT) => {
                for _ in 0..len {
                    let bytes = self.text_bytes()?;
                    if std::str::from_utf8(bytes).is_err() {
                        mended.insert(self.at - bytes.len(), String::from_utf8_lossy(bytes).into_owned());
                    }
                }
            }
            (None, LIST) => {
                for _ in 0..len {
                    self.list(mended, nesting + 1)?;
                }
            }
            _ => return Err(format!("it has a list of the unknown kind {kind} at byte {start}")),
        }
        Ok(List { kind, len, bytes: start..self.at })
    }

    fn tensor(&mut self) -> Result<TensorInfo, String> {
        let count = self.u32()?;
        if count > MOST_DIMENSIONS {
            return Err(format!(
                "a tensor has {count} dimensions, at byte {}; the most are {MOST_DIMENSIONS}",
                self.at
            ));
        }
        let mut dims = (0..count).map(|_| self.length()).collect::<Result<Vec<_>, _>>()?;
        dims.reverse();
        Ok(TensorInfo { dims, format: self.u32()?, offset: self.u64()? })
    }
}

impl Header {
    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(b"GGUF") {
            return Err("not a GGUF file (it does not begin with `GGUF`)".into());
        }
        let broken = |reason: String| format!("not a whole GGUF file: {reason}");
        let mut cursor = Cursor { bytes, at: 4 };
        match cursor.u32().map_err(broken)? {
            2 | 3 => {}
            version => return Err(format!("version {version} of the GGUF format is not supported; 2 and 3 are")),
        }
        Self::read_lists(cursor).map_err(broken)
    }

    fn read_lists(mut cursor: Cursor<'_>) -> Result<Self, String> {
        let (tensor_count, key_count) = (cursor.length()?, cursor.length()?);
        // Every entry takes bytes: counts that are too large end the header before they fill memory.
        let (mut metadata, mut tensors, mut mended) = (HashMap::new(), HashMap::new(), HashMap::new());
        for _ in 0..key_count {
            let (key, kind) = (cursor.text()?, cursor.u32()?);
            let value = cursor.value(kind, &mut mended)?;
            metadata.insert(key, value);
        }
        for _ in 0..tensor_count {
            let name = cursor.text()?;
            tensors.insert(name, cursor.tensor()?);
        }
        Ok(Self { metadata, tensors, mended, len: cursor.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &[u8]) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text].concat()
    }

    /// A header of one key, whose value is given with its kind.
    fn header(kind: u32, value: &[u8]) -> Vec<u8> {
        let counts = [0u64.to_le_bytes(), 1u64.to_le_bytes()].concat();
        [b"GGUF\x03\0\0\0", &counts[..], &text(b"key"), &kind.to_le_bytes(), value].concat()
    }

    fn list(kind: u32, len: u64, values: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &len.to_le_bytes(), values].concat()
    }

    #[test]
    fn texts_that_are_no_utf8_are_read_with_what_is_wrong_replaced() {
        let bytes = header(LIST, &list(TEXT, 2, &[text(b"good"), text(b"b\xFFd")].concat()));
        let read = Header::read(&bytes).unwrap();
        let Value::List(list) = &read.metadata["key"] else { panic!("a list") };
        assert_eq!(list.texts(&bytes, &read.mended).unwrap(), ["good", "b\u{FFFD}d"]);
        assert!(list.values(&bytes).is_none());
        let read = Header::read(&header(TEXT, &text(b"b\xFFd\0\0"))).unwrap();
        assert!(matches!(&read.metadata["key"], Value::Text(text) if text == "b\u{FFFD}d"));
    }

    #[test]
    fn whole_numbers_of_every_size_keep_their_sign() {
        for (kind, bytes, number) in [
            (0, vec![200], 200),
            (1, vec![200], -56),
            (3, (-2i16).to_le_bytes().to_vec(), -2),
            (5, (-70_000i32).to_le_bytes().to_vec(), -70_000),
            (10, u64::MAX.to_le_bytes().to_vec(), u64::MAX as i128),
            (11, i64::MIN.to_le_bytes().to_vec(), i64::MIN as i128),
        ] {
            let read = Header::read(&header(kind, &bytes)).unwrap();
            assert!(matches!(read.metadata["key"], Value::Whole(x) if x == number), "kind {kind}");
        }
    }

    #[test]
    fn lengths_beyond_the_file_and_lists_without_end_are_errors() {
        let deep: Vec<u8> = (0..100).flat_map(|_| list(LIST, 1, &[])).collect();
        for (bytes, reason) in [
            (header(LIST, &list(4, u64::MAX, &[])), "too long"),
            (header(LIST, &list(4, 5, &[0; 19])), "ends within a value"),
            (header(LIST, &list(TEXT, u64::MAX, &text(b"a"))), "ends within a value"),
            (header(LIST, &deep), "nested too deep"),
            (header(LIST, &list(77, 1, &[0; 8])), "unknown kind 77"),
            (header(7, &[2]), "no flag"),
            (header(33, &[0; 8]), "unknown kind 33"),
            (b"GGUF\x01\0\0\0".to_vec(), "version 1"),
            (b"GGUF\x03".to_vec(), "not a whole GGUF file"),
        ] {
            let error = Header::read(&bytes).err().expect("an error");
            assert!(error.contains(reason), "{error}");
        }
    }
}
