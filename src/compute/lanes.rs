//! Vectors of `f32`, so that a kernel is written once and compiled for each instruction set.
//!
//! A kernel is a generic `#[inline(always)]` function over [`Lanes`]; [`dispatch!`] wraps it in one function per
//! instruction set and calls the widest that this CPU has. The plain `f32` (one lane) is the scalar twin that tests
//! compare with, and what machines without AVX2 run.

use std::sync::OnceLock;

use half::{bf16, f16};

/// A vector of `N` `f32` lanes.
///
/// # Safety
/// Methods may only be called on a CPU with the type's instruction set, and pointers must be valid for `N` lanes.
pub(super) trait Lanes: Copy {
    /// Lanes in a vector.
    const N: usize;
    /// True where [`Self::scale`] takes any `n`.
    const SCALES_ANY: bool = false;
    /// Most rows a kernel should keep in registers, two vectors each.
    const ROWS: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Half-precision numbers.
    unsafe fn load_halves(from: *const f16) -> Self;
    /// `bfloat16` numbers.
    unsafe fn load_bfloats(from: *const bf16) -> Self;
    /// Whole numbers.
    unsafe fn load_ints(from: *const i32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `1 / self` to within 2 units in the last place, faster than a division.
    unsafe fn recip(self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// Nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// `self * 2^n` for integral `n` in -126..=127.
    unsafe fn scale(self, n: Self) -> Self;
    /// The nearest whole numbers, which are from 0 to 255, as bytes.
    unsafe fn store_bytes(self, to: *mut u8);
    /// The largest lane.
    unsafe fn reduce_max(self) -> f32;
    /// The sum of the lanes, in the same order for all vectors of 16.
    unsafe fn reduce_sum(self) -> f32;
}

impl Lanes for f32 {
    const N: usize = 1;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        x
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's pointer is valid for one number.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const f16) -> Self {
        // SAFETY: as for `load`.
        unsafe { *from }.to_f32()
    }
    #[inline(always)]
    unsafe fn load_bfloats(from: *const bf16) -> Self {
        // SAFETY: as for `load`.
        unsafe { *from }.to_f32()
    }
    #[inline(always)]
    unsafe fn load_ints(from: *const i32) -> Self {
        // SAFETY: as for `load`.
        unsafe { *from as f32 }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { *to = self }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self / other
    }
    #[inline(always)]
    unsafe fn recip(self) -> Self {
        1.0 / self
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        f32::max(self, other)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        f32::min(self, other)
    }
    // Without FMA in hardware a fused product is a slow library call: round twice instead.
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        self * b + c
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        self.round_ties_even()
    }
    #[inline(always)]
    unsafe fn scale(self, n: Self) -> Self {
        self * f32::from_bits(((n as i32 + 127) << 23) as u32)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: as for `load`.
        unsafe { *to = self.round_ties_even() as u8 }
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        self
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use half::{bf16, f16};

    use super::Lanes;

    /// AVX-512F.
    #[derive(Clone, Copy)]
    pub struct Zmm(__m512);

    /// AVX2 with FMA and half-precision conversions: two registers a vector, so that every sum over lanes is taken in the
    /// order of AVX-512, and both give the same bits.
    #[derive(Clone, Copy)]
    pub struct Ymm([__m256; 2]);

    // SAFETY (all bodies of both impls): the intrinsics need the instruction set and valid pointers, which the
    // trait's contract puts on the caller.
    impl Lanes for Zmm {
        const N: usize = 16;
        const SCALES_ANY: bool = true;
        const ROWS: usize = 8;
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn load_halves(from: *const f16) -> Self {
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_bfloats(from: *const bf16) -> Self {
            // They are the upper halves of single-precision numbers.
            unsafe {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves)))
            }
        }
        #[inline(always)]
        unsafe fn load_ints(from: *const i32) -> Self {
            unsafe { Self(_mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Self(_mm512_div_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn recip(self) -> Self {
            // 14 bits, doubled by a step of Newton's.
            unsafe {
                let guess = _mm512_rcp14_ps(self.0);
                Self(_mm512_fmadd_ps(guess, _mm512_fnmadd_ps(self.0, guess, _mm512_set1_ps(1.0)), guess))
            }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Self(_mm512_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            unsafe { Self(_mm512_fmadd_ps(self.0, b.0, c.0)) }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            unsafe { Self(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)) }
        }
        #[inline(always)]
        unsafe fn scale(self, n: Self) -> Self {
            unsafe { Self(_mm512_scalef_ps(self.0, n.0)) }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8) {
            unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(self.0))) }
        }
        #[inline(always)]
        unsafe fn reduce_max(self) -> f32 {
            unsafe { _mm512_reduce_max_ps(self.0) }
        }
        #[inline(always)]
        unsafe fn reduce_sum(self) -> f32 {
            unsafe {
                let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0)));
                sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(self.0), high))
            }
        }
    }

    /// What is done to both halves.
    macro_rules! both {
        ($operation:ident($a:expr $(, $b:expr)*)) => {
            Self([$operation($a.0[0] $(, $b.0[0])*), $operation($a.0[1] $(, $b.0[1])*)])
        };
    }

    impl Ymm {
        #[inline(always)]
        unsafe fn same(x: f32) -> Self {
            unsafe { Self([_mm256_set1_ps(x); 2]) }
        }
    }

    impl Lanes for Ymm {
        const N: usize = 16;
        const ROWS: usize = 2;
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Self::same(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]) }
        }
        #[inline(always)]
        unsafe fn load_halves(from: *const f16) -> Self {
            unsafe {
                let from = from.cast::<__m128i>();
                Self([_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1)))])
            }
        }
        #[inline(always)]
        unsafe fn load_bfloats(from: *const bf16) -> Self {
            unsafe {
                let from = from.cast::<__m128i>();
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(1)));
                Self([
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
                ])
            }
        }
        #[inline(always)]
        unsafe fn load_ints(from: *const i32) -> Self {
            unsafe {
                let from = from.cast::<__m256i>();
                Self([
                    _mm256_cvtepi32_ps(_mm256_loadu_si256(from)),
                    _mm256_cvtepi32_ps(_mm256_loadu_si256(from.add(1))),
                ])
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0[0]);
                _mm256_storeu_ps(to.add(8), self.0[1]);
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { both!(_mm256_add_ps(self, other)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { both!(_mm256_mul_ps(self, other)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { both!(_mm256_div_ps(self, other)) }
        }
        #[inline(always)]
        unsafe fn recip(self) -> Self {
            // AVX2's own guess has only 12 bits, and a division of eight is cheap.
            unsafe { Self::same(1.0).div(self) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { both!(_mm256_max_ps(self, other)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { both!(_mm256_min_ps(self, other)) }
        }
        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            unsafe { both!(_mm256_fmadd_ps(self, b, c)) }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            unsafe { Self([_mm256_round_ps::<NEAREST>(self.0[0]), _mm256_round_ps::<NEAREST>(self.0[1])]) }
        }
        #[inline(always)]
        unsafe fn scale(self, n: Self) -> Self {
            unsafe { Self([scale_half(self.0[0], n.0[0]), scale_half(self.0[1], n.0[1])]) }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8) {
            unsafe {
                let words = _mm256_packus_epi32(_mm256_cvtps_epi32(self.0[0]), _mm256_cvtps_epi32(self.0[1]));
                // Packing works in halves: put the fours back in order.
                let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
                let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                _mm_storeu_si128(to.cast(), _mm_packus_epi16(low, high));
            }
        }
        #[inline(always)]
        unsafe fn reduce_max(self) -> f32 {
            unsafe {
                let all = _mm256_max_ps(self.0[0], self.0[1]);
                let half = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
                let pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
            }
        }
        #[inline(always)]
        unsafe fn reduce_sum(self) -> f32 {
            unsafe { sum_of_eight(_mm256_add_ps(self.0[0], self.0[1])) }
        }
    }

    #[inline(always)]
    unsafe fn scale_half(x: __m256, n: __m256) -> __m256 {
        unsafe {
            let bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits)))
        }
    }

    /// The last steps of a sum, the same for both instruction sets.
    #[inline(always)]
    unsafe fn sum_of_eight(x: __m256) -> f32 {
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
        }
    }
}

/// The instruction set that `FIRSTLINE_ISA` names (`scalar`, `avx2`, `avxvnni`, `avx512vnni`), in small letters: what
/// kernels are held to at most, to see what a lesser CPU would do.
pub(super) fn asked() -> Option<&'static str> {
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::env::var("FIRSTLINE_ISA").ok().map(|name| name.to_ascii_lowercase());
    ASKED.get_or_init(read).as_deref().filter(|name| ["scalar", "avx2", "avxvnni", "avx512vnni"].contains(name))
}

/// The widest instruction set of this CPU that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// AVX2 with what came with it.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

impl Isa {
    /// The widest that this CPU has, or what [`asked`] for less leaves.
    pub(super) fn widest() -> Self {
        static WIDEST: OnceLock<Isa> = OnceLock::new();
        *WIDEST.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            {
                let most = asked().unwrap_or("avx512vnni");
                if is_x86_feature_detected!("avx512f") && most == "avx512vnni" {
                    return Isa::Avx512;
                }
                if has_avx2() && most != "scalar" {
                    return Isa::Avx2;
                }
            }
            Isa::Scalar
        })
    }

    /// All that this CPU can run, for tests.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                all.push(Isa::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Isa::Avx512);
            }
        }
        all
    }
}

/// `dispatch!(isa, kernel(a: A, b: B))` calls `kernel::<L>(a, b)` compiled for `isa`.
macro_rules! dispatch {
    ($isa:expr, $kernel:ident($($arg:ident : $ty:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512($($arg: $ty),*) {
            // SAFETY: this function is only called on CPUs with AVX-512F.
            unsafe { $kernel::<$crate::compute::lanes::x86::Zmm>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2($($arg: $ty),*) {
            // SAFETY: this function is only called on CPUs with AVX2 and FMA.
            unsafe { $kernel::<$crate::compute::lanes::x86::Ymm>($($arg),*) }
        }
        match $isa {
            $crate::compute::lanes::Isa::Scalar => $kernel::<f32>($($arg),*),
            #[cfg(target_arch = "x86_64")]
            $crate::compute::lanes::Isa::Avx2 => avx2($($arg),*),
            #[cfg(target_arch = "x86_64")]
            $crate::compute::lanes::Isa::Avx512 => avx512($($arg),*),
        }
    }};
}
pub(super) use dispatch;

/// `e^x`, relative error below 3e-7 in the normal range, 0 below about -87. Cephes' polynomial after Cody and Waite's
/// reduction.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: passed on from the caller.
    unsafe {
        let x = x.max(L::splat(-87.3)).min(L::splat(88.3));
        let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
        let r = n.fma(L::splat(-0.693_359_375), x);
        let r = n.fma(L::splat(2.121_944_4e-4), r);
        let mut p = L::splat(1.987_569_1e-4);
        p = p.fma(r, L::splat(1.398_199_9e-3));
        p = p.fma(r, L::splat(8.333_452e-3));
        p = p.fma(r, L::splat(4.166_579_6e-2));
        p = p.fma(r, L::splat(0.166_666_65));
        p = p.fma(r, L::splat(0.5));
        p.fma(r.mul(r), r).add(L::splat(1.0)).scale(n)
    }
}

/// `2^x` for `x` of at most 0, relative error below 4e-6, 0 or some 1e-38 below -126. A polynomial on what is left of the
/// nearest whole number.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(super) unsafe fn exp2<L: Lanes>(x: L) -> L {
    // SAFETY: passed on from the caller.
    unsafe {
        let x = if L::SCALES_ANY { x } else { x.max(L::splat(-126.0)) };
        let n = x.round();
        let r = n.fma(L::splat(-1.0), x);
        // Fitted to the least largest relative error, 2.6e-6.
        let mut p = L::splat(9.570_101e-3);
        p = p.fma(r, L::splat(0.055_917_86));
        p = p.fma(r, L::splat(0.240_247_44));
        p = p.fma(r, L::splat(0.693_121_8));
        p = p.fma(r, L::splat(0.999_999_3));
        p.scale(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    unsafe fn exp_all<L: Lanes>(x: &[f32], y: &mut [f32]) {
        for i in (0..x.len()).step_by(L::N) {
            // SAFETY: the lengths are multiples of 16.
            unsafe { exp(L::load(x[i..].as_ptr())).store(y[i..].as_mut_ptr()) }
        }
    }

    #[inline(always)]
    unsafe fn exp2_all<L: Lanes>(x: &[f32], y: &mut [f32]) {
        for i in (0..x.len()).step_by(L::N) {
            // SAFETY: the lengths are multiples of 16.
            unsafe { exp2(L::load(x[i..].as_ptr())).store(y[i..].as_mut_ptr()) }
        }
    }

    #[test]
    fn exp2_is_close_to_the_standard_library_and_vanishes_far_below_on_every_instruction_set() {
        let mut x: Vec<f32> = (0..4080).map(|i| i as f32 * -0.0307).collect();
        x.extend([-200.0, -1e30].repeat(8));
        for isa in Isa::all() {
            let mut y = vec![0.0; x.len()];
            let (from, to) = (&x[..], &mut y[..]);
            // SAFETY: `Isa::all` gives what this CPU has.
            unsafe { dispatch!(isa, exp2_all(from: &[f32], to: &mut [f32])) };
            for (x, y) in x.iter().zip(&y) {
                let expected = (*x as f64).exp2();
                let error = (*y as f64 - expected).abs();
                assert!(error <= 4e-6 * expected + 2e-38, "{isa:?}: exp2({x}) = {y}, not {expected}");
            }
        }
    }

    #[test]
    fn exp_is_close_to_the_standard_library_on_every_instruction_set() {
        let x: Vec<f32> = (0..4096).map(|i| i as f32 * 0.04 - 80.0).collect();
        for isa in Isa::all() {
            let mut y = vec![0.0; x.len()];
            let (from, to) = (&x[..], &mut y[..]);
            // SAFETY: `Isa::all` gives what this CPU has.
            unsafe { dispatch!(isa, exp_all(from: &[f32], to: &mut [f32])) };
            for (x, y) in x.iter().zip(&y) {
                let expected = (*x as f64).exp();
                assert!((*y as f64 - expected).abs() <= 3e-7 * expected, "{isa:?}: exp({x}) = {y}, not {expected}");
            }
        }
    }
}
