//! Embedding models in a GGUF file, as llama.cpp has them: BERT with its WordPiece vocabulary, weights in any format.
//!
//! Such a file says less than a folder of sentence-transformers: how to pool, but neither prefixes nor whether text is
//! lowercased. llama.cpp lowercases all texts for these models and normalises all vectors, and so it is here.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::EmbedError;
use super::folder::{EncoderConfig, FolderConfig};
use super::pooling::Pooling;
use crate::model::{Gguf, ModelError};

/// Marks the beginning of a word in llama.cpp's form of the vocabulary; WordPiece marks what goes on within one.
const WORD: char = '\u{2581}';
const WITHIN: &str = "##";
/// llama.cpp's number of control tokens' kind.
const CONTROL: f32 = 3.0;

impl From<ModelError> for EmbedError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::File { file, reason } => Self::File { file, reason },
            ModelError::Compute(reason) => Self::Compute(reason),
        }
    }
}

/// The file, where it is a decoder that embeds texts.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn decoder(path: &Path) -> Result<Option<Gguf>, EmbedError> {
    let gguf = Gguf::open(path)?;
    let is_decoder = gguf.need_text("general.architecture")? == "qwen3";
    Ok(is_decoder.then_some(gguf))
}

/// Everything but the weights: configuration, and `tokenizer.json` as the folder would have it.
///
/// # Errors
/// Names what is missing, or what kind of model this is instead.
pub(super) fn read(id: &str, path: &Path) -> Result<(Gguf, FolderConfig, Vec<u8>), EmbedError> {
    let gguf = Gguf::open(path)?;
    let architecture = gguf.need_text("general.architecture")?;
    if architecture != "bert" {
        let reason = format!(
            "it is a `{architecture}` model; of GGUF files, embedding models of the `bert` and `qwen3` architectures are \
             read (others as folders of safetensors: docs/embedders.md)"
        );
        return Err(gguf.error(reason).into());
    }
    let encoder = EncoderConfig {
        model_type: "bert".into(),
        vocab_size: gguf.need_texts("tokenizer.ggml.tokens")?.len(),
        hidden_size: gguf.need_count("bert.embedding_length")?,
        num_hidden_layers: gguf.need_count("bert.block_count")?,
        num_attention_heads: gguf.need_count("bert.attention.head_count")?,
        intermediate_size: gguf.need_count("bert.feed_forward_length")?,
        hidden_act: "gelu".into(),
        max_position_embeddings: gguf.need_count("bert.context_length")?,
        layer_norm_eps: gguf.number("bert.attention.layer_norm_epsilon")?.unwrap_or(1e-12),
        pad_token_id: gguf.count("tokenizer.ggml.padding_token_id")?.map(|id| id as u32),
        position_embedding_type: None,
    };
    encoder.check().map_err(|reason| gguf.error(reason))?;
    let pooling = match gguf.count("bert.pooling_type")? {
        None | Some(1) => Pooling::Mean,
        Some(2) => Pooling::Cls,
        Some(3) => Pooling::LastToken,
        Some(4) => return Err(gguf.error("it is a reranker; rerankers are read as folders of safetensors").into()),
        Some(other) => return Err(gguf.error(format!("`bert.pooling_type` is {other}, which is not known")).into()),
    };
    let max_tokens = encoder.max_tokens();
    let config = FolderConfig::of_file(id, encoder, pooling, max_tokens);
    let tokenizer = tokenizer(&gguf)?;
    Ok((gguf, config, tokenizer))
}

/// The vocabulary as `tokenizer.json`.
fn tokenizer(gguf: &Gguf) -> Result<Vec<u8>, EmbedError> {
    let kind = gguf.need_text("tokenizer.ggml.model")?;
    if kind != "bert" {
        let reason = format!("its vocabulary is of the kind `{kind}`; WordPiece (`bert`) is read");
        return Err(gguf.error(reason).into());
    }
    let tokens = gguf.need_texts("tokenizer.ggml.tokens")?;
    let kinds = gguf.numbers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let special = |names: [&str; 2]| -> Result<(usize, String), EmbedError> {
        for name in names {
            if let Some(id) = gguf.count(&format!("tokenizer.ggml.{name}_token_id"))? {
                let text = tokens.get(id).ok_or_else(|| gguf.error(format!("`{name}_token_id` is no token")))?;
                return Ok((id, text.trim_start_matches(WORD).to_string()));
            }
        }
        Err(gguf.error(format!("`tokenizer.ggml.{}_token_id` is missing", names[0])).into())
    };
    // llama.cpp spells it so.
    let (cls, sep) = (special(["cls", "bos"])?, special(["seperator", "eos"])?);
    let unknown = special(["unknown", "unknown"])?;
    let mut vocabulary = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        let is_special = kinds.get(id) == Some(&CONTROL) || [cls.0, sep.0, unknown.0].contains(&id);
        let word = match token.strip_prefix(WORD) {
            Some(word) => word.to_string(),
            None if is_special => token.to_string(),
            None => format!("{WITHIN}{token}"),
        };
        vocabulary.insert(word, json!(id));
    }
    let added = |(id, content): &(usize, String)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
               "special": true})
    };
    let piece = |(_, content): &(usize, String), kind: usize| json!({"SpecialToken": {"id": content, "type_id": kind}});
    let text = |name: &str, kind: usize| json!({"Sequence": {"id": name, "type_id": kind}});
    let known =
        |(id, content): &(usize, String)| (content.clone(), json!({"id": content, "ids": [id], "tokens": [content]}));
    let specials: Map<String, Value> = [&cls, &sep].into_iter().map(known).collect();
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(&unknown), added(&cls), added(&sep)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                       "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [piece(&cls, 0), text("A", 0), piece(&sep, 0)],
                           "pair": [piece(&cls, 0), text("A", 0), piece(&sep, 0), text("B", 1), piece(&sep, 1)],
                           "special_tokens": specials},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": unknown.1, "continuing_subword_prefix": WITHIN,
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    Ok(whole.to_string().into_bytes())
}

/// What llama.cpp calls a tensor of BERT; its numbers are the same.
pub(super) fn tensor_name(name: &str) -> String {
    const NAMES: [(&str, &str); 13] = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("encoder.layer.", "blk."),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    NAMES.iter().fold(name.to_string(), |name, (theirs, llama)| name.replace(theirs, llama))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_llama_cpps_names() {
        for (name, llama) in [
            ("embeddings.word_embeddings.weight", "token_embd.weight"),
            ("embeddings.LayerNorm.bias", "token_embd_norm.bias"),
            ("encoder.layer.3.attention.self.key.weight", "blk.3.attn_k.weight"),
            ("encoder.layer.0.attention.output.dense.bias", "blk.0.attn_output.bias"),
            ("encoder.layer.0.attention.output.LayerNorm.bias", "blk.0.attn_output_norm.bias"),
            ("encoder.layer.0.intermediate.dense.weight", "blk.0.ffn_up.weight"),
            ("encoder.layer.0.output.dense.weight", "blk.0.ffn_down.weight"),
            ("encoder.layer.0.output.LayerNorm.weight", "blk.0.layer_output_norm.weight"),
        ] {
            assert_eq!(tensor_name(name), llama);
        }
    }
}
