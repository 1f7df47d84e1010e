//! The request and answer of `/v1/embeddings`.

use base64::Engine;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use crate::embed::Role;

/// An embeddings request, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsRequest {
    pub model: String,
    pub texts: Vec<String>,
    /// Vectors as base64 of little-endian f32, not as lists of numbers.
    pub base64: bool,
    /// `input_type` (an extra field): `query`, or `passage` (default).
    pub role: Role,
    /// Cut texts that are too long (an extra field); otherwise they are an error.
    pub truncate: bool,
    pub dimensions: Option<usize>,
}

/// Reads and validates a request.
///
/// # Errors
/// Each names the field in `param`.
pub fn embeddings_request(body: Value, max_inputs: usize) -> Result<EmbeddingsRequest, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let model = fields.required_string("model")?;
    let texts = texts(fields.take("input"), max_inputs)?;
    let base64 = match fields.string("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("the encoding_format {other:?} is neither \"float\" nor \"base64\"");
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let role = match fields.string("input_type")?.as_deref() {
        None | Some("passage" | "document" | "search_document") => Role::Passage,
        Some("query" | "search_query") => Role::Query,
        Some(other) => {
            let message = format!("the input_type {other:?} is neither \"query\" nor \"passage\"");
            return Err(ApiError::invalid("input_type", message));
        }
    };
    let truncate = fields.boolean("truncate")?.unwrap_or(false);
    let dimensions = fields.count("dimensions", 1..=i64::MAX)?;
    fields.ignore(&["user"]);
    fields.end()?;
    Ok(EmbeddingsRequest { model, texts, base64, role, truncate, dimensions })
}

fn texts(input: Option<Value>, max_inputs: usize) -> Result<Vec<String>, ApiError> {
    let list = match input {
        None => return Err(ApiError::missing("input")),
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("input", "a string or a list of strings", &other)),
    };
    if list.is_empty() {
        return Err(ApiError::invalid("input", "\"input\" is an empty list"));
    }
    if list.first().is_some_and(|first| first.is_number() || first.is_array()) {
        let message = "\"input\" holds tokens, which are of another vocabulary than this model's; send text (with LangChain's \
                       OpenAIEmbeddings: check_embedding_ctx_length=False)";
        return Err(ApiError::unsupported("input", message));
    }
    if list.len() > max_inputs {
        let message = format!("{} texts were sent; the limit is {max_inputs}", list.len());
        return Err(ApiError::invalid("input", format!("{message} (server.max_embedding_inputs)")));
    }
    let one = |(n, value): (usize, Value)| match value {
        Value::String(text) if text.is_empty() => {
            Err(ApiError::invalid(format!("input[{n}]"), "a text must not be empty"))
        }
        Value::String(text) => Ok(text),
        other => Err(wrong_type(&format!("input[{n}]"), "a string", &other)),
    };
    list.into_iter().enumerate().map(one).collect()
}

/// One entry of the answer's `data`.
pub fn embedding_of(index: usize, vector: &[f32], base64: bool, truncated: bool) -> Value {
    let embedding = match base64 {
        false => json!(vector),
        true => {
            let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
    };
    let mut entry = json!({"object": "embedding", "index": index, "embedding": embedding});
    if truncated {
        entry["truncated"] = json!(true);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<EmbeddingsRequest, ApiError> {
        embeddings_request(body, 3)
    }

    #[test]
    fn one_text_and_a_list_are_read() {
        assert_eq!(read(json!({"model": "m", "input": "a"})).unwrap().texts, ["a"]);
        let got = read(json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64"})).unwrap();
        assert!(got.base64 && got.texts.len() == 2);
    }

    #[test]
    fn tokens_empty_texts_and_too_many_are_refused() {
        for input in [json!([1, 2]), json!([[1, 2]]), json!([]), json!(5), json!(["a", "b", "c", "d"])] {
            assert_eq!(read(json!({"model": "m", "input": input})).unwrap_err().param.as_deref(), Some("input"));
        }
        let error = read(json!({"model": "m", "input": ["a", ""]})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("input[1]"));
    }

    #[test]
    fn base64_is_little_endian_f32() {
        let entry = embedding_of(0, &[1.0, -2.5], true, false);
        let bytes = base64::engine::general_purpose::STANDARD.decode(entry["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
    }
}
