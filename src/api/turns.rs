//! Starting a support turn, whoever asks: an API client, the widget, a channel, a member of the staff. While a person
//! owns the conversation, or it waits for one, the turn records the customer's words and the model is silent.

use std::time::Instant;

use super::answer::{Answer, SupportTurn};
use super::conversation::{self, Asked, Place};
use super::state::{Admission, AppState, Loaded};
use super::wire::error::ApiError;
use crate::desk::{Owner, notice};
use crate::llm::{ChatMessage, SamplingWishes, Usage};
use crate::store::{Beside, Present};
use crate::support::{Action, ConversationState, Trace, TurnOutcome, TurnRequest, TurnStream};

/// What a turn needs to know of who asks, and what.
#[derive(Default)]
pub struct TurnCall {
    /// Name of the API key, or of the room that asks (`@widget`).
    pub key_name: String,
    pub asked: Asked,
    pub channel: Option<String>,
    pub audience: Option<String>,
    pub operator: Option<String>,
    /// Ending with the customer's words.
    pub messages: Vec<ChatMessage>,
    pub sampling: SamplingWishes,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    pub response_id: String,
    /// See [`SupportTurn::handoff_tool`].
    pub handoff_tool: bool,
    pub with_trace: bool,
    pub beside: Beside,
    /// Staff's own questions leave no record.
    pub unrecorded: bool,
}

/// Starts a turn.
///
/// # Errors
/// An unknown conversation or operator, a full queue, an overlong prompt.
pub async fn begin(
    state: &AppState,
    admission: Admission,
    arrived: Instant,
    call: TurnCall,
) -> Result<Answer, ApiError> {
    let loaded = state.loaded()?;
    let customer_text = newest_words(&call.messages);
    let mut place =
        conversation::place(loaded, &call.key_name, call.asked, call.channel.clone(), call.messages).await?;
    let present = loaded.store.present(&place.conversation.id).await?;
    let silent = present.as_ref().filter(|p| Owner::parse(&p.owner).is_some_and(Owner::silences_bot));
    let stream = match silent {
        Some(present) => silence(state, loaded, present, &place),
        None => {
            place.state = place.state.map(with_the_bot_again);
            let request = TurnRequest {
                messages: place.messages.clone(),
                operator: call.operator,
                channel: call.channel.or_else(|| place.conversation.channel.clone()),
                audience: call.audience,
                conversation_id: place.conversation.id.clone(),
                group_id: place.conversation.group_id.clone(),
                state: place.state.clone(),
                messages_last_minute: place.messages_last_minute,
                sampling: call.sampling,
                max_tokens: call.max_tokens,
                stop: call.stop,
                public_url: state.public_url().to_string(),
            };
            loaded.support.turn(request).await?
        }
    };
    let turn = SupportTurn {
        stream,
        turn_id: uuid::Uuid::now_v7().to_string(),
        place,
        beside: call.beside,
        recorded: !call.unrecorded,
        customer_text,
        response_id: call.response_id,
        handoff_tool: call.handoff_tool,
        with_trace: call.with_trace,
        pack_version: loaded.knowledge.snapshot().version().to_string(),
        text: String::new(),
        first_text_ms: None,
        promise: None,
        recording: None,
    };
    Ok(Answer::support(state.clone(), admission, arrived, turn))
}

/// What a conversation that people gave back carries on: they have dealt with what went before.
fn with_the_bot_again(state: ConversationState) -> ConversationState {
    match state.handed_off {
        true => ConversationState { asked_for_person: 0, failures: 0, handed_off: false, ..state },
        false => state,
    }
}

/// No answer; the first customer's message in the queue is told that it is one.
fn silence(state: &AppState, loaded: &Loaded, present: &Present, place: &Place) -> TurnStream {
    let before = place.state.clone().unwrap_or_default();
    let lang = before.lang.clone().or_else(|| present.language.clone()).unwrap_or_else(|| {
        loaded.knowledge.snapshot().pack().company.languages.first().cloned().unwrap_or_else(|| "en".into())
    });
    let text = match present.owner == Owner::Waiting.word() && !present.queue_told {
        true => {
            let team = present.team.as_deref().unwrap_or_default();
            notice::waiting(&lang, state.teams().closed_until(team, chrono::Utc::now()).as_ref())
        }
        false => String::new(),
    };
    let reason = match &present.staff_name {
        Some(name) => format!("{name} has this conversation; the model is silent"),
        None => "the conversation waits for a person; the model is silent".into(),
    };
    let outcome = TurnOutcome {
        action: Action::Human,
        kind: present.owner.clone(),
        reason,
        operator: before.operator.clone().unwrap_or_default(),
        operator_version: before.operator_version.clone().unwrap_or_default(),
        lang,
        confidence: 1.0,
        sources: Vec::new(),
        handoff: None,
        usage: Usage::default(),
        length_limited: false,
        state: before,
        trace: Trace::default(),
    };
    TurnStream::said(text, outcome)
}

/// What the customer wrote since our last answer.
fn newest_words(messages: &[ChatMessage]) -> String {
    let after = messages.iter().rposition(|m| m.role == "assistant").map_or(0, |n| n + 1);
    let words = messages[after..].iter().filter(|m| m.role == "user").map(|m| m.content.as_str());
    words.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: &str, content: &str) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into() }
    }

    #[test]
    fn all_messages_since_the_last_answer_are_the_customers_words() {
        let t = [said("user", "a"), said("assistant", "b"), said("user", "c"), said("system", "s"), said("user", "d")];
        assert_eq!(newest_words(&t), "c\nd");
    }

    #[test]
    fn what_people_dealt_with_is_not_held_against_the_next_question() {
        let after = ConversationState { asked_for_person: 2, failures: 1, handed_off: true, ..Default::default() };
        assert_eq!(with_the_bot_again(after), ConversationState::default());
        let never = ConversationState { asked_for_person: 1, ..Default::default() };
        assert_eq!(with_the_bot_again(never.clone()), never);
    }
}
