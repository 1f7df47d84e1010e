//! The official Python client `openai`, unchanged, in a process of its own.

use std::process::Command;

use super::server::{CHAT_MODEL, EMBED_MODEL, Server};

#[test]
fn the_official_python_client_runs_unchanged() {
    run_against(Server::shared(), "all");
}

/// Runs the cases of one mode of `tests/clients/openai_client.py`.
pub fn run_against(server: &Server, mode: &str) {
    let python = std::env::var("FIRSTLINE_TEST_PYTHON").unwrap_or_else(|_| {
        panic!(
            "FIRSTLINE_TEST_PYTHON does not name a Python with the package `openai`; run scripts/test, which makes one"
        )
    });
    let output = Command::new(&python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/openai_client.py"))
        .args([&format!("{}/v1", server.base), CHAT_MODEL, EMBED_MODEL, mode])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap_or_else(|e| panic!("{python} (FIRSTLINE_TEST_PYTHON) cannot be run: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    print!("{said}");
}
