//! The reference backend: candle's tensors on CPU or CUDA.
//!
//! On CPUs, attention, the gate and products with widened weights run in kernels of our own over the tensors' slices;
//! on CUDA everything is tensor operations. Weights are held as the settings say ([`WeightPolicy`]).

mod beside;
mod cuda_kv;
mod weights;

use candle_core::{Device, Tensor};

pub use self::beside::LowRank;
use self::cuda_kv::DeviceKv;
pub(super) use self::weights::widen;
pub use self::weights::{Linear, Norm, Table, WeightPolicy};
use super::paged::{PagedKv, rotate_heads};
use super::{
    Activation, Attend, Backend, Beside, ComputeError, Experts, Gated, Join, KvShape, Mlp, MlpKind, PackedMatrix, Plan,
    Qkv, RopeRows, experts, gate,
};

/// candle on one device.
pub struct CandleBackend {
    device: Device,
    policy: WeightPolicy,
}

/// The KV pool, where the device's attention wants it.
pub enum CandleKv {
    #[doc(hidden)]
    Cpu(PagedKvHandle),
    #[doc(hidden)]
    Device(DeviceKvHandle),
}

/// The pool in main memory.
pub struct PagedKvHandle(PagedKv<f32>);

/// The pool in device memory.
pub struct DeviceKvHandle(DeviceKv);

/// A CUDA device, or why there is none.
fn card(number: usize) -> Result<Device, String> {
    // Behind the first line stands where in candle it was met.
    Device::new_cuda(number).map_err(|e| e.to_string().lines().next().unwrap_or_default().to_string())
}

impl CandleBackend {
    /// Opens the device named by `device` (`auto`, `cpu`, `cuda`, `cuda:1`) and holds weights as `weights` says, for a
    /// model whose matrices take `widened_bytes` in `f32`.
    ///
    /// # Errors
    /// An unknown name, or CUDA asked for where this build or machine has none.
    pub fn open(device: &str, weights: &str, widened_bytes: u64) -> Result<Self, ComputeError> {
        let policy = WeightPolicy::from_setting(weights)?.within(widened_bytes, weights::memory_bytes());
        let device = match device {
            "cpu" => Device::Cpu,
            // `auto` is the first card where there is one, else the CPU. (`Device::cuda_if_available` only asks whether
            // the program was built for cards.)
            "auto" if cfg!(feature = "cuda") => card(0).unwrap_or_else(|reason| {
                tracing::warn!(reason, "no card can be used; the CPU is");
                Device::Cpu
            }),
            "auto" => Device::Cpu,
            name => match name.strip_prefix("cuda").map(|n| n.strip_prefix(':').unwrap_or("0").parse::<usize>()) {
                Some(Ok(_)) if !cfg!(feature = "cuda") => {
                    return Err(ComputeError::Unsupported(format!(
                        "engine.device is `{name}`, but this program was built without CUDA; build it with \
                         `scripts/build-cuda`, or set engine.device to `cpu`"
                    )));
                }
                Some(Ok(number)) => card(number).map_err(|reason| {
                    ComputeError::Unsupported(format!(
                        "engine.device is `{name}`, but that card cannot be used: {reason}; set engine.device to `auto` or `cpu`, \
                         or look at `nvidia-smi`"
                    ))
                })?,
                _ => {
                    return Err(ComputeError::Unsupported(format!(
                        "engine.device is `{name}`; it can be `auto`, `cpu` or `cuda`"
                    )));
                }
            },
        };
        Ok(Self { device, policy })
    }

    /// True where activations lie in main memory.
    pub fn on_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    fn rows(&self, numbers: Vec<f32>, width: usize) -> Result<Tensor, ComputeError> {
        let rows = numbers.len() / width;
        Ok(Tensor::from_vec(numbers, (rows, width), &self.device)?)
    }

    /// Some rows of a step, which are at least one.
    fn chosen(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor, ComputeError> {
        if rows.len() == x.dim(0)? {
            return Ok(x.clone());
        }
        let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        Ok(x.index_select(&Tensor::from_vec(index, rows.len(), &self.device)?, 0)?)
    }

    fn gated(&self, x: &Tensor, gated: &Gated<Self>, beside: [&[Beside<'_, Self>]; 3]) -> Result<Tensor, ComputeError> {
        let gate = beside::added(x, beside[0], gated.gate.apply(x)?)?;
        let up = beside::added(x, beside[1], gated.up.apply(x)?)?;
        let inner = if self.on_cpu() {
            let mut inner = numbers(&gate)?;
            weights::with_slice(&up, |up| {
                gate::gate_times(gated.activation, &mut inner, up);
                Ok(())
            })?;
            self.rows(inner, gate.dim(1)?)?
        } else {
            match gated.activation {
                Activation::Silu => (gate.silu()? * up)?,
                // candle's `gelu` is the tangent form.
                Activation::Gelu => (gate.gelu()? * up)?,
            }
        };
        beside::added(&inner, beside[2], gated.down.apply(&inner)?)
    }

    /// What a mixture of experts makes of normalised rows.
    fn experts(&self, x: &Tensor, mixture: &Experts<Self>) -> Result<Tensor, ComputeError> {
        let logits = numbers(&mixture.router.apply(x)?)?;
        let mut out = x.zeros_like()?;
        for (expert, rows) in mixture.all.iter().zip(experts::route(&logits, mixture.all.len(), mixture.used)) {
            if rows.is_empty() {
                continue;
            }
            let (index, weights): (Vec<u32>, Vec<f32>) =
                rows.iter().map(|(row, weight)| (*row as u32, *weight)).unzip();
            let index = Tensor::from_vec(index, rows.len(), &self.device)?;
            let weights = Tensor::from_vec(weights, (rows.len(), 1), &self.device)?;
            let part = self.gated(&x.index_select(&index, 0)?, expert, [&[]; 3])?.broadcast_mul(&weights)?;
            out = out.index_add(&index, &part, 0)?;
        }
        Ok(out)
    }
}

/// `residual + scale * norm(branch)`.
fn joined(branch: Tensor, join: &Join<CandleBackend>, residual: Tensor) -> Result<Tensor, ComputeError> {
    let branch = match &join.norm {
        None => branch,
        Some(norm) => norm.apply(&branch)?,
    };
    match join.scale {
        1.0 => Ok((residual + branch)?),
        scale => Ok((residual + (branch * scale as f64)?)?),
    }
}

impl Backend for CandleBackend {
    type Rows = Tensor;
    type Linear = Linear;
    type Norm = Norm;
    type Table = Table;
    type Kv = CandleKv;
    type LowRank = LowRank;

    fn linear(&self, weight: &PackedMatrix<'_>, bias: Option<&PackedMatrix<'_>>) -> Result<Linear, ComputeError> {
        Linear::load(weight, bias, &self.device, self.policy)
    }

    fn norm(&self, weight: &PackedMatrix<'_>, eps: f32) -> Result<Norm, ComputeError> {
        Norm::load(weight, eps, &self.device)
    }

    fn table(&self, weight: &PackedMatrix<'_>) -> Result<Table, ComputeError> {
        Table::load(weight, &self.device)
    }

    fn tied_head(&self, table: &Table) -> Result<Linear, ComputeError> {
        Linear::tied(table, self.policy)
    }

    fn low_rank(&self, a: &PackedMatrix<'_>, b: &PackedMatrix<'_>, scale: f32) -> Result<LowRank, ComputeError> {
        LowRank::load(a, b, scale, &self.device)
    }

    fn low_rank_bytes(&self, product: &LowRank) -> usize {
        product.bytes()
    }

    fn kv_pool(&self, shape: KvShape) -> Result<CandleKv, ComputeError> {
        Ok(match self.on_cpu() {
            true => CandleKv::Cpu(PagedKvHandle(PagedKv::new(shape)?)),
            false => CandleKv::Device(DeviceKvHandle(DeviceKv::new(shape, &self.device)?)),
        })
    }

    fn kv_block_bytes(&self, shape: &KvShape) -> usize {
        2 * shape.block_len() * shape.layers * size_of::<f32>()
    }

    fn embed_rows(&self, table: &Table, tokens: &[u32], scale: f32) -> Result<Tensor, ComputeError> {
        let rows = table.rows(tokens, &self.device)?;
        match scale {
            1.0 => Ok(rows),
            scale => Ok((rows * scale as f64)?),
        }
    }

    fn norm_qkv(
        &self,
        x: &Tensor,
        norm: &Norm,
        [q, k, v]: [&Linear; 3],
        beside: [&[Beside<'_, Self>]; 3],
    ) -> Result<Qkv<Tensor>, ComputeError> {
        let x = norm.apply(x)?;
        Ok(Qkv {
            q: beside::added(&x, beside[0], q.apply(&x)?)?,
            k: beside::added(&x, beside[1], k.apply(&x)?)?,
            v: beside::added(&x, beside[2], v.apply(&x)?)?,
        })
    }

    fn rope_and_cache(
        &self,
        qkv: Qkv<Tensor>,
        qk_norm: Option<[&Norm; 2]>,
        rope: &RopeRows,
        kv: &mut CandleKv,
        layer: usize,
        plan: &Plan<'_>,
    ) -> Result<Tensor, ComputeError> {
        let Qkv { q, k, v } = qkv;
        let (q, k) = match qk_norm {
            Some([q_norm, k_norm]) => (per_head(&q, q_norm)?, per_head(&k, k_norm)?),
            None => (q, k),
        };
        match kv {
            CandleKv::Cpu(PagedKvHandle(pool)) => {
                let attention = pool.shape().attention;
                let mut q = numbers(&q)?;
                let mut k = numbers(&k)?;
                rotate_heads(&mut q, attention.head_dim, attention.heads, rope);
                pool.write(layer, &mut k, &numbers(&v)?, rope, plan)?;
                self.rows(q, attention.heads * attention.head_dim)
            }
            CandleKv::Device(DeviceKvHandle(pool)) => pool.rope_and_write(layer, &q, &k, &v, rope, plan),
        }
    }

    fn paged_attention(
        &self,
        q: &Tensor,
        kv: &CandleKv,
        layer: usize,
        attend: &Attend,
        plan: &Plan<'_>,
    ) -> Result<Tensor, ComputeError> {
        match kv {
            CandleKv::Cpu(PagedKvHandle(pool)) => {
                let width = q.dim(1)?;
                let out = weights::with_slice(q, |q| {
                    let mut out = vec![0.0; q.len()];
                    pool.attend(layer, q, attend, plan, &mut out);
                    Ok(out)
                })?;
                self.rows(out, width)
            }
            CandleKv::Device(DeviceKvHandle(pool)) => pool.attend(layer, q, attend, plan),
        }
    }

    fn linear_add(
        &self,
        x: &Tensor,
        linear: &Linear,
        beside: &[Beside<'_, Self>],
        join: &Join<Self>,
        residual: Tensor,
    ) -> Result<Tensor, ComputeError> {
        joined(beside::added(x, beside, linear.apply(x)?)?, join, residual)
    }

    fn mlp(&self, x: Tensor, mlp: &Mlp<Self>, beside: [&[Beside<'_, Self>]; 3]) -> Result<Tensor, ComputeError> {
        let normed = mlp.norm.apply(&x)?;
        let branch = match &mlp.kind {
            MlpKind::Gated(gated) => self.gated(&normed, gated, beside)?,
            MlpKind::Experts(_) if beside.iter().any(|beside| !beside.is_empty()) => {
                return Err(ComputeError::Step("experts have no adapters".into()));
            }
            MlpKind::Experts(experts) => self.experts(&normed, experts)?,
        };
        joined(branch, &mlp.join, x)
    }

    fn normed(&self, x: &Tensor, rows: &[usize], norm: &Norm) -> Result<Vec<f32>, ComputeError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        numbers(&norm.apply(&self.chosen(x, rows)?)?)
    }

    fn head(
        &self,
        x: &Tensor,
        rows: &[usize],
        norm: &Norm,
        head: &Linear,
        beside: &[Beside<'_, Self>],
    ) -> Result<Vec<f32>, ComputeError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let normed = norm.apply(&self.chosen(x, rows)?)?;
        numbers(&beside::added(&normed, beside, head.apply(&normed)?)?)
    }

    fn export_block(&self, kv: &CandleKv, block: usize) -> Result<Vec<u8>, ComputeError> {
        match kv {
            CandleKv::Cpu(PagedKvHandle(pool)) => pool.export(block),
            CandleKv::Device(DeviceKvHandle(pool)) => pool.export(block),
        }
    }

    fn import_block(&self, kv: &mut CandleKv, block: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        match kv {
            CandleKv::Cpu(PagedKvHandle(pool)) => pool.import(block, bytes),
            CandleKv::Device(DeviceKvHandle(pool)) => pool.import(block, bytes),
        }
    }
}

/// Normalises each head of each row by itself.
fn per_head(x: &Tensor, norm: &Norm) -> Result<Tensor, ComputeError> {
    let (rows, width) = x.dims2()?;
    let head_dim = norm.len();
    Ok(norm.apply(&x.reshape((rows * width / head_dim, head_dim))?)?.reshape((rows, width))?)
}

/// A copy of a tensor's numbers.
fn numbers(x: &Tensor) -> Result<Vec<f32>, ComputeError> {
    Ok(x.flatten_all()?.to_vec1::<f32>()?)
}

#[cfg(test)]
mod tests;
