//! The people's side: who owns a conversation, the queue, what customers are told, staff's secrets, webhooks. No HTTP,
//! no tensors; the SQL stands in [`crate::store`], the pages' API in `api::console`, the customers' in `api::widget`.
//!
//! *Owner*: who answers the customer: the bot, nobody yet (*waiting* in a team's queue), a person, or nobody any more
//! (*closed*); [`ownership`] says who may change it. *Handoff*: the bot passes a conversation to a team; its row exists
//! before the customer is told. *Team*: a queue with working [`hours`]. *Change*: an entry of the feed that consoles,
//! widgets and webhooks follow, numbered in the order of commits. *Delivery*: a webhook that is to be sent, kept until
//! the other side has taken it ([`webhook`]).
//!
//! [`notice`] holds the sentences that customers read, [`secrets`] passwords and tokens, [`throttle`] how often
//! somebody may try. [`knowledge`] edits the pack, [`suggestions`] finds what it lacks, [`cluster`] puts the same questions
//! together.

pub mod cluster;
pub mod hours;
pub mod knowledge;
pub mod notice;
pub mod ownership;
pub mod secrets;
pub mod suggestions;
pub mod teams;
pub mod throttle;
pub mod webhook;

pub use ownership::{Act, Actor, ClosedAs, Holding, Owner, Refusal};
pub use teams::Teams;
