//! `firstline bundle OUT.tar.zst`: program, models, pack and licences in one archive, for a machine without a network.
//!
//! The same content gives the same bytes: entries are sorted and carry no times, owners or odd modes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use sha2::{Digest, Sha256};

use super::catalog::{self, Catalog, Kind};
use super::{models, show};
use crate::config::{ModelSettings, Settings};
use crate::kb::Pack;
use crate::model::parts;

const INSTALL: &str = include_str!("../../packaging/install.sh");
const SERVICE: &str = include_str!("../../packaging/firstline.service");
const LICENCE: &str = include_str!("../../LICENSE");
const THIRD_PARTY: &str = include_str!("../../packaging/THIRD-PARTY.md");
const PAGE: &str = include_str!("../../docs/packaging.md");
/// Weights hardly shrink; more would only take longer.
const ZSTD_LEVEL: i32 = 6;

#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The archive to write
    #[arg(value_name = "OUT.tar.zst")]
    out: PathBuf,
    /// The program to pack, a stripped one for example [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Leave the knowledge pack out
    #[arg(long)]
    no_kb: bool,
    /// Replace the archive if it is there
    #[arg(long)]
    force: bool,
}

pub fn run(settings: &Settings, args: &BundleArgs) -> anyhow::Result<ExitCode> {
    if args.out.exists() && !args.force {
        bail!("{} is there already; name another file, or add --force", args.out.display());
    }
    let program = args.program.clone().map_or_else(std::env::current_exe, Ok).context("the program's own file")?;
    let mut content = Content::default();
    content.add_text("install.sh", INSTALL, true);
    content.add_text("firstline.service", SERVICE, false);
    content.add_text("docs/packaging.md", PAGE, false);
    content.add_text("licences/LICENSE", LICENCE, false);
    content.add_text("licences/THIRD-PARTY.md", THIRD_PARTY, false);
    content.entries.insert("bin/firstline".into(), (Bytes::File(program), true));
    let chosen = add_models(&settings.models, &mut content)?;
    if !args.no_kb {
        add_pack(&settings.knowledge.dir, &mut content)?;
        add_adapters(settings, &mut content)?;
    }
    content.add_text("firstline.toml", &settings_file(&chosen), false);
    let root = format!("firstline-{}", env!("CARGO_PKG_VERSION"));
    let (bytes, hash) = write(&content, &root, &args.out)?;
    let sum = format!("{hash}  {}\n", args.out.file_name().unwrap_or_default().to_string_lossy());
    let sum_path = PathBuf::from(format!("{}.sha256", args.out.display()));
    std::fs::write(&sum_path, sum).with_context(|| sum_path.display().to_string())?;
    println!(
        "{}: {}, {} packed, sha256 {hash}",
        args.out.display(),
        show::count(content.entries.len() + 1, "file"),
        show::mib(bytes >> 20)
    );
    println!(
        "On the other machine: sha256sum -c {0}.sha256, tar --zstd -xf {0}, {root}/install.sh",
        show_name(&args.out)
    );
    Ok(ExitCode::SUCCESS)
}

fn show_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where an entry's bytes come from.
enum Bytes {
    File(PathBuf),
    Text(String),
}

/// Path in the archive -> bytes, and whether it can be run.
#[derive(Default)]
struct Content {
    entries: BTreeMap<String, (Bytes, bool)>,
}

impl Content {
    fn add_text(&mut self, path: &str, text: &str, runs: bool) {
        self.entries.insert(path.into(), (Bytes::Text(text.into()), runs));
    }

    /// A folder with all that is in it, hidden files left out.
    fn add_folder(&mut self, folder: &Path, to: &str) -> anyhow::Result<()> {
        for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| anyhow::anyhow!("{name:?} is not UTF-8"))?;
            if name.starts_with('.') {
                continue;
            }
            let (path, inner) = (entry.path(), format!("{to}/{name}"));
            match std::fs::metadata(&path).with_context(|| path.display().to_string())? {
                // A link to a folder may lead around in a ring.
                meta if meta.is_dir() && !path.is_symlink() => self.add_folder(&path, &inner)?,
                meta if meta.is_file() => drop(self.entries.insert(inner, (Bytes::File(path), false))),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names of the models in the bundle, as its settings call them.
struct Chosen {
    chat: String,
    embed: String,
}

/// Adds the models that are set, with their licences; files of the catalog are checked against their hashes.
fn add_models(settings: &ModelSettings, content: &mut Content) -> anyhow::Result<Chosen> {
    let catalog = Catalog::load(settings.catalog.as_deref())?;
    let mut licences = String::from("# Licences of the models in this bundle\n\n");
    let mut add = |kind: Kind, set: &str, path: &Path| -> anyhow::Result<String> {
        if let Some(model) = catalog.find(set) {
            let folder = model.locate(&settings.folders()).context(model.how_to_get())?;
            let faults = models::faults(model, &folder);
            if faults.iter().any(|fault| fault.contains("SHA-256")) {
                bail!("{}: {}", model.name, faults.join("; "));
            }
            for file in &model.files {
                let to = format!("models/{}/{}", model.name, file.path);
                content.entries.insert(to, (Bytes::File(folder.join(&file.path)), false));
            }
            licences += &format!("- {} ({kind}): {}\n", model.name, model.licence);
            return Ok(model.name.clone());
        }
        let name = show_name(path);
        licences += &format!("- {name} ({kind}): a model of your own; see where you have it from\n");
        match path.is_dir() {
            true => content.add_folder(path, &format!("models/{name}"))?,
            false => {
                for part in parts(path) {
                    content.entries.insert(format!("models/{}", show_name(&part)), (Bytes::File(part), false));
                }
            }
        }
        Ok(format!("@PREFIX@/models/{name}"))
    };
    let chat = add(Kind::Chat, &settings.chat, &catalog::resolve_chat(settings)?.path)?;
    let embed = add(Kind::Embed, &settings.embed, &catalog::resolve_embed(settings)?.path)?;
    if let Some(own) = &settings.catalog {
        content.entries.insert("models/catalog.toml".into(), (Bytes::File(own.clone()), false));
    }
    content.add_text("licences/MODELS.md", &licences, false);
    Ok(Chosen { chat, embed })
}

fn add_pack(dir: &Path, content: &mut Content) -> anyhow::Result<()> {
    if !dir.is_dir() {
        bail!("the knowledge pack {} is not there; name it with --kb, or add --no-kb", dir.display());
    }
    content.add_folder(dir, "kb")
}

/// Adds the operators' adapters that lie in a models folder and not in the pack.
fn add_adapters(settings: &Settings, content: &mut Content) -> anyhow::Result<()> {
    let pack = Pack::read(&settings.knowledge);
    for operator in &pack.operators {
        let Some(adapter) = &operator.adapter else { continue };
        let path = pack.adapter_path(adapter, &settings.models.folders()).map_err(|e| anyhow::anyhow!(e))?;
        if !content.entries.contains_key(&format!("kb/{}", adapter.file)) {
            content.entries.insert(format!("models/{}", adapter.file), (Bytes::File(path), false));
        }
    }
    Ok(())
}

/// `firstline.toml` of the bundle. `@PREFIX@` becomes where it is installed.
fn settings_file(chosen: &Chosen) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    format!(
        "# Settings of this installation; all of them: firstline help, README.\n\
         [models]\ndir = \"@PREFIX@/models\"\nchat = {}\nembed = {}\n\n\
         [knowledge]\ndir = \"@PREFIX@/kb\"\n\n\
         # The service's state lies where its unit says (/var/lib/firstline).\n\
         [store]\nstate_dir = \"@PREFIX@/state\"\n",
        quoted(&chosen.chat),
        quoted(&chosen.embed)
    )
}

/// Writes the archive beside its name, then renames it: its bytes and SHA-256.
fn write(content: &Content, root: &str, out: &Path) -> anyhow::Result<(u64, String)> {
    let beside = PathBuf::from(format!("{}.part", out.display()));
    let file = File::create(&beside).with_context(|| beside.display().to_string())?;
    let mut tar = tar::Builder::new(zstd::Encoder::new(BufWriter::new(file), ZSTD_LEVEL)?);
    let mut sums = String::new();
    for (path, (from, runs)) in &content.entries {
        let hash = match from {
            Bytes::Text(text) => append(&mut tar, root, path, *runs, text.len() as u64, text.as_bytes())?,
            Bytes::File(file) => {
                let shown = || file.display().to_string();
                let opened = File::open(file).with_context(shown)?;
                let size = opened.metadata().with_context(shown)?.len();
                append(&mut tar, root, path, *runs, size, opened).with_context(shown)?
            }
        };
        sums += &format!("{hash}  {path}\n");
    }
    append(&mut tar, root, "SHA256SUMS", false, sums.len() as u64, sums.as_bytes())?;
    let file = tar.into_inner()?.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let hash = catalog::sha256_file(&beside)?;
    std::fs::rename(&beside, out).with_context(|| out.display().to_string())?;
    Ok((file.metadata()?.len(), hash))
}

/// Adds one entry and returns its SHA-256.
fn append(
    tar: &mut tar::Builder<impl Write>,
    root: &str,
    path: &str,
    runs: bool,
    size: u64,
    bytes: impl Read,
) -> anyhow::Result<String> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(if runs { 0o755 } else { 0o644 });
    let mut hashing = Hashing { bytes: bytes.take(size), hasher: Sha256::new() };
    tar.append_data(&mut header, format!("{root}/{path}"), &mut hashing)?;
    Ok(hashing.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Hashes what is read through it.
struct Hashing<R> {
    bytes: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.bytes.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A bundle with a script in the program's place.
    fn bundle(folder: &Path) -> PathBuf {
        let mut content = Content::default();
        content.add_text("install.sh", INSTALL, true);
        content.add_text("bin/firstline", "#!/bin/sh\necho firstline 0\n", true);
        content.add_text("models/m/model.gguf", "weights", false);
        content.add_text("kb/company.toml", "name = \"x\"", false);
        content.add_text("docs/packaging.md", PAGE, false);
        content.add_text("licences/LICENSE", LICENCE, false);
        let chosen = Chosen { chat: "m".into(), embed: "@PREFIX@/models/e".into() };
        content.add_text("firstline.toml", &settings_file(&chosen), false);
        let out = folder.join("x.tar.zst");
        write(&content, "firstline-0", &out).unwrap();
        let packed = zstd::Decoder::new(File::open(&out).unwrap()).unwrap();
        tar::Archive::new(packed).unpack(folder).unwrap();
        folder.join("firstline-0")
    }

    fn install(unpacked: &Path, prefix: &Path) -> bool {
        let mut script = Command::new("sh");
        script.arg(unpacked.join("install.sh")).args(["--no-service", "--prefix"]).arg(prefix);
        script.output().unwrap().status.success()
    }

    #[test]
    fn a_bundle_installs_itself_and_an_update_keeps_the_pack_and_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let (unpacked, prefix) = (bundle(folder.path()), folder.path().join("to here"));
        assert!(install(&unpacked, &prefix));
        let toml = std::fs::read_to_string(prefix.join("firstline.toml")).unwrap();
        let settings: Settings = toml::from_str(&toml).unwrap();
        assert_eq!(settings.knowledge.dir, prefix.join("kb"));
        assert_eq!(settings.models.embed, prefix.join("models/e").to_string_lossy());
        std::fs::write(prefix.join("kb/company.toml"), "mine").unwrap();
        assert!(install(&unpacked, &prefix));
        assert_eq!(std::fs::read_to_string(prefix.join("kb/company.toml")).unwrap(), "mine");
        assert!(prefix.join("kb.new/company.toml").is_file() && prefix.join("firstline.toml.new").is_file());
    }

    #[test]
    fn a_damaged_bundle_is_not_installed() {
        let folder = tempfile::tempdir().unwrap();
        let (unpacked, prefix) = (bundle(folder.path()), folder.path().join("p"));
        std::fs::write(unpacked.join("models/m/model.gguf"), "weightz").unwrap();
        assert!(!install(&unpacked, &prefix));
        assert!(!prefix.exists());
    }
}
