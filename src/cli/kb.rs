//! `firstline kb export`: what people added through the console, as a patch for the company's git.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use similar::TextDiff;

use crate::config::Settings;
use crate::kb::desk;

#[derive(Debug, Args)]
pub struct KbArgs {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Print what people added through the console as a patch (`git apply`) against the pack's last commit
    Export,
}

pub fn run(settings: &Settings, args: &KbArgs) -> anyhow::Result<ExitCode> {
    match args.part {
        Part::Export => export(settings),
    }
}

fn export(settings: &Settings) -> anyhow::Result<ExitCode> {
    let pack = &settings.knowledge.dir;
    if !pack.is_dir() {
        bail!("{}: there is no such folder", pack.display());
    }
    let folder = desk::folder(pack, &settings.store.state_dir);
    let mut files = Vec::new();
    list(&folder, "", &mut files)?;
    files.sort();
    let mut empty = true;
    for file in files {
        let path = format!("desk/{file}");
        let now = std::fs::read_to_string(folder.join(&file)).with_context(|| file.clone())?;
        let before = committed(pack, &path);
        if before.as_deref() == Some(now.as_str()) {
            continue;
        }
        empty = false;
        print!("{}", patch(&path, before.as_deref(), &now));
    }
    if empty {
        eprintln!("nothing was added through the console that the pack's git does not have");
    }
    Ok(ExitCode::SUCCESS)
}

fn list(folder: &Path, inside: &str, files: &mut Vec<String>) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(folder.join(inside)) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
        match entry.file_type()? {
            _ if name.starts_with('.') => {}
            kind if kind.is_dir() => list(folder, &path, files)?,
            _ => files.push(path),
        }
    }
    Ok(())
}

/// The file as the pack's git has it.
fn committed(pack: &Path, path: &str) -> Option<String> {
    let shown = Command::new("git").arg("-C").arg(pack).args(["show", &format!("HEAD:./{path}")]).output().ok()?;
    shown.status.success().then(|| String::from_utf8(shown.stdout).ok())?
}

fn patch(path: &str, before: Option<&str>, now: &str) -> String {
    let old = before.map_or("/dev/null".to_string(), |_| format!("a/{path}"));
    let mode = if before.is_none() { "new file mode 100644\n" } else { "" };
    let diff = TextDiff::from_lines(before.unwrap_or_default(), now);
    format!("diff --git a/{path} b/{path}\n{mode}{}", diff.unified_diff().header(&old, &format!("b/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_makes_a_new_file_or_changes_an_old_one_as_git_reads_it() {
        let new = patch("desk/faq.jsonl", None, "{}\n");
        assert_eq!(
            new,
            "diff --git a/desk/faq.jsonl b/desk/faq.jsonl\nnew file mode 100644\n--- /dev/null\n+++ b/desk/faq.jsonl\n@@ -0,0 +1 @@\n+{}\n"
        );
        assert!(patch("desk/a.md", Some("a\nb\n"), "a\nc\n").contains("-b\n+c\n"));
    }
}
