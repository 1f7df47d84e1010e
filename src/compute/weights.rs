//! Weights as they lie in a model file.

/// How the numbers of a weight are packed. Block formats follow ggml's definitions of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// Weights in one block.
    pub fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 1,
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 | Format::Q8_0 => 32,
            Format::Q2K | Format::Q3K | Format::Q4K | Format::Q5K | Format::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::BF16 => 2,
            Format::Q4_0 => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q8_0 => 34,
            Format::Q2K => 84,
            Format::Q3K => 110,
            Format::Q4K => 144,
            Format::Q5K => 176,
            Format::Q6K => 210,
        }
    }

    /// Bytes of a matrix, or `None` where a row does not divide into blocks or the size overflows.
    pub fn matrix_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())?.checked_mul(rows)
    }
}

/// A weight in a model file: `rows` outputs of `cols` inputs each, row after row.
#[derive(Debug, Clone, Copy)]
pub struct PackedMatrix<'a> {
    /// Its name in the file, for errors.
    pub name: &'a str,
    pub format: Format,
    /// Outputs. A vector (a norm's weight, a bias) is one row.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Exactly `format.matrix_bytes(rows, cols)` bytes.
    pub bytes: &'a [u8],
}
