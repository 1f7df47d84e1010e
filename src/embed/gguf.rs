//! Embedding models in a GGUF file, as llama.cpp has them: BERT with WordPiece, XLM-RoBERTa with a unigram vocabulary (it
//! calls both `bert`), ModernBERT, nomic; weights in any format.
//!
//! Such a file says less than a folder of sentence-transformers: how to pool, but no prefixes. llama.cpp normalises all
//! vectors, and so it is here.

use std::path::Path;

use super::EmbedError;
use super::folder::{EncoderConfig, FolderConfig};
use super::modern;
use super::pooling::Pooling;
use super::rotary;
use super::vocabulary::Words;
use crate::model::{Gguf, ModelError};

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

/// llama.cpp's number of a reranker's pooling.
const RANK: usize = 4;

/// Everything but the weights: configuration and tokenizer.
///
/// # Errors
/// Names what is missing, or what kind of model this is instead.
pub(super) fn read(id: &str, path: &Path) -> Result<(Gguf, FolderConfig, Words), EmbedError> {
    let (gguf, encoder) = open(path)?;
    let key = format!("{}.pooling_type", gguf.need_text("general.architecture")?);
    let pooling = match gguf.count(&key)? {
        None | Some(1) => Pooling::Mean,
        Some(2) => Pooling::Cls,
        Some(3) => Pooling::LastToken,
        Some(RANK) => return Err(gguf.error("it is a reranker: name it in `models.rerank`").into()),
        Some(other) => return Err(gguf.error(format!("`{key}` is {other}, which is not known")).into()),
    };
    let max_tokens = encoder.max_tokens();
    let config = FolderConfig::of_file(id, encoder, pooling, max_tokens);
    let words = Words::from_gguf(&gguf)?;
    Ok((gguf, config, words))
}

/// The same of a reranker.
///
/// # Errors
/// As [`read`]; where the file is no reranker.
pub(super) fn read_reranker(path: &Path) -> Result<(Gguf, EncoderConfig, Words), EmbedError> {
    let (gguf, encoder) = open(path)?;
    let key = format!("{}.pooling_type", gguf.need_text("general.architecture")?);
    if gguf.count(&key)? != Some(RANK) {
        return Err(gguf.error(format!("it is no reranker (`{key}` is not 4)")).into());
    }
    let words = Words::from_gguf(&gguf)?;
    Ok((gguf, encoder, words))
}

/// Opens a file and reads its encoder's shape.
fn open(path: &Path) -> Result<(Gguf, EncoderConfig), EmbedError> {
    let gguf = Gguf::open(path)?;
    let encoder = match gguf.need_text("general.architecture")? {
        "bert" => bert(&gguf)?,
        "nomic-bert" => rotary::nomic_file(&gguf)?,
        "modern-bert" => modern::of_file(&gguf)?,
        other => {
            let reason = format!(
                "it is a `{other}` model; of GGUF files, embedding models of the `bert`, `modern-bert`, `nomic-bert` and `qwen3` \
                 architectures are read (others as folders of safetensors: docs/embedders.md)"
            );
            return Err(gguf.error(reason).into());
        }
    };
    encoder.check().map_err(|reason| gguf.error(reason))?;
    Ok((gguf, encoder))
}

fn bert(gguf: &Gguf) -> Result<EncoderConfig, ModelError> {
    Ok(EncoderConfig {
        // XLM-RoBERTa's positions begin at 0 there: the converter leaves out those before.
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
        rotary: None,
    })
}

/// What llama.cpp calls a tensor of BERT, ModernBERT or nomic; its numbers are the same.
pub(super) fn tensor_name(name: &str) -> String {
    const NAMES: [(&str, &str); 30] = [
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
        ("emb_ln", "token_embd_norm"),
        ("encoder.layers.", "blk."),
        ("attn.Wqkv", "attn_qkv"),
        ("attn.out_proj", "attn_output"),
        ("norm1", "attn_output_norm"),
        ("norm2", "layer_output_norm"),
        ("mlp.fc11", "ffn_up"),
        ("mlp.fc12", "ffn_gate"),
        ("mlp.fc2", "ffn_down"),
        ("embeddings.tok_embeddings", "token_embd"),
        ("embeddings.norm", "token_embd_norm"),
        ("final_norm", "output_norm"),
        ("layers.", "blk."),
        ("attn.Wo", "attn_output"),
        ("mlp.Wi", "ffn_up"),
        ("mlp.Wo", "ffn_down"),
        ("mlp_norm", "ffn_norm"),
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
            ("layers.2.attn_norm.weight", "blk.2.attn_norm.weight"),
            ("layers.2.attn.Wqkv.weight", "blk.2.attn_qkv.weight"),
            ("layers.2.mlp.Wi.weight", "blk.2.ffn_up.weight"),
            ("encoder.layers.1.norm2.bias", "blk.1.layer_output_norm.bias"),
        ] {
            assert_eq!(tensor_name(name), llama);
        }
    }
}
