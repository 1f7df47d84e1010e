//! The OpenAI wire: what requests may hold, what answers look like, and the one error shape. Plain data; no HTTP
//! server, no models.

pub mod chat;
pub mod completion;
pub mod completions;
pub mod embeddings;
pub mod error;
pub mod fields;
pub mod items;
pub mod messages;
pub mod responses;
pub mod support;
pub mod tools;
