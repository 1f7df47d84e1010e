//! The gate of a gated MLP: `activation(gate) * up`.
//!
//! Both activations are `x / (1 + e^-t)`: SiLU with `t = x`, GELU's tangent form with `t = 2 sqrt(2/pi) (x + 0.044715 x³)`.

use super::Activation;
use super::lanes::{Isa, Lanes, dispatch, exp};
use super::parallel::{SharedOut, for_each_index};

/// Numbers in one piece of work; a multiple of every vector length.
const PIECE: usize = 4096;
/// `2 sqrt(2/pi)`.
const GELU_SCALE: f32 = 1.595_769_1;

/// `gate[i] = activation(gate[i]) * up[i]`.
pub(super) fn gate_times(activation: Activation, gate: &mut [f32], up: &[f32]) {
    gate_times_on(Isa::widest(), activation, gate, up);
}

fn gate_times_on(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    let len = gate.len().min(up.len());
    let shared = SharedOut::new(gate);
    for_each_index(len.div_ceil(PIECE), |piece| {
        let from = piece * PIECE;
        let here = PIECE.min(len - from);
        // SAFETY: pieces do not overlap.
        let gate = unsafe { shared.slice(from, here) };
        gate_times_slice(isa, activation, gate, &up[from..from + here]);
    });
}

/// As [`gate_times`], on this thread. `isa` must be one that this CPU has.
pub(super) fn gate_times_slice(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    // SAFETY: the CPU has `isa`; both slices have one length.
    match activation {
        Activation::Silu => unsafe { dispatch!(isa, silu_piece(gate: &mut [f32], up: &[f32])) },
        Activation::Gelu => unsafe { dispatch!(isa, gelu_piece(gate: &mut [f32], up: &[f32])) },
    }
}

/// # Safety
/// As for [`piece`].
#[inline(always)]
unsafe fn silu_piece<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    // SAFETY: passed on from the caller.
    unsafe { piece::<L, false>(gate, up) }
}

/// # Safety
/// As for [`piece`].
#[inline(always)]
unsafe fn gelu_piece<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    // SAFETY: passed on from the caller.
    unsafe { piece::<L, true>(gate, up) }
}

/// # Safety
/// As for [`Lanes`]; both slices have one length.
#[inline(always)]
unsafe fn piece<L: Lanes, const GELU: bool>(gate: &mut [f32], up: &[f32]) {
    let whole = gate.len() / L::N * L::N;
    let mut i = 0;
    // SAFETY: `i + L::N <= whole <= len` in the loop; the copies below hold 16 numbers.
    unsafe {
        while i < whole {
            let (g, u) = (gate.as_mut_ptr().add(i), up.as_ptr().add(i));
            times::<L, GELU>(L::load(g), L::load(u)).store(g);
            i += L::N;
        }
        if whole < gate.len() {
            let (mut g, mut u) = ([0.0f32; 16], [0.0f32; 16]);
            let rest = gate.len() - whole;
            g[..rest].copy_from_slice(&gate[whole..]);
            u[..rest].copy_from_slice(&up[whole..]);
            times::<L, GELU>(L::load(g.as_ptr()), L::load(u.as_ptr())).store(g.as_mut_ptr());
            gate[whole..].copy_from_slice(&g[..rest]);
        }
    }
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn times<L: Lanes, const GELU: bool>(gate: L, up: L) -> L {
    // SAFETY: passed on from the caller.
    unsafe {
        let minus_t = match GELU {
            false => gate.mul(L::splat(-1.0)),
            true => {
                let cubic = gate.mul(gate).fma(L::splat(-GELU_SCALE * 0.044715), L::splat(-GELU_SCALE));
                gate.mul(cubic)
            }
        };
        let e = exp(minus_t);
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
                let len = rng.random_range(1..5_000);
                let gate: Vec<f32> = (0..len).map(|_| rng.random_range(-100.0..100.0)).collect();
                let up: Vec<f32> = (0..len).map(|_| rng.random_range(-3.0..3.0)).collect();
                for activation in [Activation::Silu, Activation::Gelu] {
                    let mut out = gate.clone();
                    gate_times_on(isa, activation, &mut out, &up);
                    for i in 0..len {
                        let g = gate[i] as f64;
                        let activated = match activation {
                            Activation::Silu => g / (1.0 + (-g).exp()),
                            Activation::Gelu => {
                                let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
                                0.5 * g * (1.0 + inner.tanh())
                            }
                        };
                        let expected = activated * up[i] as f64;
                        let error = (out[i] as f64 - expected).abs();
                        assert!(error < 1e-5 * (1.0 + expected.abs()), "{isa:?} {activation:?} {g}");
                    }
                }
            }
        }
    }
}
