//! Rotary positions over the rows of several texts.

use std::ops::Range;

use super::attend::AttendShape;
use crate::compute::RopeRows;
use crate::compute::parallel::{SharedOut, for_each_index};

/// Tokens that are one piece of work.
const PIECE: usize = 16;

/// Turns queries and keys in `qkv[rows][3 * heads * width]`, each by its place in its text; `places` has a row for each.
pub fn rotate(qkv: &mut [f32], texts: &[Range<usize>], shape: AttendShape, places: &RopeRows) {
    let hidden = shape.heads * shape.width;
    let tokens: Vec<(usize, usize)> = texts.iter().flat_map(|rows| rows.clone().enumerate()).collect();
    let out = SharedOut::new(qkv);
    for_each_index(tokens.len().div_ceil(PIECE), |piece| {
        for &(place, row) in tokens.iter().skip(piece * PIECE).take(PIECE) {
            // SAFETY: every row belongs to one text and one piece.
            let both = unsafe { out.slice(row * 3 * hidden, 2 * hidden) };
            both.chunks_exact_mut(shape.width).for_each(|head| places.rotate(place, head));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{Rope, RopeKind};

    #[test]
    fn scores_of_turned_vectors_depend_on_the_distance_of_their_places_in_one_text() {
        let shape = AttendShape { heads: 2, width: 6, reach: None };
        let places = Rope::new(RopeKind::Halves, 6, 100.0, |_| 1.0).rows(0..30);
        let row: Vec<f32> = (0..36).map(|i| ((i * 7 % 11) as f32 - 5.0) / 5.0).collect();
        let mut qkv: Vec<f32> = row.iter().copied().cycle().take(36 * 40).collect();
        rotate(&mut qkv, &[0..10, 10..40], shape, &places);
        let score = |q: usize, k: usize| -> f32 {
            let part = |row: usize, from: usize| &qkv[row * 36 + from..][..6];
            part(q, 0).iter().zip(part(k, 12)).map(|(x, y)| x * y).sum()
        };
        assert!((score(3, 1) - score(9, 7)).abs() < 1e-4);
        assert!((score(3, 1) - score(13, 11)).abs() < 1e-4, "places are counted in each text by itself");
        assert!((score(3, 1) - score(3, 2)).abs() > 1e-2);
        assert_eq!(&qkv[36 * 5 + 24..][..12], &row[24..], "values stay");
        assert_eq!(&qkv[..24], &row[..24], "the first token is not turned");
    }
}
