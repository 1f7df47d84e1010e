//! `firstline forget`: all that is recorded of one customer, or of one conversation, is deleted.

use std::process::ExitCode;

use clap::Args;

use crate::config::Settings;
use crate::store::Store;

#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// A conversation's id, or a customer's id as a channel or the widget gave it
    id: String,
}

/// Works beside a running server.
pub fn run(settings: &Settings, args: &ForgetArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let store = Store::open(&settings.store.state_dir, settings.store.keep_text).await?;
        let deleted = store.forget(&args.id).await;
        store.close().await;
        let deleted = deleted?;
        if deleted.conversations == 0 {
            println!("nothing is recorded of {:?}", args.id);
            return Ok(ExitCode::FAILURE);
        }
        println!("{} conversations deleted, {} rows", deleted.conversations, deleted.rows);
        if !deleted.log_is_clean {
            println!("the database's log file still holds them, because somebody reads it; run this again");
            return Ok(ExitCode::FAILURE);
        }
        println!("backups made before hold them still; delete those too");
        Ok(ExitCode::SUCCESS)
    })
}
