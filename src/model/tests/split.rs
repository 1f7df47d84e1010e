//! Models in several files: the same model, whichever part is named; and what is wrong with a set of parts.

use std::path::Path;

use super::{golden, settings};
use crate::model::{ChatTokenizer, Decoder, Gguf, StepSequence, WantLogits};

fn logits(path: &Path) -> Vec<f32> {
    let mut decoder = Decoder::load(path, &settings("native")).unwrap();
    let tokens: Vec<u32> = (0..50).map(|n| 3 + n * 5 % 90).collect();
    let step = StepSequence { tokens: &tokens, start: 0, blocks: &[0, 1], logits: WantLogits::All, adapter: None };
    decoder.step(&[step]).unwrap().remove(0)
}

fn refused(path: &Path) -> String {
    Gguf::open(path).err().expect("an error").to_string()
}

#[test]
fn a_split_model_is_the_whole_one_whichever_part_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for family in ["llama", "qwen3moe"] {
        let whole = golden(&format!("models/{family}.gguf"));
        let expected = logits(&whole);
        for count in [1, 2, 3, 7] {
            let parts = Gguf::open(&whole).unwrap().write_split(folder.path(), family, count);
            for named in [&parts[0], &parts[count - 1]] {
                assert_eq!(logits(named), expected, "{family} in {count} parts, by {}", named.display());
                let tokenizers = [&whole, named].map(|path| ChatTokenizer::from_gguf(path).map(|t| t.vocab()).ok());
                assert_eq!(tokenizers[0], tokenizers[1]);
            }
            let [first, last] = [&parts[0], &parts[count - 1]].map(|path| Gguf::open(path).unwrap());
            assert_eq!((first.identity(), first.content_hash()), (last.identity(), last.content_hash()));
        }
    }
}

#[test]
fn a_part_that_is_missing_exchanged_or_of_another_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let parts = Gguf::open(&golden("models/llama.gguf")).unwrap().write_split(folder.path(), "m", 3);
    let bytes: Vec<Vec<u8>> = parts.iter().map(|path| std::fs::read(path).unwrap()).collect();
    std::fs::remove_file(&parts[1]).unwrap();
    let error = refused(&parts[0]);
    assert!(error.contains("m-00002-of-00003.gguf: is missing: part 2 of 3"), "{error}");
    std::fs::write(&parts[1], &bytes[2]).unwrap();
    assert!(refused(&parts[0]).contains("m-00002-of-00003.gguf: its name says part 2, its metadata says part 3"));
    // The same tensors twice, under the right number.
    let mut twice = bytes[0].clone();
    let at = twice.windows(8).position(|w| w == b"split.no").unwrap() + 8 + 4;
    twice[at] = 1;
    std::fs::write(&parts[1], &twice).unwrap();
    assert!(refused(&parts[0]).contains("another part of the model has it too"), "{}", refused(&parts[0]));
    // A part of another model of as many parts.
    let others = Gguf::open(&golden("models/qwen3.gguf")).unwrap().write_split(folder.path(), "other", 3);
    std::fs::write(&parts[1], &bytes[1]).unwrap();
    std::fs::copy(&others[2], &parts[2]).unwrap();
    let error = refused(&parts[0]);
    assert!(error.contains("they are of several models") || error.contains("another part"), "{error}");
    std::fs::write(&parts[2], &bytes[2][..bytes[2].len() - 100]).unwrap();
    assert!(refused(&parts[0]).contains("m-00003-of-00003.gguf: tensor"), "{}", refused(&parts[0]));
    // Renamed, a part is not taken for a whole model.
    let alone = folder.path().join("renamed.gguf");
    std::fs::write(&alone, &bytes[0]).unwrap();
    assert!(refused(&alone).contains("is part 1 of 3 of a model"));
}
