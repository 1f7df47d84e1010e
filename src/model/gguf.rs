//! GGUF files: metadata and tensors of a model, read through a memory map.
//!
//! The header is parsed by candle's reader through a cursor over the map (nothing is copied but metadata); what that
//! reader takes on trust is checked here: alignment, tensor sizes and places, value types. Whatever bytes a file
//! holds, opening it gives an error that names the file and the reason.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

use super::ModelError;
use crate::compute::{Format, MappedFile, PackedMatrix};

/// Longest header (metadata and tensor list) that is read, in bytes. Vocabularies of 256,000 tokens with merges take
/// about 20 MB. Bounds what a crafted file can make the reader allocate.
const HEADER_BYTES: usize = 64 << 20;

/// An open GGUF file.
pub struct Gguf {
    file: String,
    map: MappedFile,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorPlace>,
}

/// A tensor's form and place in the file.
#[derive(Debug, Clone)]
struct TensorPlace {
    format: Format,
    /// Outermost first.
    dims: Vec<usize>,
    bytes: Range<usize>,
}

impl Gguf {
    /// Opens and checks a file.
    ///
    /// # Errors
    /// [`ModelError::File`] names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = path.display().to_string();
        let error = |reason: String| ModelError::File { file: file.clone(), reason };
        let map = MappedFile::open(path).map_err(|e| error(format!("cannot be read: {e}")))?;
        let header = &map[..map.len().min(HEADER_BYTES)];
        check_start(header).map_err(error)?;
        let content = Content::read(&mut Cursor::new(header))
            .map_err(|e| error(format!("not a whole GGUF file: {}", first_line(&e.to_string()))))?;
        let start = content.tensor_data_offset;
        let mut tensors = HashMap::with_capacity(content.tensor_infos.len());
        for (name, info) in &content.tensor_infos {
            let place = place(info.shape.dims(), info.ggml_dtype, start, info.offset, map.len())
                .map_err(|reason| error(format!("tensor `{}`: {reason}", printable(name))))?;
            tensors.insert(name.clone(), place);
        }
        Ok(Self { file, map, metadata: content.metadata, tensors })
    }

    /// An error about this file.
    pub fn error(&self, reason: impl Into<String>) -> ModelError {
        ModelError::File { file: self.file.clone(), reason: reason.into() }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.error(format!("`{key}` is {}, not {kind}", describe(value)))),
            },
        }
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    /// A whole number, `None` where the key is absent. An array of equal numbers counts as that number (files
    /// whose layers could differ write arrays).
    pub fn count(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.typed(key, "a whole number (the same for all layers)", |value| match value {
            Value::Array(all) => {
                let first = whole(all.first()?)?;
                all.iter().all(|v| whole(v) == Some(first)).then_some(first)
            }
            value => whole(value),
        })
    }

    /// As [`Self::count`], for a key that must be there.
    pub fn need_count(&self, key: &str) -> Result<usize, ModelError> {
        let count = self.count(key)?;
        self.required(key, count)
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.typed(key, "a number", |value| match value {
            Value::F32(x) => Some(*x as f64),
            Value::F64(x) => Some(*x),
            value => whole(value).map(|x| x as f64),
        })
    }

    /// As [`Self::number`], for a key that must be there.
    pub fn need_number(&self, key: &str) -> Result<f64, ModelError> {
        let number = self.number(key)?;
        self.required(key, number)
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.typed(key, "true or false", |value| value.to_bool().ok())
    }

    /// A list of true and false; `None` where the key is absent or a number.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>, ModelError> {
        match self.metadata.get(key) {
            Some(Value::Array(_)) => self.typed(key, "a list of true and false", |value| {
                let flag = |v: &Value| v.to_bool().ok().or_else(|| whole(v).map(|x| x != 0));
                value.to_vec().ok()?.iter().map(flag).collect()
            }),
            _ => Ok(None),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.typed(key, "a text", |value| value.to_string().ok().map(String::as_str))
    }

    /// As [`Self::text`], for a key that must be there.
    pub fn need_text(&self, key: &str) -> Result<&str, ModelError> {
        let text = self.text(key)?;
        self.required(key, text)
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.typed(key, "a list of texts", |value| {
            value.to_vec().ok()?.iter().map(|v| v.to_string().ok().map(String::as_str)).collect()
        })
    }

    /// As [`Self::texts`], for a key that must be there.
    pub fn need_texts(&self, key: &str) -> Result<Vec<&str>, ModelError> {
        let texts = self.texts(key)?;
        self.required(key, texts)
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, ModelError> {
        self.typed(key, "a list of numbers", |value| {
            let number = |v: &Value| match v {
                Value::F32(x) => Some(*x),
                Value::F64(x) => Some(*x as f32),
                Value::I32(x) => Some(*x as f32),
                v => whole(v).map(|x| x as f32),
            };
            value.to_vec().ok()?.iter().map(number).collect()
        })
    }

    /// Names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor, outermost dimension first; `None` where there is no such tensor.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.dims.as_slice())
    }

    /// Bytes that all tensors would take in `f32`.
    pub fn widened_bytes(&self) -> u64 {
        let numbers = |t: &TensorPlace| (t.bytes.len() / t.format.block_bytes() * t.format.block_len()) as u64;
        self.tensors.values().map(|t| 4 * numbers(t)).sum()
    }

    /// Formats of all tensors.
    pub fn formats(&self) -> impl Iterator<Item = Format> {
        self.tensors.values().map(|tensor| tensor.format)
    }

    /// Says that a tensor has been read: a backend holds its own copy, so that the file's pages need not stay in
    /// memory.
    pub fn give_back(&self, name: &str) {
        if let Some(place) = self.tensors.get(name) {
            self.map.give_back(place.bytes.clone());
        }
    }

    /// The same file with another text in its metadata.
    #[cfg(test)]
    pub(super) fn with_text(mut self, key: &str, text: &str) -> Self {
        self.metadata.insert(key.into(), Value::String(text.into()));
        self
    }

    /// Where a tensor's bytes lie in the file.
    #[cfg(test)]
    pub(super) fn byte_range(&self, name: &str) -> Option<Range<usize>> {
        self.tensors.get(name).map(|t| t.bytes.clone())
    }

    /// A matrix of the shape that the model needs.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn matrix<'a>(&'a self, name: &'a str, rows: usize, cols: usize) -> Result<PackedMatrix<'a>, ModelError> {
        let place = self.tensor(name, &[rows, cols])?;
        Ok(PackedMatrix { name, format: place.format, rows, cols, bytes: &self.map[place.bytes.clone()] })
    }

    /// Rows `from..from + rows` of a matrix of `of` rows.
    ///
    /// # Errors
    /// As for [`Self::matrix`].
    pub fn rows<'a>(
        &'a self,
        name: &'a str,
        of: usize,
        cols: usize,
        from: usize,
        rows: usize,
    ) -> Result<PackedMatrix<'a>, ModelError> {
        Ok(part(self.matrix(name, of, cols)?, from, rows))
    }

    /// Numbers `from..from + len` of a vector of `of` numbers, as a matrix of one row.
    ///
    /// # Errors
    /// As for [`Self::vector`].
    pub fn vector_part<'a>(
        &'a self,
        name: &'a str,
        of: usize,
        from: usize,
        len: usize,
    ) -> Result<PackedMatrix<'a>, ModelError> {
        let whole = self.vector(name, of)?;
        if len == of {
            return Ok(whole);
        }
        // Vectors are in formats without blocks, or all of one.
        let bytes = whole.format.block_bytes();
        match whole.format.block_len() {
            1 => Ok(PackedMatrix { cols: len, bytes: &whole.bytes[from * bytes..][..len * bytes], ..whole }),
            _ => Err(self.error(format!("tensor `{name}` is a part of several vectors and not in a float format"))),
        }
    }

    /// Matrix `number` of a tensor of `count` matrices.
    ///
    /// # Errors
    /// As for [`Self::matrix`].
    pub fn matrix_of<'a>(
        &'a self,
        name: &'a str,
        count: usize,
        number: usize,
        rows: usize,
        cols: usize,
    ) -> Result<PackedMatrix<'a>, ModelError> {
        let all = self.tensor(name, &[count, rows, cols])?;
        let matrix =
            PackedMatrix { name, format: all.format, rows: count * rows, cols, bytes: &self.map[all.bytes.clone()] };
        Ok(part(matrix, number * rows, rows))
    }

    /// A tensor of the shape that the model needs.
    fn tensor(&self, name: &str, dims: &[usize]) -> Result<&TensorPlace, ModelError> {
        match self.tensors.get(name) {
            None => Err(self.error(format!("tensor `{name}` is missing"))),
            Some(place) if place.dims == dims => Ok(place),
            Some(place) => {
                Err(self
                    .error(format!("tensor `{name}` has the shape {:?}; the metadata calls for {dims:?}", place.dims)))
            }
        }
    }

    /// A vector of the length that the model needs, as a matrix of one row.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn vector<'a>(&'a self, name: &'a str, len: usize) -> Result<PackedMatrix<'a>, ModelError> {
        let place = self.tensor(name, &[len])?;
        Ok(PackedMatrix { name, format: place.format, rows: 1, cols: len, bytes: &self.map[place.bytes.clone()] })
    }
}

/// Some rows of a matrix.
fn part(matrix: PackedMatrix<'_>, from: usize, rows: usize) -> PackedMatrix<'_> {
    let row_bytes = matrix.bytes.len() / matrix.rows;
    PackedMatrix { rows, bytes: &matrix.bytes[from * row_bytes..][..rows * row_bytes], ..matrix }
}

/// Refuses what candle's reader would stumble over: other file kinds, and an alignment of 0.
fn check_start(header: &[u8]) -> Result<(), String> {
    if !header.starts_with(b"GGUF") {
        return Err("not a GGUF file (it does not begin with `GGUF`)".into());
    }
    let key = b"general.alignment";
    let mut rest = header;
    while let Some(at) = find(rest, key) {
        rest = &rest[at + key.len()..];
        // Value type 4 is u32, 5 is i32: the only ones that the format allows for this key.
        let word = |i: usize| Some(u32::from_le_bytes(rest.get(i..i + 4)?.try_into().ok()?));
        if let (Some(4 | 5), Some(alignment)) = (word(0), word(4)) {
            if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
                return Err(format!("`general.alignment` is {alignment}; it must be a power of two of at least 8"));
            }
        } else {
            return Err("`general.alignment` is not a 32-bit whole number".into());
        }
    }
    Ok(())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Checks that a tensor's data lie within the file.
fn place(dims: &[usize], dtype: GgmlDType, start: u64, offset: u64, file: usize) -> Result<TensorPlace, String> {
    let format = format(dtype).ok_or_else(|| format!("the format {dtype:?} is not supported"))?;
    let Some((cols, outer)) = dims.split_last() else {
        return Err("it has no dimensions".into());
    };
    let rows = outer.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    let len = rows.and_then(|rows| format.matrix_bytes(rows, *cols)).filter(|len| *len > 0);
    let Some(len) = len else {
        return Err(format!("the shape {dims:?} does not fit the format {dtype:?}"));
    };
    let from = start.checked_add(offset).and_then(|from| usize::try_from(from).ok());
    let range = from.and_then(|from| Some(from..from.checked_add(len)?));
    match range {
        Some(bytes) if bytes.end <= file => Ok(TensorPlace { format, dims: dims.to_vec(), bytes }),
        _ => Err(format!(
            "its {len} bytes at offset {offset} of the data reach beyond the end of the file ({file} bytes): the file is \
             cut short or damaged"
        )),
    }
}

fn format(dtype: GgmlDType) -> Option<Format> {
    Some(match dtype {
        GgmlDType::F32 => Format::F32,
        GgmlDType::F16 => Format::F16,
        GgmlDType::BF16 => Format::BF16,
        GgmlDType::Q4_0 => Format::Q4_0,
        GgmlDType::Q4_1 => Format::Q4_1,
        GgmlDType::Q5_0 => Format::Q5_0,
        GgmlDType::Q5_1 => Format::Q5_1,
        GgmlDType::Q8_0 => Format::Q8_0,
        GgmlDType::Q2K => Format::Q2K,
        GgmlDType::Q3K => Format::Q3K,
        GgmlDType::Q4K => Format::Q4K,
        GgmlDType::Q5K => Format::Q5K,
        GgmlDType::Q6K => Format::Q6K,
        _ => return None,
    })
}

fn whole(value: &Value) -> Option<usize> {
    let wide = match value {
        Value::U8(x) => *x as u64,
        Value::U16(x) => *x as u64,
        Value::U32(x) => *x as u64,
        Value::U64(x) => *x,
        Value::I8(x) => u64::try_from(*x).ok()?,
        Value::I16(x) => u64::try_from(*x).ok()?,
        Value::I32(x) => u64::try_from(*x).ok()?,
        Value::I64(x) => u64::try_from(*x).ok()?,
        _ => return None,
    };
    usize::try_from(wide).ok()
}

/// A metadata value in a few words, for errors.
fn describe(value: &Value) -> String {
    match value {
        Value::Array(all) => format!("a list of {} values", all.len()),
        Value::String(text) => format!("the text `{}`", printable(&text.chars().take(60).collect::<String>())),
        Value::Bool(x) => x.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::U8(x) => x.to_string(),
        Value::I8(x) => x.to_string(),
        Value::U16(x) => x.to_string(),
        Value::I16(x) => x.to_string(),
        Value::U32(x) => x.to_string(),
        Value::I32(x) => x.to_string(),
        Value::U64(x) => x.to_string(),
        Value::I64(x) => x.to_string(),
    }
}

/// Names in a damaged file may hold anything: control characters become escapes, long ones are cut.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// candle adds a backtrace to its messages where it is asked to.
fn first_line(message: &str) -> String {
    printable(message.lines().next().unwrap_or_default())
}
