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
/// Qwen 3.5's: marks belong to words.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// MiniCPM 5's: as Llama 3's, numbers of any length.
const ANY_NUMBERS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Ling's (bailing): a line end by itself.
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
/// Seed Coder's: punctuation never takes line ends along.
const SEED: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: a change from small to capital letters begins a word.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o's: as Tekken's, with contractions, and numbers of up to three digits.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Jais 2's: as Llama 3's; long runs of spaces are cut into powers of two.
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
/// EXAONE MoE's: several words in one.
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
/// Ufakzeka's: as Qwen 2's without contractions (Turkish has other uses of the apostrophe).
const NO_CONTRACTIONS: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Chameleon's: image tokens, then pairs of spaces, digits and punctuation by themselves, then GPT-2's words.
const CHAMELEON: [&str; 6] = [
    r"<sentinel:[0-9]+>",
    r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    DIGIT,
    r"[\p{P}!-/:-@\[-`{-~]",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
];
/// Whole lines.
const LINES: &str = r"[^\n]+|[\n]+";
/// Every digit by itself.
const DIGIT: &str = r"\p{N}";
const UP_TO_THREE_DIGITS: &str = r"\p{N}{1,3}";
const DIGITS: &str = r"\p{N}+";
/// Digits in threes from the left.
const THREE_DIGITS: &str = r"[0-9][0-9][0-9]";
/// Falcon's punctuation.
const FALCON: &str = r"[\p{P}\$\+<=>\^~\|`]+";
/// What llama.cpp takes for files that name none.
const DEFAULT: &str = r"[\p{P}\$\+<=>\^~\|]+";
/// BLOOM's words: whatever lies between spaces and punctuation.
const BLOOM: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+";
const LINE_END: &str = r"[\r\n]";
/// DeepSeek LLM's letters, punctuation, trailing space and East Asian letters. As in llama.cpp, the wide space U+3000 is
/// none of them (in the models' own ranges it is both).
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+";
const DEEPSEEK_PUNCTUATION: &str = r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3001}-\x{3002}]+";
const SPACE_AT_END: &str = r"\s+$";
const EAST_ASIAN: &str = r"[[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]&&[^\s]]+";
/// DeepSeek Coder's.
const SPACED_LETTERS: &str = r"\s?\p{L}+";
const SPACED_PUNCTUATION: &str = r"\s?\p{P}+";
/// DeepSeek V3's.
const KANJI_AND_KANA: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Spark 2.5's: line ends by themselves.
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;

/// How a BPE cuts words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    /// Applied one after another, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// A word that is a token by itself is taken without merging.
    pub(super) ignore_merges: bool,
    /// Prompts start with BOS unless the file says otherwise.
    pub(super) adds_bos: bool,
    /// Tokens are spelled in GPT-2's byte alphabet; else as text, with U+2581 for a space, and what is no token becomes bytes
    /// (`<0x0A>`).
    pub(super) byte_level: bool,
}

/// Names in files, and what they mean. Names in one line are the same thing under several names.
const KNOWN: [(&[&str], PreTokenizer); 28] = [
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
            "exaone4",
            "roberta-bpe",
            "jina-v1-en",
            "jina-v2-code",
        ],
        plain(&[GPT2]),
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        plain(&[DIGIT, GPT2]),
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "megrez", "solar-open", "grok-2"],
        plain(&[QWEN2]),
    ),
    (&["qwen35"], plain(&[QWEN35])),
    (
        &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        PreTokenizer { ignore_merges: true, adds_bos: true, ..plain(&[LLAMA3]) },
    ),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], plain(&[LLAMA3])),
    (&["glm4", "glm5"], PreTokenizer { ignore_merges: true, ..plain(&[LLAMA3]) }),
    (&["tekken"], PreTokenizer { ignore_merges: true, adds_bos: true, ..plain(&[TEKKEN]) }),
    (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], plain(&[GPT4O])),
    (&["deepseek-llm"], plain(&[LINE_END, DEEPSEEK_LETTERS, DEEPSEEK_PUNCTUATION, SPACE_AT_END, EAST_ASIAN, DIGITS])),
    (&["deepseek-coder"], plain(&[LINE_END, SPACED_LETTERS, SPACED_PUNCTUATION, EAST_ASIAN, DIGIT])),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], plain(&[UP_TO_THREE_DIGITS, KANJI_AND_KANA, DEEPSEEK3])),
    (&["falcon"], plain(&[FALCON, GPT2, THREE_DIGITS])),
    (&["default"], plain(&[DEFAULT, GPT2, DIGITS, THREE_DIGITS])),
    (&["bloom", "poro-chat", "gpt3-finnish"], plain(&[BLOOM])),
    (&["viking"], plain(&[BLOOM, DIGIT])),
    (&["bailingmoe", "bailingmoe2", "llada-moe"], plain(&[BAILING])),
    (&["seed-coder"], plain(&[SEED])),
    (&["minicpm5"], PreTokenizer { ignore_merges: true, ..plain(&[UP_TO_THREE_DIGITS, ANY_NUMBERS]) }),
    (&["laguna"], plain(&[LINES, QWEN2])),
    (&["granite-embed-multi-97m"], PreTokenizer { ignore_merges: true, ..plain(&[GPT4O]) }),
    (&["jais-2"], plain(&[JAIS2])),
    (&["exaone-moe"], plain(&[EXAONE_MOE])),
    (&["ufakzeka"], plain(&[NO_CONTRACTIONS])),
    (&["spark2_5"], plain(&[UP_TO_THREE_DIGITS, KANJI_AND_KANA, SPARK, DIGIT])),
    (&["chameleon"], PreTokenizer { adds_bos: true, ..plain(&CHAMELEON) }),
    (&["gemma4", "granite-embed-multi-311m"], PreTokenizer { adds_bos: true, byte_level: false, ..plain(&[LINES]) }),
    (&["sarvam-moe"], PreTokenizer { byte_level: false, ..plain(&[LINES]) }),
];

/// Patterns, and nothing special.
const fn plain(patterns: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { patterns, ignore_merges: false, adds_bos: false, byte_level: true }
}

impl PreTokenizer {
    /// What `name` means; `None` where it is not known.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        KNOWN.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, pre)| pre)
    }

    /// One name for each kind, for errors.
    pub(super) fn names() -> Vec<&'static str> {
        KNOWN.iter().map(|(names, _)| names[0]).collect()
    }

    /// The same as a chain of the `tokenizers` crate, ending in the byte alphabet where tokens are spelled in it.
    pub(super) fn chain(self) -> tokenizers::Result<Sequence> {
        let mut chain = Vec::new();
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex(pattern.to_string());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            chain.push(PreTokenizerWrapper::Split(split));
        }
        if self.byte_level {
            chain.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
        }
        Ok(Sequence::new(chain))
    }
}
