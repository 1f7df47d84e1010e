//! aarch64 with the dot product extension.

use std::arch::aarch64::*;

use half::f16;

use super::{Rounded, Tile};

/// Four 128-bit registers a vector.
#[derive(Clone, Copy)]
pub(in crate::compute::native) struct Dotprod;

/// `sum[c] += Σ_i weights[c][i] * activations[c][i]`, signed bytes. (The intrinsic is not stable in Rust yet.)
#[inline(always)]
unsafe fn sdot(sum: int32x4_t, weights: uint8x16_t, activations: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the instruction reads and writes registers only; the caller's CPU has it.
    unsafe {
        std::arch::asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) weights, in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

// SAFETY (all bodies): the instruction set and valid pointers are the trait's contract.
impl Tile for Dotprod {
    type Ints = [int32x4_t; 4];
    type Floats = [float32x4_t; 4];
    type Bytes = [uint8x16_t; 4];
    type Lanes = f32;
    const SIGNED: bool = true;
    const ROWS: usize = 2;
    const PAIR_ROWS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> Self::Ints {
        unsafe { [vdupq_n_s32(0); 4] }
    }
    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints {
        unsafe {
            let a = vreinterpretq_s8_s32(vdupq_n_s32(activations.cast::<i32>().read_unaligned()));
            std::array::from_fn(|i| sdot(sum[i], weights[i], a))
        }
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints {
        unsafe { Self::dot(sum, weights.map(|w| veorq_u8(w, vdupq_n_u8(0x80))), activations) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sum: Self::Ints, signed: Self::Bytes, weights: *const u8) -> Self::Ints {
        // Weights are unsigned, the instruction is not: their lower seven bits and their highest bit apart.
        unsafe {
            let w = vreinterpretq_u8_s32(vdupq_n_s32(weights.cast::<i32>().read_unaligned()));
            let low = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(0x7f)));
            let high = vreinterpretq_s8_u8(vshrq_n_u8::<7>(w));
            let none = vdupq_n_s32(0);
            std::array::from_fn(|i| {
                vaddq_s32(sdot(sum[i], signed[i], low), vshlq_n_s32::<7>(sdot(none, signed[i], high)))
            })
        }
    }
    #[inline(always)]
    unsafe fn whole(x: i32) -> Self::Ints {
        unsafe { [vdupq_n_s32(x); 4] }
    }
    #[inline(always)]
    unsafe fn floats(x: Self::Ints) -> Self::Floats {
        unsafe { x.map(|x| vcvtq_f32_s32(x)) }
    }
    #[inline(always)]
    unsafe fn bits(x: Self::Ints) -> Self::Floats {
        unsafe { x.map(|x| vreinterpretq_f32_s32(x)) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::Floats {
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Floats {
        unsafe { std::array::from_fn(|i| vld1q_f32(from.add(4 * i))) }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> Self::Floats {
        unsafe {
            let bits = from.cast::<[u16; 16]>().read_unaligned();
            let numbers = bits.map(|bits| f16::from_bits(bits).to_f32());
            Self::load(numbers.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn half(x: f32) -> f32 {
        f16::from_f32(x).to_f32()
    }
    #[inline(always)]
    unsafe fn load_unsigned(from: *const u8) -> Self::Floats {
        unsafe { Self::load(from.cast::<[u8; 16]>().read().map(|x| x as f32).as_ptr()) }
    }
    #[inline(always)]
    unsafe fn load_signed(from: *const u8) -> Self::Floats {
        unsafe { Self::load(from.cast::<[i8; 16]>().read().map(|x| x as f32).as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(x: Self::Floats, to: *mut f32) {
        unsafe { (0..4).for_each(|i| vst1q_f32(to.add(4 * i), x[i])) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { std::array::from_fn(|i| vmulq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { std::array::from_fn(|i| vfmaq_f32(c[i], a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        unsafe { std::array::from_fn(|i| vld1q_u8(from.add(16 * i))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(x: Self::Bytes, to: *mut u8) {
        unsafe { (0..4).for_each(|i| vst1q_u8(to.add(16 * i), x[i])) }
    }
    #[inline(always)]
    unsafe fn shifted<const LEFT: i32>(x: Self::Bytes, mask: u8) -> Self::Bytes {
        unsafe { x.map(|x| vandq_u8(vshlq_u8(x, vdupq_n_s8(LEFT as i8)), vdupq_n_u8(mask))) }
    }
    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        unsafe { std::array::from_fn(|i| vorrq_u8(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut i8) -> Rounded {
        unsafe {
            let x: [float32x4_t; 8] = std::array::from_fn(|i| vld1q_f32(from.add(4 * i)));
            let largest = x.iter().fold(0.0f32, |largest, x| largest.max(vmaxvq_f32(vabsq_f32(*x))));
            let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
            let mut sums = [0; 2];
            for (i, x) in x.iter().enumerate() {
                let rounded = vcvtnq_s32_f32(vmulq_n_f32(*x, inverse));
                sums[i / 4] += vaddvq_s32(rounded);
                let words = vqmovn_s32(rounded);
                let bytes = vqmovn_s16(vcombine_s16(words, words));
                to.add(4 * i).cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
            }
            Rounded { scale: largest / 127.0, sums }
        }
    }
}
