//! The command line, as a person meets it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A working folder of its own, and the models of this machine.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstline"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    /// Exit code, and stdout with stderr.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), text)
    }

    /// A pack made by `init` from two small documents.
    fn with_pack() -> Self {
        let desk = Self::new();
        desk.write(
            "docs/en/kettle.md",
            "# The kettle\n\nThe kettle boils one litre in three minutes.\n\n![It](img/k.png)\n",
        );
        desk.write(
            "docs/ru/chainik.md",
            "# Чайник\n\nЧайник кипятит литр воды за три минуты, корпус у него стальной.\n",
        );
        desk.write("docs/en/img/k.png", "not really a picture");
        let (code, text) = desk.run(&["init", "pack", "--from", "docs", "--name", "Kettles & Co"]);
        assert_eq!(code, 0, "{text}");
        desk
    }
}

fn demo_pack() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kb").display().to_string()
}

#[test]
fn every_command_explains_itself() {
    let desk = Desk::new();
    for command in ["serve", "ask", "init", "index", "eval", "models", "doctor"] {
        let (code, text) = desk.run(&[command, "--help"]);
        assert_eq!(code, 0, "{command}");
        assert!(text.contains("Usage: firstline"), "{command}: {text}");
    }
    assert_eq!(desk.run(&["serve", "--port", "many"]).0, 2);
    assert_eq!(desk.run(&["sevre"]).0, 2);
}

#[test]
fn an_unknown_setting_is_refused_by_its_name() {
    let desk = Desk::new();
    desk.write("firstline.toml", "[server]\nprot = 9000\n");
    let (code, text) = desk.run(&["models", "list"]);
    assert_eq!(code, 1);
    assert!(text.contains("prot") && text.contains("firstline.toml"), "{text}");
}

#[test]
fn a_setting_of_the_wrong_kind_is_refused_with_its_value() {
    let output = Desk::new().command(&["models", "list"]).env("FIRSTLINE_SERVER__PORT", "many").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("many"), "{text}");
}

#[test]
fn init_makes_a_pack_that_passes_the_check() {
    let desk = Desk::with_pack();
    assert!(desk.path("pack/articles/en/img/k.png").is_file());
    let (code, text) = desk.run(&["index", "--check", "--kb", "pack"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 articles") && text.contains("0 faults"), "{text}");
    assert!(text.contains("operators/assistant/v1.md: core "), "{text}");
}

#[test]
fn init_leaves_a_folder_that_is_not_empty_alone() {
    let desk = Desk::with_pack();
    desk.write("pack/faq.csv", "mine");
    let (code, text) = desk.run(&["init", "pack", "--from", "docs"]);
    assert_eq!(code, 1);
    assert!(text.contains("not empty") && text.contains("--force"), "{text}");
    assert_eq!(std::fs::read_to_string(desk.path("pack/faq.csv")).unwrap(), "mine");
    assert_eq!(desk.run(&["init", "pack", "--from", "docs", "--force"]).0, 0);
}

#[test]
fn init_without_documents_says_what_it_looks_for() {
    let desk = Desk::new();
    desk.write("docs/a.pdf", "%PDF");
    let (code, text) = desk.run(&["init", "pack", "--from", "docs"]);
    assert_eq!(code, 1);
    assert!(text.contains(".md"), "{text}");
    assert!(!desk.path("pack").exists());
}

#[test]
fn the_check_names_file_and_line_of_a_fault() {
    let desk = Desk::with_pack();
    let filters = std::fs::read_to_string(desk.path("pack/filters/general.jsonl")).unwrap();
    desk.write("pack/filters/general.jsonl", &(filters + "{\"text\": \"x\", \"label\": \"nonsense\"}\n"));
    let (code, text) = desk.run(&["index", "--check", "--kb", "pack"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("filters/general.jsonl:211"), "{text}");
}

#[test]
fn a_core_that_does_not_fit_the_model_is_refused_with_its_line() {
    let desk = Desk::with_pack();
    let rules = "- Answer the customer kindly and in few words, whatever the question may be.\n".repeat(400);
    desk.write("pack/operators/assistant/v1.md", &format!("# Rules\n\n{rules}\n# Scenarios\n\n## One\nText.\n"));
    let (code, text) = desk.run(&["index", "--check", "--kb", "pack"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("operators/assistant/v1.md:1") && text.contains("the core passes 2048 tokens"), "{text}");
}

#[test]
fn the_demo_pack_has_no_fault() {
    let desk = Desk::new();
    let (code, text) = desk.run(&["index", "--check", "--kb", &demo_pack()]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn indexing_twice_embeds_nothing_the_second_time() {
    let desk = Desk::with_pack();
    let (code, text) = desk.run(&["index", "--kb", "pack"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = desk.run(&["index", "--kb", "pack"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(" 0 embedded"), "{text}");
}

#[test]
fn a_missing_model_says_how_to_get_it() {
    let desk = Desk::with_pack();
    let output = desk.command(&["index", "--kb", "pack"]).env("FIRSTLINE_MODELS", desk.path("none")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("all-minilm-l6-v2") && text.contains("scripts/fetch-models"), "{text}");
}

#[test]
fn doctor_finds_nothing_wrong_with_a_good_machine_and_ends_with_a_fault_otherwise() {
    let desk = Desk::new();
    let kb = demo_pack();
    let good = desk.command(&["doctor", "--kb", &kb]).env("FIRSTLINE_SERVER__PORT", "0").output().unwrap();
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(good.status.success(), "{text}");
    assert!(text.contains("SHA-256 good") && text.contains("processor"), "{text}");
    let bad = desk.command(&["doctor", "--kb", &kb]).env("FIRSTLINE_MODELS", desk.path("none")).output().unwrap();
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert_eq!(bad.status.code(), Some(1), "{text}");
    assert!(text.contains("FAIL") && text.contains("scripts/fetch-models"), "{text}");
}

#[test]
fn doctor_reports_faulty_settings_beside_the_rest() {
    let desk = Desk::new();
    desk.write("firstline.toml", "[engine]\nspeed = \"high\"\n");
    let (code, text) = desk.run(&["doctor"]);
    assert_eq!(code, 1);
    assert!(text.contains("processor") && text.contains("speed"), "{text}");
}

#[test]
fn models_list_names_every_model_with_its_state() {
    let (code, text) = Desk::new().run(&["models", "list"]);
    assert_eq!(code, 0);
    let starter = text.lines().find(|line| line.contains("smollm2-135m-instruct-q4_1")).unwrap();
    assert!(starter.contains("here"), "{starter} (run scripts/fetch-models)");
    assert!(text.contains("bge-reranker-v2-m3") && text.contains("not yet"), "{text}");
}

#[test]
fn ask_answers_from_the_pack_and_names_its_source() {
    let desk = Desk::new();
    let (code, text) = desk.run(&["ask", "How do I change the widget's color?", "--kb", &demo_pack()]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Settings → Widget → Appearance"), "{text}");
    assert!(text.contains("action    answer") && text.contains("source "), "{text}");
}
