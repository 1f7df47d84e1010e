//! Decoders that embed texts (Qwen3-Embedding, arXiv:2506.05176): a text's vector is what the last layer says of the last
//! token, which the tokenizer puts behind every text. A query comes with an instruction before it, as the model's own
//! prompts say.
//!
//! The forward pass is the chat models' ([`Decoder`]), without its head. A model is a sentence-transformers folder or a
//! GGUF file; one group of texts runs at a time, spread over the cores within.

use std::path::Path;

use parking_lot::Mutex;
use tokenizers::TruncationDirection;

use super::folder::{FolderConfig, Shorter, prefixes_of};
use super::pooling::{self, Pooling};
use super::vocabulary::Words;
use super::{EmbedError, Embeddings, GROUP_TOKENS, Role, Text, load_words};
use crate::config::EngineSettings;
use crate::model::{BLOCK_TOKENS, BlockId, ChatTokenizer, Decoder, Gguf, StepSequence, WantLogits};

/// The longest text, where a model reads longer ones: chunks of a knowledge base are far shorter, and keys and values of
/// all tokens lie in memory.
const MOST_TOKENS: usize = 8192;
/// Tokens of a long text that run at a time.
const STEP_TOKENS: usize = 512;
/// Memory for keys and values; taken as texts need it.
const KV_MIB: usize = 1024;

/// What Qwen3-Embedding was trained with; its GGUF files do not name it.
const QWEN3: &str = "qwen3-embedding";
const QWEN3_QUERY: &str =
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";

/// A decoder with all that makes an embedder of it.
pub(super) struct Causal {
    pub id: String,
    pub hash: String,
    pub languages: Vec<String>,
    pub max_tokens: usize,
    pub shorter: Shorter,
    query_prefix: String,
    passage_prefix: String,
    lowercase: bool,
    pooling: Pooling,
    normalize: bool,
    words: Around,
    decoder: Mutex<Decoder>,
    hidden: usize,
    kv_blocks: usize,
}

/// Texts to tokens, with what the model wants around them.
enum Around {
    /// `tokenizer.json`; its post-processor adds the tokens around a text.
    Json(Box<Words>),
    Gguf {
        tokenizer: Box<ChatTokenizer>,
        begin: Option<u32>,
        end: Option<u32>,
    },
}

impl Causal {
    /// A sentence-transformers folder whose configuration has been read.
    ///
    /// # Errors
    /// Names the file that is missing, broken or of another kind.
    pub fn of_folder((id, languages): (&str, &[String]), dir: &Path, config: FolderConfig) -> Result<Self, EmbedError> {
        let (words, tokenizer_bytes) = load_words(dir, &config.encoder)?;
        let gguf = Gguf::of_folder(dir)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(gguf.content_hash().as_bytes()).update(&tokenizer_bytes).update(format!("{config:?}").as_bytes());
        let shorter = match Shorter::read(dir)? {
            Shorter::Never if id.to_lowercase().contains(QWEN3) => Shorter::Any,
            said => said,
        };
        let FolderConfig { pooling, normalize, max_tokens, lowercase, query_prefix, passage_prefix, .. } = config;
        Self {
            shorter,
            query_prefix,
            passage_prefix,
            lowercase,
            pooling,
            normalize,
            max_tokens,
            ..Self::over(&gguf, (id, languages), hasher, Around::Json(Box::new(words)))?
        }
        .checked(&gguf)
    }

    /// A GGUF file.
    ///
    /// # Errors
    /// A file that does not say how to make one vector of a text's, or is broken.
    pub fn of_gguf(of: (&str, &[String]), gguf: &Gguf, path: &Path) -> Result<Self, EmbedError> {
        let pooling = match gguf.count("qwen3.pooling_type")? {
            Some(1) => Pooling::Mean,
            Some(2) => Pooling::Cls,
            Some(3) => Pooling::LastToken,
            Some(4) => return Err(gguf.error("it is a reranker; rerankers are read as folders of safetensors").into()),
            Some(other) => {
                return Err(gguf.error(format!("`qwen3.pooling_type` is {other}, which is not known")).into());
            }
            None => {
                let reason =
                    "it is a chat model: it does not say how to make one vector of a text (`qwen3.pooling_type`)";
                return Err(gguf.error(reason).into());
            }
        };
        let token = |name: &str| -> Result<Option<u32>, EmbedError> {
            match gguf.flag(&format!("tokenizer.ggml.add_{name}_token"))? {
                Some(true) => Ok(Some(
                    gguf.need_count(&format!("tokenizer.ggml.{name}_token_id"))?.try_into().unwrap_or(u32::MAX),
                )),
                _ => Ok(None),
            }
        };
        let (begin, end) = (token("bos")?, token("eos")?);
        let tokenizer = Box::new(ChatTokenizer::from_gguf(path)?);
        if [begin, end].into_iter().flatten().any(|token| token as usize >= tokenizer.vocab()) {
            return Err(gguf.error("the token that begins or ends a text is outside its vocabulary").into());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(gguf.content_hash().as_bytes());
        let is_qwen3 = of.0.to_lowercase().contains(QWEN3);
        Self {
            pooling,
            query_prefix: if is_qwen3 { QWEN3_QUERY.into() } else { prefixes_of(of.0).0 },
            shorter: if is_qwen3 { Shorter::Any } else { Shorter::Never },
            max_tokens: gguf.need_count("qwen3.context_length")?,
            ..Self::over(gguf, of, hasher, Around::Gguf { tokenizer, begin, end })?
        }
        .checked(gguf)
    }

    /// The decoder in `gguf`; the rest is as for a model that says nothing of itself.
    fn over(
        gguf: &Gguf,
        (id, languages): (&str, &[String]),
        hasher: blake3::Hasher,
        words: Around,
    ) -> Result<Self, EmbedError> {
        let settings = EngineSettings {
            device: "cpu".into(),
            kv: "f16".into(),
            kv_mib: KV_MIB,
            max_running: 1,
            context_tokens: 0,
            ..EngineSettings::default()
        };
        let decoder = Decoder::open(gguf, &settings)?;
        Ok(Self {
            id: id.into(),
            hash: hasher.finalize().to_hex()[..32].to_string(),
            languages: languages.to_vec(),
            max_tokens: MOST_TOKENS,
            shorter: Shorter::Never,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            lowercase: false,
            pooling: Pooling::LastToken,
            normalize: true,
            words,
            hidden: decoder.hidden(),
            kv_blocks: decoder.kv_blocks(),
            decoder: Mutex::new(decoder),
        })
    }

    fn checked(mut self, gguf: &Gguf) -> Result<Self, EmbedError> {
        self.max_tokens = self.max_tokens.min(MOST_TOKENS).min(self.kv_blocks * BLOCK_TOKENS);
        match self.max_tokens {
            0..3 => Err(gguf.error(format!("its longest text would be {} tokens", self.max_tokens)).into()),
            _ => Ok(self),
        }
    }

    pub fn dimensions(&self) -> usize {
        self.hidden
    }

    /// Embeds the texts; results are in their order.
    ///
    /// # Errors
    /// Where the tokenizer or the decoder fails.
    pub fn embed(&self, texts: &[&str], role: Role) -> Result<Embeddings, EmbedError> {
        let prefix = match role {
            Role::Query => &self.query_prefix,
            Role::Passage => &self.passage_prefix,
        };
        let read = texts.iter().map(|text| self.read(prefix, text)).collect::<Result<Vec<Text>, _>>()?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(read[*at].ids.len()));
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut left = order.as_slice();
        while !left.is_empty() {
            let (group, rest) = left.split_at(self.fitting(left.iter().map(|at| read[*at].ids.len())));
            let ids: Vec<&[u32]> = group.iter().map(|at| read[*at].ids.as_slice()).collect();
            for (at, rows) in group.iter().zip(self.rows(&ids)?) {
                vectors[*at] = self.pooled(&rows);
            }
            left = rest;
        }
        Ok(Embeddings {
            vectors,
            tokens: read.iter().map(|text| text.ids.len()).collect(),
            truncated: read.iter().map(|text| text.cut).collect(),
        })
    }

    /// How many of the next texts run together: at least one.
    fn fitting(&self, lengths: impl Iterator<Item = usize>) -> usize {
        let (mut tokens, mut blocks, mut texts) = (0, 0, 0);
        for length in lengths {
            tokens += length;
            blocks += length.div_ceil(BLOCK_TOKENS);
            if texts > 0 && (tokens > GROUP_TOKENS || blocks > self.kv_blocks) {
                break;
            }
            texts += 1;
        }
        texts
    }

    /// What the last layer says of each text's tokens, or of its last one where that is enough; `[tokens][hidden]`.
    fn rows(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut next: BlockId = 0;
        let tables: Vec<Vec<BlockId>> = texts
            .iter()
            .map(|ids| {
                let first = next;
                next += ids.len().div_ceil(BLOCK_TOKENS) as BlockId;
                (first..next).collect()
            })
            .collect();
        let mut rows = vec![Vec::new(); texts.len()];
        let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut decoder = self.decoder.lock();
        for start in (0..longest).step_by(STEP_TOKENS) {
            let running: Vec<usize> = (0..texts.len()).filter(|text| texts[*text].len() > start).collect();
            let share = |text: &usize| {
                let (ids, blocks) = (texts[*text], &tables[*text]);
                let end = ids.len().min(start + STEP_TOKENS);
                let logits = match self.pooling {
                    Pooling::LastToken if end < ids.len() => WantLogits::No,
                    Pooling::LastToken => WantLogits::Last,
                    _ => WantLogits::All,
                };
                StepSequence { tokens: &ids[start..end], start, blocks, logits, adapter: None }
            };
            let batch: Vec<StepSequence<'_>> = running.iter().map(share).collect();
            for (text, more) in running.iter().zip(decoder.last_layer(&batch)?) {
                rows[*text].extend(more);
            }
        }
        Ok(rows)
    }

    fn pooled(&self, rows: &[f32]) -> Vec<f32> {
        let mut vector = self.pooling.pool(rows, self.hidden);
        if self.normalize {
            pooling::l2_normalize(&mut vector);
        }
        vector
    }

    fn read(&self, prefix: &str, text: &str) -> Result<Text, EmbedError> {
        let mut text = format!("{prefix}{}", text.trim());
        if self.lowercase {
            text = text.to_lowercase();
        }
        let (mut ids, cut) = self.words.tokens(&text, self.max_tokens)?;
        // A tokenizer that adds nothing gives nothing for an empty text; the decoder wants one token.
        if ids.is_empty() {
            ids.push(0);
        }
        Ok(Text { ids, cut })
    }
}

impl Around {
    /// The tokens of a text, those around it included: at most `most`, and whether some were cut off.
    fn tokens(&self, text: &str, most: usize) -> Result<(Vec<u32>, bool), EmbedError> {
        match self {
            Self::Json(words) => {
                let mut encoding = words.encode(text)?;
                let room = most.saturating_sub(words.added(false)).max(1);
                let cut = encoding.len() > room;
                if cut {
                    encoding.truncate(room, 0, TruncationDirection::Right);
                }
                Ok((words.complete(encoding, None)?.get_ids().to_vec(), cut))
            }
            Self::Gguf { tokenizer, begin, end } => {
                let own = tokenizer.encode(text, false)?;
                let room = most.saturating_sub(begin.iter().chain(end).count()).max(1);
                let cut = own.len() > room;
                let own = own.into_iter().take(room);
                Ok((begin.iter().copied().chain(own).chain(end.iter().copied()).collect(), cut))
            }
        }
    }
}
