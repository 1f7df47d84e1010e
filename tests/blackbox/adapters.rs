//! LoRA adapters of operators: what the commands say of them, and that answers are written through them.

use std::path::Path;
use std::process::Command;

use super::server::models_dir;

#[path = "../../src/model/tests/lora_file.rs"]
mod lora_file;

/// Three sentences of the model's own come before the passage.
const QUESTION: &str = "How do I descale the kettle, and how often?";

/// A folder with the small pack, whose operator Ann names an adapter.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs/mini");
        let copied = Command::new("cp").arg("-r").arg(pack).arg(desk.folder.path().join("kb")).status().unwrap();
        assert!(copied.success());
        desk
    }

    fn name_adapter(&self, line: &str) {
        let path = self.folder.path().join("kb/operators/ann/operator.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let plain: String = text.lines().filter(|l| !l.starts_with("adapter")).map(|l| format!("{l}\n")).collect();
        std::fs::write(path, format!("{line}\n{plain}")).unwrap();
    }

    /// Exit code, stdout, stderr.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstline"));
        command.current_dir(self.folder.path()).args(arguments).arg("--models").arg(models_dir());
        // With and without an adapter alike: a weak model alone has no free hand.
        command.env("FIRSTLINE_SUPPORT__MODEL_WRITES", "freely");
        let output = command.env("FIRSTLINE_ENGINE__KV_MIB", "256").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// What the model wrote before it was checked.
    fn written(&self) -> String {
        let (code, out, error) = self.run(&["ask", "--operator", "ann", "--json", QUESTION]);
        assert_eq!(code, 0, "{error}");
        let answer: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        let checks = answer["outcome"]["trace"]["checks"].as_array().expect("checks").clone();
        checks.iter().map(|check| format!("{}\n", check["sentence"].as_str().unwrap())).collect()
    }
}

/// An adapter of the starter model that changes the values of every layer's attention.
fn write_adapter(path: &Path, architecture: &str) {
    let (rank, narrow, hidden) = (4, 192, 576);
    let numbers = |rows: usize, cols: usize, step: f32| -> Vec<f32> {
        (0..rows * cols).map(|i| (i as f32 * step).sin() / (cols as f32).sqrt()).collect()
    };
    let mut pairs = Vec::new();
    for layer in 0..30 {
        let (name, shift) = (format!("blk.{layer}.attn_v.weight"), layer as f32);
        pairs.push((format!("{name}.lora_a"), (rank, hidden), numbers(rank, hidden, 0.37 + shift)));
        pairs.push((format!("{name}.lora_b"), (narrow, rank), numbers(narrow, rank, 0.73 + shift)));
    }
    lora_file::write(path, [architecture, "adapter", "lora"], 8.0, pairs);
}

#[test]
fn an_operators_answers_are_written_through_its_adapter_and_the_commands_show_it() {
    let desk = Desk::new();
    let plain = desk.written();
    assert!(!plain.is_empty(), "the model wrote nothing");
    write_adapter(&desk.folder.path().join("kb/operators/ann/lora.gguf"), "llama");
    desk.name_adapter("adapter = \"operators/ann/lora.gguf\"");
    assert_ne!(desk.written(), plain);
    desk.name_adapter("adapter = \"operators/ann/lora.gguf\"\nadapter_scale = 0.0");
    assert_eq!(desk.written(), plain, "an adapter of the scale 0 changes nothing");
    let shown = "rank 4, 30 matrices of llama";
    let (code, out, _) = desk.run(&["index", "--check"]);
    assert!(code == 0 && out.contains(shown), "{out}");
    let (_, out, _) = desk.run(&["doctor", "--quick"]);
    assert!(out.lines().any(|line| line.starts_with("ok") && line.contains("ann: ") && line.contains(shown)), "{out}");
}

#[test]
fn an_adapter_that_cannot_be_used_keeps_the_server_from_starting_and_says_why() {
    let desk = Desk::new();
    let said = |line: &str, wanted: &str| {
        desk.name_adapter(line);
        let (code, out, _) = desk.run(&["index", "--check"]);
        assert!(code != 0 && out.contains("operators/ann/operator.toml") && out.contains(wanted), "{out}");
        let (_, out, _) = desk.run(&["doctor", "--quick"]);
        assert!(out.lines().any(|line| line.starts_with("FAIL") && line.contains("ann: ")), "{out}");
        let (code, _, error) = desk.run(&["serve", "--port", "0"]);
        let named = error.contains("operators/ann/operator.toml") && error.contains(wanted);
        assert!(code != 0 && named, "{error}");
    };
    said("adapter = \"operators/ann/nowhere.gguf\"", "is in none of");
    write_adapter(&desk.folder.path().join("kb/operators/ann/lora.gguf"), "qwen2");
    said("adapter = \"operators/ann/lora.gguf\"", "for the architecture `qwen2`");
}
