//! Memory that steps use again: a step's activations would otherwise be fresh pages of the system every time.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use super::rounded::RoundedRows;

/// Buffers that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Buffers {
    numbers: Mutex<Vec<Vec<f32>>>,
    rounded: Mutex<Vec<RoundedRows>>,
}

/// A matrix of activations, `[rows][width]`; its memory goes back when it is dropped.
pub struct Rows {
    numbers: Vec<f32>,
    width: usize,
    home: Arc<Buffers>,
}

/// Rounded activations; their memory goes back when they are dropped.
pub(super) struct Rounded {
    rows: RoundedRows,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Room for `rows` of `width` numbers. What they are is undefined: whoever asks writes them all.
    pub(super) fn rows(self: &Arc<Self>, rows: usize, width: usize) -> Rows {
        let mut numbers = take(&self.numbers);
        numbers.resize(rows * width, 0.0);
        Rows { numbers, width, home: self.clone() }
    }

    /// Rows of zeros whose memory is to leave this room, by [`Rows::into_numbers`].
    pub(super) fn lasting_rows(self: &Arc<Self>, rows: usize, width: usize) -> Rows {
        Rows { numbers: vec![0.0; rows * width], width, home: self.clone() }
    }

    /// As [`Self::rows`], for rounded numbers.
    pub(super) fn rounded(self: &Arc<Self>, rows: usize, width: usize) -> Rounded {
        let mut rounded = take(&self.rounded);
        rounded.reshape(rows, width);
        Rounded { rows: rounded, home: self.clone() }
    }
}

fn take<T: Default>(free: &Mutex<Vec<T>>) -> T {
    free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
}

fn give_back<T: Default>(free: &Mutex<Vec<T>>, used: &mut T) {
    free.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(used));
}

impl Rows {
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The numbers themselves; their memory does not come back.
    pub(super) fn into_numbers(mut self) -> Vec<f32> {
        std::mem::take(&mut self.numbers)
    }

    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.numbers.len() / self.width
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if self.numbers.capacity() > 0 {
            give_back(&self.home.numbers, &mut self.numbers);
        }
    }
}

impl Drop for Rounded {
    fn drop(&mut self) {
        give_back(&self.home.rounded, &mut self.rows);
    }
}

impl Deref for Rows {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers
    }
}

impl DerefMut for Rows {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }
}

impl Deref for Rounded {
    type Target = RoundedRows;

    fn deref(&self) -> &RoundedRows {
        &self.rows
    }
}

impl DerefMut for Rounded {
    fn deref_mut(&mut self) -> &mut RoundedRows {
        &mut self.rows
    }
}
