//! What a sentence-transformers folder says about itself: architecture, pooling, prefixes, longest text.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::EmbedError;
use super::modern;
use super::pooling::Pooling;
use super::rotary::{self, Rotary};

/// The decoders that embed texts.
const DECODER: &str = "qwen3";

/// The encoder's shape, from `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EncoderConfig {
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    #[serde(default = "EncoderConfig::gelu")]
    pub hidden_act: String,
    pub max_position_embeddings: usize,
    #[serde(default = "EncoderConfig::small_eps")]
    pub layer_norm_eps: f64,
    #[serde(default)]
    pub pad_token_id: Option<u32>,
    #[serde(default)]
    pub position_embedding_type: Option<String>,
    /// What sets ModernBERT and nomic apart.
    #[serde(skip)]
    pub rotary: Option<Rotary>,
}

impl EncoderConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// Names what is missing or of another architecture.
    pub fn read(dir: &Path) -> Result<Self, EmbedError> {
        let config = Self::read_any(dir)?;
        match config.is_decoder() {
            false => Ok(config),
            true => Err(fault(&dir.join("config.json"), "model_type is `qwen3`: a decoder, which is no cross-encoder")),
        }
    }

    /// The same, also of a decoder.
    fn read_any(dir: &Path) -> Result<Self, EmbedError> {
        if !dir.is_dir() {
            return Err(fault(
                dir,
                "is not a folder; get the model with `firstline models pull` or scripts/fetch-models",
            ));
        }
        let path = dir.join("config.json");
        let json: Value = read_json(&path)?;
        let family = json.get("model_type").and_then(Value::as_str).map(str::to_string);
        let read = match family.as_deref() {
            Some("modernbert") => modern::of_folder(json),
            Some("nomic_bert") => rotary::nomic(json),
            _ => serde_json::from_value(json).map_err(|e| e.to_string()),
        };
        let config: Self = read.map_err(|reason| fault(&path, &reason))?;
        config.check().map_err(|reason| fault(&path, &reason))?;
        Ok(config)
    }

    /// True for a decoder that embeds texts; its own reader checks the rest.
    pub fn is_decoder(&self) -> bool {
        self.model_type == DECODER
    }

    /// Longest text in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    fn gelu() -> String {
        "gelu".into()
    }

    fn small_eps() -> f64 {
        1e-12
    }

    /// RoBERTa counts positions from `pad_token_id + 1`, BERT from 0.
    pub fn first_position(&self) -> usize {
        match self.model_type.as_str() {
            _ if self.rotary.is_some() => 0,
            "bert" | DECODER => 0,
            _ => self.pad_token_id.unwrap_or(1) as usize + 1,
        }
    }

    /// # Errors
    /// What is of another architecture, or makes no sense.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.rotary.is_none() && !matches!(self.model_type.as_str(), "bert" | "roberta" | "xlm-roberta" | DECODER) {
            return Err(format!(
                "model_type is `{}`; texts are embedded with models of the BERT family (bert, roberta, xlm-roberta, \
                 modernbert, nomic_bert) and with decoders (qwen3)",
                self.model_type
            ));
        }
        if self.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Err("position_embedding_type must be `absolute`".into());
        }
        if self.hidden_act != "gelu" && !self.is_decoder() {
            return Err(format!("hidden_act is `{}`; only `gelu` is known", self.hidden_act));
        }
        let sizes = [self.vocab_size, self.hidden_size, self.num_hidden_layers, self.num_attention_heads];
        if sizes.contains(&0) || self.intermediate_size == 0 {
            return Err("a size is 0".into());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is not divisible by num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.max_position_embeddings <= self.first_position() + 2 {
            return Err(format!("max_position_embeddings is {}", self.max_position_embeddings));
        }
        if let Some(rotary) = &self.rotary {
            let width = self.hidden_size / self.num_attention_heads;
            rotary.check(self.num_hidden_layers, width, self.max_position_embeddings)?;
        }
        Ok(())
    }
}

/// To how many numbers a model's vectors may be cut (Matryoshka representation learning, arXiv:2205.13147): only models that
/// were trained for it keep their sense, and their `config.json` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shorter {
    Never,
    /// To any number.
    Any,
    To(Vec<usize>),
}

#[derive(Deserialize, Default)]
struct MatryoshkaConfig {
    #[serde(default)]
    is_matryoshka: bool,
    #[serde(default)]
    matryoshka_dimensions: Option<Vec<usize>>,
}

impl Shorter {
    /// Reads `config.json`: `is_matryoshka`, `matryoshka_dimensions`.
    pub fn read(dir: &Path) -> Result<Self, EmbedError> {
        let config: MatryoshkaConfig = read_json(&dir.join("config.json"))?;
        Ok(match config.matryoshka_dimensions {
            Some(lengths) => Self::To(lengths),
            None if config.is_matryoshka => Self::Any,
            None => Self::Never,
        })
    }

    /// True where vectors of `full` numbers may be cut to `wanted`.
    pub fn takes(&self, wanted: usize, full: usize) -> bool {
        let listed = match self {
            Self::Never => false,
            Self::Any => true,
            Self::To(lengths) => lengths.contains(&wanted),
        };
        wanted == full || (listed && (1..full).contains(&wanted))
    }
}

/// Everything but the weights and the tokenizer.
#[derive(Debug, Clone)]
pub(super) struct FolderConfig {
    pub encoder: EncoderConfig,
    pub pooling: Pooling,
    /// L2-normalise the pooled vector.
    pub normalize: bool,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
    /// Lowercase before tokenizing.
    pub lowercase: bool,
    /// Prefix -> text, as in `query: `.
    pub query_prefix: String,
    pub passage_prefix: String,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

#[derive(Deserialize, Default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
struct PromptConfig {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    #[serde(default)]
    default_prompt_name: Option<String>,
}

impl FolderConfig {
    /// Reads the JSON files of `dir`. `id` helps where a model's prefixes are known but its folder does not name them.
    pub fn read(id: &str, dir: &Path) -> Result<Self, EmbedError> {
        let encoder = EncoderConfig::read_any(dir)?;
        // Without modules.json sentence-transformers itself falls back to mean pooling.
        let mut pooling = Pooling::Mean;
        let mut normalize = false;
        let modules_path = dir.join("modules.json");
        if modules_path.exists() {
            for module in read_json::<Vec<Module>>(&modules_path)? {
                match module.r#type.rsplit('.').next().unwrap_or_default() {
                    "Transformer" => {}
                    "Pooling" => {
                        let path = dir.join(&module.path).join("config.json");
                        pooling = Pooling::from_config(&read_json(&path)?).map_err(|reason| fault(&path, &reason))?;
                    }
                    "Normalize" => normalize = true,
                    other => {
                        let reason =
                            format!("the module `{other}` is not supported (Transformer, Pooling, Normalize are)");
                        return Err(fault(&modules_path, &reason));
                    }
                }
            }
        }
        let sentence: SentenceConfig = read_optional(&dir.join("sentence_bert_config.json"))?;
        let prompts: PromptConfig = read_optional(&dir.join("config_sentence_transformers.json"))?;
        let positions = encoder.max_tokens();
        let max_tokens = sentence.max_seq_length.unwrap_or(positions).min(positions);
        if max_tokens < 3 {
            return Err(fault(&dir.join("sentence_bert_config.json"), "max_seq_length must be at least 3"));
        }
        let (query_prefix, passage_prefix) = prefixes(id, &prompts);
        Ok(Self {
            encoder,
            pooling,
            normalize,
            max_tokens,
            lowercase: sentence.do_lower_case,
            query_prefix,
            passage_prefix,
        })
    }
}

impl FolderConfig {
    /// The configuration of a model whose file names neither prefixes nor modules.
    pub fn of_file(id: &str, encoder: EncoderConfig, pooling: Pooling, max_tokens: usize) -> Self {
        let (query_prefix, passage_prefix) = prefixes(id, &PromptConfig::default());
        Self { encoder, pooling, normalize: true, max_tokens, lowercase: false, query_prefix, passage_prefix }
    }
}

/// The prefixes of a model that names none.
pub(super) fn prefixes_of(id: &str) -> (String, String) {
    prefixes(id, &PromptConfig::default())
}

/// The prefixes of a query and of a passage. E5 and nomic models need theirs although most copies of them do not say so.
fn prefixes(id: &str, config: &PromptConfig) -> (String, String) {
    let named = |names: &[&str]| names.iter().find_map(|name| config.prompts.get(*name)).cloned();
    let default = config.default_prompt_name.as_ref().and_then(|name| config.prompts.get(name)).cloned();
    if config.prompts.values().all(|prompt| prompt.is_empty()) {
        if id.contains("e5-") && !id.contains("instruct") {
            return ("query: ".into(), "passage: ".into());
        }
        if id.contains("nomic-embed-text") {
            return ("search_query: ".into(), "search_document: ".into());
        }
    }
    let query = named(&["query", "search_query"]).or_else(|| default.clone());
    let passage = named(&["passage", "document", "search_document"]).or(default);
    (query.unwrap_or_default(), passage.unwrap_or_default())
}

fn read_optional<T: DeserializeOwned + Default>(path: &Path) -> Result<T, EmbedError> {
    if path.exists() { read_json(path) } else { Ok(T::default()) }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, EmbedError> {
    let bytes = std::fs::read(path).map_err(|e| fault(path, &e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| fault(path, &e.to_string()))
}

pub(super) fn fault(path: &Path, reason: &str) -> EmbedError {
    EmbedError::File { file: path.display().to_string(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(pairs: &[(&str, &str)]) -> PromptConfig {
        let prompts = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        PromptConfig { prompts, default_prompt_name: None }
    }

    #[test]
    fn prefixes_come_from_the_models_own_prompts() {
        let config = prompts(&[("query", "Q: "), ("document", "D: ")]);
        assert_eq!(prefixes("any", &config), ("Q: ".into(), "D: ".into()));
        assert_eq!(prefixes("any", &prompts(&[])), (String::new(), String::new()));
    }

    #[test]
    fn only_a_matryoshka_model_is_cut_and_only_where_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let read = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            Shorter::read(folder.path()).unwrap()
        };
        let plain = read("{}");
        assert!(plain.takes(64, 64) && !plain.takes(32, 64));
        let any = read(r#"{"is_matryoshka": true}"#);
        assert!(any.takes(1, 64) && any.takes(33, 64) && !any.takes(65, 64) && !any.takes(0, 64));
        let listed = read(r#"{"matryoshka_dimensions": [16, 32, 64, 128]}"#);
        assert!(listed.takes(16, 64) && !listed.takes(17, 64) && !listed.takes(128, 64));
    }

    #[test]
    fn e5_models_get_their_prefixes_even_where_the_folder_names_none() {
        assert_eq!(prefixes("multilingual-e5-small", &prompts(&[])), ("query: ".into(), "passage: ".into()));
        let nomic = ("search_query: ".to_string(), "search_document: ".to_string());
        assert_eq!(prefixes("nomic-embed-text-v1.5", &prompts(&[])), nomic);
        let named = prompts(&[("search_query", "search_query: "), ("search_document", "search_document: ")]);
        assert_eq!(prefixes("any", &named), nomic);
    }
}
