//! GGUF files: metadata and tensors of a model, read through a memory map.
//!
//! The [`header`] is read in place; alignment, tensor sizes and places, and value types are checked here. Whatever bytes
//! a file holds, opening it gives an error that names the file and the reason.

mod folder;
mod header;
mod split;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use self::header::{Header, Value};
pub(crate) use self::split::parts;
use super::ModelError;
use crate::compute::{Format, MappedFile, PackedMatrix};

/// Longest header (metadata and tensor list) that is read, in bytes. Vocabularies of 256,000 tokens with merges take
/// about 20 MB. Bounds what a crafted file can make the reader allocate.
const HEADER_BYTES: usize = 64 << 20;

/// Pieces of a file's data that are looked at to know it again, and their length.
const PIECES: usize = 16;
const PIECE_BYTES: usize = 4096;

/// Bytes that are hashed before their pages are given back.
const READ_BYTES: usize = 16 << 20;

/// An open GGUF file, with its other parts where it is split.
pub struct Gguf {
    /// As it was named.
    file: String,
    /// The first part, with the metadata.
    map: MappedFile,
    header: Header,
    /// Further parts: where they are, and how long their headers.
    rest: Vec<(MappedFile, usize)>,
    tensors: HashMap<String, TensorPlace>,
}

/// A tensor's form and place in the file.
#[derive(Debug, Clone)]
struct TensorPlace {
    format: Format,
    /// Outermost first.
    dims: Vec<usize>,
    /// The part that it lies in, from 0.
    part: usize,
    bytes: Range<usize>,
}

impl Gguf {
    /// Opens and checks a file, with all its parts where it is one of several (`NAME-00001-of-00003.gguf`).
    ///
    /// # Errors
    /// [`ModelError::File`] names the file, or the part, and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let paths = split::parts(path);
        let mut opened = Vec::with_capacity(paths.len());
        let wrong = |part: usize, reason: String| {
            let file = if paths.len() == 1 { path } else { paths[part].as_path() };
            ModelError::File { file: file.display().to_string(), reason }
        };
        for (number, path) in paths.iter().enumerate() {
            let map = MappedFile::open(path).map_err(|e| match (e.kind(), paths.len()) {
                (std::io::ErrorKind::NotFound, 2..) => {
                    wrong(number, format!("is missing: part {} of {} of the model", number + 1, paths.len()))
                }
                _ => wrong(number, format!("cannot be read: {e}")),
            })?;
            let header = Header::read(&map[..map.len().min(HEADER_BYTES)]).map_err(|reason| wrong(number, reason))?;
            opened.push((map, header));
        }
        let said = |key: &str, header: &Header| header.metadata.get(key).and_then(whole);
        let numbers: Vec<_> = opened.iter().map(|(_, h)| (said("split.no", h), said("split.count", h))).collect();
        split::check(&paths, &numbers).map_err(|(part, reason)| wrong(part, reason))?;
        let mut tensors = HashMap::new();
        for (part, (map, header)) in opened.iter().enumerate() {
            let start = data_start(header).map_err(|reason| wrong(part, reason))?;
            for (name, info) in &header.tensors {
                let about = |reason: String| wrong(part, format!("tensor `{}`: {reason}", printable(name)));
                let place = place(&info.dims, info.format, start, info.offset, map.len()).map_err(about)?;
                if tensors.insert(name.clone(), TensorPlace { part, ..place }).is_some() {
                    return Err(about("another part of the model has it too".into()));
                }
            }
        }
        let expected = said("split.tensors.count", &opened[0].1).filter(|_| paths.len() > 1);
        if let Some(expected) = expected.filter(|expected| *expected != tensors.len()) {
            let reason = format!(
                "the model has {expected} tensors, its parts have {}: they are of several models",
                tensors.len()
            );
            return Err(wrong(0, reason));
        }
        let mut opened = opened.into_iter();
        let (map, header) = opened.next().ok_or_else(|| wrong(0, "has no parts".into()))?;
        let rest = opened.map(|(map, header)| (map, header.len)).collect();
        Ok(Self { file: path.display().to_string(), map, header, rest, tensors })
    }

    /// The bytes of a part.
    fn part(&self, number: usize) -> &MappedFile {
        number.checked_sub(1).and_then(|n| self.rest.get(n)).map_or(&self.map, |(map, _)| map)
    }

    /// A tensor's bytes.
    fn bytes(&self, place: &TensorPlace) -> &[u8] {
        &self.part(place.part)[place.bytes.clone()]
    }

    /// The file, as it was named.
    pub fn file(&self) -> &str {
        &self.file
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
        match self.header.metadata.get(key) {
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
            Value::List(all) => {
                let mut numbers = all.values(&self.map)?.map(|value| whole(&value?));
                let first = numbers.next()??;
                numbers.all(|number| number == Some(first)).then_some(first)
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
        self.typed(key, "a number", number)
    }

    /// As [`Self::number`], for a key that must be there.
    pub fn need_number(&self, key: &str) -> Result<f64, ModelError> {
        let number = self.number(key)?;
        self.required(key, number)
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.typed(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list of true and false; `None` where the key is absent or a number.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>, ModelError> {
        match self.header.metadata.get(key) {
            Some(Value::List(list)) => self.typed(key, "a list of true and false", |_| {
                let flag = |value: Value| match value {
                    Value::Flag(flag) => Some(flag),
                    value => whole(&value).map(|x| x != 0),
                };
                list.values(&self.map)?.map(|value| flag(value?)).collect()
            }),
            _ => Ok(None),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// As [`Self::text`], for a key that must be there.
    pub fn need_text(&self, key: &str) -> Result<&str, ModelError> {
        let text = self.text(key)?;
        self.required(key, text)
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.typed(key, "a list of texts", |value| match value {
            Value::List(list) => list.texts(&self.map, &self.header.mended),
            _ => None,
        })
    }

    /// As [`Self::texts`], for a key that must be there.
    pub fn need_texts(&self, key: &str) -> Result<Vec<&str>, ModelError> {
        let texts = self.texts(key)?;
        self.required(key, texts)
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, ModelError> {
        self.typed(key, "a list of numbers", |value| match value {
            Value::List(list) => list.values(&self.map)?.map(|value| Some(number(&value?)? as f32)).collect(),
            _ => None,
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

    /// Numbers of all tensors: the model's parameters.
    pub fn parameters(&self) -> u64 {
        let numbers = |t: &TensorPlace| (t.bytes.len() / t.format.block_bytes() * t.format.block_len()) as u64;
        self.tensors.values().map(numbers).sum()
    }

    /// Bytes that all tensors would take in `f32`.
    pub fn widened_bytes(&self) -> u64 {
        4 * self.parameters()
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.values().map(|t| t.bytes.len() as u64).sum()
    }

    /// Formats of all tensors.
    pub fn formats(&self) -> impl Iterator<Item = Format> {
        self.tensors.values().map(|tensor| tensor.format)
    }

    /// Says that a tensor has been read: a backend holds its own copy, so that the file's pages need not stay in
    /// memory.
    pub fn give_back(&self, name: &str) {
        if let Some(place) = self.tensors.get(name) {
            self.part(place.part).give_back(place.bytes.clone());
        }
    }

    /// The same file with another text in its metadata.
    #[cfg(test)]
    pub(super) fn with_text(mut self, key: &str, text: &str) -> Self {
        self.header.metadata.insert(key.into(), Value::Text(text.into()));
        self
    }

    /// Writes this file's model in `count` parts beside `name`, as llama.cpp's gguf-split does: all metadata in the first.
    #[cfg(test)]
    pub(super) fn write_split(&self, folder: &Path, name: &str, count: usize) -> Vec<std::path::PathBuf> {
        let mut names: Vec<&String> = self.tensors.keys().collect();
        names.sort();
        let infos: usize =
            self.header.tensors.iter().map(|(name, info)| 8 + name.len() + 4 + 8 * info.dims.len() + 4 + 8).sum();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        let per_part = names.len().div_ceil(count);
        let mut paths = Vec::new();
        for part in 0..count {
            let own: Vec<&String> = names.iter().skip(part * per_part).take(per_part).copied().collect();
            let present = if part == 0 { &self.map[24..self.header.len - infos] } else { &[][..] };
            let known = if part == 0 { self.header.metadata.len() as u64 } else { 0 };
            let mut out = b"GGUF".to_vec();
            out.extend(3u32.to_le_bytes());
            out.extend((own.len() as u64).to_le_bytes());
            out.extend((known + 3).to_le_bytes());
            out.extend(present);
            for (key, kind, value) in
                [("split.no", 2u32, part), ("split.count", 2, count), ("split.tensors.count", 5, names.len())]
            {
                text(&mut out, key);
                out.extend(kind.to_le_bytes());
                out.extend(&value.to_le_bytes()[..if kind == 2 { 2 } else { 4 }]);
            }
            let mut data: Vec<u8> = Vec::new();
            for name in own {
                let (info, place) = (&self.header.tensors[name], &self.tensors[name]);
                text(&mut out, name);
                out.extend((info.dims.len() as u32).to_le_bytes());
                info.dims.iter().rev().for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
                out.extend(info.format.to_le_bytes());
                out.extend((data.len() as u64).to_le_bytes());
                data.extend(self.bytes(place));
                data.resize(data.len().next_multiple_of(32), 0);
            }
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(data);
            let path = folder.join(format!("{name}-{:05}-of-{count:05}.gguf", part + 1));
            std::fs::write(&path, out).unwrap();
            paths.push(path);
        }
        paths
    }

    /// Where a tensor's bytes lie in the file.
    #[cfg(test)]
    pub(super) fn byte_range(&self, name: &str) -> Option<Range<usize>> {
        self.tensors.get(name).map(|t| t.bytes.clone())
    }

    /// What tells this file from others without reading all of it: its length, the time it was written, its header and
    /// some pieces of its data, as a hash.
    pub fn identity(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let parts = std::iter::once((&self.map, self.header.len)).chain(self.rest.iter().map(|(map, len)| (map, *len)));
        for (map, header) in parts {
            let written = map.modified().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            hasher.update(format!("{} {written:?} ", map.len()).as_bytes());
            let (header, data) = map.split_at(header);
            hasher.update(header);
            for piece in 0..PIECES {
                let from = data.len() / PIECES * piece;
                hasher.update(&data[from..data.len().min(from + PIECE_BYTES)]);
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Hash of the whole file, of all parts one after the other (BLAKE3, hex).
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for map in std::iter::once(&self.map).chain(self.rest.iter().map(|(map, _)| map)) {
            for (number, piece) in map.chunks(READ_BYTES).enumerate() {
                hasher.update(piece);
                map.give_back(number * READ_BYTES..number * READ_BYTES + piece.len());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The file's name without folder and ending, of letters and digits only.
    pub fn stem(&self) -> String {
        let stem = Path::new(&self.file).file_stem().unwrap_or_default().to_string_lossy();
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
    }

    /// A matrix of the shape that the model needs.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn matrix<'a>(&'a self, name: &'a str, rows: usize, cols: usize) -> Result<PackedMatrix<'a>, ModelError> {
        let place = self.tensor(name, &[rows, cols])?;
        Ok(PackedMatrix { name, format: place.format, rows, cols, bytes: self.bytes(place) })
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
        let matrix = PackedMatrix { name, format: all.format, rows: count * rows, cols, bytes: self.bytes(all) };
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
        Ok(PackedMatrix { name, format: place.format, rows: 1, cols: len, bytes: self.bytes(place) })
    }
}

/// Some rows of a matrix.
fn part(matrix: PackedMatrix<'_>, from: usize, rows: usize) -> PackedMatrix<'_> {
    let row_bytes = matrix.bytes.len() / matrix.rows;
    PackedMatrix { rows, bytes: &matrix.bytes[from * row_bytes..][..rows * row_bytes], ..matrix }
}

/// Where the tensors' data begin.
fn data_start(header: &Header) -> Result<u64, String> {
    let alignment = match header.metadata.get("general.alignment") {
        None => 32,
        Some(Value::Whole(alignment)) => *alignment,
        Some(_) => return Err("`general.alignment` is not a whole number".into()),
    };
    match u64::try_from(alignment) {
        Ok(alignment) if alignment.is_power_of_two() && (8..=1 << 20).contains(&alignment) => {
            Ok((header.len as u64).next_multiple_of(alignment))
        }
        _ => Err(format!("`general.alignment` is {alignment}; it must be a power of two of at least 8")),
    }
}

/// Checks that a tensor's data lie within the file.
fn place(dims: &[usize], number: u32, start: u64, offset: u64, file: usize) -> Result<TensorPlace, String> {
    let format = format(number)
        .map_err(|name| format!("the format {name} is not supported; take a file in Q4_K_M, Q8_0 or F16"))?;
    let Some((cols, outer)) = dims.split_last() else {
        return Err("it has no dimensions".into());
    };
    let rows = outer.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    let len = rows.and_then(|rows| format.matrix_bytes(rows, *cols)).filter(|len| *len > 0);
    let Some(len) = len else {
        return Err(format!("the shape {dims:?} does not fit the format {format:?}"));
    };
    let from = start.checked_add(offset).and_then(|from| usize::try_from(from).ok());
    let range = from.and_then(|from| Some(from..from.checked_add(len)?));
    match range {
        Some(bytes) if bytes.end <= file => Ok(TensorPlace { format, dims: dims.to_vec(), part: 0, bytes }),
        _ => Err(format!(
            "its {len} bytes at offset {offset} of the data reach beyond the end of the file ({file} bytes): the file is \
             cut short or damaged"
        )),
    }
}

/// The format of ggml's number, or the name of one that is not read.
fn format(number: u32) -> Result<Format, String> {
    let foreign = match number {
        0 => return Ok(Format::F32),
        1 => return Ok(Format::F16),
        2 => return Ok(Format::Q4_0),
        3 => return Ok(Format::Q4_1),
        6 => return Ok(Format::Q5_0),
        7 => return Ok(Format::Q5_1),
        8 => return Ok(Format::Q8_0),
        10 => return Ok(Format::Q2K),
        11 => return Ok(Format::Q3K),
        12 => return Ok(Format::Q4K),
        13 => return Ok(Format::Q5K),
        14 => return Ok(Format::Q6K),
        30 => return Ok(Format::BF16),
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        other => return Err(format!("number {other}")),
    };
    Err(foreign.into())
}

fn whole(value: &Value) -> Option<usize> {
    match value {
        Value::Whole(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Whole(x) => Some(*x as f64),
        Value::Single(x) => Some(*x as f64),
        Value::Double(x) => Some(*x),
        _ => None,
    }
}

/// A metadata value in a few words, for errors.
fn describe(value: &Value) -> String {
    match value {
        Value::List(all) => format!("a list of {} values", all.len),
        Value::Text(text) => format!("the text `{}`", printable(&text.chars().take(60).collect::<String>())),
        Value::Flag(x) => x.to_string(),
        Value::Whole(x) => x.to_string(),
        Value::Single(x) => x.to_string(),
        Value::Double(x) => x.to_string(),
    }
}

/// Names in a damaged file may hold anything: control characters become escapes, long ones are cut.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_read_are_refused_by_name() {
        for (number, name) in [(20, "IQ4_NL"), (23, "IQ4_XS"), (39, "MXFP4"), (77, "number 77")] {
            let refused = place(&[2, 32], number, 0, 0, 1000).err().unwrap();
            assert!(refused.contains(&format!("the format {name} is not supported")), "{refused}");
        }
        assert!(place(&[2, 32], 8, 0, 0, 68).is_ok());
        assert!(place(&[2, 32], 8, 0, 0, 67).err().unwrap().contains("cut short"));
    }
}
