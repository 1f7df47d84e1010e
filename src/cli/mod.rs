//! The command line: one file a command.
//!
//! Settings come from the defaults, `firstline.toml`, the environment (`FIRSTLINE_SERVER__PORT=9000`) and flags, in this
//! order ([`crate::config`]); [`SettingsArgs`] holds the flags that every command knows. A *catalog* entry names a model
//! and its files; [`catalog`] finds them on disk, [`hub`] fetches them. Commands print for people: results on stdout,
//! progress and faults on stderr; exit code 0 is success, 1 a fault, 2 a wrong call.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Settings;
use crate::kb::documents;
use crate::telemetry::{self, LogFormat};

mod adapters;
mod ask;
mod backup;
mod bundle;
pub mod catalog;
mod doctor;
mod eval;
mod eval_filters;
mod forget;
pub mod hub;
mod index;
mod init;
mod kb;
mod learn;
mod loaded;
mod memory;
mod models;
mod past;
mod plays;
mod serve;
mod show;
mod versions;

/// The first line of a company's support, wholly on the company's own machine.
#[derive(Debug, Parser)]
#[command(name = "firstline", version, arg_required_else_help = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the OpenAI-compatible API and the test-chat page
    Serve(serve::ServeArgs),
    /// Ask one question, in this process or of a running server, and show the answer with its sources
    Ask(ask::AskArgs),
    /// Make a new knowledge pack from a folder of documents, ready to serve
    Init(init::InitArgs),
    /// Build or update the index of the knowledge pack; with --check, only validate the pack
    Index(index::IndexArgs),
    /// Replay the pack's dialogues and compare with the outcome that is expected
    Eval(eval::EvalArgs),
    /// Let another version of an operator's instruction serve, if a comparison supports it
    Promote(versions::PromoteArgs),
    /// Find what customers ask most in past conversations: a draft FAQ
    Learn(learn::LearnArgs),
    /// What people added to the pack through the console
    Kb(kb::KbArgs),
    /// Copy the database to a file; a server may run meanwhile
    Backup(backup::BackupArgs),
    /// Put a copy of the database back; the server must stand still
    Restore(backup::RestoreArgs),
    /// Delete all that is recorded of a customer or a conversation; a server may run meanwhile
    Forget(forget::ForgetArgs),
    /// List, fetch and check model files
    Models(models::ModelsArgs),
    /// Read one document from stdin, for the process that started this one
    #[command(name = documents::COMMAND, hide = true)]
    ReadDocument { request: String },
    /// Pack program, models, knowledge and licences into one archive that installs without a network
    Bundle(bundle::BundleArgs),
    /// Look at this machine, the models, the pack and the port: what is fine, what is not, what to do
    Doctor(doctor::DoctorArgs),
}

/// Flags that every command knows. They win over the environment and `firstline.toml`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings (also in firstline.toml, or as FIRSTLINE_SECTION__FIELD)")]
struct SettingsArgs {
    /// Read settings from this file instead of ./firstline.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The knowledge pack [default: kb]
    #[arg(long, value_name = "FOLDER", global = true)]
    kb: Option<PathBuf>,
    /// Where model files lie [default: models, then the user's cache]
    #[arg(long = "models", value_name = "FOLDER", global = true)]
    models_dir: Option<PathBuf>,
    /// Chat model: a name from the catalog or a GGUF file [default: smollm2-135m-instruct-q4_1]
    #[arg(long, value_name = "NAME|FILE", global = true)]
    chat_model: Option<String>,
    /// Embedding model: a name from the catalog or a folder [default: all-minilm-l6-v2]
    #[arg(long, value_name = "NAME|FOLDER", global = true)]
    embed_model: Option<String>,
    /// Where the program keeps what it writes: database, index, saved prefixes [default: state]
    #[arg(long, value_name = "FOLDER", global = true)]
    state: Option<PathBuf>,
    /// Log level: error, warn, info, debug, trace, or directives as in firstline::llm=debug,warn
    #[arg(long, value_name = "LEVEL", global = true)]
    log: Option<String>,
    /// Form of log lines
    #[arg(long, value_name = "FORM", global = true, default_value = "text")]
    log_format: LogForm,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

impl SettingsArgs {
    fn load(&self) -> anyhow::Result<Settings> {
        let mut settings = Settings::load(self.config.as_deref())?;
        let set = |to: &mut PathBuf, from: &Option<PathBuf>| from.iter().for_each(|path| to.clone_from(path));
        set(&mut settings.knowledge.dir, &self.kb);
        set(&mut settings.models.dir, &self.models_dir);
        set(&mut settings.store.state_dir, &self.state);
        let set = |to: &mut String, from: &Option<String>| from.iter().for_each(|name| to.clone_from(name));
        set(&mut settings.models.chat, &self.chat_model);
        set(&mut settings.models.embed, &self.embed_model);
        Ok(settings)
    }

    /// Commands that print a result for people stay quiet below warnings, unless told otherwise.
    fn start_logging(&self, quiet: bool) -> anyhow::Result<()> {
        let format = match self.log_format {
            LogForm::Text => LogFormat::Text,
            LogForm::Json => LogFormat::Json,
        };
        let asked = self.log.is_some() || std::env::var_os("FIRSTLINE_LOG").is_some();
        let level = if quiet && !asked { Some("warn") } else { self.log.as_deref() };
        telemetry::init_logging(level, format).map_err(anyhow::Error::msg)
    }
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("firstline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Command::ReadDocument { request } = &cli.command {
        documents::answer_parent(request).map_err(anyhow::Error::msg)?;
        return Ok(ExitCode::SUCCESS);
    }
    // On Linux the program itself, also where its file was replaced while it runs.
    let own = PathBuf::from("/proc/self/exe");
    if let Some(program) = Some(own).filter(|own| own.exists()).or_else(|| std::env::current_exe().ok()) {
        documents::read_in_children(program);
    }
    cli.settings.start_logging(!matches!(cli.command, Command::Serve(_)))?;
    // `doctor` reports faulty settings itself, beside all else.
    if let Command::Doctor(args) = &cli.command {
        return Ok(doctor::run(cli.settings.load(), args));
    }
    let settings = cli.settings.load()?;
    match &cli.command {
        Command::Serve(args) => serve::run(settings, args),
        Command::Ask(args) => ask::run(&settings, args),
        Command::Init(args) => init::run(&settings, args),
        Command::Index(args) => index::run(&settings, args),
        Command::Eval(args) => eval::run(&settings, args),
        Command::Bundle(args) => bundle::run(&settings, args),
        Command::Promote(args) => versions::promote(&settings, args),
        Command::Learn(args) => learn::run(&settings, args),
        Command::Kb(args) => kb::run(&settings, args),
        Command::Backup(args) => backup::backup(&settings, args),
        Command::Restore(args) => backup::restore(&settings, args),
        Command::Forget(args) => forget::run(&settings, args),
        Command::Models(args) => models::run(&settings, args),
        Command::Doctor(_) | Command::ReadDocument { .. } => unreachable!("handled above"),
    }
}

/// Runs a command's asynchronous part.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_wins_over_the_default() {
        let cli = Cli::try_parse_from(["firstline", "index", "--kb", "elsewhere", "--state", "s"]).unwrap();
        let settings = cli.settings.load().unwrap();
        assert_eq!(settings.knowledge.dir, PathBuf::from("elsewhere"));
        assert_eq!(settings.store.state_dir, PathBuf::from("s"));
        assert_eq!(settings.models.chat, "smollm2-135m-instruct-q4_1");
    }

    #[test]
    fn the_documentation_lists_every_setting() {
        let readme = concat!(include_str!("../../README.md"), include_str!("../../docs/desk.md"));
        let settings = serde_json::to_value(Settings::default()).unwrap();
        for (section, fields) in settings.as_object().unwrap() {
            for field in fields.as_object().unwrap().keys() {
                assert!(
                    readme.contains(&format!("| `{section}.{field}` |")),
                    "{section}.{field} is in neither README.md nor docs/desk.md"
                );
            }
        }
    }
}
