//! What `firstline eval` and `firstline promote` play: chosen by flags, from the pack, files and the database.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::past;
use crate::config::Settings;
use crate::eval::Plays;
use crate::eval::customers::Voice;
use crate::eval::recorded::{Recorded, Said, Side};
use crate::kb::Pack;
use crate::llm::ChatModel;
use crate::personal;
use crate::store::{BoardQuery, Store, View};

#[derive(Debug, Args)]
pub struct PlaysArgs {
    /// Only plays whose id contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Dialogues of this file instead of the pack's evals/*.jsonl; without the pack's customers
    #[arg(long, value_name = "FILE")]
    dialogues: Option<PathBuf>,
    /// Who words the simulated customers of evals/customers/*.jsonl: the rows, or the chat model; none leaves them out
    #[arg(long, value_name = "VOICE", value_enum)]
    customers: Option<CustomersVoice>,
    /// Play these recorded conversations instead of the pack's plays: a file (as `firstline learn` reads), or `state` for
    /// this server's own database
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dialogues", "customers"])]
    recorded: Option<PathBuf>,
    /// Most recorded conversations, the latest
    #[arg(long, value_name = "N", default_value_t = 500)]
    most: usize,
    /// Seed of all that is drawn by chance: customers, sampling, the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CustomersVoice {
    Rules,
    Model,
    None,
}

impl PlaysArgs {
    /// Gathers them; an error where there are none.
    pub fn collect(&self, settings: &Settings, pack: &Pack, chat: &ChatModel) -> anyhow::Result<Plays> {
        let mut plays = Plays::default();
        match (&self.recorded, &self.dialogues) {
            (Some(path), _) => plays.recorded = self.recorded(settings, path)?,
            (None, Some(path)) => plays.dialogues = super::eval::rows(path)?,
            (None, None) => plays.dialogues.clone_from(&pack.evals),
        }
        let wanted = self.customers.unwrap_or(match (&self.recorded, &self.dialogues) {
            (None, None) => CustomersVoice::Rules,
            _ => CustomersVoice::None,
        });
        if wanted != CustomersVoice::None {
            plays.customers.clone_from(&pack.customers);
        }
        if wanted == CustomersVoice::Model {
            plays.voice = Voice::Model(chat.clone());
        }
        if let Some(only) = &self.only {
            plays.retain(only);
        }
        if plays.is_empty() {
            let from = match (&self.recorded, &self.dialogues) {
                (Some(path), _) | (None, Some(path)) => path.display().to_string(),
                _ => format!("{}/evals", settings.knowledge.dir.display()),
            };
            bail!("{from} holds nothing to play{}", if self.only.is_some() { " that fits --only" } else { "" });
        }
        Ok(plays)
    }

    fn recorded(&self, settings: &Settings, path: &std::path::Path) -> anyhow::Result<Vec<Recorded>> {
        let mut all = match path.to_str() {
            Some("state") => super::block_on(from_store(settings, self.most))?,
            _ => past::read(path)?,
        };
        all.retain(|recorded| recorded.said.iter().any(|said| said.side == Side::Customer));
        // A file of another system has the latest last.
        all.drain(..all.len().saturating_sub(self.most));
        for said in all.iter_mut().flat_map(|recorded| &mut recorded.said) {
            said.text = personal::masked(&said.text).into_owned();
        }
        Ok(all)
    }
}

/// The latest conversations of the database that have words, oldest first.
async fn from_store(settings: &Settings, most: usize) -> anyhow::Result<Vec<Recorded>> {
    let store = Store::open(&settings.store.state_dir, settings.store.keep_text).await?;
    let query = BoardQuery { view: View::All, limit: i64::try_from(most)?, ..BoardQuery::default() };
    let mut all = Vec::new();
    for item in store.board(&query).await? {
        let present = item.present;
        let said = store.timeline(&present.conversation_id).await?;
        let said = said.into_iter().filter(|said| !said.text.is_empty()).filter_map(|said| {
            let side = match said.from.as_str() {
                "customer" => Side::Customer,
                "bot" => Side::Bot,
                "person" => Side::Person,
                _ => return None,
            };
            let wrong = said.turn.is_some_and(|turn| turn.mark.is_some_and(|mark| mark.wrong));
            Some(Said { wrong, ..Said::new(side, said.text) })
        });
        all.push(Recorded {
            said: said.collect(),
            solved: match present.closed_as.as_deref() {
                Some("solved") => Some(true),
                Some("unsolved") => Some(false),
                _ => None,
            },
            id: present.conversation_id,
            channel: present.channel,
        });
    }
    store.close().await;
    all.reverse();
    Ok(all)
}
