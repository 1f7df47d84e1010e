//! A schema from a client: checked for what cannot be served, each fault with its place, and made ready.

use regex_syntax::hir::Look;
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

/// Formats that the grammar keeps to; a format is a remark otherwise (draft 2020-12), and such a text is any text.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Of these, the ones whose texts have no end of their own.
const OPEN_FORMATS: [&str; 6] = ["date-time", "time", "duration", "email", "hostname", "uri"];

/// Longest text under a pattern or a format that leaves its length open. Other texts are bounded while they are written
/// ([`super::bounds`]); these have to see their end coming, since it may need a dot and a domain.
const OPEN_TEXT: usize = 96;

const TYPES: [&str; 7] = ["string", "number", "integer", "object", "array", "boolean", "null"];

/// What is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// A path like `properties.colour.not`; empty for the schema itself.
    pub at: String,
    pub message: String,
    /// It is good JSON Schema that the grammar cannot express.
    pub not_served: bool,
}

/// How values are spelled: at most one space between two parts, so that no model writes white space without end.
pub(super) fn options() -> Value {
    json!({"whitespace_flexible": true, "whitespace_pattern": "\\x20"})
}

/// Checks a schema and makes it ready for the grammar.
///
/// Objects that list their properties and say nothing about others get no others: the value stays one that the schema
/// takes, and a weak model does not invent names without end. For the same reason texts whose pattern or format leaves
/// their length open get a longest length, if `bounded`.
///
/// # Errors
/// The first fault, with its place.
pub(super) fn prepare(schema: &Value, bounded: bool) -> Result<Value, SchemaFault> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        Value::Object(_) => schema.clone(),
        other => return Err(fault("", format!("a schema is an object, not {other}"))),
    };
    let root = schema.clone();
    visit(&mut schema, &root, "", 0)?;
    if bounded {
        bound_texts(&mut schema);
    }
    if !mixes(&root) {
        close(&mut schema);
    }
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("x-guidance".into(), options());
    }
    Ok(schema)
}

fn fault(at: &str, message: impl Into<String>) -> SchemaFault {
    SchemaFault { at: at.into(), message: message.into(), not_served: false }
}

fn not_served(at: &str, message: String) -> SchemaFault {
    SchemaFault { not_served: true, ..fault(at, message) }
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
    if fields.get("format").is_some_and(|format| !FORMATS.iter().any(|known| format == known)) {
        fields.remove("format");
    }
    for (name, side) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        exclude(fields, name, side);
    }
    // A guide for `llguidance` itself, and not for clients to set.
    fields.remove("x-guidance");
    if let Some(name) = NOT_SERVED.iter().find(|name| fields.contains_key(**name)) {
        let message = format!("{name:?} cannot be served; leave it out, and check it yourself");
        return Err(not_served(&below(at, name), message));
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
                let one = |(n, schema): (usize, &mut Value)| {
                    visit(schema, root, &format!("{}[{n}]", below(at, name)), depth + 1)
                };
                let faults: Vec<_> = list.iter_mut().enumerate().map(one).map(Result::err).collect();
                // Where any of several will do, one that can be served does.
                let enough = name == "anyOf" && faults.iter().any(Option::is_none);
                let mut faults = faults.into_iter();
                let mut first = None;
                list.retain(|_| match faults.next().flatten() {
                    Some(fault) if enough && fault.not_served => false,
                    fault => {
                        first = first.take().or(fault);
                        true
                    }
                });
                if let Some(fault) = first {
                    return Err(fault);
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

/// Draft 4 (and OpenAPI 3.0) said with a word whether a bound is itself excluded; later drafts give the number.
fn exclude(fields: &mut Map<String, Value>, name: &str, side: &str) {
    if let Some(excluded) = fields.get(name).and_then(Value::as_bool) {
        fields.remove(name);
        if let Some(bound) = fields.remove(side) {
            fields.insert(if excluded { name } else { side }.into(), bound);
        }
    }
}

/// Gives texts whose pattern or format leaves their length open a longest length.
fn bound_texts(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(least) = open_text(fields) {
                fields.insert("maxLength".into(), OPEN_TEXT.max(least * 2).into());
            }
            for (name, value) in fields {
                match name.as_str() {
                    "const" | "enum" | "default" | "examples" | "required" => {}
                    _ => bound_texts(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(bound_texts),
        _ => {}
    }
}

/// For a text whose pattern or format leaves its length open: the characters that it needs at least.
fn open_text(fields: &Map<String, Value>) -> Option<usize> {
    if fields.contains_key("maxLength") {
        return None;
    }
    let least = fields.get("minLength").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    if fields.get("format").is_some_and(|format| OPEN_FORMATS.iter().any(|open| format == open)) {
        return Some(least);
    }
    let pattern = regex_syntax::parse(fields.get("pattern")?.as_str()?).ok()?;
    let shape = pattern.properties();
    let whole = shape.look_set_prefix().contains(Look::Start) && shape.look_set_suffix().contains(Look::End);
    let open = !whole || shape.maximum_len().is_none();
    open.then(|| least.max(shape.minimum_len().unwrap_or(0)))
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
    if let Some(pattern) = fields.get("pattern") {
        check_pattern(pattern, &below(at, "pattern"))?;
    }
    for key in fields.get("patternProperties").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key) {
        check_pattern(&Value::from(key.as_str()), &below(at, "patternProperties"))?;
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

fn check_pattern(pattern: &Value, at: &str) -> Result<(), SchemaFault> {
    let Some(text) = pattern.as_str() else { return Err(fault(at, format!("a pattern is due, not {pattern}"))) };
    match regex_syntax::parse(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = match error {
                regex_syntax::Error::Parse(error) => error.kind().to_string(),
                regex_syntax::Error::Translate(error) => error.kind().to_string(),
                other => other.to_string(),
            };
            Err(not_served(at, format!("the pattern {text:?} cannot be served: {reason}")))
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
            (json!({"oneOf": [{"type": "null"}, {"uniqueItems": true}]}), "oneOf[1].uniqueItems"),
            (json!({"$defs": {"x": {"enum": []}}}), "$defs.x.enum"),
            (json!({"$ref": "https://elsewhere.example/schema"}), "$ref"),
            (json!({"$ref": "#/$defs/missing"}), "$ref"),
            (json!({"required": "a"}), "required"),
            (json!({"properties": {"not": {"type": "strin"}}}), "properties.not.type"),
            (json!({"properties": {"a": {"pattern": "^(?=a).*$"}}}), "properties.a.pattern"),
            (json!({"patternProperties": {"^(a)\\1$": {}}}), "patternProperties"),
            (json!([1]), ""),
        ] {
            assert_eq!(prepare(&schema, true).unwrap_err().at, at, "{schema}");
        }
    }

    #[test]
    fn objects_that_list_their_properties_get_no_others() {
        let ready = prepare(&json!({"properties": {"a": {"properties": {"b": {}}}, "properties": {}}}), true).unwrap();
        assert_eq!(ready["additionalProperties"], false);
        assert_eq!(ready["properties"]["a"]["additionalProperties"], false);
        assert_eq!(ready["properties"]["properties"], json!({}));
        let open = prepare(&json!({"properties": {"a": {}}, "required": ["b"]}), true).unwrap();
        assert!(open.get("additionalProperties").is_none(), "a name that is required must be possible");
        let mixed = prepare(&json!({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]}), true).unwrap();
        assert!(mixed["anyOf"][0].get("additionalProperties").is_none(), "\"a\" comes from beside it");
    }

    #[test]
    fn texts_that_a_pattern_or_a_format_leaves_open_get_a_longest_length() {
        let of = |schema: Value| prepare(&schema, true).unwrap()["maxLength"].as_u64();
        let pattern = |pattern: &str| of(json!({"type": "string", "pattern": pattern}));
        assert_eq!((pattern("^[a-z]+@[a-z]+$"), pattern("^[A-Z]{2}[0-9]{4}$")), (Some(96), None));
        assert_eq!(pattern("[0-9]{3}"), Some(96), "a pattern without anchors may stand anywhere in a text");
        assert_eq!((pattern("^a{60}b*$"), pattern("^a{300}$")), (Some(120), None), "what is needed fits");
        assert_eq!(of(json!({"format": "email"})), Some(96));
        assert_eq!(of(json!({"format": "email", "maxLength": 300})), Some(300));
        assert_eq!(of(json!({"format": "uuid"})), None);
        assert_eq!(prepare(&json!({"format": "email"}), false).unwrap()["maxLength"], Value::Null);
    }

    #[test]
    fn of_several_schemas_of_which_any_will_do_those_that_can_be_served_are_left() {
        // What pydantic writes for a `Decimal`.
        let decimal =
            json!({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*$"}]});
        assert_eq!(prepare(&decimal, true).unwrap()["anyOf"], json!([{"type": "number"}]));
        let neither = json!({"anyOf": [{"not": {}}, {"pattern": "(?=a)"}]});
        assert_eq!(prepare(&neither, true).unwrap_err().at, "anyOf[0].not");
        let wrong = json!({"anyOf": [{"type": "number"}, {"type": "strin"}]});
        assert_eq!(prepare(&wrong, true).unwrap_err().at, "anyOf[1].type", "a fault stays a fault");
    }

    #[test]
    fn formats_that_are_remarks_are_no_fault() {
        for format in ["password", "binary", "int32", "uri-reference", "json-string"] {
            assert_eq!(prepare(&json!({"format": format}), true).unwrap()["format"], Value::Null);
        }
        assert_eq!(prepare(&json!({"format": "date"}), true).unwrap()["format"], "date");
    }

    #[test]
    fn a_bound_that_draft_4_excludes_with_a_word_is_excluded() {
        let ready =
            prepare(&json!({"minimum": 0, "exclusiveMinimum": true, "maximum": 5, "exclusiveMaximum": false}), true);
        let ready = ready.unwrap();
        assert_eq!(
            (&ready["exclusiveMinimum"], &ready["minimum"], &ready["maximum"]),
            (&json!(0), &Value::Null, &json!(5))
        );
        assert_eq!(ready["exclusiveMaximum"], Value::Null);
    }
}
