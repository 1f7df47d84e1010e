//! Intel's matrix tiles (AMX, Sapphire Rapids and later): 16 rows of 64 bytes each, eight of them.
//!
//! `tdpbf16ps` multiplies a tile of 16 rows by 32 bfloat16 with one of 32 by 16 into 16 x 16 sums: 8,192 multiply-adds
//! in 16 cycles, eight times an AVX-512 unit in `f32`. The compiler's intrinsics are not stable yet, hence assembly.
//! The right tile holds pairs: row `p`, column `n` has the weights of output `n` for inputs `2p` and `2p + 1`.

/// Bytes of a tile.
pub(super) const TILE: usize = 1024;

/// True where this CPU has tiles for bfloat16 and the system lets this process use them.
pub(super) fn available() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        static AVAILABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *AVAILABLE.get_or_init(x86::request)
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use x86::{product_one, product_two, release, set_up};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    use super::TILE;

    /// `ldtilecfg`'s argument: palette 1, every tile 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Shape {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static SHAPE: Shape = Shape {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// Asks the CPU, then the kernel, which grants the tiles' state to a process on request.
    pub(super) fn request() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_ulong = 18;
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        let known = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILES) == (BF16 | TILES);
        // SAFETY: the call changes nothing but what this process may use.
        known && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
    }

    /// Shapes this thread's tiles. [`release`] ends their use.
    ///
    /// # Safety
    /// [`super::available`] must have said yes.
    #[inline(always)]
    pub(in super::super) unsafe fn set_up() {
        // SAFETY: by the caller; the argument is a whole configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPE, options(nostack, readonly)) }
    }

    /// Gives the tiles' state back, so that switching threads need not save it.
    ///
    /// # Safety
    /// As for [`set_up`].
    #[inline(always)]
    pub(in super::super) unsafe fn release() {
        // SAFETY: by the caller.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }

    /// `sums[32][32]` = `a` times `b`. `a` has two blocks of 16 rows, each of `steps` tiles; `b` has for each step (32
    /// inputs) two tiles, of the first and the last 16 outputs.
    ///
    /// # Safety
    /// After [`set_up`]. `a` covers `2 * steps` tiles, and so does `b`; `steps` is at least 1.
    #[inline(always)]
    pub(in super::super) unsafe fn product_two(a: *const u8, b: *const u8, steps: usize, sums: &mut [f32; 1024]) {
        // SAFETY: by the caller, every tile that is loaded lies within `a` or `b`; `sums` takes four tiles.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{b} + {row}]",
                "tileloadd tmm4, [{a0} + {row}]",
                "tileloadd tmm7, [{b} + {row} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {row}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{to} + {to_row}], tmm0",
                "tilestored [{to} + {to_row} + 64], tmm1",
                "tilestored [{low} + {to_row}], tmm2",
                "tilestored [{low} + {to_row} + 64], tmm3",
                a0 = inout(reg) a => _,
                a1 = inout(reg) a.add(steps * TILE) => _,
                b = inout(reg) b => _,
                row = in(reg) 64usize,
                steps = inout(reg) steps => _,
                to = in(reg) sums.as_mut_ptr(),
                low = in(reg) sums.as_mut_ptr().add(16 * 32),
                to_row = in(reg) 128usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        }
    }

    /// As [`product_two`] for one block of rows: the first half of `sums`.
    ///
    /// # Safety
    /// As for [`product_two`], with `steps` tiles of `a`.
    #[inline(always)]
    pub(in super::super) unsafe fn product_one(a: *const u8, b: *const u8, steps: usize, sums: &mut [f32; 1024]) {
        // SAFETY: as for `product_two`.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{a} + {row}]",
                "tileloadd tmm6, [{b} + {row}]",
                "tileloadd tmm7, [{b} + {row} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {a}, 1024",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{to} + {to_row}], tmm0",
                "tilestored [{to} + {to_row} + 64], tmm1",
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                row = in(reg) 64usize,
                steps = inout(reg) steps => _,
                to = in(reg) sums.as_mut_ptr(),
                to_row = in(reg) 128usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        }
    }
}
