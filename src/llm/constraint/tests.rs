use serde_json::json;

use super::*;

const END: u32 = 256;
const CALLS: u32 = 257;

/// Every byte is a token; then an end token, a control token, and words of several bytes.
fn grammars() -> Grammars {
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    // 0xff marks control tokens, and no text has it.
    words[255] = Vec::new();
    words.extend([b"\xff<|end|>".to_vec(), b"\xff[CALLS]".to_vec(), b"\", \"".to_vec(), b"}}".to_vec()]);
    words.push(b"<call>\n{".to_vec());
    Grammars::new(words, &[END]).unwrap()
}

/// Feeds a text; where it was refused, or whether the answer is complete.
fn feed(constraint: &mut Constraint, text: &str) -> Result<bool, String> {
    let mut complete = false;
    for (at, byte) in text.bytes().enumerate() {
        let allowed = constraint.allowed(900, 1000).unwrap();
        if allowed.is_some_and(|allowed| !allowed.is_allowed(byte.into())) {
            return Err(text[..at].to_string());
        }
        complete = constraint.accept(byte.into()).unwrap();
    }
    Ok(complete)
}

fn may_end(constraint: &mut Constraint) -> bool {
    constraint.allowed(900, 1000).unwrap().is_none_or(|allowed| allowed.is_allowed(END))
}

/// Always writes the highest token that is allowed, an end last of all: the worst of models.
fn runaway(constraint: &mut Constraint, max_tokens: usize) -> (String, bool) {
    let (mut text, mut drawn) = (Vec::new(), 0);
    while drawn < max_tokens {
        let allowed = constraint.allowed(max_tokens - drawn, max_tokens).unwrap().unwrap();
        let token = allowed.iter().filter(|t| *t != END).filter(|t| *t < 128).max();
        let Some(token) = token else { return (String::from_utf8(text).unwrap(), true) };
        text.push(token as u8);
        drawn += 1;
        if constraint.accept(token).unwrap() {
            return (String::from_utf8(text).unwrap(), true);
        }
    }
    (String::from_utf8(text).unwrap(), false)
}

#[test]
fn only_what_the_schema_takes_can_be_written() {
    let schema = json!({"type": "object", "properties": {"kind": {"enum": ["lid", "base"]}, "n": {"type": "integer"}},
                        "required": ["kind", "n"]});
    let mut constraint = grammars().compile(&Grammar::JsonSchema(schema)).unwrap();
    assert!(!may_end(&mut constraint));
    let mut other = constraint.clone();
    feed(&mut constraint, "{\"kind\": \"base\", \"n\": -12}").unwrap();
    assert!(may_end(&mut constraint));
    assert_eq!(feed(&mut other, "{\"kind\": \"box\""), Err("{\"kind\": \"b".into()), "a clone goes its own way");
}

#[test]
fn any_json_object_is_one_object() {
    let mut constraint = grammars().compile(&Grammar::JsonObject).unwrap();
    assert_eq!(feed(&mut constraint.clone(), "[1]"), Err(String::new()));
    assert_eq!(feed(&mut constraint.clone(), "{  "), Err("{ ".into()), "white space has an end");
    feed(&mut constraint, "{\"a\": [1, {\"b\": null}]}").unwrap();
    assert!(may_end(&mut constraint));
}

#[test]
fn a_model_that_never_stops_is_brought_to_an_end() {
    for schema in [
        json!({"type": "object"}),
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "string", "pattern": "^z+$"}},
               "required": ["a", "b"]}),
        json!({"type": "object", "required": ["a", "b"], "properties": {
               "a": {"type": "string", "pattern": "^[a-z]+@[a-z]+\\.com$"}, "b": {"type": "string", "format": "email"}}}),
        json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "required": ["next"],
               "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}}}),
    ] {
        let mut constraint = grammars().compile(&Grammar::JsonSchema(schema.clone())).unwrap();
        let (text, ended) = runaway(&mut constraint, 400);
        assert!(ended, "{schema}: {text}");
        serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{schema}: {text}: {e}"));
    }
}

#[test]
fn what_the_schema_demands_is_written_even_beyond_the_bounds() {
    let schema = json!({"type": "array", "items": {"type": "integer"}, "minItems": 30, "maxItems": 30});
    let mut constraint = grammars().compile(&Grammar::JsonSchema(schema)).unwrap();
    let (text, ended) = runaway(&mut constraint, 1000);
    assert!(ended && serde_json::from_str::<Vec<f64>>(&text).unwrap().len() == 30, "{text}");
}

#[test]
fn free_text_is_bound_from_its_marker_on() {
    let lark = "start: \"<call>\\n\" args\nargs: %json {\"type\": \"object\", \"properties\": {\"a\": {\"enum\": [1]}}, \"additionalProperties\": false}";
    let grammar = Grammar::After { marker: Marker::Text("<call>".into()), lark: lark.into() };
    let free = grammars().compile(&grammar).unwrap();
    let mut constraint = free.clone();
    assert!(may_end(&mut constraint));
    assert_eq!(feed(&mut constraint, "I call < <call>\n{\"b"), Err("I call < <call>\n{\"".into()));
    // A token that holds the marker and what follows it.
    let mut constraint = free.clone();
    constraint.accept(260).unwrap();
    assert!(!may_end(&mut constraint));
    feed(&mut constraint, "\"a\": 1}").unwrap();
    assert!(may_end(&mut constraint));
}

#[test]
fn a_control_token_begins_the_bound_part_too() {
    let lark = format!("start: <[{CALLS}]> \"[\" \"1\"* \"]\"");
    let free = grammars().compile(&Grammar::After { marker: Marker::Token(CALLS), lark }).unwrap();
    let mut constraint = free.clone();
    feed(&mut constraint, "[CALLS]2").unwrap();
    constraint.accept(CALLS).unwrap();
    assert_eq!(feed(&mut constraint, "[12"), Err("[1".into()));
}

#[test]
fn an_answer_is_bound_if_it_begins_with_the_marker() {
    let grammar = Grammar::After { marker: Marker::Start("{".into()), lark: "start: \"{\" \"a\" \"}\"".into() };
    let free = grammars().compile(&grammar).unwrap();
    assert_eq!(feed(&mut free.clone(), " {b"), Err(" {".into()));
    assert_eq!(feed(&mut free.clone(), "so {b"), Ok(false));
}

#[test]
fn a_schema_that_cannot_be_met_is_refused() {
    let error =
        grammars().compile(&Grammar::JsonSchema(json!({"type": "integer", "minimum": 5, "maximum": 4}))).unwrap_err();
    assert!(matches!(error, LlmError::Schema { .. }), "{error}");
    let error = grammars().compile(&Grammar::JsonSchema(json!({"pattern": "(?<=a)b", "type": "string"}))).unwrap_err();
    assert!(matches!(error, LlmError::Schema { .. }), "{error}");
}
