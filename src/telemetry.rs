//! Logs and metrics. Customers' words never reach a log at the default level, and personal data at none.
//!
//! Logs go to stderr through `tracing`, as text or JSON. Metrics go through the `metrics` facade into one Prometheus
//! recorder, rendered at `/metrics`. Where vLLM has a metric of the same meaning it has vLLM's name, so that boards
//! made for vLLM work; our own begin with `firstline_`. [`name`] lists them all.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::personal;

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts logging to stderr. `level`: `error`, `warn`, `info`, `debug`, `trace`, or filter directives
/// (`firstline::llm=debug,warn`); `None`: `FIRSTLINE_LOG`, else `info`. A second call changes nothing.
///
/// # Errors
/// A level that is none; says which there are.
pub fn init_logging(level: Option<&str>, format: LogFormat) -> Result<(), String> {
    let from_env = std::env::var("FIRSTLINE_LOG").ok();
    let filter = filter_of(level.or(from_env.as_deref()).unwrap_or("info"))?;
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| MaskedLines(std::io::stderr()))
        .with_ansi(colours);
    // A subscriber that is there already (an embedding program's, a test's) stays.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).compact().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// Writes log lines with personal data masked. The formatter hands over whole lines.
struct MaskedLines<W: Write>(W);

impl<W: Write> Write for MaskedLines<W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(personal::masked(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A bare level is ours; libraries speak from `warn` up.
fn filter_of(level: &str) -> Result<EnvFilter, String> {
    let bare = level.trim().to_ascii_lowercase();
    let directives = match bare.as_str() {
        "off" => "off".to_string(),
        "error" => "error".to_string(),
        "warn" | "info" | "debug" | "trace" => format!("warn,firstline={bare}"),
        _ if level.contains('=') => level.to_string(),
        _ => {
            return Err(format!(
                "the log level {level:?} is none of off, error, warn, info, debug, trace, nor a filter such as \
                 firstline::llm=debug,warn"
            ));
        }
    };
    EnvFilter::try_new(&directives).map_err(|e| format!("the log filter {level:?} is not valid: {e}"))
}

/// Names of all metrics.
pub mod name {
    /// Gauge: sequences in the running batch.
    pub const RUNNING: &str = "vllm:num_requests_running";
    /// Gauge: requests that wait for a place in the batch.
    pub const WAITING: &str = "vllm:num_requests_waiting";
    /// Gauge: share of KV blocks in use, 0..1.
    pub const KV_USAGE: &str = "vllm:kv_cache_usage_perc";
    /// Gauge: the same under vLLM's older name.
    pub const KV_USAGE_OLD: &str = "vllm:gpu_cache_usage_perc";
    /// Counter: prompt tokens of all requests.
    pub const PROMPT_TOKENS: &str = "vllm:prompt_tokens_total";
    /// Counter: tokens generated.
    pub const GENERATION_TOKENS: &str = "vllm:generation_tokens_total";
    /// Counter: prompt tokens looked up in the prefix cache.
    pub const PREFIX_QUERIES: &str = "vllm:prefix_cache_queries_total";
    /// Counter: prompt tokens found there.
    pub const PREFIX_HITS: &str = "vllm:prefix_cache_hits_total";
    /// Counter: sequences that gave up their blocks to an older one.
    pub const PREEMPTIONS: &str = "vllm:num_preemptions_total";
    /// Counter: steps of a sequence that carried drafted tokens.
    pub const DRAFTS: &str = "vllm:spec_decode_num_drafts_total";
    /// Counter: tokens drafted.
    pub const DRAFTED_TOKENS: &str = "vllm:spec_decode_num_draft_tokens_total";
    /// Counter: drafted tokens that were drawn.
    pub const ACCEPTED_TOKENS: &str = "vllm:spec_decode_num_accepted_tokens_total";
    /// Histogram, seconds: from a request's arrival to the model's first token.
    pub const FIRST_TOKEN: &str = "vllm:time_to_first_token_seconds";
    /// Histogram, seconds: from a generation's arrival to its end.
    pub const LATENCY: &str = "vllm:e2e_request_latency_seconds";
    /// Histogram, seconds: time in the queue.
    pub const QUEUE_TIME: &str = "vllm:request_queue_time_seconds";
    /// Counter by `finished_reason`.
    pub const SUCCESS: &str = "vllm:request_success_total";
    /// Counter: generations that ended because the client had gone.
    pub const CANCELLED: &str = "firstline_generations_cancelled_total";
    /// Counter: steps of the engine.
    pub const STEPS: &str = "firstline_engine_steps_total";
    /// Gauge: KV blocks that hold operators' cores.
    pub const KV_PINNED: &str = "firstline_kv_blocks_pinned";
    /// Gauge: files of computed instructions in the state directory.
    pub const SAVED_PREFIXES: &str = "firstline_saved_prefixes";
    /// Gauge: their bytes.
    pub const SAVED_PREFIX_BYTES: &str = "firstline_saved_prefix_bytes";
    /// Counter by `outcome` (`restored`, `computed`, `refused`, `unsaved`, `evicted`): computed instructions.
    pub const PREFIXES: &str = "firstline_prefixes_total";
    /// Counter by `action`, `kind`, `operator`: support turns.
    pub const TURNS: &str = "firstline_turns_total";
    /// Histogram by `operator`, seconds: from a customer's message to the first text of the answer.
    pub const FIRST_TEXT: &str = "firstline_first_text_seconds";
    /// Histogram by `operator`, seconds: from a customer's message to the end of the answer.
    pub const TURN_TIME: &str = "firstline_turn_seconds";
    /// Gauge by `operator`, `outcome`: conversations of the last thirty days.
    pub const CONVERSATIONS: &str = "firstline_conversations";
    /// Gauge by `operator`: resolved conversations among those with a real request and an outcome, 0..1.
    pub const RESOLUTION: &str = "firstline_resolution_ratio";
    /// Gauge by `operator`: conversations with a real request that a person was asked for, 0..1.
    pub const HANDOFFS: &str = "firstline_handoff_ratio";
    /// Gauge by `operator`: the machine's cost of a conversation, in the configured currency.
    pub const COST: &str = "firstline_cost_per_conversation";
    /// Counter by `route`: requests whose client left before the answer was whole.
    pub const DISCONNECTED: &str = "firstline_requests_cancelled_total";
    /// Counter by `route`, `method`, `status`.
    pub const HTTP: &str = "firstline_http_requests_total";
    /// Counter: texts embedded through the API.
    pub const EMBEDDED: &str = "firstline_embedded_texts_total";
    /// Counter: turns that could not be written to the database.
    pub const STORE_FAILED: &str = "firstline_store_failures_total";
    /// Gauge: chunks in the index.
    pub const CHUNKS: &str = "firstline_index_chunks";
}

/// Bucket bounds for histograms of seconds, as vLLM has them for the first token.
const SECONDS: [f64; 19] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];

/// The recorder's rendering side; the first call installs the recorder.
pub fn prometheus() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS);
        let recorder = builder.expect("the bucket bounds are not empty").build_recorder();
        let handle = recorder.handle();
        // Another recorder can only be there if an embedding program installed its own.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

/// How often samples are folded into their histograms.
const UPKEEP: std::time::Duration = std::time::Duration::from_secs(10);

/// Folds samples away also where nobody ever asks for `/metrics`: unfolded they would pile up. Never returns.
pub async fn keep_metrics_small() {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        prometheus().run_upkeep();
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!(name::RUNNING, "Sequences in the running batch.");
    describe_gauge!(name::WAITING, "Requests that wait for a place in the batch.");
    describe_gauge!(name::KV_USAGE, "Share of KV blocks in use, 0 to 1.");
    describe_gauge!(name::KV_USAGE_OLD, "Share of KV blocks in use, 0 to 1 (older name).");
    describe_gauge!(name::KV_PINNED, "KV blocks that hold operators' cores.");
    describe_gauge!(name::SAVED_PREFIXES, "Files of computed instructions in the state directory.");
    describe_gauge!(name::SAVED_PREFIX_BYTES, "Bytes of computed instructions in the state directory.");
    describe_counter!(name::PREFIXES, "Computed instructions, by what became of them.");
    describe_gauge!(name::CHUNKS, "Chunks in the index.");
    describe_gauge!(name::CONVERSATIONS, "Conversations of the last thirty days by outcome.");
    describe_gauge!(
        name::RESOLUTION,
        "Resolved without a person, of conversations with a real request and an outcome."
    );
    describe_gauge!(name::HANDOFFS, "Conversations with a real request that a person was asked for.");
    describe_gauge!(name::COST, "The machine's cost of a conversation.");
    describe_counter!(name::PROMPT_TOKENS, "Prompt tokens of all requests.");
    describe_counter!(name::GENERATION_TOKENS, "Tokens generated.");
    describe_counter!(name::PREFIX_QUERIES, "Prompt tokens looked up in the prefix cache.");
    describe_counter!(name::PREFIX_HITS, "Prompt tokens found in the prefix cache.");
    describe_counter!(name::PREEMPTIONS, "Sequences that gave up their blocks to an older one.");
    describe_counter!(name::SUCCESS, "Generations that ended, by reason.");
    describe_counter!(name::CANCELLED, "Generations that ended because the client had gone.");
    describe_counter!(name::DRAFTS, "Steps of a sequence that carried drafted tokens.");
    describe_counter!(name::DRAFTED_TOKENS, "Tokens drafted.");
    describe_counter!(name::ACCEPTED_TOKENS, "Drafted tokens that were drawn.");
    describe_counter!(name::STEPS, "Steps of the engine.");
    describe_counter!(name::TURNS, "Support turns by action, kind and operator.");
    describe_counter!(name::DISCONNECTED, "Requests whose client left before the answer was whole.");
    describe_counter!(name::HTTP, "HTTP requests by route, method and status.");
    describe_counter!(name::EMBEDDED, "Texts embedded through the API.");
    describe_counter!(name::STORE_FAILED, "Turns that could not be written to the database.");
    describe_histogram!(name::FIRST_TOKEN, "Seconds from a request's arrival to the model's first token.");
    describe_histogram!(name::LATENCY, "Seconds from a generation's arrival to its end.");
    describe_histogram!(name::QUEUE_TIME, "Seconds in the queue.");
    describe_histogram!(name::FIRST_TEXT, "Seconds from a customer's message to the first text of the answer.");
    describe_histogram!(name::TURN_TIME, "Seconds from a customer's message to the end of the answer.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_ours_and_libraries_stay_quiet() {
        assert_eq!(filter_of("Debug").unwrap().to_string(), "firstline=debug,warn");
        assert!(filter_of("firstline::llm=trace,warn").is_ok());
    }

    #[test]
    fn personal_data_never_reaches_a_log_line() {
        let mut line = MaskedLines(Vec::new());
        line.write_all(b"INFO said \"call +44 20 7946 0958\" 2026-11-21T16:03:05.123Z\n").unwrap();
        assert_eq!(line.0, b"INFO said \"call [phone]\" 2026-11-21T16:03:05.123Z\n");
    }

    #[test]
    fn an_unknown_level_is_refused_with_the_known_ones() {
        let error = filter_of("loud").unwrap_err();
        assert!(error.contains("\"loud\"") && error.contains("debug"), "{error}");
        assert!(filter_of("a=b=c").is_err());
    }

    #[test]
    fn metrics_render_under_vllm_names() {
        let handle = prometheus();
        metrics::gauge!(name::RUNNING, "model_name" => "m").set(2.0);
        metrics::histogram!(name::FIRST_TOKEN, "model_name" => "m").record(0.3);
        let text = handle.render();
        assert!(text.contains("vllm:num_requests_running{model_name=\"m\"} 2"), "{text}");
        assert!(text.contains("vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"0.5\"} 1"), "{text}");
    }
}
