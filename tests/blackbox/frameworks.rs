//! Clients that others build on: the official JavaScript `openai`, LangChain, LlamaIndex and LiteLLM, unchanged.
//!
//! `scripts/test` installs them at fixed versions and names the places in the environment; `scripts/test --no-frameworks`
//! sets these to `skip`.

use std::process::Command;

use super::server::{CHAT_MODEL, EMBED_MODEL, Server};

#[test]
fn the_official_javascript_client_runs_unchanged() {
    let Some(modules) = place("FIRSTLINE_TEST_NODE_MODULES") else { return };
    let mut node = Command::new("node");
    node.arg(script("openai_client.mjs")).env("FIRSTLINE_TEST_NODE_MODULES", modules);
    run(node, &[]);
}

#[test]
fn langchain_runs_unchanged() {
    framework("langchain");
}

#[test]
fn llamaindex_runs_unchanged() {
    framework("llamaindex");
}

#[test]
fn litellm_runs_unchanged() {
    framework("litellm");
}

fn framework(name: &str) {
    let Some(python) = place("FIRSTLINE_TEST_FRAMEWORKS_PYTHON") else { return };
    let mut python = Command::new(python);
    python.arg(script("frameworks.py"));
    // Nothing is to be fetched from elsewhere while the tests run.
    python.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LANGSMITH_TRACING", "false");
    run(python, &[name]);
}

/// Where a client is installed; `None` if it is to be left out.
fn place(variable: &str) -> Option<String> {
    let place = std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set; run scripts/test, which installs the clients (or set it to `skip`)")
    });
    if place == "skip" {
        eprintln!("left out: {variable} is `skip`");
        return None;
    }
    Some(place)
}

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn run(mut command: Command, more: &[&str]) {
    let base = format!("{}/v1", Server::shared().base);
    let output = command
        .args([base.as_str(), CHAT_MODEL, EMBED_MODEL])
        .args(more)
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    print!("{said}");
}
