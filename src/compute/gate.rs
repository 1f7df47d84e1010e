//! The gate of a gated MLP: `silu(gate) * up`, with `silu(x) = x / (1 + e^-x)`.

use super::lanes::{Isa, Lanes, dispatch, exp};
use super::parallel::{SharedOut, for_each_index};

/// Numbers in one piece of work; a multiple of every vector length.
const PIECE: usize = 4096;

/// `gate[i] = silu(gate[i]) * up[i]`.
pub(super) fn silu_times(gate: &mut [f32], up: &[f32]) {
    silu_times_on(Isa::widest(), gate, up);
}

fn silu_times_on(isa: Isa, gate: &mut [f32], up: &[f32]) {
    let len = gate.len().min(up.len());
    let shared = SharedOut::new(gate);
    for_each_index(len.div_ceil(PIECE), |piece| {
        let from = piece * PIECE;
        let here = PIECE.min(len - from);
        // SAFETY: pieces do not overlap.
        let gate = unsafe { shared.slice(from, here) };
        silu_times_slice(isa, gate, &up[from..from + here]);
    });
}

/// As [`silu_times`], on this thread. `isa` must be one that this CPU has.
pub(super) fn silu_times_slice(isa: Isa, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    // SAFETY: the CPU has `isa`; both slices have one length.
    unsafe { dispatch!(isa, silu_piece(gate: &mut [f32], up: &[f32])) }
}

/// # Safety
/// As for [`Lanes`]; both slices have one length.
#[inline(always)]
unsafe fn silu_piece<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    let whole = gate.len() / L::N * L::N;
    let mut i = 0;
    // SAFETY: `i + L::N <= whole <= len` in the loop; the copies below hold 16 numbers.
    unsafe {
        while i < whole {
            let (g, u) = (gate.as_mut_ptr().add(i), up.as_ptr().add(i));
            silu::<L>(L::load(g), L::load(u)).store(g);
            i += L::N;
        }
        if whole < gate.len() {
            let (mut g, mut u) = ([0.0f32; 16], [0.0f32; 16]);
            let rest = gate.len() - whole;
            g[..rest].copy_from_slice(&gate[whole..]);
            u[..rest].copy_from_slice(&up[whole..]);
            silu::<L>(L::load(g.as_ptr()), L::load(u.as_ptr())).store(g.as_mut_ptr());
            gate[whole..].copy_from_slice(&g[..rest]);
        }
    }
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn silu<L: Lanes>(gate: L, up: L) -> L {
    // SAFETY: passed on from the caller.
    unsafe {
        let e = exp(gate.mul(L::splat(-1.0)));
        gate.div(e.add(L::splat(1.0))).mul(up)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn gates_of_random_lengths_match_the_definition_on_every_instruction_set() {
        let mut rng = StdRng::seed_from_u64(3);
        for isa in Isa::all() {
            for _ in 0..20 {
                let len = rng.random_range(1..10_000);
                let gate: Vec<f32> = (0..len).map(|_| rng.random_range(-100.0..100.0)).collect();
                let up: Vec<f32> = (0..len).map(|_| rng.random_range(-3.0..3.0)).collect();
                let mut out = gate.clone();
                silu_times_on(isa, &mut out, &up);
                for i in 0..len {
                    let g = gate[i] as f64;
                    let expected = g / (1.0 + (-g).exp()) * up[i] as f64;
                    assert!((out[i] as f64 - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{isa:?} {g}");
                }
            }
        }
    }
}
