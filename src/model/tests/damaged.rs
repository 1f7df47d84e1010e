//! Damaged files: every one gives an error that names the file, or works; none panics or takes much memory.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{golden, settings};
use crate::model::{ChatTokenizer, Decoder, Gguf, ModelError};

/// Opens everything in the file. An error must name the file.
fn open_all(path: &Path) -> Result<(), ModelError> {
    let mut outcome = Ok(());
    for result in [ChatTokenizer::from_gguf(path).map(drop), Decoder::load(path, &settings("dense")).map(drop)] {
        if let Err(error) = result {
            if let ModelError::File { file, reason } = &error {
                assert_eq!(*file, path.display().to_string());
                assert!(!reason.is_empty() && reason.len() < 1000 && !reason.contains('\n'), "{reason}");
            }
            outcome = Err(error);
        }
    }
    outcome
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    let bytes = std::fs::read(golden("models/qwen2.gguf")).unwrap();
    let mut cuts: Vec<usize> = (0..64).collect();
    cuts.extend((64..bytes.len()).step_by(2503));
    for cut in cuts {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(open_all(&path).is_err(), "cut at {cut} of {}", bytes.len());
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.gguf");
    let mut rng = StdRng::seed_from_u64(99);
    for source in ["models/qwen2.gguf", "tokenizers/spm.gguf", "models/llama.gguf"] {
        let bytes = std::fs::read(golden(source)).unwrap();
        let gguf = Gguf::open(&golden(source)).unwrap();
        let header = gguf.tensor_names().filter_map(|name| gguf.byte_range(name)).map(|range| range.start).min();
        let header = header.unwrap_or(bytes.len());
        for round in 0..250 {
            let mut damaged = bytes.clone();
            // Keys and counts lie near both ends of the header; the vocabulary fills its middle.
            let reach = if round % 2 == 0 { header.min(700) } else { header };
            for _ in 0..rng.random_range(1..4) {
                let at =
                    if round % 3 == 0 { header - 1 - rng.random_range(0..reach) } else { rng.random_range(0..reach) };
                damaged[at] = match rng.random_range(0..3) {
                    0 => 0xFF,
                    1 => damaged[at] ^ (1 << rng.random_range(0..8)),
                    _ => rng.random(),
                };
            }
            std::fs::write(&path, &damaged).unwrap();
            // Some flips are harmless; what counts is that all end in a value.
            let _ = open_all(&path);
        }
    }
}

/// A copy of a golden file in which every occurrence of `from` became `to` (of the same length).
fn replaced(source: &str, from: &[u8], to: &[u8], folder: &Path) -> std::path::PathBuf {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(golden(source)).unwrap();
    let mut at = 0;
    let mut found = 0;
    while let Some(next) = bytes[at..].windows(from.len()).position(|w| w == from) {
        bytes[at + next..at + next + from.len()].copy_from_slice(to);
        at += next + from.len();
        found += 1;
    }
    assert!(found > 0);
    let path = folder.join("replaced.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn errors_say_what_is_wrong_and_what_is_supported() {
    let folder = tempfile::tempdir().unwrap();
    let decoder =
        |path: &Path| Decoder::load(path, &settings("dense")).err().map(|e| e.to_string()).unwrap_or_default();
    let tokenizer = |path: &Path| ChatTokenizer::from_gguf(path).err().map(|e| e.to_string()).unwrap_or_default();

    let path = replaced("models/qwen2.gguf", b"qwen2", b"qwenX", folder.path());
    assert!(decoder(&path).contains("architecture `qwenX`") && decoder(&path).contains("llama, qwen2, qwen3"));
    assert!(tokenizer(&path).contains("pre-tokenizer `qwenX`") && tokenizer(&path).contains("smollm"));

    let path = replaced("models/llama.gguf", b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight", folder.path());
    assert!(decoder(&path).contains("`blk.1.ffn_up.weight` is missing"));
    let path = replaced("models/qwen2.gguf", b"blk.1.attn_q.bias", b"blk.1.attn_q.bixx", folder.path());
    assert!(decoder(&path).contains("`blk.1.attn_q.bixx` has no place"), "{}", decoder(&path));
    let path = replaced("models/mistral.gguf", b"linear", b"linexx", folder.path());
    assert!(decoder(&path).contains("rope scaling of the kind `linexx`"));

    let path = folder.path().join("text.gguf");
    std::fs::write(&path, "not a model at all, but long enough to be one").unwrap();
    assert!(decoder(&path).contains("text.gguf: not a GGUF file"));
    std::fs::write(&path, "").unwrap();
    assert!(decoder(&path).contains("empty"));
    assert!(decoder(folder.path()).contains("cannot be read"));
    assert!(decoder(&folder.path().join("none.gguf")).contains("cannot be read"));
}

#[test]
fn an_alignment_of_zero_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alignment.gguf");
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(17u64.to_le_bytes());
    bytes.extend(b"general.alignment");
    bytes.extend(4u32.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = Gguf::open(&path).err().unwrap().to_string();
    assert!(error.contains("`general.alignment` is 0"), "{error}");
}
