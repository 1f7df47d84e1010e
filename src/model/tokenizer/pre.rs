//! Pre-tokenizers: how text is cut into words before merges, by the name in `tokenizer.ggml.pre`.

use tokenizers::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

/// GPT-2's words. OpenAI's `encoder.py`, 2019.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's words: contractions in any case, numbers of up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's words: as Llama 3's, with single digits.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Every digit by itself.
const DIGIT: &str = r"\p{N}";

/// How a byte-level BPE cuts words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    /// Applied one after another, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// A word that is a token by itself is taken without merging.
    pub(super) ignore_merges: bool,
    /// Prompts start with BOS unless the file says otherwise.
    pub(super) adds_bos: bool,
}

/// Names in files, and what they mean. Names in one line are the same thing under several names.
const KNOWN: [(&[&str], PreTokenizer); 4] = [
    (
        &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        PreTokenizer { patterns: &[GPT2], ignore_merges: false, adds_bos: false },
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        PreTokenizer { patterns: &[DIGIT, GPT2], ignore_merges: false, adds_bos: false },
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "megrez", "solar-open"],
        PreTokenizer { patterns: &[QWEN2], ignore_merges: false, adds_bos: false },
    ),
    (
        &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        PreTokenizer { patterns: &[LLAMA3], ignore_merges: true, adds_bos: true },
    ),
];

impl PreTokenizer {
    /// What `name` means; `None` where it is not known.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        KNOWN.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, pre)| pre)
    }

    /// One name for each kind, for errors.
    pub(super) fn names() -> Vec<&'static str> {
        KNOWN.iter().map(|(names, _)| names[0]).collect()
    }

    /// The same as a chain of the `tokenizers` crate, ending in the byte alphabet.
    pub(super) fn chain(self) -> tokenizers::Result<Sequence> {
        let mut chain = Vec::new();
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex(pattern.to_string());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            chain.push(PreTokenizerWrapper::Split(split));
        }
        chain.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
        Ok(Sequence::new(chain))
    }
}
