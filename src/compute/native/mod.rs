//! The native CPU backend: weights at the bits of the file, activations of 8 bits, few passes.
//!
//! A layer is five sweeps over the rows, each spread over all cores:
//!
//! 1. normalise and round the rows, then queries, keys and values in one product;
//! 2. rotate, and write keys and values to their blocks;
//! 3. attention over blocks ([`paged`](super::paged));
//! 4. round, then the output product, added to the residual as its sums are finished;
//! 5. normalise and round; gate and up in one product whose sums become `activation(gate) * up`, rounded, while they
//!    lie in the nearest cache; then the down product, added to the residual.
//!
//! The parts: [`tile`] is what an instruction set must do, 16 columns at a time; [`code`] is what a format's weights
//! look like; [`packed`] lays them out; [`rounded`] are activations of 8 bits; [`product`] multiplies; [`passes`] is what
//! lies between; [`saved`] keeps packed weights in a file for the next start. Float formats (F32, F16, BF16) are multiplied exactly, in [`panels`](super::panels).
//! [`sketch`] puts a search's vectors through the same products.
//!
//! A row's results are the same bits whatever rows share its step: every sum is taken in one order.

mod buffers;
mod code;
mod kv8;
mod memory;
mod packed;
mod packing;
mod passes;
mod product;
mod rounded;
mod saved;
mod sketch;
#[cfg(test)]
mod tests;
mod tile;
mod weights;

use std::ops::Range;
use std::sync::Arc;

pub use self::buffers::Rows;
use self::buffers::{Buffers, Rounded};
use self::kv8::Kv8;
use self::packed::Packed;
use self::passes::GroupAt;
use self::product::{GROUP, for_each_group, for_each_group_of_two};
pub use self::saved::{PackedWeights, verify_packed_file};
pub use self::sketch::Sketch;
use self::tile::Isa;
pub use self::weights::{Linear, Norm, Table};
use self::weights::{Weight, vector};
use super::paged::PagedKv;
use super::parallel::{SharedOut, for_each_index};
use super::{
    Attend, AttentionShape, Backend, Beside, ComputeError, Experts, Format, Gated, Join, KvShape, LowRank, Mlp,
    MlpKind, PackedMatrix, Plan, Qkv, RopeRows, experts, gate,
};

/// Kernels of our own on the CPU.
pub struct NativeBackend {
    isa: Isa,
    kv: KvPrecision,
    packed: Arc<PackedWeights>,
    buffers: Arc<Buffers>,
}

/// The KV pool.
pub struct NativeKv(Kv);

enum Kv {
    Bytes(Kv8),
    Half(PagedKv<u16>),
    Single(PagedKv<f32>),
}

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvPrecision {
    /// 8 bits, and attention in whole numbers.
    Bytes,
    /// Half precision; what it rounds off is far below what 8-bit activations round off.
    Half,
    /// Single precision, for models whose weights are exact too.
    Single,
}

/// Runs the same on a pool of any precision.
macro_rules! on_pool {
    ($kv:expr, $pool:ident => $body:expr) => {
        match $kv {
            NativeKv(Kv::Bytes($pool)) => $body,
            NativeKv(Kv::Half($pool)) => $body,
            NativeKv(Kv::Single($pool)) => $body,
        }
    };
}

/// Normalised rows, in the forms that their products take.
struct Normed {
    rounded: Option<Rounded>,
    exact: Option<Rows>,
}

impl NativeBackend {
    /// The backend with the best instruction set of this CPU.
    pub fn new(kv: KvPrecision) -> Self {
        Self { isa: Isa::best(), kv, packed: Arc::default(), buffers: Arc::default() }
    }

    /// The same with weights from `packed`, where it has them.
    pub fn with_weights(self, packed: Arc<PackedWeights>) -> Self {
        Self { packed, ..self }
    }

    /// True where matrices of this format can be held.
    pub fn takes(format: Format) -> bool {
        Weight::takes(format)
    }

    /// Normalises `count` rows, row `i` being row `rows(i)` of `x`. `adapted` rows are wanted exact in any case.
    fn norm(
        &self,
        x: &Rows,
        count: usize,
        rows: impl Fn(usize) -> usize + Sync,
        norm: &Norm,
        linears: &[&Linear],
        adapted: bool,
    ) -> Result<Normed, ComputeError> {
        let width = norm.weight.len();
        if x.width() != width || linears.iter().any(|linear| linear.weight.inputs() != width) {
            return Err(ComputeError::Step(format!("a norm of {width} over rows of {}", x.width())));
        }
        let packed = linears.iter().filter(|linear| linear.packed().is_some()).count();
        let rounded = (packed > 0).then(|| {
            let mut rounded = self.buffers.rounded(count, width);
            passes::norm_and_round(self.isa, x, &rows, norm, &mut rounded);
            rounded
        });
        let exact = (adapted || packed < linears.len()).then(|| {
            let mut exact = self.buffers.rows(count, width);
            passes::norm(self.isa, x, &rows, norm, &mut exact);
            exact
        });
        Ok(Normed { rounded, exact })
    }

    fn rounded(&self, x: &Rows) -> Rounded {
        let mut rounded = self.buffers.rounded(x.count(), x.width());
        passes::round(self.isa, x, &mut rounded);
        rounded
    }

    /// The products of `x` with several matrices.
    fn products(&self, x: &Normed, linears: &[&Linear]) -> Vec<Rows> {
        let count = match x {
            Normed { rounded: Some(rounded), .. } => rounded.rows(),
            Normed { exact, .. } => exact.as_ref().map_or(0, Rows::count),
        };
        let mut outs: Vec<Rows> =
            linears.iter().map(|linear| self.buffers.rows(count, linear.weight.outputs())).collect();
        self.products_into(x, linears, &mut outs);
        outs
    }

    /// As [`Self::products`], into rows that are there.
    fn products_into(&self, x: &Normed, linears: &[&Linear], outs: &mut [Rows]) {
        if let Some(rounded) = &x.rounded {
            let (mut packed, mut to) = (Vec::new(), Vec::new());
            for (linear, out) in linears.iter().zip(&mut *outs) {
                if let Some(weight) = linear.packed() {
                    to.push((out.width(), linear.bias.as_deref(), SharedOut::new(out)));
                    packed.push(weight);
                }
            }
            for_each_group(self.isa, rounded, &packed, |which, first, rows, sums| {
                let (width, bias, out) = &to[which];
                // SAFETY: each group writes its own columns and rows.
                unsafe { put(self.isa, out, *width, first, rows, sums, *bias) }
            });
        }
        if let Some(exact) = &x.exact {
            for (linear, out) in linears.iter().zip(outs) {
                if let Weight::Panels(panels) = &*linear.weight {
                    out.copy_from_slice(&panels.product(exact));
                    add_bias(out, linear.bias.as_deref());
                }
            }
        }
    }

    /// Adds what is beside a product of `x`. Adapters are multiplied exactly, also beside weights whose activations are
    /// rounded.
    fn add_beside(&self, x: &Normed, beside: &[Beside<'_, Self>], out: &mut Rows) -> Result<(), ComputeError> {
        match (beside, &x.exact) {
            ([], _) => Ok(()),
            (_, Some(exact)) => add_beside(exact, beside, out),
            _ => Err(ComputeError::Step("an adapter's rows were not normalised exactly".into())),
        }
    }

    /// `residual += linear(x)`, rows already rounded.
    fn add_product(&self, x: &Rounded, packed: &Packed, bias: Option<&[f32]>, residual: &mut Rows) {
        let width = residual.width();
        let out = SharedOut::new(residual);
        for_each_group(self.isa, x, &[packed], |_, first, rows, sums| {
            let here = GROUP.min(width - first);
            if bias.is_none() && here == GROUP {
                let to = GroupAt { out: &out, width, row: rows.start, first, add: true };
                // SAFETY: each group writes its own columns and rows.
                return unsafe { passes::put_group(self.isa, sums, to) };
            }
            for (row, sums) in rows.zip(sums.chunks_exact(GROUP)) {
                // SAFETY: as above.
                let out = unsafe { out.slice(row * width + first, here) };
                match bias {
                    Some(bias) => {
                        out.iter_mut().zip(sums).zip(&bias[first..]).for_each(|((out, sum), bias)| *out += sum + bias);
                    }
                    None => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
                }
            }
        });
    }

    fn add_linear(&self, x: &Rows, linear: &Linear, residual: &mut Rows) -> Result<(), ComputeError> {
        let weight = &linear.weight;
        if x.width() != weight.inputs() || residual.width() != weight.outputs() || residual.count() != x.count() {
            return Err(ComputeError::Step(format!(
                "a product of {} by {} does not take rows of {} to rows of {}",
                weight.inputs(),
                weight.outputs(),
                x.width(),
                residual.width()
            )));
        }
        match &**weight {
            Weight::Packed(packed) => self.add_product(&self.rounded(x), packed, linear.bias.as_deref(), residual),
            Weight::Panels(panels) => {
                let mut sums = panels.product(x);
                add_bias(&mut sums, linear.bias.as_deref());
                residual.iter_mut().zip(&sums).for_each(|(to, sum)| *to += sum);
            }
        }
        Ok(())
    }

    /// `out += gated(x)`. Where some rows are adapted nothing is fused; the others' results are the same bits either way.
    fn add_gated(
        &self,
        x: &Normed,
        gated: &Gated<Self>,
        beside: [&[Beside<'_, Self>]; 3],
        out: &mut Rows,
    ) -> Result<(), ComputeError> {
        let Gated { gate, up, down, activation } = gated;
        let plain = gate.bias.is_none() && up.bias.is_none() && !is_adapted(&beside);
        let fused = match (&x.rounded, gate.packed(), up.packed(), down.packed()) {
            (Some(rounded), Some(g), Some(u), Some(d)) if plain => Some((rounded, g, u, d)),
            _ => None,
        };
        let Some((rounded, gate, up, packed_down)) = fused else {
            let mut inner = self.products(x, &[gate, up]);
            let (Some(mut up), Some(mut gate)) = (inner.pop(), inner.pop()) else {
                return Err(ComputeError::Step("two products gave fewer results".into()));
            };
            self.add_beside(x, beside[0], &mut gate)?;
            self.add_beside(x, beside[1], &mut up)?;
            gate::gate_times(*activation, &mut gate, &up);
            self.add_linear(&gate, down, out)?;
            return add_beside(&gate, beside[2], out);
        };
        if gate.outputs != up.outputs || gate.outputs != packed_down.inputs || packed_down.outputs != out.width() {
            return Err(ComputeError::Step("the parts of a gated MLP do not fit".into()));
        }
        let mut inner = self.buffers.rounded(rounded.rows(), packed_down.inputs);
        let to = inner.shared();
        for_each_group_of_two(self.isa, rounded, [gate, up], |first, rows, gate, up| {
            // SAFETY: a group is one block of each of its rows, and nobody else's.
            unsafe { passes::gate_and_round(self.isa, *activation, [gate, up], to, rows.start, first / GROUP) }
        });
        self.add_product(&inner, packed_down, down.bias.as_deref(), out);
        Ok(())
    }

    /// What a mixture of experts makes of the normalised rows of `x`. Every row takes in its experts in their order.
    fn experts(&self, x: &Rows, norm: &Norm, mixture: &Experts<Self>) -> Result<Rows, ComputeError> {
        let normed = self.norm(x, x.count(), |row| row, norm, &[&mixture.router], false)?;
        let Some(logits) = self.products(&normed, &[&mixture.router]).pop() else {
            return Err(ComputeError::Step("the router gave nothing".into()));
        };
        let width = x.width();
        let mut out = self.zeros(x.count(), width);
        for (expert, rows) in mixture.all.iter().zip(experts::route(&logits, mixture.all.len(), mixture.used)) {
            if rows.is_empty() {
                continue;
            }
            let normed = self.norm(x, rows.len(), |i| rows[i].0, norm, &[&expert.gate, &expert.up], false)?;
            let mut part = self.zeros(rows.len(), width);
            self.add_gated(&normed, expert, [&[]; 3], &mut part)?;
            for ((row, weight), part) in rows.iter().zip(part.chunks_exact(width)) {
                out[row * width..][..width].iter_mut().zip(part).for_each(|(out, part)| *out += weight * part);
            }
        }
        Ok(out)
    }

    fn zeros(&self, rows: usize, width: usize) -> Rows {
        let mut zeros = self.buffers.rows(rows, width);
        zeros.fill(0.0);
        zeros
    }

    /// `residual + scale * norm(branch)`.
    fn join(&self, branch: Rows, join: &Join<Self>, mut residual: Rows) -> Result<Rows, ComputeError> {
        let branch = match &join.norm {
            None => branch,
            Some(norm) if norm.weight.len() == branch.width() => {
                let mut normed = self.buffers.rows(branch.count(), branch.width());
                passes::norm(self.isa, &branch, |row| row, norm, &mut normed);
                normed
            }
            Some(norm) => {
                let (norm, width) = (norm.weight.len(), branch.width());
                return Err(ComputeError::Step(format!("a norm of {norm} over rows of {width}")));
            }
        };
        residual.iter_mut().zip(branch.iter()).for_each(|(to, x)| *to += join.scale * x);
        Ok(residual)
    }
}

/// Writes a group's sums to `out`, rows of `width`.
///
/// # Safety
/// Nobody else uses these rows' columns.
unsafe fn put(
    isa: Isa,
    out: &SharedOut<'_>,
    width: usize,
    first: usize,
    rows: Range<usize>,
    sums: &[f32],
    bias: Option<&[f32]>,
) {
    let here = GROUP.min(width - first);
    if bias.is_none() && here == GROUP {
        // SAFETY: by the caller's promise.
        return unsafe { passes::put_group(isa, sums, GroupAt { out, width, row: rows.start, first, add: false }) };
    }
    for (row, sums) in rows.zip(sums.chunks_exact(GROUP)) {
        // SAFETY: by the caller's promise.
        let out = unsafe { out.slice(row * width + first, here) };
        out.copy_from_slice(&sums[..here]);
        if let Some(bias) = bias {
            out.iter_mut().zip(&bias[first..]).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// Adds what is beside a product of `x` to `out`.
fn add_beside(x: &Rows, beside: &[Beside<'_, NativeBackend>], out: &mut Rows) -> Result<(), ComputeError> {
    let (from, to) = (x.width(), out.width());
    for Beside { rows, product } in beside {
        product.add(&x[rows.start * from..rows.end * from], &mut out[rows.start * to..rows.end * to])?;
    }
    Ok(())
}

fn is_adapted(beside: &[&[Beside<'_, NativeBackend>]]) -> bool {
    beside.iter().any(|beside| !beside.is_empty())
}

fn add_bias(rows: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
    }
}

impl Backend for NativeBackend {
    type Rows = Rows;
    type Linear = Linear;
    type Norm = Norm;
    type Table = Table;
    type Kv = NativeKv;
    type LowRank = LowRank;

    fn linear(&self, weight: &PackedMatrix<'_>, bias: Option<&PackedMatrix<'_>>) -> Result<Linear, ComputeError> {
        Ok(Linear { weight: self.packed.weight(weight)?, bias: bias.map(vector).transpose()? })
    }

    fn norm(&self, weight: &PackedMatrix<'_>, eps: f32) -> Result<Norm, ComputeError> {
        Ok(Norm { weight: vector(weight)?, eps })
    }

    fn table(&self, weight: &PackedMatrix<'_>) -> Result<Table, ComputeError> {
        Ok(Table { weight: self.packed.weight(weight)? })
    }

    fn tied_head(&self, table: &Table) -> Result<Linear, ComputeError> {
        Ok(Linear { weight: table.weight.clone(), bias: None })
    }

    fn low_rank(&self, a: &PackedMatrix<'_>, b: &PackedMatrix<'_>, scale: f32) -> Result<LowRank, ComputeError> {
        LowRank::new(a, b, scale)
    }

    fn low_rank_bytes(&self, product: &LowRank) -> usize {
        product.bytes()
    }

    fn kv_pool(&self, shape: KvShape) -> Result<NativeKv, ComputeError> {
        Ok(NativeKv(match self.kv {
            KvPrecision::Bytes => Kv::Bytes(Kv8::new(shape)?),
            KvPrecision::Half => Kv::Half(PagedKv::new(shape)?),
            KvPrecision::Single => Kv::Single(PagedKv::new(shape)?),
        }))
    }

    fn kv_block_bytes(&self, shape: &KvShape) -> usize {
        match self.kv {
            KvPrecision::Bytes => Kv8::block_bytes(shape),
            KvPrecision::Half => PagedKv::<u16>::block_bytes(shape.layers, &shape.attention),
            KvPrecision::Single => PagedKv::<f32>::block_bytes(shape.layers, &shape.attention),
        }
    }

    fn embed_rows(&self, table: &Table, tokens: &[u32], scale: f32) -> Result<Rows, ComputeError> {
        let width = table.weight.inputs();
        let mut rows = self.buffers.rows(tokens.len(), width);
        let shared = SharedOut::new(&mut rows);
        for_each_index(tokens.len(), |row| {
            // SAFETY: each row is one index's alone.
            let to = unsafe { shared.slice(row * width, width) };
            table.weight.row(tokens[row] as usize, to);
            if scale != 1.0 {
                to.iter_mut().for_each(|x| *x *= scale);
            }
        });
        Ok(rows)
    }

    fn norm_qkv(
        &self,
        x: &Rows,
        norm: &Norm,
        linears: [&Linear; 3],
        beside: [&[Beside<'_, Self>]; 3],
    ) -> Result<Qkv<Rows>, ComputeError> {
        let normed = self.norm(x, x.count(), |row| row, norm, &linears, is_adapted(&beside))?;
        let mut outs = self.products(&normed, &linears);
        for (out, beside) in outs.iter_mut().zip(beside) {
            self.add_beside(&normed, beside, out)?;
        }
        let mut outs = outs.into_iter();
        match (outs.next(), outs.next(), outs.next()) {
            (Some(q), Some(k), Some(v)) => Ok(Qkv { q, k, v }),
            _ => Err(ComputeError::Step("three products gave fewer results".into())),
        }
    }

    fn rope_and_cache(
        &self,
        qkv: Qkv<Rows>,
        qk_norm: Option<[&Norm; 2]>,
        rope: &RopeRows,
        kv: &mut NativeKv,
        layer: usize,
        plan: &Plan<'_>,
    ) -> Result<Rows, ComputeError> {
        let Qkv { mut q, mut k, v } = qkv;
        let attention = on_pool!(kv, pool => pool.shape().attention);
        let AttentionShape { heads, kv_heads, head_dim } = attention;
        let [q_norm, k_norm] = qk_norm.map_or([None; 2], |norms| norms.map(Some));
        if [q_norm, k_norm].into_iter().flatten().any(|norm| norm.weight.len() != head_dim) {
            return Err(ComputeError::Step(format!(
                "a norm of queries and keys is not {head_dim} wide, as their heads"
            )));
        }
        passes::norm_and_rotate(self.isa, &mut q, [heads, head_dim], q_norm, Some(rope));
        if k_norm.is_some() {
            // Keys are rotated as they are written.
            passes::norm_and_rotate(self.isa, &mut k, [kv_heads, head_dim], k_norm, None);
        }
        match kv {
            NativeKv(Kv::Bytes(pool)) => pool.write(self.isa, layer, &mut k, &v, rope, plan)?,
            NativeKv(Kv::Half(pool)) => pool.write(layer, &mut k, &v, rope, plan)?,
            NativeKv(Kv::Single(pool)) => pool.write(layer, &mut k, &v, rope, plan)?,
        }
        Ok(q)
    }

    fn paged_attention(
        &self,
        q: &Rows,
        kv: &NativeKv,
        layer: usize,
        attend: &Attend,
        plan: &Plan<'_>,
    ) -> Result<Rows, ComputeError> {
        let mut out = self.buffers.rows(q.count(), q.width());
        match kv {
            NativeKv(Kv::Bytes(pool)) => pool.attend(self.isa, layer, q, attend, plan, &mut out),
            NativeKv(Kv::Half(pool)) => pool.attend(layer, q, attend, plan, &mut out),
            NativeKv(Kv::Single(pool)) => pool.attend(layer, q, attend, plan, &mut out),
        }
        Ok(out)
    }

    fn linear_add(
        &self,
        x: &Rows,
        linear: &Linear,
        beside: &[Beside<'_, Self>],
        join: &Join<Self>,
        mut residual: Rows,
    ) -> Result<Rows, ComputeError> {
        if join.is_plain() {
            self.add_linear(x, linear, &mut residual)?;
            add_beside(x, beside, &mut residual)?;
            return Ok(residual);
        }
        let mut branch = self.zeros(residual.count(), residual.width());
        self.add_linear(x, linear, &mut branch)?;
        add_beside(x, beside, &mut branch)?;
        self.join(branch, join, residual)
    }

    fn mlp(&self, mut x: Rows, mlp: &Mlp<Self>, beside: [&[Beside<'_, Self>]; 3]) -> Result<Rows, ComputeError> {
        let adapted = is_adapted(&beside);
        match &mlp.kind {
            MlpKind::Gated(gated) => {
                let normed = self.norm(&x, x.count(), |row| row, &mlp.norm, &[&gated.gate, &gated.up], adapted)?;
                if mlp.join.is_plain() {
                    self.add_gated(&normed, gated, beside, &mut x)?;
                    return Ok(x);
                }
                let mut branch = self.zeros(x.count(), x.width());
                self.add_gated(&normed, gated, beside, &mut branch)?;
                self.join(branch, &mlp.join, x)
            }
            MlpKind::Experts(_) if adapted => Err(ComputeError::Step("experts have no adapters".into())),
            MlpKind::Experts(experts) => {
                let branch = self.experts(&x, &mlp.norm, experts)?;
                self.join(branch, &mlp.join, x)
            }
        }
    }

    fn normed(&self, x: &Rows, rows: &[usize], norm: &Norm) -> Result<Vec<f32>, ComputeError> {
        let normed = self.norm(x, rows.len(), |i| rows[i], norm, &[], true)?;
        Ok(normed.exact.map(|exact| exact.to_vec()).unwrap_or_default())
    }

    fn head(
        &self,
        x: &Rows,
        rows: &[usize],
        norm: &Norm,
        head: &Linear,
        beside: &[Beside<'_, Self>],
    ) -> Result<Vec<f32>, ComputeError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let normed = self.norm(x, rows.len(), |i| rows[i], norm, &[head], !beside.is_empty())?;
        let mut logits = [self.buffers.lasting_rows(rows.len(), head.weight.outputs())];
        self.products_into(&normed, &[head], &mut logits);
        let [mut logits] = logits;
        self.add_beside(&normed, beside, &mut logits)?;
        Ok(logits.into_numbers())
    }

    fn export_block(&self, kv: &NativeKv, block: usize) -> Result<Vec<u8>, ComputeError> {
        on_pool!(kv, pool => pool.export(block))
    }

    fn import_block(&self, kv: &mut NativeKv, block: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        on_pool!(kv, pool => pool.import(block, bytes))
    }
}
