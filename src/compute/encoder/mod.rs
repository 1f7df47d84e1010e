//! What bidirectional encoders (BERT and its kin) are made of, on a CPU.
//!
//! The rows of several texts lie in one matrix, text after text, without padding. A layer is five operations over it:
//! [`Dense::product`] (queries, keys and values at once), [`attend`] (each text over its own rows), a product, [`add_norm`],
//! and the two products of the MLP with GELU in between, then `add_norm` again. Other families turn queries and keys by their
//! places ([`rotate`]), see only their neighbours ([`AttendShape::reach`]) and gate their MLP ([`gate_with`]). All work on
//! memory that the caller owns and uses again for every layer.
//!
//! Words:
//! - *dense*: a weight matrix with its bias ([`Dense`]), packed at load for the units that this CPU has.
//! - *unit*: what multiplies. AMX tiles take weights and activations as bfloat16 and sum in `f32` (`bf16`); vector units
//!   take them as 16-bit integers and sum in 32 bits (`int16`); where neither is there, everything stays `f32`
//!   (`compute::panels`).
//! - *operand*: activations in the form that the unit reads ([`Operand`]); the stream between layers stays plain `f32`.
//!
//! Every number of a row is summed in one order, whatever rows lie beside it: a text's vector is the same to the last
//! bit alone and in any batch. Operations spread over the thread pool; where it is taken (by the chat engine, or by
//! the caller's own loop over groups of texts) they run on the calling thread and wait for nobody.

mod amx;
mod attend;
mod attend_tiles;
mod bf16;
mod dense;
mod gated;
mod gelu;
mod int16;
mod layer_norm;
mod operand;
mod rope;

pub use attend::{AttendShape, attend};
pub use dense::{Dense, Precision, Then};
pub use gated::{Gate, gate_with};
pub use layer_norm::{LayerNorm, add_norm};
pub use operand::Operand;
pub use rope::rotate;
