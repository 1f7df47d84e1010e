//! The gate of a gated MLP (Shazeer, arXiv:2002.05202): `activation(gate) * up`.

use super::dense::gelu_plain;
use crate::compute::Activation;
use crate::compute::gate::gate_times;

/// What is done to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Exact GELU, with the error function.
    Gelu,
    Silu,
}

/// `gate = activation(gate) * up`, rows of `width`.
pub fn gate_with(kind: Gate, gate: &mut [f32], up: &[f32], width: usize) {
    match kind {
        Gate::Silu => gate_times(Activation::Silu, gate, up),
        Gate::Gelu => {
            gelu_plain(gate, width);
            gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up);
        }
    }
}
