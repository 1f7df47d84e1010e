//! Sixteen columns at a time: the vectors that quantized products are written in.
//!
//! A kernel is a generic `#[inline(always)]` function over [`Tile`], and [`on_isa!`] compiles it for each instruction set
//! and calls the best that this CPU has. Whatever the registers are, a tile is 16 output columns wide, and 64 bytes of
//! weights are one *step*: four consecutive inputs of each column, `[column][4]`. So packed weights lie the same way
//! everywhere, and [`Scalar`] is the twin that the others are tested against.
//!
//! Kernels write loops, not closures (`from_fn`, `map`): a closure is a function without the kernel's instruction set, and
//! where the compiler does not inline it, every vector operation within becomes a call.

#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub(super) use scalar::Scalar;

use crate::compute::lanes;

/// Columns of a tile.
pub(super) const COLUMNS: usize = 16;

/// Numbers of a row that are rounded together: activations have one scale for each, and a block of a packed matrix is
/// as long.
pub(super) const BLOCK: usize = 32;

/// Bytes of a step: four inputs of 16 columns.
pub(super) const STEP: usize = 64;

/// What 32 numbers of a row became.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rounded {
    /// The number that 1 stands for; what was rounded with is kept in `f32`.
    pub(super) scale: f32,
    /// Sums of the first and the last 16 signed bytes.
    pub(super) sums: [i32; 2],
}

/// Vectors of an instruction set.
///
/// # Safety
/// Methods may only be called on a CPU with the instruction set; pointers must be valid for what is read or written.
pub(super) trait Tile: Copy {
    /// 16 sums of products.
    type Ints: Copy;
    /// 16 numbers.
    type Floats: Copy;
    /// A step of weights, 64 bytes.
    type Bytes: Copy;
    /// Vectors of `f32` of the same instruction set.
    type Lanes: lanes::Lanes;
    /// True where [`Self::dot_wide`] takes its bytes as `byte - 128`.
    const SIGNED: bool = false;
    /// Most rows whose sums stay in registers beside one tile, and beside two (or 1: one tile at a time; or 0: always
    /// one row at a time).
    const ROWS: usize;
    const PAIR_ROWS: usize;
    /// Most rows of attention whose sums stay in registers: 6 beside four vectors, or 2 beside two.
    const ATTEND_ROWS: usize = 2;

    unsafe fn zero() -> Self::Ints;
    /// `sum[c] += Σ_i weights[c][i] * activations[i]`, weights below 128.
    unsafe fn dot(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints;
    /// As [`Self::dot`], for any byte.
    unsafe fn dot_wide(sum: Self::Ints, weights: Self::Bytes, activations: *const i8) -> Self::Ints;
    /// `sum[c] += Σ_i signed[c][i] * weights[i]`, where no signed byte is -128 beside a weight other than 0.
    unsafe fn dot_signed(sum: Self::Ints, signed: Self::Bytes, weights: *const u8) -> Self::Ints;
    /// The same whole number 16 times.
    unsafe fn whole(x: i32) -> Self::Ints;
    unsafe fn floats(x: Self::Ints) -> Self::Floats;
    /// The numbers whose bits these are.
    unsafe fn bits(x: Self::Ints) -> Self::Floats;

    unsafe fn splat(x: f32) -> Self::Floats;
    unsafe fn load(from: *const f32) -> Self::Floats;
    /// Half-precision numbers.
    unsafe fn load_halves(from: *const u8) -> Self::Floats;
    /// The nearest half-precision number.
    unsafe fn half(x: f32) -> f32;
    unsafe fn load_unsigned(from: *const u8) -> Self::Floats;
    unsafe fn load_signed(from: *const u8) -> Self::Floats;
    unsafe fn store(x: Self::Floats, to: *mut f32);
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// Asks for a line of memory that will be read soon; any address will do.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    unsafe fn store_bytes(x: Self::Bytes, to: *mut u8);
    /// `(x << LEFT) & mask`, or right where `LEFT` is negative, in each byte; the mask hides what crosses bytes.
    unsafe fn shifted<const LEFT: i32>(x: Self::Bytes, mask: u8) -> Self::Bytes;
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// Rounds 32 numbers to signed bytes as ggml does for its Q8_0 and Q8_1: `x * (127 / max |x|)` to the nearest,
    /// ties to even.
    unsafe fn round(from: *const f32, to: *mut i8) -> Rounded;
}

/// Instruction sets that products are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Dotprod,
}

impl Isa {
    /// All that this CPU can run, the best last.
    pub(super) fn all() -> Vec<Self> {
        let known = [
            Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni,
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod,
        ];
        known.into_iter().filter(|isa| isa.is_here()).collect()
    }

    /// True where this CPU has it.
    fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        macro_rules! has { ($($name:tt)*) => { $(is_x86_feature_detected!($name))&&* } }
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has!("avx2" "fma" "f16c"),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => has!("avx2" "fma" "f16c" "avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => has!("avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vnni"),
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
        }
    }

    /// The best of this CPU, or the one that `FIRSTLINE_ISA` names (to try a CPU without the others).
    pub(super) fn best() -> Self {
        static BEST: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| {
            let all = Self::all();
            let named = lanes::asked();
            let asked = named.and_then(|name| all.iter().find(|isa| format!("{isa:?}").eq_ignore_ascii_case(name)));
            asked.or(all.last()).copied().unwrap_or(Isa::Scalar)
        })
    }
}

impl Isa {
    /// The vectors of `f32` that go with it.
    pub(super) fn lanes(self) -> lanes::Isa {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => lanes::Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => lanes::Isa::Avx2,
            _ => lanes::Isa::Scalar,
        }
    }
}

/// `on_isa!(isa, kernel::<[A, B]>(a: A, b: B))` calls `kernel::<T, A, B>(a, b)` compiled for `isa`.
macro_rules! on_isa {
    ($isa:expr, $kernel:ident $(::<[$($generic:ident : $bound:path),*]>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)?) => {{
        use $crate::compute::native::tile::{Isa, Scalar};
        #[cfg(target_arch = "x86_64")]
        use $crate::compute::native::tile::x86::{Avx2, Avx512Vnni, AvxVnni};
        #[cfg(target_arch = "aarch64")]
        use $crate::compute::native::tile::neon::Dotprod;
        // SAFETY (all): each is called only where `isa` says that this CPU has the instruction set.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        unsafe fn avx512vnni$(<$($generic: $bound),*>)?($($arg: $ty),*) $(-> $ret)? {
            unsafe { $kernel::<Avx512Vnni $($(, $generic)*)?>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
        unsafe fn avxvnni$(<$($generic: $bound),*>)?($($arg: $ty),*) $(-> $ret)? {
            unsafe { $kernel::<AvxVnni $($(, $generic)*)?>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2$(<$($generic: $bound),*>)?($($arg: $ty),*) $(-> $ret)? {
            unsafe { $kernel::<Avx2 $($(, $generic)*)?>($($arg),*) }
        }
        #[cfg(target_arch = "aarch64")]
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn dotprod$(<$($generic: $bound),*>)?($($arg: $ty),*) $(-> $ret)? {
            unsafe { $kernel::<Dotprod $($(, $generic)*)?>($($arg),*) }
        }
        match $isa {
            Isa::Scalar => $kernel::<Scalar $($(, $generic)*)?>($($arg),*),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2$(::<$($generic),*>)?($($arg),*),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => avxvnni$(::<$($generic),*>)?($($arg),*),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => avx512vnni$(::<$($generic),*>)?($($arg),*),
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => dotprod$(::<$($generic),*>)?($($arg),*),
        }
    }};
}
pub(super) use on_isa;
