//! How numbers lie in a KV pool: in single precision, or in half of it.

use half::f16;

use super::attend::{Item, attend_item};
use crate::compute::lanes::{Isa, Lanes, dispatch};

/// A number of a pool.
pub(in crate::compute) trait Stored: Copy + Default + Send + Sync + 'static {
    /// The nearest such number.
    fn of(x: f32) -> Self;

    /// Adds its bytes, little-endian.
    fn push(self, bytes: &mut Vec<u8>);

    /// The number that [`Self::push`] wrote, from as many bytes.
    fn read(bytes: &[u8]) -> Self;

    /// As many numbers as there are lanes.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L;

    /// Runs a tile on an instruction set.
    ///
    /// # Safety
    /// As for [`attend_item`], with the vectors of `isa`.
    unsafe fn attend(isa: Isa, item: Item<'_, Self>);
}

impl Stored for f32 {
    fn of(x: f32) -> Self {
        x
    }

    fn push(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        f32::from_le_bytes(std::array::from_fn(|i| bytes[i]))
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: passed on from the caller.
        unsafe { L::load(from) }
    }

    unsafe fn attend(isa: Isa, item: Item<'_, Self>) {
        #[inline(always)]
        unsafe fn kernel<L: Lanes>(item: Item<'_, f32>) {
            // SAFETY: passed on from the caller.
            unsafe { attend_item::<L, f32>(item) }
        }
        // SAFETY: passed on from the caller.
        unsafe { dispatch!(isa, kernel(item: Item<'_, f32>)) }
    }
}

/// The bits of a half-precision number. (Memory of plain integers comes from the system as zeros, page by page as it is
/// first used.)
impl Stored for u16 {
    fn of(x: f32) -> Self {
        f16::from_f32(x).to_bits()
    }

    fn push(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        u16::from_le_bytes(std::array::from_fn(|i| bytes[i]))
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: passed on from the caller; a half-precision number is its bits.
        unsafe { L::load_halves(from.cast()) }
    }

    unsafe fn attend(isa: Isa, item: Item<'_, Self>) {
        #[inline(always)]
        unsafe fn kernel<L: Lanes>(item: Item<'_, u16>) {
            // SAFETY: passed on from the caller.
            unsafe { attend_item::<L, u16>(item) }
        }
        // SAFETY: passed on from the caller.
        unsafe { dispatch!(isa, kernel(item: Item<'_, u16>)) }
    }
}
