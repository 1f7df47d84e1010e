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
    for size in 1..20 {
        let two = vec![call("sum", "{\"a\": \"}\\\"{\", \"b\": [1]}"), call("now", "{}")];
        assert_eq!(read(ToolFormat::Hermes, hermes, size), ("Let me see.".into(), two), "{size}");
        assert_eq!(read(ToolFormat::Llama, llama, size), (String::new(), vec![call("sum", "{\"a\": 1}")]));
        let two = vec![call("a", "{\"x\": {}}"), call("b", "{}")];
        assert_eq!(read(ToolFormat::Mistral, mistral, size), (String::new(), two));
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
fn the_format_is_read_from_the_template() {
    assert_eq!(ToolFormat::of_template("... [TOOL_CALLS] [ ..."), ToolFormat::Mistral);
    assert_eq!(ToolFormat::of_template("<tool_call>\\n{\"name\": <function-name>"), ToolFormat::Hermes);
    assert_eq!(ToolFormat::of_template("{\"name\": function name, \"parameters\": dict"), ToolFormat::Llama);
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
    assert_eq!(told[2].content, "<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>");
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
