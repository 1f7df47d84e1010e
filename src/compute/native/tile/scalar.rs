//! The plain twin of every vector operation.

use super::{Rounded, Tile};
use half::f16;

/// Arrays of 16, for any machine.
#[derive(Clone, Copy)]
pub(in crate::compute::native) struct Scalar;

// SAFETY (all bodies): plain arithmetic; pointers are valid by the trait's contract.
impl Tile for Scalar {
    type Ints = [i32; 16];
    type Floats = [f32; 16];
    type Bytes = [u8; 64];
    type Lanes = f32;
    const ROWS: usize = 1;
    const PAIR_ROWS: usize = 0;

    #[inline(always)]
    unsafe fn zero() -> Self::Ints {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints {
        let a: [i32; 4] = std::array::from_fn(|i| unsafe { *activations.add(i) } as i32);
        std::array::from_fn(|c| sum[c] + (0..4).map(|i| weights[4 * c + i] as i32 * a[i]).sum::<i32>())
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints {
        unsafe { Self::dot(sum, weights, activations) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sum: Self::Ints, signed: Self::Bytes, weights: *const u8) -> Self::Ints {
        let w: [i32; 4] = std::array::from_fn(|i| unsafe { *weights.add(i) } as i32);
        std::array::from_fn(|c| sum[c] + (0..4).map(|i| signed[4 * c + i] as i8 as i32 * w[i]).sum::<i32>())
    }
    #[inline(always)]
    unsafe fn whole(x: i32) -> Self::Ints {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn floats(x: Self::Ints) -> Self::Floats {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn bits(x: Self::Ints) -> Self::Floats {
        x.map(|x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::Floats {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Floats {
        unsafe { from.cast::<Self::Floats>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> Self::Floats {
        let bits = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(u16::from_le(bits)).to_f32())
    }
    #[inline(always)]
    unsafe fn half(x: f32) -> f32 {
        f16::from_f32(x).to_f32()
    }
    #[inline(always)]
    unsafe fn load_unsigned(from: *const u8) -> Self::Floats {
        unsafe { from.cast::<[u8; 16]>().read() }.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn load_signed(from: *const u8) -> Self::Floats {
        unsafe { from.cast::<[i8; 16]>().read() }.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn store(x: Self::Floats, to: *mut f32) {
        unsafe { to.cast::<Self::Floats>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        unsafe { from.cast::<Self::Bytes>().read() }
    }
    #[inline(always)]
    unsafe fn store_bytes(x: Self::Bytes, to: *mut u8) {
        unsafe { to.cast::<Self::Bytes>().write(x) }
    }
    #[inline(always)]
    unsafe fn shifted<const LEFT: i32>(x: Self::Bytes, mask: u8) -> Self::Bytes {
        x.map(|x| if LEFT >= 0 { (x << LEFT) & mask } else { (x >> -LEFT) & mask })
    }
    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut i8) -> Rounded {
        let x = unsafe { std::slice::from_raw_parts(from, 32) };
        let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
        let mut sums = [0; 2];
        for (i, x) in x.iter().enumerate() {
            let byte = (x * inverse).round_ties_even() as i8;
            unsafe { *to.add(i) = byte };
            sums[i / 16] += byte as i32;
        }
        Rounded { scale: largest / 127.0, sums }
    }
}
