//! Black-box tests: the real program, real models, real clients, through the socket. One module a feature.
//!
//! They need the starter models; without them every test fails with the command that fetches them.

mod adapters;
mod async_openai_client;
mod browser;
mod channels;
mod cli;
mod conversations;
mod crash;
mod demo_evals;
mod desk;
mod disconnect;
mod documents;
mod embeddings;
mod errors;
mod figures;
mod files;
mod forms;
mod frameworks;
mod hub;
mod kb_files;
mod keys;
mod knowledge;
mod lifecycle;
mod listen;
mod page;
mod parameters;
mod poison;
mod python_client;
mod raw_chat;
mod restated;
mod server;
mod streaming;
mod support_chat;
mod versions;
mod widget;
