//! Firstline: the first line of a company's support, wholly on the company's own machine.
//!
//! Rooms stand on floors; a room imports only rooms on floors below it.
//!
//! | floor | room | in one line |
//! |---|---|---|
//! | 5 | [`api`] | HTTP and the OpenAI wire |
//! | 5 | [`eval`] | replaying dialogues with an expected outcome |
//! | 4 | [`support`] | one chat turn, from the customer's words to a checked answer |
//! | 4 | [`desk`] | the people's side: who owns a conversation, teams, webhooks, knowledge, suggestions |
//! | 4 | [`library`] | files that clients upload, and vector stores |
//! | 3 | [`kb`] | a knowledge pack: read, chunk, index, search, watch |
//! | 3 | [`store`] | conversations and their outcomes, in SQL |
//! | 2 | [`llm`] | chat generation: template, scheduler, KV blocks, sampler |
//! | 2 | [`embed`] | texts in, vectors out |
//! | 1 | [`model`] | weights to numbers: GGUF, tokenizers, the decoder |
//! | 1 | [`classify`] | small learned classifiers, calibrated |
//! | 0 | [`compute`] | the operations that the models are written in |
//! | 0 | [`config`], [`telemetry`], [`personal`], [`stats`], [`text`] | settings; logs and metrics; personal data, found and masked; intervals; words, stems, sentences, rough English |

pub mod api;
pub mod classify;
pub mod cli;
pub mod compute;
pub mod config;
pub mod desk;
pub mod embed;
pub mod eval;
pub mod kb;
pub mod library;
pub mod llm;
pub mod model;
pub mod personal;
pub mod stats;
pub mod store;
pub mod support;
pub mod telemetry;
pub mod text;
