//! Vectors of examples, each once, for all who compare a text with them: several judges know the same examples, and
//! reading their vectors from memory is what a comparison costs.

use std::collections::HashMap;

use half::f16;

use crate::compute::dot_of_halves;

/// Distinct vectors of one width, in half precision.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Gallery {
    #[serde(with = "as_bytes")]
    numbers: Vec<f16>,
    dimensions: usize,
}

/// A gallery while judges learn from its examples: it knows which vector has which number.
#[derive(Default)]
pub struct Catalogue {
    pub gallery: Gallery,
    /// By the bits of a vector.
    places: HashMap<Vec<u32>, u32>,
}

/// A text's vector, and how like each vector of a gallery it is. Both are empty where a text has no vector.
#[derive(Debug, Clone, Default)]
pub struct Placed<'a> {
    pub vector: &'a [f32],
    /// Dot products, by the vectors' numbers.
    pub likeness: Vec<f32>,
}

impl Catalogue {
    /// Empty vectors, and those of another width than the first, have no place.
    pub fn of<'a>(vectors: impl IntoIterator<Item = &'a [f32]>) -> Self {
        let mut it = Self::default();
        for vector in vectors {
            if it.gallery.dimensions == 0 {
                it.gallery.dimensions = vector.len();
            }
            if vector.is_empty() || vector.len() != it.gallery.dimensions {
                continue;
            }
            let next = it.places.len() as u32;
            if *it.places.entry(bits(vector)).or_insert(next) == next {
                it.gallery.numbers.extend(vector.iter().map(|x| f16::from_f32(*x)));
            }
        }
        it
    }

    /// The number of a vector, where it is in the gallery.
    pub fn place(&self, vector: &[f32]) -> Option<u32> {
        self.places.get(&bits(vector)).copied()
    }
}

impl Gallery {
    /// Compares a text's vector with all. One of another width is like none.
    pub fn placed<'a>(&self, vector: &'a [f32]) -> Placed<'a> {
        if vector.is_empty() {
            return Placed::default();
        }
        let mut likeness = vec![0.0; self.numbers.len() / self.dimensions.max(1)];
        if vector.len() == self.dimensions {
            let vector: Vec<f16> = vector.iter().map(|x| f16::from_f32(*x)).collect();
            let all = self.numbers.chunks_exact(self.dimensions);
            likeness.iter_mut().zip(all).for_each(|(like, other)| *like = dot_of_halves(&vector, other));
        }
        Placed { vector, likeness }
    }
}

/// Half-precision numbers in a file: their bytes, little-endian.
mod as_bytes {
    use half::f16;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(numbers: &[f16], to: S) -> Result<S::Ok, S::Error> {
        numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f16>, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        Ok(bytes.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair)).collect())
    }
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|x| x.to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vector_is_kept_once_and_compared_with() {
        let vectors = [vec![1.0, 0.0], vec![], vec![0.6, 0.8], vec![1.0, 0.0], vec![1.0, 0.0, 0.0]];
        let catalogue = Catalogue::of(vectors.iter().map(Vec::as_slice));
        let places: Vec<Option<u32>> = vectors.iter().map(|v| catalogue.place(v)).collect();
        assert_eq!(places, [Some(0), None, Some(1), Some(0), None]);
        let likeness = catalogue.gallery.placed(&[0.0, 1.0]).likeness;
        assert!(likeness.len() == 2 && likeness[0].abs() < 1e-3 && (likeness[1] - 0.8).abs() < 1e-3);
        assert!(catalogue.gallery.placed(&[]).likeness.is_empty());
        assert_eq!(catalogue.gallery.placed(&[1.0]).likeness, [0.0, 0.0]);
        assert!(Catalogue::of([]).gallery.placed(&[1.0]).likeness.is_empty());
    }
}
