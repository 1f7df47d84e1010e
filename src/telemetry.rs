//! Logs and metrics. Customers' words never reach a log at the default level.

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts logging to stderr. `level`: `error`, `warn`, `info`, `debug`, `trace`, or filter directives
/// (`firstline::llm=debug,warn`); `None`: `FIRSTLINE_LOG`, else `info`.
///
/// # Errors
/// A level that is none; says which there are.
pub fn init_logging(_level: Option<&str>, _format: LogFormat) -> Result<(), String> {
    todo!()
}
