//! Recorded conversations: what customers wrote once, played again.
//!
//! They come from a file of another system (JSON lines or CSV) or from this program's own database. The customer's words
//! are as they were, whatever is answered now, up to the point where a person took over; how the conversation went then
//! is what it is held against: a conversation that a person had to end should be handed to one, another should not, and
//! an answer that staff marked as wrong should not come again.

use super::play::{Caller, Play, Stage};
use super::{DialogueResult, Kind};
use crate::support::SupportError;
use crate::support::conversation::small_talk;

/// Most messages of a customer that are played.
const MOST_MESSAGES: usize = 30;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Customer,
    /// A program.
    Bot,
    /// A person of the company.
    Person,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub side: Side,
    pub text: String,
    /// Staff marked this answer as wrong.
    pub wrong: bool,
}

impl Said {
    pub fn new(side: Side, text: impl Into<String>) -> Self {
        Self { side, text: text.into(), wrong: false }
    }
}

/// A conversation as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    pub id: String,
    pub channel: Option<String>,
    pub said: Vec<Said>,
    /// What the customer said of it at the end.
    pub solved: Option<bool>,
}

impl Recorded {
    /// True where a person of the company spoke.
    pub fn has_person(&self) -> bool {
        self.said.iter().any(|said| said.side == Side::Person)
    }

    /// What the customer wrote before a person spoke; messages in a row are one.
    fn messages(&self) -> Vec<String> {
        let mut messages: Vec<String> = Vec::new();
        let mut open = false;
        for said in self.said.iter().take_while(|said| said.side != Side::Person) {
            match said.side {
                Side::Customer if !said.text.trim().is_empty() => {
                    match messages.last_mut().filter(|_| open) {
                        Some(last) => *last = format!("{last}\n{}", said.text.trim()),
                        None => messages.push(said.text.trim().to_string()),
                    }
                    open = true;
                }
                Side::Customer => {}
                _ => open = false,
            }
        }
        messages.truncate(MOST_MESSAGES);
        messages
    }
}

/// Plays a recorded conversation.
///
/// # Errors
/// When a turn fails as such.
pub(super) async fn replay(stage: &Stage<'_>, recorded: &Recorded) -> Result<DialogueResult, SupportError> {
    let mut result = DialogueResult::of(&recorded.id, Kind::Recorded);
    let messages = recorded.messages();
    let lang = stage.judge.language(&messages.join("\n"));
    let caller = Caller {
        id: &recorded.id,
        lang: &lang,
        model: "support",
        channel: recorded.channel.as_deref(),
        audience: None,
    };
    let mut play = Play::new(stage, caller);
    let marked: Vec<&str> = recorded.said.iter().filter(|s| s.wrong).map(|s| s.text.trim()).collect();
    let mut asked = false;
    for message in &messages {
        let (mut turn, _) = play.say(message).await?;
        asked |= small_talk(message).is_none() && turn.action != "filtered";
        if marked.contains(&turn.answer.trim()) {
            turn.faults.push("the answer that staff marked as wrong is given again".into());
        }
        let over = turn.action == "handoff";
        result.push(turn);
        if over {
            break;
        }
    }
    let person = recorded.has_person();
    let handed_off = result.turns.last().is_some_and(|t| t.action == "handoff");
    result.handoffs.count(handed_off, person, person);
    let answered = result.turns.last().is_some_and(|t| t.action == "answer");
    if asked && !person {
        result.resolved = Some(answered && !handed_off);
    }
    let failed = match (person, handed_off) {
        (true, false) => Some("a person ended it; now it is not handed over"),
        (false, true) => Some("it ended without a person; now it is handed over"),
        (false, false) if recorded.solved == Some(true) && !answered => Some("it was solved; now it ends unanswered"),
        _ => None,
    };
    if let Some(why) = failed {
        result.outcome_correct = false;
        result.fault(why.into());
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_a_person_is_not_played_and_messages_in_a_row_are_one() {
        let said = [
            (Side::Customer, "hello"),
            (Side::Customer, "where are invoices?"),
            (Side::Bot, "Which?"),
            (Side::Customer, "of March"),
            (Side::Person, "Olga here."),
            (Side::Customer, "thanks Olga"),
        ];
        let recorded =
            Recorded { said: said.map(|(side, text)| Said::new(side, text)).to_vec(), ..Recorded::default() };
        assert_eq!(recorded.messages(), ["hello\nwhere are invoices?", "of March"]);
        assert!(recorded.has_person());
    }
}
