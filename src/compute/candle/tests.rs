//! The device path (tensor operations) against the CPU path, on the CPU.

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::cuda_kv::DeviceKv;
use super::*;
use crate::compute::{AttentionShape, Rope, RopeKind, Span};

fn random(rng: &mut StdRng, rows: usize, width: usize) -> Tensor {
    let numbers: Vec<f32> = (0..rows * width).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(numbers, (rows, width), &Device::Cpu).unwrap()
}

#[test]
fn attention_by_tensor_operations_equals_the_cpu_kernel() {
    let mut rng = StdRng::seed_from_u64(21);
    for (kind, how) in [
        (RopeKind::Interleaved, Attend::plain(20)),
        (RopeKind::Halves, Attend { scale: 0.3, window: Some(14), softcap: Some(0.5) }),
    ] {
        let attention = AttentionShape { heads: 6, kv_heads: 2, head_dim: 20 };
        let shape = KvShape { layers: 1, blocks: 6, attention };
        let backend = CandleBackend { device: Device::Cpu, policy: WeightPolicy::Dense };
        let mut cpu = CandleKv::Cpu(PagedKvHandle(PagedKv::new(shape).unwrap()));
        let mut device = CandleKv::Device(DeviceKvHandle(DeviceKv::new(shape, &Device::Cpu).unwrap()));
        let rope = Rope::new(kind, 16, 1000.0, |_| 1.0);
        let (first, second) = ([4, 0], [2, 5]);
        // Two sequences, each in two steps.
        for (a, b) in [(0..33, 0..10), (33..50, 10..11)] {
            let rows = a.len() + b.len();
            let plan = Plan {
                spans: vec![
                    Span { rows: 0..a.len(), start: a.start, blocks: &first },
                    Span { rows: a.len()..rows, start: b.start, blocks: &second },
                ],
                rows,
            };
            let angles = rope.rows(a.chain(b));
            let (q, k, v) = (random(&mut rng, rows, 120), random(&mut rng, rows, 40), random(&mut rng, rows, 40));
            let run = |kv: &mut CandleKv| {
                let qkv = Qkv { q: q.clone(), k: k.clone(), v: v.clone() };
                let q = backend.rope_and_cache(qkv, None, &angles, kv, 0, &plan).unwrap();
                numbers(&backend.paged_attention(&q, kv, 0, &how, &plan).unwrap()).unwrap()
            };
            let (expected, got) = (run(&mut cpu), run(&mut device));
            let worst = expected.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{kind:?}: {worst}");
        }
        let bytes = backend.export_block(&device, 4).unwrap();
        backend.import_block(&mut device, 1, &bytes).unwrap();
        assert_eq!(backend.export_block(&device, 1).unwrap(), bytes);
    }
}

#[test]
fn unknown_settings_are_refused_by_name() {
    let error = |device: &str, weights: &str| CandleBackend::open(device, weights, 0).err().map(|e| e.to_string());
    assert!(error("tpu", "auto").unwrap().contains("`tpu`"));
    assert!(error("cpu", "int3").unwrap().contains("`int3`"));
    assert!(error("cpu", "dense").is_none());
    #[cfg(not(feature = "cuda"))]
    assert!(error("cuda", "auto").unwrap().contains("scripts/build-cuda"));
}

#[test]
fn auto_widens_weights_only_within_a_quarter_of_the_memory() {
    let decided = |bytes, memory| WeightPolicy::Auto.within(bytes, memory);
    assert_eq!(decided(100, Some(400)), WeightPolicy::Auto);
    assert_eq!(decided(101, Some(400)), WeightPolicy::Quantized);
    assert_eq!(decided(1, None), WeightPolicy::Quantized);
    assert_eq!(WeightPolicy::Dense.within(101, Some(400)), WeightPolicy::Dense);
}

#[test]
fn widened_and_packed_weights_give_nearly_the_same_product() {
    let mut rng = StdRng::seed_from_u64(22);
    let dense = random(&mut rng, 70, 64);
    let packed = candle_core::quantized::QTensor::quantize(&dense, candle_core::quantized::GgmlDType::Q8_0).unwrap();
    let bytes = packed.data().unwrap();
    let matrix = PackedMatrix { name: "w", format: crate::compute::Format::Q8_0, rows: 70, cols: 64, bytes: &bytes };
    let x = random(&mut rng, 5, 64);
    let product = |policy| {
        let linear = Linear::load(&matrix, None, &Device::Cpu, policy).unwrap();
        numbers(&linear.apply(&x).unwrap()).unwrap()
    };
    let (a, b) = (product(WeightPolicy::Dense), product(WeightPolicy::Quantized));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.1));
    // Bytes that start anywhere in memory are taken too.
    let mut shifted = vec![0u8];
    shifted.extend_from_slice(&bytes);
    let moved = PackedMatrix { bytes: &shifted[1..], ..matrix };
    let linear = Linear::load(&moved, None, &Device::Cpu, WeightPolicy::Dense).unwrap();
    assert_eq!(numbers(&linear.apply(&x).unwrap()).unwrap(), a);
    let short = PackedMatrix { bytes: &bytes[1..], ..matrix };
    assert!(Linear::load(&short, None, &Device::Cpu, WeightPolicy::Quantized).is_err());
}
