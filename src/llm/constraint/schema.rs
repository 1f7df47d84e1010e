//! A schema from a client: checked for what cannot be served, each fault with its place, and made ready.

use serde_json::{Map, Value, json};

/// Deepest nesting of a schema.
const DEEPEST: usize = 64;

/// Keywords that draft 2020-12 or older have and that the grammar cannot express. Serving them as if they were not there
/// would give answers that the schema refuses.
const NOT_SERVED: [&str; 19] = [
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
];

const TYPES: [&str; 7] = ["string", "number", "integer", "object", "array", "boolean", "null"];

/// What is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// A path like `properties.colour.not`; empty for the schema itself.
    pub at: String,
    pub message: String,
}

/// How values are spelled: at most one space between two parts, so that no model writes white space without end.
pub(super) fn options() -> Value {
    json!({"whitespace_flexible": true, "whitespace_pattern": "\\x20"})
}

/// Checks a schema and makes it ready for the grammar.
///
/// Objects that list their properties and say nothing about others get no others: the value stays one that the schema
/// takes, and a weak model does not invent names without end.
///
/// # Errors
/// The first fault, with its place.
pub(super) fn prepare(schema: &Value) -> Result<Value, SchemaFault> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        Value::Object(_) => schema.clone(),
        other => return Err(fault("", format!("a schema is an object, not {other}"))),
    };
    let root = schema.clone();
    visit(&mut schema, &root, "", 0)?;
    if !mixes(&root) {
        close(&mut schema);
    }
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("x-guidance".into(), options());
    }
    Ok(schema)
}

fn fault(at: &str, message: impl Into<String>) -> SchemaFault {
    SchemaFault { at: at.into(), message: message.into() }
}

fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.into() } else { format!("{at}.{name}") }
}

/// Checks one schema and those within it.
fn visit(schema: &mut Value, root: &Value, at: &str, depth: usize) -> Result<(), SchemaFault> {
    if depth > DEEPEST {
        return Err(fault(at, format!("schemas may be nested {DEEPEST} deep")));
    }
    let fields = match schema {
        Value::Bool(_) => return Ok(()),
        Value::Object(fields) => fields,
        other => return Err(fault(at, format!("a schema is an object, not {other}"))),
    };
    // Said to be off, these change nothing.
    if fields.get("uniqueItems") == Some(&Value::Bool(false)) {
        fields.remove("uniqueItems");
    }
    // A guide for `llguidance` itself, and not for clients to set.
    fields.remove("x-guidance");
    if let Some(name) = NOT_SERVED.iter().find(|name| fields.contains_key(**name)) {
        return Err(fault(&below(at, name), format!("{name:?} cannot be served; leave it out, and check it yourself")));
    }
    check_fields(fields, root, at)?;
    for name in ["properties", "patternProperties", "$defs", "definitions"] {
        match fields.get_mut(name) {
            None => {}
            Some(Value::Object(inner)) => {
                for (key, schema) in inner {
                    visit(schema, root, &below(&below(at, name), key), depth + 1)?;
                }
            }
            Some(other) => return Err(fault(&below(at, name), format!("an object of schemas is due, not {other}"))),
        }
    }
    for name in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        match fields.get_mut(name) {
            None => {}
            Some(Value::Array(list)) if !list.is_empty() => {
                for (n, schema) in list.iter_mut().enumerate() {
                    visit(schema, root, &format!("{}[{n}]", below(at, name)), depth + 1)?;
                }
            }
            Some(other) => return Err(fault(&below(at, name), format!("a list of schemas is due, not {other}"))),
        }
    }
    for name in ["items", "additionalProperties", "additionalItems"] {
        if let Some(schema) = fields.get_mut(name).filter(|schema| !schema.is_array()) {
            visit(schema, root, &below(at, name), depth + 1)?;
        }
    }
    Ok(())
}

/// Checks the keywords of one schema that hold no schemas.
fn check_fields(fields: &Map<String, Value>, root: &Value, at: &str) -> Result<(), SchemaFault> {
    let known = |kind: &Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
    match fields.get("type") {
        None => {}
        Some(Value::Array(kinds)) if !kinds.is_empty() && kinds.iter().all(known) => {}
        Some(kind) if known(kind) => {}
        Some(other) => {
            return Err(fault(&below(at, "type"), format!("{other} is none of {}", TYPES.join(", "))));
        }
    }
    if let Some(values) = fields.get("enum").filter(|values| values.as_array().is_none_or(Vec::is_empty)) {
        return Err(fault(&below(at, "enum"), format!("a list of values is due, not {values}")));
    }
    let texts = |list: &Vec<Value>| list.iter().all(Value::is_string);
    if let Some(names) = fields.get("required").filter(|names| !names.as_array().is_some_and(texts)) {
        return Err(fault(&below(at, "required"), format!("a list of names is due, not {names}")));
    }
    match fields.get("$ref") {
        None => Ok(()),
        Some(Value::String(target)) if target == "#" => Ok(()),
        Some(Value::String(target)) if target.starts_with("#/") && root.pointer(&target[1..]).is_some() => Ok(()),
        Some(target) => {
            Err(fault(&below(at, "$ref"), format!("{target} names no part of this schema (like \"#/$defs/item\")")))
        }
    }
}

/// True where an object's properties come from several schemas at once: closing one of them would forbid the others'.
fn mixes(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let others = ["anyOf", "oneOf", "$ref"].iter().any(|name| fields.contains_key(*name));
            let listed = fields.get("properties").is_some_and(Value::is_object);
            fields.get("allOf").is_some_and(Value::is_array) || (listed && others) || fields.values().any(mixes)
        }
        Value::Array(list) => list.iter().any(mixes),
        _ => false,
    }
}

/// Closes objects that list their properties and leave others open.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let listed = fields.get("properties").and_then(Value::as_object).map(|known| {
                let names = fields.get("required").and_then(Value::as_array).into_iter().flatten();
                let complete = names.filter_map(Value::as_str).all(|name| known.contains_key(name));
                let least = fields.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
                !known.is_empty() && complete && least <= known.len() as u64
            });
            let open = ["additionalProperties", "patternProperties", "const", "enum"];
            if listed == Some(true) && !open.iter().any(|name| fields.contains_key(*name)) {
                fields.insert("additionalProperties".into(), Value::Bool(false));
            }
            for (name, value) in fields {
                match name.as_str() {
                    "const" | "enum" | "default" | "examples" | "required" => {}
                    // Names of properties are no keywords.
                    "properties" | "patternProperties" | "$defs" | "definitions" => {
                        value.as_object_mut().into_iter().flatten().for_each(|(_, schema)| close(schema));
                    }
                    _ => close(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_with_its_place() {
        for (schema, at) in [
            (json!({"properties": {"a": {"not": {}}}}), "properties.a.not"),
            (json!({"items": {"type": "text"}}), "items.type"),
            (json!({"anyOf": [{"type": "null"}, {"uniqueItems": true}]}), "anyOf[1].uniqueItems"),
            (json!({"$defs": {"x": {"enum": []}}}), "$defs.x.enum"),
            (json!({"$ref": "https://elsewhere.example/schema"}), "$ref"),
            (json!({"$ref": "#/$defs/missing"}), "$ref"),
            (json!({"required": "a"}), "required"),
            (json!({"properties": {"not": {"type": "strin"}}}), "properties.not.type"),
            (json!([1]), ""),
        ] {
            assert_eq!(prepare(&schema).unwrap_err().at, at, "{schema}");
        }
    }

    #[test]
    fn objects_that_list_their_properties_get_no_others() {
        let ready = prepare(&json!({"properties": {"a": {"properties": {"b": {}}}, "properties": {}}})).unwrap();
        assert_eq!(ready["additionalProperties"], false);
        assert_eq!(ready["properties"]["a"]["additionalProperties"], false);
        assert_eq!(ready["properties"]["properties"], json!({}));
        let open = prepare(&json!({"properties": {"a": {}}, "required": ["b"]})).unwrap();
        assert!(open.get("additionalProperties").is_none(), "a name that is required must be possible");
        let mixed = prepare(&json!({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]})).unwrap();
        assert!(mixed["anyOf"][0].get("additionalProperties").is_none(), "\"a\" comes from beside it");
    }
}
