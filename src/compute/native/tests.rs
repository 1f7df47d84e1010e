//! Products of every format, on every instruction set that this CPU has, against their definition and the scalar twin.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::buffers::Buffers;
use super::packed::Packed;
use super::product::{GROUP, for_each_group};
use super::rounded::RoundedRows;
use super::tile::Isa;
use super::*;
use crate::compute::candle::widen;
use crate::compute::{Activation, Rope, RopeKind};

const FORMATS: [Format; 8] =
    [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0, Format::Q4K, Format::Q5K, Format::Q6K];

/// Random bytes whose scales and minimums are small numbers.
fn random_weights(rng: &mut StdRng, format: Format, rows: usize, cols: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; format.matrix_bytes(rows, cols).unwrap()];
    rng.fill(&mut bytes[..]);
    let halves: &[usize] = match format {
        Format::Q6K => &[208],
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
        _ => &[0, 2],
    };
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for at in halves {
            let number = half::f16::from_f32(rng.random_range(-0.1..0.1));
            block[*at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

fn random_rows(rng: &mut StdRng, rows: usize, width: usize) -> Vec<f32> {
    // Rows of very different sizes, and some of zeros.
    (0..rows)
        .flat_map(|_| {
            let size = 10f32.powi(rng.random_range(-3..3)) * if rng.random_bool(0.1) { 0.0 } else { 1.0 };
            (0..width).map(|_| rng.random_range(-1.0..1.0f32) * size).collect::<Vec<_>>()
        })
        .collect()
}

fn rounded(isa: Isa, x: &[f32], width: usize) -> RoundedRows {
    let mut rounded = RoundedRows::default();
    rounded.reshape(x.len() / width, width);
    passes::round(isa, x, &mut rounded);
    rounded
}

fn product(isa: Isa, x: &RoundedRows, weight: &Packed) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.rows() * weight.outputs];
    let shared = SharedOut::new(&mut out);
    for_each_group(isa, x, &[weight], |_, first, rows, sums| {
        assert_eq!(sums.len(), rows.len() * GROUP);
        // SAFETY: each group writes its own columns and rows.
        unsafe { put(isa, &shared, weight.outputs, first, rows, sums, None) }
    });
    out
}

#[test]
fn packed_rows_are_the_numbers_of_the_file() {
    let mut rng = StdRng::seed_from_u64(31);
    for format in FORMATS {
        for _ in 0..4 {
            let (rows, cols) = (rng.random_range(1..70), format.block_len() * rng.random_range(1..5));
            let bytes = random_weights(&mut rng, format, rows, cols);
            let matrix = PackedMatrix { name: "w", format, rows, cols, bytes: &bytes };
            let expected = widen(&matrix).unwrap();
            let packed = Packed::new(&matrix).unwrap();
            let mut row = vec![0.0; cols];
            for (number, expected) in expected.chunks(cols).enumerate() {
                packed.row(number, &mut row);
                for (got, expected) in row.iter().zip(expected) {
                    assert!(
                        (got - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                        "{format:?}: {got}, not {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn products_of_random_shapes_equal_the_scalar_twin_and_are_near_the_definition() {
    let mut rng = StdRng::seed_from_u64(32);
    for format in FORMATS {
        for round in 0..8 {
            // Some rows longer than what is unpacked at a time.
            let longest = if round % 4 == 3 { 2048 } else { 640 };
            let cols = format.block_len() * rng.random_range(1..=longest / format.block_len());
            let (rows, outputs) = (rng.random_range(1..40), rng.random_range(1..100));
            let bytes = random_weights(&mut rng, format, outputs, cols);
            let matrix = PackedMatrix { name: "w", format, rows: outputs, cols, bytes: &bytes };
            let (packed, wide) = (Packed::new(&matrix).unwrap(), widen(&matrix).unwrap());
            let x = random_rows(&mut rng, rows, cols);
            let twin = product(Isa::Scalar, &rounded(Isa::Scalar, &x, cols), &packed);
            for (row, twin) in x.chunks(cols).zip(twin.chunks(outputs)) {
                let (mut error, mut size) = (0.0, 1e-20);
                for (w, got) in wide.chunks(cols).zip(twin) {
                    let exact: f64 = row.iter().zip(w).map(|(a, b)| *a as f64 * *b as f64).sum();
                    error += (exact - *got as f64).powi(2);
                    size += row.iter().zip(w).map(|(a, b)| (*a as f64 * *b as f64).powi(2)).sum::<f64>();
                }
                assert!((error / size).sqrt() < 0.02, "{format:?} {rows}x{cols}x{outputs}: {}", (error / size).sqrt());
            }
            for isa in Isa::all() {
                assert_eq!(product(isa, &rounded(isa, &x, cols), &packed), twin, "{isa:?} {format:?} {rows}x{cols}");
            }
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_among_others() {
    let mut rng = StdRng::seed_from_u64(33);
    for format in FORMATS {
        let (cols, outputs) = (1024, 50);
        let bytes = random_weights(&mut rng, format, outputs, cols);
        let packed = Packed::new(&PackedMatrix { name: "w", format, rows: outputs, cols, bytes: &bytes }).unwrap();
        let x = random_rows(&mut rng, 130, cols);
        for isa in Isa::all() {
            let together = product(isa, &rounded(isa, &x, cols), &packed);
            for rows in [1, 2, 5, 8, 9, 13] {
                let some = product(isa, &rounded(isa, &x[..rows * cols], cols), &packed);
                assert_eq!(some, together[..rows * outputs], "{isa:?} {format:?}: {rows} rows");
            }
            let last = product(isa, &rounded(isa, &x[129 * cols..], cols), &packed);
            assert_eq!(last, together[129 * outputs..], "{isa:?} {format:?}");
        }
    }
}

/// Instruction sets with vectors of 16 numbers (plain code has no fused products).
fn wide_sets() -> impl Iterator<Item = Isa> {
    Isa::all().into_iter().filter(|isa| isa.lanes() != crate::compute::lanes::Isa::Scalar)
}

#[test]
fn passes_between_products_give_the_same_bits_on_every_instruction_set_with_vectors() {
    let mut rng = StdRng::seed_from_u64(35);
    for round in 0..6 {
        let (heads, head_dim) = (rng.random_range(1..9), 32 * rng.random_range(1..5));
        let (rows, width) = (rng.random_range(1..20), heads * head_dim);
        let x = random_rows(&mut rng, rows, width);
        let mut norm = |len: usize| Norm { weight: (0..len).map(|_| rng.random_range(0.5..2.0)).collect(), eps: 1e-6 };
        let (wide_norm, head_norm) = (norm(width), norm(head_dim));
        let kind = if round % 2 == 0 { RopeKind::Halves } else { RopeKind::Interleaved };
        let rope = Rope::new(kind, head_dim, 10_000.0, |_| 1.0).rows(100..100 + rows);
        let all: Vec<_> = wide_sets()
            .map(|isa| {
                let mut normed = RoundedRows::default();
                normed.reshape(rows, width);
                passes::norm_and_round(isa, &x, |row| row, &wide_norm, &mut normed);
                let mut turned = x.clone();
                passes::norm_and_rotate(isa, &mut turned, [heads, head_dim], Some(&head_norm), Some(&rope));
                let (mut gate, mut up) = (x[..GROUP].to_vec(), turned[..GROUP].to_vec());
                let mut gated = RoundedRows::default();
                gated.reshape(1, GROUP);
                // SAFETY: the block is this thread's alone.
                unsafe {
                    passes::gate_and_round(isa, Activation::Silu, [&mut gate, &mut up], gated.shared(), 0, 0);
                }
                let blocks = [normed.blocks, gated.blocks].concat();
                (isa, turned, gate, blocks.iter().map(|b| (b.bytes, b.scale, b.starts)).collect::<Vec<_>>())
            })
            .collect();
        for two in all.windows(2) {
            let ((isa, a, b, c), (other, d, e, f)) = (&two[0], &two[1]);
            assert!(a == d && b == e && c == f, "{isa:?} and {other:?}, {rows} rows of {heads} heads of {head_dim}");
        }
    }
}

#[test]
fn heads_are_normalised_and_rotated_as_one_after_the_other() {
    let mut rng = StdRng::seed_from_u64(36);
    let (rows, heads, head_dim) = (7, 3, 40);
    let x = random_rows(&mut rng, rows, heads * head_dim);
    let norm = Norm { weight: (0..head_dim).map(|_| rng.random_range(0.5..2.0)).collect(), eps: 1e-6 };
    let rope = Rope::new(RopeKind::Halves, 32, 10_000.0, |_| 1.0).rows(5..5 + rows);
    for isa in Isa::all() {
        let mut expected = vec![0.0; x.len()];
        for (from, to) in x.chunks(head_dim).zip(expected.chunks_mut(head_dim)) {
            crate::compute::norm::rms_norm_row(isa.lanes(), from, &norm.weight, norm.eps, to);
        }
        crate::compute::paged::rotate_heads(&mut expected, head_dim, heads, &rope);
        let mut got = x.clone();
        passes::norm_and_rotate(isa, &mut got, [heads, head_dim], Some(&norm), Some(&rope));
        assert_eq!(got, expected, "{isa:?}");
    }
}

#[test]
fn packed_weights_take_hardly_more_than_in_the_file() {
    let mut rng = StdRng::seed_from_u64(34);
    for format in FORMATS {
        let bytes = random_weights(&mut rng, format, 576, 1536);
        let packed = Packed::new(&PackedMatrix { name: "w", format, rows: 576, cols: 1536, bytes: &bytes }).unwrap();
        assert!(packed.bytes().len() as f64 <= 1.05 * bytes.len() as f64, "{format:?}");
    }
}

#[test]
fn matrices_that_do_not_fit_their_bytes_are_refused_by_name() {
    let matrix = |format, rows, cols, bytes| PackedMatrix { name: "blk.0.ffn_up.weight", format, rows, cols, bytes };
    let bytes = [0u8; 36];
    let error = |matrix| Weight::new(&matrix).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error(matrix(Format::Q4_0, 3, 32, &bytes)).contains("blk.0.ffn_up.weight"));
    assert!(error(matrix(Format::F32, 3, 4, &bytes)).contains("do not make 3 rows"));
    assert!(error(matrix(Format::Q2K, 1, 256, &bytes)).contains("Q2K"));
    assert!(Weight::new(&matrix(Format::Q4_0, 2, 32, &bytes)).is_ok());
}

#[test]
fn buffers_come_back_to_be_used_again() {
    let buffers = Arc::<Buffers>::default();
    let first = buffers.rows(4, 100).as_ptr();
    assert_eq!(buffers.rows(3, 100).as_ptr(), first);
}
