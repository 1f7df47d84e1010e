//! A decoder's folder as transformers writes it (`config.json` and safetensors), read as if it were a GGUF file: the same
//! metadata and the same tensors under their other names. Only for families whose weights lie alike in both forms: Qwen3.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::header::{Header, Value};
use super::{Gguf, TensorPlace, printable};
use crate::compute::{Format, MappedFile};
use crate::model::ModelError;

/// What is read of `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    max_position_embeddings: u64,
    rms_norm_eps: f64,
    hidden_act: String,
    #[serde(default)]
    use_sliding_window: bool,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Value>,
    rope_parameters: Option<Rotation>,
}

/// Where newer versions of transformers write the rotation.
#[derive(Deserialize)]
struct Rotation {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Gguf {
    /// Opens a folder with `config.json` and `model.safetensors`, in one file or in parts with their index.
    ///
    /// # Errors
    /// Names the file that is missing, broken, or of a kind of model that is not read from folders.
    pub fn of_folder(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let config: Config = json(&path)?;
        let metadata = metadata(&config).map_err(|reason| fault(&path, reason))?;
        let mut maps = Vec::new();
        let mut tensors = HashMap::new();
        for (part, path) in weight_files(dir)?.into_iter().enumerate() {
            let map = MappedFile::open(&path).map_err(|e| fault(&path, format!("cannot be read: {e}")))?;
            let file = SafeTensors::deserialize(&map)
                .map_err(|e| fault(&path, format!("is not a whole safetensors file ({e:?}); fetch it again")))?;
            let start = map.as_ptr() as usize;
            for (name, view) in file.tensors() {
                let Some(known) = name_in_gguf(&name).map_err(|reason| fault(&path, reason))? else { continue };
                let format = match view.dtype() {
                    Dtype::F32 => Format::F32,
                    Dtype::F16 => Format::F16,
                    Dtype::BF16 => Format::BF16,
                    other => {
                        let shown = printable(&name);
                        return Err(fault(&path, format!("tensor `{shown}` is {other:?}; F32, F16 and BF16 are read")));
                    }
                };
                let from = view.data().as_ptr() as usize - start;
                let bytes = from..from + view.data().len();
                tensors.insert(known, TensorPlace { format, dims: view.shape().to_vec(), part, bytes });
            }
            maps.push(map);
        }
        let mut maps = maps.into_iter();
        let map = maps.next().ok_or_else(|| fault(dir, "has no weights"))?;
        let header = Header { metadata, tensors: HashMap::new(), mended: HashMap::new(), len: 0 };
        let rest = maps.map(|map| (map, 0)).collect();
        Ok(Self { file: dir.display().to_string(), map, header, rest, tensors })
    }
}

/// The configuration under GGUF's keys.
fn metadata(config: &Config) -> Result<HashMap<String, Value>, String> {
    if config.model_type != "qwen3" {
        return Err(format!(
            "model_type is `{}`; of decoders, folders of `qwen3` are read",
            printable(&config.model_type)
        ));
    }
    if config.hidden_act != "silu" {
        return Err(format!("hidden_act is `{}`; only `silu` is known", printable(&config.hidden_act)));
    }
    if config.use_sliding_window {
        return Err("use_sliding_window is not supported".into());
    }
    let turned = config.rope_parameters.as_ref();
    let scaled = config.rope_scaling.as_ref().is_some_and(|scaling| !scaling.is_null())
        || turned.and_then(|rotation| rotation.rope_type.as_deref()).is_some_and(|kind| kind != "default");
    if scaled {
        return Err("scaled rotations are not read from folders; take the model's GGUF file".into());
    }
    let heads = config.num_attention_heads;
    let head_dim = match config.head_dim {
        Some(dim) => dim,
        None if heads > 0 && config.hidden_size.is_multiple_of(heads) => config.hidden_size / heads,
        None => return Err(format!("hidden_size {} does not divide into {heads} heads", config.hidden_size)),
    };
    let theta = turned.and_then(|rotation| rotation.rope_theta).or(config.rope_theta).unwrap_or(10_000.0);
    let whole = |value: u64| Value::Whole(value.into());
    let of_model = [
        ("block_count", whole(config.num_hidden_layers)),
        ("context_length", whole(config.max_position_embeddings)),
        ("embedding_length", whole(config.hidden_size)),
        ("feed_forward_length", whole(config.intermediate_size)),
        ("attention.head_count", whole(heads)),
        ("attention.head_count_kv", whole(config.num_key_value_heads.unwrap_or(heads))),
        ("attention.key_length", whole(head_dim)),
        ("attention.value_length", whole(head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::Double(config.rms_norm_eps)),
        ("rope.freq_base", Value::Double(theta)),
    ];
    let mut metadata: HashMap<String, Value> =
        of_model.into_iter().map(|(key, value)| (format!("qwen3.{key}"), value)).collect();
    metadata.insert("general.architecture".into(), Value::Text("qwen3".into()));
    Ok(metadata)
}

/// GGUF's name of a tensor. `None` for the head of a model that is not asked for next tokens.
fn name_in_gguf(name: &str) -> Result<Option<String>, String> {
    const LAYER: [(&str, &str); 11] = [
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let bare = name.strip_prefix("model.").unwrap_or(name);
    match bare {
        "lm_head.weight" => return Ok(None),
        "embed_tokens.weight" => return Ok(Some("token_embd.weight".into())),
        "norm.weight" => return Ok(Some("output_norm.weight".into())),
        _ => {}
    }
    let layer = bare.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    let known = layer.and_then(|(number, rest)| {
        let (part, kind) = rest.rsplit_once('.')?;
        let (_, known) = LAYER.iter().find(|(theirs, _)| *theirs == part)?;
        Some(format!("blk.{number}.{known}.{kind}"))
    });
    known.map(Some).ok_or_else(|| format!("tensor `{}` has no place in a qwen3 model", printable(name)))
}

/// The files that hold the weights, in order.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = dir.join("model.safetensors.index.json");
    if !index.is_file() {
        return Ok(vec![dir.join("model.safetensors")]);
    }
    let names: BTreeSet<String> = json::<Index>(&index)?.weight_map.into_values().collect();
    match names.iter().find(|name| Path::new(name).file_name().is_none_or(|plain| plain != name.as_str())) {
        Some(outside) => Err(fault(&index, format!("names `{}`, which is no file's name", printable(outside)))),
        None => Ok(names.into_iter().map(|name| dir.join(name)).collect()),
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let bytes = std::fs::read(path).map_err(|e| fault(path, format!("cannot be read: {e}")))?;
    serde_json::from_slice(&bytes).map_err(|e| fault(path, e.to_string()))
}

fn fault(path: &Path, reason: impl Into<String>) -> ModelError {
    ModelError::File { file: path.display().to_string(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_ggufs_names_and_foreign_ones_are_refused() {
        for (name, expected) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("norm.weight", "output_norm.weight"),
            ("model.layers.11.self_attn.k_norm.weight", "blk.11.attn_k_norm.weight"),
            ("layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
            ("layers.3.self_attn.q_proj.bias", "blk.3.attn_q.bias"),
        ] {
            assert_eq!(name_in_gguf(name).unwrap().as_deref(), Some(expected));
        }
        assert_eq!(name_in_gguf("lm_head.weight").unwrap(), None);
        assert!(name_in_gguf("model.layers.0.mlp.experts.0.up_proj.weight").unwrap_err().contains("no place"));
        assert!(name_in_gguf("rotary.inv_freq").is_err());
    }
}
