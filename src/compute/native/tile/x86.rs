//! x86-64: AVX-512 with VNNI, AVX2 with and without VNNI.

use std::arch::x86_64::*;

use super::{Rounded, Tile};
use crate::compute::lanes::x86::{Ymm, Zmm};

/// One 512-bit register a vector.
#[derive(Clone, Copy)]
pub(in crate::compute::native) struct Avx512Vnni;

/// Two 256-bit registers a vector, with `vpdpbusd`.
#[derive(Clone, Copy)]
pub(in crate::compute::native) struct AvxVnni;

/// Two 256-bit registers a vector.
#[derive(Clone, Copy)]
pub(in crate::compute::native) struct Avx2;

/// Four activations as one lane.
#[inline(always)]
unsafe fn four(activations: *const i8) -> i32 {
    // SAFETY: the caller's pointer is valid for four bytes.
    unsafe { activations.cast::<i32>().read_unaligned() }
}

// SAFETY (all bodies): the instruction set and valid pointers are the trait's contract.
impl Tile for Avx512Vnni {
    type Ints = __m512i;
    type Floats = __m512;
    type Bytes = __m512i;
    type Lanes = Zmm;
    const ROWS: usize = 8;
    const PAIR_ROWS: usize = 6;
    const ATTEND_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m512i, weights: __m512i, activations: *const i8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(four(activations))) }
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: __m512i, weights: __m512i, activations: *const i8) -> __m512i {
        unsafe { Self::dot(sum, weights, activations) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sum: __m512i, signed: __m512i, weights: *const u8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(four(weights.cast())), signed) }
    }
    #[inline(always)]
    unsafe fn whole(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn floats(x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn bits(x: __m512i) -> __m512 {
        unsafe { _mm512_castsi512_ps(x) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn half(x: f32) -> f32 {
        unsafe { pairs::half(x) }
    }
    #[inline(always)]
    unsafe fn load_unsigned(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_signed(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store(x: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_bytes(x: __m512i, to: *mut u8) {
        unsafe { _mm512_storeu_si512(to.cast(), x) }
    }
    #[inline(always)]
    unsafe fn shifted<const LEFT: i32>(x: __m512i, mask: u8) -> __m512i {
        unsafe {
            let x = match LEFT {
                1 => _mm512_slli_epi16::<1>(x),
                2 => _mm512_slli_epi16::<2>(x),
                3 => _mm512_slli_epi16::<3>(x),
                4 => _mm512_slli_epi16::<4>(x),
                -1 => _mm512_srli_epi16::<1>(x),
                -2 => _mm512_srli_epi16::<2>(x),
                -3 => _mm512_srli_epi16::<3>(x),
                -4 => _mm512_srli_epi16::<4>(x),
                _ => x,
            };
            _mm512_and_si512(x, _mm512_set1_epi8(mask as i8))
        }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut i8) -> Rounded {
        unsafe {
            let (a, b) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
            let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
            let inverse = _mm512_set1_ps(if largest == 0.0 { 0.0 } else { 127.0 / largest });
            let a = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
            let b = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
            _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(a));
            _mm_storeu_si128(to.add(16).cast(), _mm512_cvtsepi32_epi8(b));
            Rounded { scale: largest / 127.0, sums: [_mm512_reduce_add_epi32(a), _mm512_reduce_add_epi32(b)] }
        }
    }
}

/// 256-bit operations and less.
mod pairs {
    use super::*;

    /// Bytes below 128 times four activations, by 16-bit sums that cannot saturate (2 * 127 * 127).
    #[inline(always)]
    pub(super) unsafe fn dot(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        unsafe {
            let pairs = _mm256_maddubs_epi16(weights, activations);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    /// Any byte: its lower seven bits and its highest bit apart.
    #[inline(always)]
    pub(super) unsafe fn dot_wide(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        unsafe {
            let low = _mm256_and_si256(weights, _mm256_set1_epi8(0x7f));
            let high = _mm256_and_si256(_mm256_srli_epi16::<7>(weights), _mm256_set1_epi8(1));
            let high = _mm256_maddubs_epi16(high, activations);
            let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(high, _mm256_set1_epi16(128)));
            dot(sum, low, activations)
        }
    }

    #[inline(always)]
    pub(super) unsafe fn shifted<const LEFT: i32>(x: __m256i, mask: u8) -> __m256i {
        unsafe {
            let x = match LEFT {
                1 => _mm256_slli_epi16::<1>(x),
                2 => _mm256_slli_epi16::<2>(x),
                3 => _mm256_slli_epi16::<3>(x),
                4 => _mm256_slli_epi16::<4>(x),
                -1 => _mm256_srli_epi16::<1>(x),
                -2 => _mm256_srli_epi16::<2>(x),
                -3 => _mm256_srli_epi16::<3>(x),
                -4 => _mm256_srli_epi16::<4>(x),
                _ => x,
            };
            _mm256_and_si256(x, _mm256_set1_epi8(mask as i8))
        }
    }

    #[inline(always)]
    pub(super) unsafe fn halves(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    pub(super) unsafe fn unsigned(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    pub(super) unsafe fn signed(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    pub(super) unsafe fn half(x: f32) -> f32 {
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(x)))) }
    }

    #[inline(always)]
    pub(super) unsafe fn round(from: *const f32, to: *mut i8) -> Rounded {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            let mut m = _mm256_setzero_ps();
            for i in 0..4 {
                m = _mm256_max_ps(m, _mm256_andnot_ps(sign, _mm256_loadu_ps(from.add(8 * i))));
            }
            let m = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps::<1>(m));
            let m = _mm_max_ps(m, _mm_movehl_ps(m, m));
            let largest = _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps::<1>(m, m)));
            let inverse = _mm256_set1_ps(if largest == 0.0 { 0.0 } else { 127.0 / largest });
            let mut i = [_mm256_setzero_si256(); 4];
            for k in 0..4 {
                i[k] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from.add(8 * k)), inverse));
            }
            let words = [_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3])];
            let bytes = _mm256_packs_epi16(words[0], words[1]);
            // Packing works in halves: put the fours back in order.
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_storeu_si256(to.cast(), bytes);
            let sum = |s: __m256i| {
                let s = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256::<1>(s));
                let s = _mm_add_epi32(s, _mm_unpackhi_epi64(s, s));
                _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32::<1>(s)))
            };
            let sums = [sum(_mm256_add_epi32(i[0], i[1])), sum(_mm256_add_epi32(i[2], i[3]))];
            Rounded { scale: largest / 127.0, sums }
        }
    }
}

macro_rules! two_halves {
    ($name:ident, $dot:expr, $dot_wide:expr) => {
        // SAFETY (all bodies): the instruction set and valid pointers are the trait's contract.
        impl Tile for $name {
            type Ints = [__m256i; 2];
            type Floats = [__m256; 2];
            type Bytes = [__m256i; 2];
            type Lanes = Ymm;
            const ROWS: usize = 3;
            const PAIR_ROWS: usize = 1;

            #[inline(always)]
            unsafe fn zero() -> Self::Ints {
                unsafe { [_mm256_setzero_si256(); 2] }
            }
            #[inline(always)]
            unsafe fn dot(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints {
                unsafe {
                    let a = _mm256_set1_epi32(four(activations));
                    [$dot(sum[0], weights[0], a), $dot(sum[1], weights[1], a)]
                }
            }
            #[inline(always)]
            unsafe fn dot_wide(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints {
                unsafe {
                    let a = _mm256_set1_epi32(four(activations));
                    [$dot_wide(sum[0], weights[0], a), $dot_wide(sum[1], weights[1], a)]
                }
            }
            #[inline(always)]
            unsafe fn dot_signed(sum: Self::Ints, signed: Self::Bytes, weights: *const u8) -> Self::Ints {
                unsafe {
                    let w = _mm256_set1_epi32(four(weights.cast()));
                    [$dot_wide(sum[0], w, signed[0]), $dot_wide(sum[1], w, signed[1])]
                }
            }
            #[inline(always)]
            unsafe fn whole(x: i32) -> Self::Ints {
                unsafe { [_mm256_set1_epi32(x); 2] }
            }
            #[inline(always)]
            unsafe fn floats(x: Self::Ints) -> Self::Floats {
                unsafe { [_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])] }
            }
            #[inline(always)]
            unsafe fn bits(x: Self::Ints) -> Self::Floats {
                unsafe { [_mm256_castsi256_ps(x[0]), _mm256_castsi256_ps(x[1])] }
            }
            #[inline(always)]
            unsafe fn splat(x: f32) -> Self::Floats {
                unsafe { [_mm256_set1_ps(x); 2] }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self::Floats {
                unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
            }
            #[inline(always)]
            unsafe fn load_halves(from: *const u8) -> Self::Floats {
                unsafe { [pairs::halves(from), pairs::halves(from.add(16))] }
            }
            #[inline(always)]
            unsafe fn half(x: f32) -> f32 {
                unsafe { pairs::half(x) }
            }
            #[inline(always)]
            unsafe fn load_unsigned(from: *const u8) -> Self::Floats {
                unsafe { [pairs::unsigned(from), pairs::unsigned(from.add(8))] }
            }
            #[inline(always)]
            unsafe fn load_signed(from: *const u8) -> Self::Floats {
                unsafe { [pairs::signed(from), pairs::signed(from.add(8))] }
            }
            #[inline(always)]
            unsafe fn store(x: Self::Floats, to: *mut f32) {
                unsafe {
                    _mm256_storeu_ps(to, x[0]);
                    _mm256_storeu_ps(to.add(8), x[1]);
                }
            }
            #[inline(always)]
            unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
                unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
            }
            #[inline(always)]
            unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
                unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
            }
            #[inline(always)]
            unsafe fn prefetch(at: *const u8) {
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }
            #[inline(always)]
            unsafe fn bytes(from: *const u8) -> Self::Bytes {
                unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
            }
            #[inline(always)]
            unsafe fn store_bytes(x: Self::Bytes, to: *mut u8) {
                unsafe {
                    _mm256_storeu_si256(to.cast(), x[0]);
                    _mm256_storeu_si256(to.add(32).cast(), x[1]);
                }
            }
            #[inline(always)]
            unsafe fn shifted<const LEFT: i32>(x: Self::Bytes, mask: u8) -> Self::Bytes {
                unsafe { [pairs::shifted::<LEFT>(x[0], mask), pairs::shifted::<LEFT>(x[1], mask)] }
            }
            #[inline(always)]
            unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
                unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
            }
            #[inline(always)]
            unsafe fn round(from: *const f32, to: *mut i8) -> Rounded {
                unsafe { pairs::round(from, to) }
            }
        }
    };
}

two_halves!(AvxVnni, _mm256_dpbusd_avx_epi32, _mm256_dpbusd_avx_epi32);
two_halves!(Avx2, pairs::dot, pairs::dot_wide);
