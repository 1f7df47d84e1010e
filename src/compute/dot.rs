//! Dot products of vectors: what a search through a graph of vectors, and a comparison with examples, spend their time on.
//!
//! Half-precision vectors are widened lane by lane and summed in single precision, two accumulators deep; at 384 numbers
//! that is 24 loads of each on AVX-512, and the graph's nodes come from memory anyway.

use half::f16;

use super::lanes::{Isa, Lanes, dispatch};
use super::panels::Number;

/// The dot product of two vectors.
///
/// # Panics
/// Where they differ in length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_on(Isa::widest(), a, b)
}

fn dot_on(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut sum = 0.0;
    let to = &mut sum;
    // SAFETY: `isa` is one that this CPU has.
    unsafe { dispatch!(isa, singles(a: &[f32], b: &[f32], to: &mut f32)) };
    sum
}

/// The cosine of two vectors; 0 where one of them is 0 or they differ in length.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return 0.0;
    }
    let norms = dot(a, a) * dot(b, b);
    if norms > 0.0 { dot(a, b) / norms.sqrt() } else { 0.0 }
}

/// The dot product of two vectors of one length.
pub(crate) fn dot_of_halves(a: &[f16], b: &[f16]) -> f32 {
    dot_of_halves_on(Isa::widest(), a, b)
}

fn dot_of_halves_on(isa: Isa, a: &[f16], b: &[f16]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut sum = 0.0;
    let to = &mut sum;
    // SAFETY: `isa` is one that this CPU has.
    unsafe { dispatch!(isa, halves(a: &[f16], b: &[f16], to: &mut f32)) };
    sum
}

/// The distance of two stored vectors of `dimensions` half-precision numbers of unit length, for a graph that hands
/// them out by address, as `T`: a type of the same size and meaning.
pub(crate) fn distance_of_units<T: 'static>(dimensions: usize) -> Box<dyn Fn(*const T, *const T) -> f32 + Send + Sync> {
    const { assert!(size_of::<T>() == size_of::<f16>() && align_of::<T>() == align_of::<f16>()) };
    Box::new(move |a, b| {
        // SAFETY: the graph calls this with vectors that it stores, or with a query that it has brought to the same
        // form; both are of `dimensions` numbers.
        let vector = |at: *const T| unsafe { std::slice::from_raw_parts(at.cast::<f16>(), dimensions) };
        1.0 - dot_of_halves(vector(a), vector(b))
    })
}

/// # Safety
/// As for [`Lanes`]; `a` and `b` have one length.
#[inline(always)]
unsafe fn singles<L: Lanes>(a: &[f32], b: &[f32], to: &mut f32) {
    // SAFETY: passed on from the caller.
    *to = unsafe { sum_of_products::<L, f32>(a, b) };
}

/// # Safety
/// As for [`Lanes`]; `a` and `b` have one length.
#[inline(always)]
unsafe fn halves<L: Lanes>(a: &[f16], b: &[f16], to: &mut f32) {
    // SAFETY: passed on from the caller.
    *to = unsafe { sum_of_products::<L, f16>(a, b) };
}

/// # Safety
/// As for [`Lanes`]; `a` and `b` have one length.
#[inline(always)]
unsafe fn sum_of_products<L: Lanes, W: Number>(a: &[W], b: &[W]) -> f32 {
    let length = a.len();
    let whole = length - length % (2 * L::N);
    // SAFETY: all loads end within both, those of vectors within `whole`.
    unsafe {
        let (a, b) = (a.as_ptr(), b.as_ptr());
        let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
        let mut i = 0;
        while i < whole {
            even = W::lanes::<L>(a.add(i)).fma(W::lanes::<L>(b.add(i)), even);
            odd = W::lanes::<L>(a.add(i + L::N)).fma(W::lanes::<L>(b.add(i + L::N)), odd);
            i += 2 * L::N;
        }
        let mut sum = even.add(odd).reduce_sum();
        while i < length {
            sum += W::lanes::<f32>(a.add(i)) * W::lanes::<f32>(b.add(i));
            i += 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn dot_products_of_random_lengths_match_the_definition_on_every_instruction_set() {
        let mut rng = StdRng::seed_from_u64(11);
        for isa in Isa::all() {
            for _ in 0..50 {
                let length = rng.random_range(0..500);
                let mut random = || (0..length).map(|_| f16::from_f32(rng.random_range(-1.0..1.0))).collect::<Vec<_>>();
                let (a, b) = (random(), random());
                let wide = |v: &[f16]| v.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
                let expected: f64 = a.iter().zip(&b).map(|(a, b)| a.to_f64() * b.to_f64()).sum();
                for found in [dot_of_halves_on(isa, &a, &b), dot_on(isa, &wide(&a), &wide(&b))] {
                    assert!((f64::from(found) - expected).abs() < 1e-4, "{isa:?}, {length}: {found}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn a_cosine_does_not_depend_on_length_and_nothing_has_none() {
        assert!((cosine(&[3.0, 0.0], &[2.0, 2.0]) - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!([cosine(&[0.0], &[1.0]), cosine(&[], &[]), cosine(&[1.0], &[1.0, 2.0])], [0.0; 3]);
    }
}
