//! Logs and metrics. Customers' words never reach a log at the default level.
