//! The `support` field: what an aware client learns beside the answer.

use serde_json::{Value, json};

use crate::support::{Action, Handoff, TurnOutcome};

/// The field's value. `with_trace` adds "why this answer".
pub fn support_of(outcome: &TurnOutcome, conversation_id: &str, with_trace: bool) -> Value {
    let mut value = json!({
        "v": 1,
        "action": outcome.action,
        "kind": outcome.kind,
        "reason": outcome.reason,
        "conversation_id": conversation_id,
        "operator": outcome.operator,
        "operator_version": outcome.operator_version,
        "lang": outcome.lang,
        "confidence": outcome.confidence,
        "sources": outcome.sources,
        "handoff": outcome.handoff,
    });
    if with_trace {
        value["trace"] = json!(outcome.trace);
    }
    value
}

/// OpenAI's closed set of reasons, from the outcome.
pub fn finish_reason(outcome: &TurnOutcome, calls_tool: bool) -> &'static str {
    match outcome.action {
        Action::Handoff if calls_tool => "tool_calls",
        Action::Filtered => "content_filter",
        _ if outcome.length_limited => "length",
        _ => "stop",
    }
}

/// A handoff as a call of the client's `transfer_to_human`.
pub fn handoff_call(handoff: &Handoff, reason: &str) -> Value {
    let arguments = json!({
        "handoff_id": handoff.id, "queue": handoff.queue, "reason": reason,
        "summary": handoff.summary, "tags": handoff.tags,
    });
    json!({
        "id": format!("call_{}", handoff.id),
        "type": "function",
        "function": {"name": super::chat::HANDOFF_TOOL, "arguments": arguments.to_string()},
    })
}
