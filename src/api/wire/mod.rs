//! The OpenAI wire: what requests may hold, what answers look like, and the one error shape. Plain data; no HTTP
//! server, no models.

pub mod chat;
pub mod completion;
pub mod embeddings;
pub mod error;
pub mod fields;
pub mod messages;
pub mod support;
