//! `GET /openapi.json`: the API for programs that read OpenAPI. `docs/api.md` says the same for people, and more.

use axum::Json;
use serde_json::{Map, Value, json};

/// One operation: method, path, what it does, the fields of its request (`name:type`, `*` behind those that must be).
type Operation = (&'static str, &'static str, &'static str, &'static [&'static str]);

const SAMPLING: &[&str] = &[
    "temperature:number",
    "top_p:number",
    "top_k:integer",
    "min_p:number",
    "repetition_penalty:number",
    "presence_penalty:number",
    "frequency_penalty:number",
    "logit_bias:object",
    "seed:integer",
    "stop:any",
    "n:integer",
    "stream:boolean",
    "stream_options:object",
    "user:string",
];

const OPERATIONS: &[Operation] = &[
    (
        "post",
        "/v1/chat/completions",
        "A support turn, or an answer of the bare chat model",
        &[
            "model:string*",
            "messages:array*",
            "max_tokens:integer",
            "max_completion_tokens:integer",
            "logprobs:boolean",
            "top_logprobs:integer",
            "tools:array",
            "tool_choice:any",
            "parallel_tool_calls:boolean",
            "response_format:object",
            "reasoning_effort:string",
            "metadata:object",
        ],
    ),
    (
        "post",
        "/v1/responses",
        "The same as items",
        &[
            "model:string*",
            "input:any*",
            "instructions:string",
            "previous_response_id:string",
            "max_output_tokens:integer",
            "temperature:number",
            "top_p:number",
            "tools:array",
            "tool_choice:any",
            "parallel_tool_calls:boolean",
            "text:object",
            "reasoning:object",
            "metadata:object",
            "stream:boolean",
            "store:boolean",
        ],
    ),
    ("get", "/v1/responses/{id}", "A response that is kept", &[]),
    ("delete", "/v1/responses/{id}", "Forgets a response", &[]),
    (
        "post",
        "/v1/completions",
        "The bare model continues a text",
        &["model:string*", "prompt:any*", "max_tokens:integer", "logprobs:integer"],
    ),
    (
        "post",
        "/v1/embeddings",
        "Vectors",
        &[
            "model:string*",
            "input:any*",
            "encoding_format:string",
            "dimensions:integer",
            "input_type:string",
            "truncate:boolean",
            "user:string",
        ],
    ),
    (
        "post",
        "/v1/rerank",
        "Documents in the order in which they answer a query",
        &["model:string", "query:string*", "documents:array*", "top_n:integer", "return_documents:boolean"],
    ),
    (
        "post",
        "/v1/tokenize",
        "A text or a conversation in the chat model's tokens",
        &[
            "model:string",
            "prompt:string",
            "messages:array",
            "tools:array",
            "add_special_tokens:boolean",
            "return_token_strs:boolean",
        ],
    ),
    ("post", "/v1/files", "Uploads a file (a form) to be searched", &["file:file*", "purpose:string*"]),
    ("get", "/v1/files", "This key's files", &[]),
    ("get", "/v1/files/{id}", "One of them", &[]),
    ("delete", "/v1/files/{id}", "Deletes it, also from vector stores", &[]),
    ("get", "/v1/files/{id}/content", "Its bytes", &[]),
    (
        "post",
        "/v1/vector_stores",
        "A set of files that is searched",
        &["name:string", "file_ids:array", "expires_after:object", "metadata:object", "chunking_strategy:object"],
    ),
    ("get", "/v1/vector_stores", "This key's vector stores, and `vs_pack`, the knowledge pack", &[]),
    ("get", "/v1/vector_stores/{id}", "One of them", &[]),
    (
        "post",
        "/v1/vector_stores/{id}",
        "Changes its name, metadata or expiry",
        &["name:string", "expires_after:object", "metadata:object"],
    ),
    ("delete", "/v1/vector_stores/{id}", "Deletes it; its files stay", &[]),
    (
        "post",
        "/v1/vector_stores/{id}/search",
        "Passages that fit, best first",
        &["query:any*", "filters:object", "max_num_results:integer", "ranking_options:object", "rewrite_query:boolean"],
    ),
    (
        "post",
        "/v1/vector_stores/{id}/files",
        "Attaches a file",
        &["file_id:string*", "attributes:object", "chunking_strategy:object"],
    ),
    ("get", "/v1/vector_stores/{id}/files", "Its files, and how far they are indexed", &[]),
    ("get", "/v1/vector_stores/{id}/files/{file}", "One of them", &[]),
    ("post", "/v1/vector_stores/{id}/files/{file}", "Changes its attributes", &["attributes:object*"]),
    ("delete", "/v1/vector_stores/{id}/files/{file}", "Takes it out; the file stays", &[]),
    ("get", "/v1/vector_stores/{id}/files/{file}/content", "The text that was read of it", &[]),
    (
        "post",
        "/v1/vector_stores/{id}/file_batches",
        "Attaches several files",
        &["file_ids:array", "files:array", "attributes:object", "chunking_strategy:object"],
    ),
    ("get", "/v1/vector_stores/{id}/file_batches/{batch}", "How far they are", &[]),
    ("post", "/v1/vector_stores/{id}/file_batches/{batch}/cancel", "Gives up what is not indexed yet", &[]),
    ("get", "/v1/vector_stores/{id}/file_batches/{batch}/files", "The files of a batch", &[]),
    ("get", "/v1/models", "What this key may use", &[]),
    ("get", "/v1/models/{id}", "One of them", &[]),
    (
        "post",
        "/v1/channels/{name}/messages",
        "A customer's message from a messenger bridge or a mail gateway; the reply goes out by signed webhook",
        &["id:string*", "customer:object*", "text:string*", "metadata:object"],
    ),
    ("get", "/v1/support/figures", "Resolution, turns, times and costs, by day, operator, version or channel", &[]),
    ("get", "/v1/support/trace/{id}", "Why an answer is what it is", &[]),
    ("get", "/health/live", "The process answers", &[]),
    ("get", "/health/ready", "It serves; 503 while loading and stopping", &[]),
    ("get", "/metrics", "Figures for Prometheus", &[]),
];

/// Serves the document.
pub async fn document() -> Json<Value> {
    let mut paths = Map::new();
    for (method, path, summary, fields) in OPERATIONS {
        let entry = paths.entry(*path).or_insert_with(|| json!({}));
        entry[*method] = operation(path, summary, fields);
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {"title": "Firstline", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": {"type": "object", "required": ["error"], "properties": {"error": {
                "type": "object", "required": ["message", "type", "param", "code"], "properties": {
                    "message": {"type": "string"}, "type": {"type": "string"},
                    "param": {"type": ["string", "null"]}, "code": {"type": "string"},
                },
            }}}},
        },
    }))
}

fn operation(path: &str, summary: &str, fields: &[&str]) -> Value {
    let error = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
    let mut operation = json!({
        "summary": summary,
        "responses": {"200": {"description": summary}, "default": {"description": "What is wrong", "content": error}},
    });
    let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path: Vec<Value> = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if !in_path.is_empty() {
        operation["parameters"] = json!(in_path);
    }
    if !fields.is_empty() {
        let sampled = matches!(path, "/v1/chat/completions" | "/v1/completions");
        let all = fields.iter().chain(if sampled { SAMPLING } else { &[] }).copied();
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in all {
            let (name, kind) = field.split_once(':').unwrap_or((field, "any"));
            let (kind, needed) = kind.strip_suffix('*').map_or((kind, false), |kind| (kind, true));
            let described = match kind {
                "any" => json!({}),
                "file" => json!({"type": "string", "contentMediaType": "application/octet-stream"}),
                kind => json!({"type": kind}),
            };
            properties.insert(name.into(), described);
            required.extend(needed.then_some(name));
        }
        let schema = json!({"type": "object", "properties": properties, "required": required});
        let form = fields.iter().any(|field| field.contains(":file"));
        let kind = if form { "multipart/form-data" } else { "application/json" };
        operation["requestBody"] = json!({"required": true, "content": {kind: {"schema": schema}}});
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_route_of_the_api_is_in_the_document() {
        let document = document().await.0;
        let routes = regex::Regex::new(r#"\.route\("(/v1/[^"]+)", ([^\n]+)\)"#).unwrap();
        let mut seen = 0;
        for route in routes.captures_iter(include_str!("mod.rs")) {
            let path = route[1].replace("{*", "{");
            for method in ["get", "post", "delete"].into_iter().filter(|m| route[2].contains(&format!("{m}("))) {
                assert!(document["paths"][&path][method].is_object(), "{method} {path}");
                seen += 1;
            }
        }
        assert!(seen >= 10, "{seen}");
    }
}
