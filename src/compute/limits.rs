//! What this machine can do at most, to put beside what a kernel does.
//!
//! All figures are medians of a few rounds over all threads of the pool. Neighbours and the clock move them from
//! minute to minute, so a benchmark measures them in its own run.

use std::hint::black_box;
use std::time::Instant;

use super::lanes::{Isa, Lanes, dispatch};
use super::parallel::for_each_index;

const ROUNDS: usize = 7;
/// Bytes that each thread reads in a round: beyond the caches.
const READ_BYTES: usize = 192 << 20;
/// Steps of a round of multiply-adds: some 20 ms.
const STEPS: usize = 1 << 20;
/// Sums that do not wait for each other in a step.
const SUMS: usize = 10;

/// 8-bit multiply-adds into 32-bit sums a second, in 10^9, of the vector units (AVX-512 VNNI, AVX-VNNI or AVX2; plain
/// code elsewhere). Matrix units (AMX) are not counted.
pub fn int8_gmac_s() -> f64 {
    gmac_s(int8_kernel())
}

/// 16-bit multiply-adds into 32-bit sums a second, in 10^9, of the same units.
pub fn int16_gmac_s() -> f64 {
    gmac_s(int16_kernel())
}

/// Multiply-adds in `f32` a second, in 10^9, of the vector units.
pub fn f32_gmac_s() -> f64 {
    let isa = Isa::widest();
    let lanes = match isa {
        Isa::Scalar => 1,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => 16,
    };
    let threads = candle_core::utils::get_num_threads();
    per_second(|| {
        for_each_index(threads, |_| {
            let mut sum = 0.0;
            let to = &mut sum;
            // SAFETY: `isa` is one that this CPU has.
            unsafe { dispatch!(isa, fma_all(to: &mut f32)) };
            black_box(sum);
        });
        (threads * STEPS * SUMS * lanes) as f64
    }) / 1e9
}

/// What a kernel does a second on all threads: the products in one instruction, and a function that runs
/// `STEPS * SUMS` of them.
fn gmac_s((products, run): (usize, fn() -> i32)) -> f64 {
    let threads = candle_core::utils::get_num_threads();
    per_second(|| {
        for_each_index(threads, |_| {
            black_box(run());
        });
        (threads * STEPS * SUMS * products) as f64
    }) / 1e9
}

/// Bytes read from memory a second, in 10^9.
pub fn read_gb_s() -> f64 {
    let threads = candle_core::utils::get_num_threads();
    let part = READ_BYTES / size_of::<f32>();
    // Written once, so that every page is there.
    let buffer = vec![1.0f32; threads * part];
    let isa = Isa::widest();
    per_second(|| {
        for_each_index(threads, |thread| {
            let (from, mut sum) = (&buffer[thread * part..][..part], 0.0);
            let to = &mut sum;
            // SAFETY: `isa` is one that this CPU has.
            unsafe { dispatch!(isa, add_all(from: &[f32], to: &mut f32)) };
            black_box(sum);
        });
        (threads * READ_BYTES) as f64
    }) / 1e9
}

/// The median of what `round` does in a second.
fn per_second(round: impl Fn() -> f64) -> f64 {
    round();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            round() / started.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn add_all<L: Lanes>(from: &[f32], to: &mut f32) {
    // SAFETY: every load is within a chunk of `8 * L::N` numbers.
    unsafe {
        let mut sums = [L::splat(0.0); 8];
        for chunk in from.chunks_exact(8 * L::N) {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(L::load(chunk.as_ptr().add(i * L::N)));
            }
        }
        *to = sums.into_iter().map(|sum| sum.reduce_sum()).sum();
    }
}

/// `STEPS * SUMS` multiply-adds of a vector.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn fma_all<L: Lanes>(to: &mut f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        // Vectors of two registers leave room for half as many sums.
        match L::ROWS {
            2 => fma_sums::<L, { SUMS / 2 }>(2 * STEPS, to),
            _ => fma_sums::<L, SUMS>(STEPS, to),
        }
    }
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn fma_sums<L: Lanes, const N: usize>(steps: usize, to: &mut f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let (a, b) = (L::splat(black_box(0.5)), L::splat(black_box(0.25)));
        let mut sums = [L::splat(0.0); N];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = a.fma(b, *sum);
            }
        }
        *to = sums.into_iter().map(|sum| sum.reduce_sum()).sum();
    }
}

/// See [`gmac_s`].
fn int8_kernel() -> (usize, fn() -> i32) {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY (all three): called only where the feature was found.
        if is_x86_feature_detected!("avx512vnni") {
            return (64, || unsafe { x86::avx512_vnni() });
        }
        if is_x86_feature_detected!("avxvnni") {
            return (32, || unsafe { x86::avx_vnni() });
        }
        if is_x86_feature_detected!("avx2") {
            return (32, || unsafe { x86::avx2() });
        }
    }
    (1, plain)
}

/// As [`int8_kernel`], for 16 bits.
fn int16_kernel() -> (usize, fn() -> i32) {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY (all three): called only where the feature was found.
        if is_x86_feature_detected!("avx512vnni") {
            return (32, || unsafe { x86::avx512_vnni_16() });
        }
        if is_x86_feature_detected!("avxvnni") {
            return (16, || unsafe { x86::avx_vnni_16() });
        }
        if is_x86_feature_detected!("avx2") {
            return (16, || unsafe { x86::avx2_16() });
        }
    }
    (1, plain)
}

fn plain() -> i32 {
    let (a, b) = (black_box(3i8), black_box(5i8));
    let mut sums = [0i32; SUMS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = black_box(sum.wrapping_add(a as i32 * b as i32));
        }
    }
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{STEPS, SUMS};

    /// A loop of `SUMS` independent chains of one instruction.
    macro_rules! chains {
        ($name:ident, $features:literal, $zero:ident, $splat:ident, $first:ident, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name() -> i32 {
                let ($a, $b) = ($splat(black_box(3)), $splat(black_box(5)));
                let mut sums = [$zero(); SUMS];
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        let $sum = *sum;
                        *sum = $step;
                    }
                }
                sums.iter().fold(0, |total: i32, sum| total.wrapping_add($first(*sum)))
            }
        };
    }

    #[target_feature(enable = "avx512f")]
    fn first_of_512(x: __m512i) -> i32 {
        _mm512_cvtsi512_si32(x)
    }

    #[target_feature(enable = "avx2")]
    fn first_of_256(x: __m256i) -> i32 {
        _mm256_extract_epi32::<0>(x)
    }

    chains!(avx512_vnni, "avx512f,avx512vnni", _mm512_setzero_si512, _mm512_set1_epi8, first_of_512, |sum, a, b| {
        _mm512_dpbusd_epi32(sum, a, b)
    });
    chains!(avx_vnni, "avx2,avxvnni", _mm256_setzero_si256, _mm256_set1_epi8, first_of_256, |sum, a, b| {
        _mm256_dpbusd_avx_epi32(sum, a, b)
    });
    chains!(avx2, "avx2", _mm256_setzero_si256, _mm256_set1_epi8, first_of_256, |sum, a, b| {
        // The sum goes into the product's operand, so that the products are not computed once for all steps.
        let products = _mm256_maddubs_epi16(_mm256_xor_si256(a, sum), b);
        _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
    });
    chains!(avx512_vnni_16, "avx512f,avx512vnni", _mm512_setzero_si512, _mm512_set1_epi8, first_of_512, |sum, a, b| {
        _mm512_dpwssd_epi32(sum, a, b)
    });
    chains!(avx_vnni_16, "avx2,avxvnni", _mm256_setzero_si256, _mm256_set1_epi8, first_of_256, |sum, a, b| {
        _mm256_dpwssd_avx_epi32(sum, a, b)
    });
    chains!(avx2_16, "avx2", _mm256_setzero_si256, _mm256_set1_epi8, first_of_256, |sum, a, b| {
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_xor_si256(a, sum), b))
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limits_are_those_of_a_computer() {
        assert!(super::int8_gmac_s() > 0.01 && super::int16_gmac_s() > 0.01 && super::f32_gmac_s() > 0.01);
        assert!(super::read_gb_s() > 0.1);
    }
}
