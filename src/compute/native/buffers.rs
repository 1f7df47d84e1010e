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
    /// As many as there are, and perhaps more that lay there before.
    numbers: Vec<f32>,
    len: usize,
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
        let len = rows * width;
        let mut numbers = self.numbers_of(len);
        if numbers.len() < len {
            // Not by growing: that would copy what nobody needs.
            numbers = vec![0.0; len];
        }
        Rows { numbers, len, width, home: self.clone() }
    }

    /// The shortest numbers that are long enough, else the longest of all.
    fn numbers_of(&self, len: usize) -> Vec<f32> {
        let mut free = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let fit = |numbers: &Vec<f32>| match numbers.len() < len {
            false => (0, numbers.len()),
            true => (1, usize::MAX - numbers.len()),
        };
        let best = (0..free.len()).min_by_key(|at| fit(&free[*at]));
        best.map(|at| free.swap_remove(at)).unwrap_or_default()
    }

    /// Rows of zeros whose memory is to leave this room, by [`Rows::into_numbers`].
    pub(super) fn lasting_rows(self: &Arc<Self>, rows: usize, width: usize) -> Rows {
        Rows { numbers: vec![0.0; rows * width], len: rows * width, width, home: self.clone() }
    }

    /// As [`Self::rows`], for rounded numbers.
    pub(super) fn rounded(self: &Arc<Self>, rows: usize, width: usize) -> Rounded {
        let mut rounded = self.rounded.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        rounded.reshape(rows, width);
        Rounded { rows: rounded, home: self.clone() }
    }
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
        self.numbers.truncate(self.len);
        std::mem::take(&mut self.numbers)
    }

    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.len / self.width
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
        &self.numbers[..self.len]
    }
}

impl DerefMut for Rows {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_size_whatever_lay_there_before_and_memory_comes_back() {
        let buffers = Arc::new(Buffers::default());
        let lens = |buffers: &Buffers| {
            let mut lens: Vec<usize> = buffers.numbers.lock().unwrap().iter().map(Vec::len).collect();
            lens.sort_unstable();
            lens
        };
        drop((buffers.rows(4, 10), buffers.rows(7, 10)));
        assert_eq!(lens(&buffers), [40, 70]);
        // The shortest that is long enough, and none that a longer one will need.
        let (small, large) = (buffers.rows(3, 10), buffers.rows(9, 10));
        assert_eq!((small.len(), small.count(), large.len()), (30, 3, 90));
        assert_eq!(lens(&buffers), [0; 0]);
        drop((small, large));
        assert_eq!(lens(&buffers), [40, 90]);
        assert_eq!(buffers.rows(5, 10).into_numbers().len(), 50);
        assert_eq!(lens(&buffers), [40], "what left the room does not come back");
    }
}
