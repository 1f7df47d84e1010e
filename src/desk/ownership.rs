//! Who owns a conversation, and who may change that. Pure: the store carries a decision out in one transaction.
//!
//! ```text
//!            handoff            take              close
//!   bot ──────────────▶ waiting ─────▶ person ──────────▶ closed
//!    ▲ ╲____________________take________▲ │                 │
//!    └───────────────give back────────────┘                 │
//!    └───────────────the customer writes again──────────────┘
//! ```

use serde::{Deserialize, Serialize};

/// Who answers the customer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    #[default]
    Bot,
    /// In a team's queue; the model is silent.
    Waiting,
    /// A person has it; the model is silent.
    Person,
    Closed,
}

impl Owner {
    pub const ALL: [Owner; 4] = [Owner::Bot, Owner::Waiting, Owner::Person, Owner::Closed];

    pub fn word(self) -> &'static str {
        match self {
            Owner::Bot => "bot",
            Owner::Waiting => "waiting",
            Owner::Person => "person",
            Owner::Closed => "closed",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|owner| owner.word() == word)
    }

    /// True where the model does not answer.
    pub fn silences_bot(self) -> bool {
        matches!(self, Owner::Waiting | Owner::Person)
    }
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedAs {
    Solved,
    Unsolved,
    Spam,
}

impl ClosedAs {
    pub fn word(self) -> &'static str {
        match self {
            ClosedAs::Solved => "solved",
            ClosedAs::Unsolved => "unsolved",
            ClosedAs::Spam => "spam",
        }
    }
}

/// A member of the staff, as far as ownership goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor<'a> {
    pub id: &'a str,
    /// A lead may act on what a colleague has.
    pub is_lead: bool,
}

/// What staff do to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Take,
    Reply,
    GiveBack,
    Close(ClosedAs),
}

/// The present of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    pub owner: Owner,
    /// Set exactly where a person owns it.
    pub staff_id: Option<String>,
}

/// Why an act is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("somebody else has this conversation; a lead can take it over")]
    SomebodyElse,
    #[error("nobody has taken this conversation; take it first")]
    NotTaken,
    #[error("this conversation is closed; it opens again when the customer writes, or when you take it")]
    Closed,
    #[error("this conversation is with the bot already")]
    WithBot,
    #[error("this conversation is closed already")]
    ClosedAlready,
}

/// The holding after an act; equal to the one before where nothing changes (taking what one has, a reply).
///
/// # Errors
/// An act that the present does not allow.
pub fn after(now: &Holding, act: Act, actor: Actor<'_>) -> Result<Holding, Refusal> {
    let mine = now.staff_id.as_deref() == Some(actor.id);
    let others = now.owner == Owner::Person && !mine;
    let held_by = |owner| Holding { owner, staff_id: None };
    match act {
        Act::Take if others && !actor.is_lead => Err(Refusal::SomebodyElse),
        Act::Take => Ok(Holding { owner: Owner::Person, staff_id: Some(actor.id.to_string()) }),
        Act::Reply if now.owner == Owner::Closed => Err(Refusal::Closed),
        // Also a lead takes it first, so that the customer is told who speaks.
        Act::Reply if others => Err(Refusal::SomebodyElse),
        Act::Reply if !mine => Err(Refusal::NotTaken),
        Act::Reply => Ok(now.clone()),
        Act::GiveBack | Act::Close(_) if others && !actor.is_lead => Err(Refusal::SomebodyElse),
        Act::GiveBack if now.owner == Owner::Bot => Err(Refusal::WithBot),
        Act::GiveBack => Ok(held_by(Owner::Bot)),
        Act::Close(_) if now.owner == Owner::Closed => Err(Refusal::ClosedAlready),
        Act::Close(_) => Ok(held_by(Owner::Closed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Actor<'_> = Actor { id: "anna", is_lead: false };
    const BORIS: Actor<'_> = Actor { id: "boris", is_lead: false };
    const LEAD: Actor<'_> = Actor { id: "lena", is_lead: true };

    fn holding(owner: Owner, staff: Option<&str>) -> Holding {
        Holding { owner, staff_id: staff.map(str::to_string) }
    }

    #[test]
    fn anybody_may_take_what_nobody_has_and_then_only_a_lead() {
        for owner in [Owner::Bot, Owner::Waiting, Owner::Closed] {
            let taken = after(&holding(owner, None), Act::Take, ANNA).unwrap();
            assert_eq!(taken, holding(Owner::Person, Some("anna")));
            assert_eq!(after(&taken, Act::Take, BORIS), Err(Refusal::SomebodyElse));
            assert_eq!(after(&taken, Act::Take, LEAD).unwrap().staff_id.as_deref(), Some("lena"));
        }
    }

    #[test]
    fn only_who_has_taken_it_replies() {
        let annas = holding(Owner::Person, Some("anna"));
        assert_eq!(after(&annas, Act::Reply, ANNA).unwrap(), annas);
        assert_eq!(after(&annas, Act::Reply, LEAD), Err(Refusal::SomebodyElse));
        assert_eq!(after(&holding(Owner::Waiting, None), Act::Reply, ANNA), Err(Refusal::NotTaken));
        assert_eq!(after(&holding(Owner::Closed, None), Act::Reply, ANNA), Err(Refusal::Closed));
    }

    #[test]
    fn a_conversation_goes_back_to_the_bot_from_anywhere_but_the_bot() {
        for now in [holding(Owner::Waiting, None), holding(Owner::Person, Some("anna")), holding(Owner::Closed, None)] {
            assert_eq!(after(&now, Act::GiveBack, ANNA).unwrap(), holding(Owner::Bot, None));
        }
        assert_eq!(after(&holding(Owner::Bot, None), Act::GiveBack, ANNA), Err(Refusal::WithBot));
    }

    #[test]
    fn a_colleagues_conversation_is_closed_by_a_lead_only() {
        let annas = holding(Owner::Person, Some("anna"));
        assert_eq!(after(&annas, Act::Close(ClosedAs::Spam), BORIS), Err(Refusal::SomebodyElse));
        assert_eq!(after(&annas, Act::Close(ClosedAs::Spam), LEAD).unwrap(), holding(Owner::Closed, None));
        let closed = holding(Owner::Closed, None);
        assert_eq!(after(&closed, Act::Close(ClosedAs::Solved), LEAD), Err(Refusal::ClosedAlready));
    }

    #[test]
    fn a_person_is_named_exactly_where_a_person_owns_it() {
        let acts = [Act::Take, Act::Reply, Act::GiveBack, Act::Close(ClosedAs::Solved)];
        for owner in Owner::ALL {
            let staff = (owner == Owner::Person).then_some("anna");
            for (act, actor) in acts.into_iter().flat_map(|act| [(act, ANNA), (act, BORIS), (act, LEAD)]) {
                if let Ok(next) = after(&holding(owner, staff), act, actor) {
                    assert_eq!(next.owner == Owner::Person, next.staff_id.is_some(), "{owner:?} {act:?}");
                }
            }
        }
    }

    #[test]
    fn every_owner_is_known_by_its_word() {
        assert!(Owner::ALL.into_iter().all(|owner| Owner::parse(owner.word()) == Some(owner)));
        assert_eq!(Owner::parse("nobody"), None);
    }
}
