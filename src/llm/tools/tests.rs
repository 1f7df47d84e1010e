use super::*;

fn read(format: ToolFormat, text: &str, size: usize) -> (String, Vec<(String, String)>) {
    let mut parser = ToolParser::new(format);
    let chars: Vec<char> = text.chars().collect();
    let mut parts: Vec<ToolPart> =
        chars.chunks(size).flat_map(|piece| parser.push(&piece.iter().collect::<String>())).collect();
    parts.extend(parser.finish());
    let (mut words, mut calls) = (String::new(), Vec::<(String, String)>::new());
    for part in parts {
        match part {
            ToolPart::Text(text) => words.push_str(&text),
            ToolPart::Call { index, name } => {
                assert_eq!(index, calls.len());
                calls.push((name, String::new()));
            }
            ToolPart::Arguments { index, text } => calls[index].1.push_str(&text),
        }
    }
    (words, calls)
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.into(), arguments.into())
}

#[test]
fn calls_of_every_format_are_read_wherever_pieces_end() {
    let hermes = "Let me see.\n<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"a\": \"}\\\"{\", \"b\": [1]}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let llama = "{\"name\": \"sum\", \"parameters\": {\"a\": 1}}";
    let mistral = "[TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {\"x\": {}}}, {\"name\": \"b\", \"arguments\": {}}]";
    let named = "Well. [TOOL_CALLS]a[ARGS]{\"x\": {}}[TOOL_CALLS]b[ARGS]{}";
    let with_ids =
        "[TOOL_CALLS][TOOL_CALLS]a[CALL_ID]abcDEF012[ARGS]{\"x\": {}}[TOOL_CALLS]b[CALL_ID]123456789[ARGS]{}";
    for size in 1..20 {
        let two = vec![call("sum", "{\"a\": \"}\\\"{\", \"b\": [1]}"), call("now", "{}")];
        assert_eq!(read(ToolFormat::Hermes, hermes, size), ("Let me see.".into(), two), "{size}");
        assert_eq!(read(ToolFormat::Llama, llama, size), (String::new(), vec![call("sum", "{\"a\": 1}")]));
        let two = vec![call("a", "{\"x\": {}}"), call("b", "{}")];
        assert_eq!(read(ToolFormat::Mistral, mistral, size), (String::new(), two.clone()));
        assert_eq!(read(ToolFormat::MistralNamed { ids: false }, named, size), ("Well.".into(), two.clone()), "{size}");
        assert_eq!(read(ToolFormat::MistralNamed { ids: true }, with_ids, size), (String::new(), two), "{size}");
    }
}

#[test]
fn words_that_only_look_like_a_call_stay_words() {
    for size in 1..9 {
        for text in ["a <tool_box> b", "2 < 3 and <tool", "a {\"name\": 1}", "line\n\nline"] {
            assert_eq!(read(ToolFormat::Hermes, text, size), (text.to_string(), Vec::new()));
            assert_eq!(read(ToolFormat::Llama, text, size), (text.to_string(), Vec::new()));
        }
    }
}

#[test]
fn the_format_is_told_by_a_call_in_it() {
    for (text, format) in [
        (
            "[/INST][TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {\"x\": 1}, \"id\": \"123456789\"}]",
            Some(ToolFormat::Mistral),
        ),
        ("[TOOL_CALLS]a[ARGS]{\"x\": 1}</s>", Some(ToolFormat::MistralNamed { ids: false })),
        ("[TOOL_CALLS]a[CALL_ID]123456789[ARGS]{\"x\": 1}", Some(ToolFormat::MistralNamed { ids: true })),
        ("<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": 1}}\n</tool_call>", Some(ToolFormat::Hermes)),
        ("assistant\n\n{\"name\": \"a\", \"parameters\": {\"x\": 1}}<|eot_id|>", Some(ToolFormat::Llama)),
        ("<tool_call>\n<function=a>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>", None),
        ("<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": 2}}\n</tool_call>", None),
        ("functools[{\"name\": \"a\", \"arguments\": {\"x\": 1}}]", None),
    ] {
        assert_eq!(ToolFormat::of_call(text, "a", &json!({"x": 1})), format, "{text}");
    }
}

#[test]
fn parallel_calls_can_be_told_one_by_one_each_with_its_result() {
    let said =
        |role: &str, content: &str| PromptMessage { role: role.into(), content: content.into(), ..Default::default() };
    let calling = |ids: &[&str], content: &str| {
        let call = |id: &&str| ToolCall { id: (*id).into(), name: "now".into(), arguments: json!({}) };
        PromptMessage { tool_calls: ids.iter().map(call).collect(), ..said("assistant", content) }
    };
    let result = |id: &str| PromptMessage { tool_call_id: Some(id.into()), ..said("tool", id) };
    let one = vec![said("user", "a?"), calling(&["1"], ""), result("1"), said("assistant", "a")];
    assert_eq!(one_by_one(one.clone()), one, "one call stays as it is");
    let two =
        vec![said("user", "a?"), calling(&["1", "2"], "Let me see."), result("2"), result("1"), said("user", "b?")];
    let told = [calling(&["1"], "Let me see."), result("1"), calling(&["2"], ""), result("2")];
    assert_eq!(one_by_one(two)[1..5], told);
}

#[test]
fn the_results_of_parallel_calls_are_told_in_one_turn() {
    let said =
        |role: &str, content: &str| PromptMessage { role: role.into(), content: content.into(), ..Default::default() };
    let told = in_words(vec![said("user", "time?"), said("assistant", "."), said("tool", "1"), said("tool", "2")], &[]);
    let both = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>";
    assert_eq!(told.last(), Some(&said("user", both)));
    assert_eq!(told.len(), 3);
}

#[test]
fn a_model_that_knows_no_tools_is_told_in_words() {
    let said =
        |role: &str, content: &str| PromptMessage { role: role.into(), content: content.into(), ..Default::default() };
    let called = ToolCall { id: "1".into(), name: "now".into(), arguments: json!({}) };
    let transcript = vec![
        said("user", "time?"),
        PromptMessage { tool_calls: vec![called], ..said("assistant", "") },
        said("tool", "noon"),
    ];
    let tools = [ToolSpec { name: "now".into(), description: "the time".into(), parameters: json!({}) }];
    let told = in_words(transcript, &tools);
    assert!(told[0].role == "system" && told[0].content.contains("\"the time\""));
    assert_eq!(told[2].content, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>");
    assert_eq!((told[3].role.as_str(), told[3].content.as_str()), ("user", "<tool_response>\nnoon\n</tool_response>"));
}

#[test]
fn a_tools_faulty_schema_is_told_with_its_place() {
    let tools = [ToolSpec {
        name: "a".into(),
        description: String::new(),
        parameters: json!({"properties": {"b": {"not": {}}}}),
    }];
    let error = ToolFormat::Hermes.grammar(&tools, &ToolChoice::Auto, true, |_| None, true).unwrap_err();
    assert!(error.to_string().starts_with("tools[0].function.parameters.properties.b.not: "), "{error}");
}
