//! `GET /openapi.json`: the API for programs that read OpenAPI. `docs/api.md` says the same for people, and more.

mod operations;

use axum::Json;
use serde_json::{Map, Value, json};

use operations::{OPERATIONS, Operation};

/// Serves the document.
pub async fn document() -> Json<Value> {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let entry = paths.entry(operation.path).or_insert_with(|| json!({}));
        entry[operation.method] = described(operation);
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

fn described(operation: &Operation) -> Value {
    let summary = operation.summary;
    let error = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
    let mut described = json!({
        "summary": summary,
        "responses": {"200": {"description": summary}, "default": {"description": "What is wrong", "content": error}},
    });
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = operation.in_query().map(Field::of);
    let in_query = in_query.map(|field| json!({"name": field.name, "in": "query", "schema": field.schema()}));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    if !parameters.is_empty() {
        described["parameters"] = json!(parameters);
    }
    let fields: Vec<Field> = operation.body().map(Field::of).collect();
    if !fields.is_empty() {
        let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        let properties: Map<String, Value> = fields.iter().map(|f| (f.name.to_string(), f.schema())).collect();
        let refused: Vec<&str> = operation.refused.split_whitespace().collect();
        let schema = json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
            "x-refused": refused,
        });
        let form = fields.iter().any(|field| field.kind == "file");
        let kind = if form { "multipart/form-data" } else { "application/json" };
        described["requestBody"] = json!({"required": true, "content": {kind: {"schema": schema}}});
    }
    described
}

/// A parameter, as the table spells it.
struct Field {
    name: &'static str,
    kind: &'static str,
    required: bool,
    ignored: bool,
}

impl Field {
    fn of(word: &'static str) -> Self {
        let (name, kind) = word.split_once(':').unwrap_or((word, "any"));
        let (required, ignored) = (kind.ends_with('*'), kind.ends_with('~'));
        Self { name, kind: kind.trim_end_matches(['*', '~']), required, ignored }
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            "any" => json!({}),
            "file" => json!({"type": "string", "contentMediaType": "application/octet-stream"}),
            kind => json!({"type": kind}),
        };
        if self.ignored {
            schema["description"] = json!("Accepted, without effect.");
        }
        schema
    }
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

    #[tokio::test]
    async fn what_is_taken_and_what_is_refused_is_told_apart() {
        let chat = &document().await.0["paths"]["/v1/chat/completions"]["post"]["requestBody"];
        let schema = &chat["content"]["application/json"]["schema"];
        assert_eq!(schema["required"], json!(["model", "messages"]));
        assert_eq!(schema["properties"]["seed"], json!({"type": "integer"}));
        assert_eq!(schema["properties"]["user"]["description"], "Accepted, without effect.");
        assert!(schema["x-refused"].as_array().unwrap().contains(&json!("audio")));
    }
}
