//! `firstline serve`.

use std::process::ExitCode;

use clap::Args;

use super::{catalog, show};
use crate::api::{self, Startup};
use crate::config::Settings;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Port to listen on; 0 takes a free one [default: 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The URL under which customers reach this server, for links in answers [default: http://HOST:PORT]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

pub fn run(mut settings: Settings, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    if let Some(host) = &args.host {
        settings.server.host.clone_from(host);
    }
    if let Some(port) = args.port {
        settings.server.port = port;
    }
    if args.public_url.is_some() {
        settings.server.public_url.clone_from(&args.public_url);
    }
    let models = catalog::resolve(&settings)?;
    let mut address = String::new();
    let bar = show::index_bar();
    bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    let report = move |event: Startup| match event {
        Startup::Listening { base } => {
            eprintln!("listening on {base}, loading");
            address = base;
        }
        Startup::Models { chat_ms, embed_ms } => eprintln!("models loaded in {chat_ms} + {embed_ms} ms"),
        Startup::Indexing(progress) => {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            show::index_progress(&bar, progress);
        }
        Startup::Indexed(report) => {
            bar.finish_and_clear();
            eprintln!("knowledge: {}", show::index_report(&report));
        }
        Startup::Warm { operator, tokens, ms } => {
            eprintln!("operator {operator}: {tokens} tokens of instruction ready in {ms} ms");
        }
        Startup::JoinLink { url } => eprintln!("console: nobody has an account yet; become the first lead at {url}"),
        Startup::Ready { ms } => {
            eprintln!(
                "ready after {:.1} s: {address}/ (test chat), {address}/console, {address}/v1 (API)",
                ms as f64 / 1000.0
            );
        }
    };
    super::block_on(async { Ok(api::serve(settings, models, report).await?) })?;
    Ok(ExitCode::SUCCESS)
}
