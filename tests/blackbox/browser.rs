//! The desk in a real browser: Debian's Chromium, driven by `tests/browser/*.py` with Playwright.
//!
//! `scripts/test` installs both where it may. Without them these tests say loudly that they did not run.

use std::path::Path;
use std::process::Command;

use super::server::Server;

const CHROMIUM: &str = "/usr/bin/chromium";

#[test]
fn a_whole_day_at_the_desk_goes_as_it_should() {
    let Some(python) = python() else { return };
    let server = Server::spawn_with("kb", SETTINGS);
    let link = join_link(&server);
    run(&server, &python, "day.py", &[&server.base, &link]);
}

#[test]
fn the_desk_is_worked_by_keys_alone_and_its_doors_are_shut() {
    let Some(python) = python() else { return };
    let server = Server::spawn_with("kb", SETTINGS);
    let link = join_link(&server);
    run(&server, &python, "house.py", &[&server.base, &link]);
}

#[test]
fn no_string_of_a_stranger_ever_runs_as_a_script() {
    let Some(python) = python() else { return };
    let server = Server::spawn_with("tests/packs/mini", SETTINGS);
    let link = join_link(&server);
    let pack = server.dir.path().join("kb");
    run(&server, &python, "xss.py", &[&server.base, &link, pack.to_str().expect("a plain path")]);
}

/// One address plays all visitors here, faster than people write.
const SETTINGS: &str = "[desk]\nwidget_messages_per_minute = 1000\n";

/// The link for the first administrator, which is printed at start.
fn join_link(server: &Server) -> String {
    let line = server.wait_for("/console/join?token=");
    let link = line.split_whitespace().find(|word| word.contains("/console/join?token=")).expect("a link").to_string();
    server.wait_for("ready after");
    link
}

/// A Python that knows Playwright, where there is a Chromium for it.
fn python() -> Option<String> {
    let chromium = std::env::var("FIRSTLINE_TEST_CHROMIUM").unwrap_or_else(|_| CHROMIUM.into());
    let python = std::env::var("FIRSTLINE_TEST_BROWSER_PYTHON").unwrap_or_default();
    let knows = |python: &str| {
        let run = Command::new(python).args(["-c", "import playwright"]).output();
        run.is_ok_and(|output| output.status.success())
    };
    if !Path::new(&chromium).exists() || python.is_empty() || !knows(&python) {
        eprintln!(
            "\n*** NOT RUN: the browser tests need Chromium ({chromium}) and a Python with Playwright \
             (FIRSTLINE_TEST_BROWSER_PYTHON is {python:?}); scripts/test installs both ***\n"
        );
        return None;
    }
    Some(python)
}

fn run(server: &Server, python: &str, script: &str, args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let output = Command::new(python)
        .arg(script)
        .args(args)
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap_or_else(|e| panic!("{python} (FIRSTLINE_TEST_BROWSER_PYTHON) cannot be run: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = server.log();
    let end = log.char_indices().nth_back(3000).map_or(0, |(at, _)| at);
    assert!(output.status.success(), "{said}\nthe server's log ends with:\n{}", &log[end..]);
    print!("{said}");
}
