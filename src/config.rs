//! Settings: one plain struct per room, one place that reads them.
//!
//! Precedence, weakest first: the defaults written here, `firstline.toml` in the working directory
//! (or `--config FILE`), environment variables `FIRSTLINE_<SECTION>__<FIELD>`, command-line flags.

use std::net::IpAddr;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// Everything that can be set. Each field's default is a working one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub server: ServerSettings,
    pub models: ModelSettings,
    pub engine: EngineSettings,
    pub knowledge: KnowledgeSettings,
    pub support: SupportSettings,
    pub store: StoreSettings,
    pub figures: FiguresSettings,
    pub retention: RetentionSettings,
    pub desk: DeskSettings,
    pub files: FilesSettings,
}

/// The HTTP side.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// The URL under which customers reach this server, for absolute links in answers.
    /// Default: `http://host:port`.
    pub public_url: Option<String>,
    /// API keys. Empty: no authentication (and then the server refuses to listen on any address but loopback,
    /// unless `allow_open` is set).
    pub keys: Vec<ApiKey>,
    /// Listen on a public address without any key.
    pub allow_open: bool,
    /// Serve HTTPS with this certificate chain (PEM) ...
    pub tls_cert: Option<PathBuf>,
    /// ... and its private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// Origins of web pages that may call the API from a browser (`https://shop.example`), or `*` alone.
    pub cors_origins: Vec<String>,
    /// How long a client may take for the TLS handshake, and for a request's headers, in seconds.
    pub header_timeout_s: u64,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Longest a request may take, in seconds, from its arrival to its last token.
    pub request_timeout_s: u64,
    /// How long running answers may go on after SIGINT or SIGTERM, in seconds.
    pub shutdown_grace_s: u64,
    /// Most messages in one request.
    pub max_messages: usize,
    /// Longest single message, in characters.
    pub max_message_chars: usize,
    /// Most texts in one embeddings request.
    pub max_embedding_inputs: usize,
    /// Most responses of `/v1/responses` kept in memory for `previous_response_id`; the oldest go first.
    pub max_kept_responses: usize,
    /// Memory for kept responses, in MiB.
    pub kept_responses_mib: usize,
}

impl ServerSettings {
    /// True where only this machine can reach the address.
    pub fn is_loopback(&self) -> bool {
        let ip = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// Base of the links in answers, without a slash at its end, for a server that listens on `port`. An address that
    /// means "everywhere" is no place to send anybody: there it is this machine's own.
    pub fn public_url_at(&self, port: u16) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_string();
        }
        let scheme = if self.tls_cert.is_some() { "https" } else { "http" };
        match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => format!("{scheme}://127.0.0.1:{port}"),
            Ok(IpAddr::V6(ip)) => format!("{scheme}://[{ip}]:{port}"),
            _ => format!("{scheme}://{}:{port}", self.host),
        }
    }
}

/// One API key and what it may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// A name for logs and figures; never the key itself.
    pub name: String,
    /// SHA-256 of the key, in hex (`printf %s KEY | sha256sum`).
    pub sha256: String,
    /// Any of `chat` (operators and `support`), `raw` (the bare chat model), `embeddings`, `metrics`, `channel`, `files`
    /// (files and vector stores of its own), `knowledge` (with `files`: adding to the knowledge pack).
    #[serde(default = "ApiKey::default_scopes")]
    pub scopes: Vec<String>,
}

impl ApiKey {
    fn default_scopes() -> Vec<String> {
        vec!["chat".into(), "embeddings".into()]
    }
}

/// Where models lie and which are used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Folder of model files.
    pub dir: PathBuf,
    /// A catalog of your own, in the form of `models/catalog.toml`; its entries go before the built-in ones.
    pub catalog: Option<PathBuf>,
    /// A name from `models/catalog.toml`, or a path to a GGUF file.
    pub chat: String,
    /// A name from `models/catalog.toml`, or a path to a folder with safetensors.
    pub embed: String,
    /// A cross-encoder that orders what a search found, and answers `/v1/rerank`: a name from `models/catalog.toml`, or a
    /// path to a folder with safetensors. Empty: none.
    pub rerank: String,
    /// Languages (ISO 639-1) that the chat model writes well. Empty: taken from the catalog, else English.
    pub chat_languages: Vec<String>,
    /// Languages that the embedding model reads well. Empty: taken from the catalog, else English.
    pub embed_languages: Vec<String>,
}

impl ModelSettings {
    /// Where models are looked for, in order.
    pub fn folders(&self) -> Vec<PathBuf> {
        vec![self.dir.clone(), models_cache()]
    }
}

/// The user's own models folder: `$FIRSTLINE_MODELS`, else `firstline/models` in the user's cache.
pub fn models_cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("FIRSTLINE_MODELS").unwrap_or_else(|| {
        let home = || set("HOME").unwrap_or_default().join(".cache");
        set("XDG_CACHE_HOME").unwrap_or_else(home).join("firstline").join("models")
    })
}

/// The chat engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// `auto` (`native` on a CPU, `candle` on CUDA and for formats that `native` does not take), `native` (packed
    /// weights and kernels of our own, CPU only) or `candle` (the reference).
    pub backend: String,
    /// `auto`, `cpu` or `cuda`.
    pub device: String,
    /// How the `candle` backend holds weights: `auto`, `quantized` (as in the file) or `dense` (widened to F32 at load:
    /// on CPUs several times faster to read a prompt where candle has no fast kernel for the format, at 4 bytes a
    /// weight).
    pub weights: String,
    /// Longest prompt plus answer, in tokens. 0: what the model was trained for.
    pub context_tokens: usize,
    /// How the `native` backend keeps keys and values: `q8` (8 bits), `f16`, `f32` or `auto` (`q8`; `f16` for models with
    /// attention windows or soft-caps; `f32` where the model's weights are all F32). `candle` keeps them in F32.
    pub kv: String,
    /// Memory for the KV cache, in MiB.
    pub kv_mib: usize,
    /// Disk space for packed weights, in MiB: the `native` backend keeps them for the next start. 0: none are kept.
    pub packed_mib: usize,
    /// Where they are kept. Default: `packed` in the state directory.
    pub packed_dir: Option<PathBuf>,
    /// Disk space for operators' computed instructions in the state directory, in MiB. 0: none are saved.
    pub prefix_mib: usize,
    /// Memory that operators' adapters may take together, in MiB.
    pub adapters_mib: usize,
    /// Most tokens computed in one step, decodes and prompt chunks together.
    pub step_tokens: usize,
    /// Most prompt tokens in one step while other sequences are decoding.
    pub prefill_chunk_tokens: usize,
    /// How long a step should take while sequences are decoding, in milliseconds: the gap between a stream's tokens.
    /// Prompt chunks shrink below `prefill_chunk_tokens` where the machine is too slow for them.
    pub step_ms: u64,
    /// Most tokens that are drafted for a sequence in one step, from what its prompt and answer said before; the answer
    /// stays the same, and one that repeats its sources comes in fewer steps. `native` backend only. 0: none.
    pub draft_tokens: usize,
    /// Most sequences running at once.
    pub max_running: usize,
    /// Most requests waiting; one more is answered 429.
    pub max_waiting: usize,
    /// Default for `max_tokens` of raw chat requests; the context window bounds it too.
    pub default_max_tokens: usize,
}

/// The knowledge pack.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnowledgeSettings {
    /// The pack's folder.
    pub dir: PathBuf,
    /// Follow changes in the folder while serving.
    pub watch: bool,
    /// Longest chunk, in characters of text.
    pub chunk_chars: usize,
    /// Largest text file or image that is read, in bytes.
    pub max_file_bytes: u64,
    /// Largest document of another format (HTML, PDF, DOCX, workbook, CSV, ZIP) that is read, in bytes.
    pub max_document_bytes: u64,
    /// Most text taken from one document, in bytes.
    pub max_document_text_bytes: usize,
    /// Most pages read of one PDF.
    pub max_document_pages: usize,
    /// Most rows read of one workbook or CSV file.
    pub max_document_rows: usize,
    /// Longest time that one document may take, in seconds.
    pub document_timeout_s: u64,
    /// Memory that the reading of one document may take, in MiB.
    pub document_memory_mib: u64,
    /// Most files in one ZIP.
    pub max_archive_files: usize,
    /// Most bytes unpacked from one ZIP (or DOCX).
    pub max_archive_bytes: u64,
    /// Most files in a pack.
    pub max_files: usize,
    /// Most of the chat model's context that an instruction's core may take (0..1).
    pub core_share: f32,
}

/// Files that come through the API, and vector stores.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesSettings {
    /// Largest file that is taken, in bytes. (What is read of it is bounded by the settings of `knowledge`.)
    pub max_file_bytes: u64,
    /// Most files of all keys together.
    pub max_files: usize,
    /// Disk space for all files together, in MiB.
    pub max_total_mib: usize,
    /// Most vector stores of one key.
    pub max_vector_stores: usize,
    /// Most files in one vector store.
    pub max_files_in_store: usize,
}

/// Limits and thresholds of one chat turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupportSettings {
    /// What the chat model words itself.
    pub model_writes: ModelWrites,
    /// Longest generated answer, in tokens.
    pub max_answer_tokens: usize,
    /// Passages given to the model.
    pub passages: usize,
    /// Most tokens of passages given to the model.
    pub passage_tokens: usize,
    /// Most tokens of earlier turns given to the model.
    pub history_tokens: usize,
    /// Messages from one conversation within a minute that count as a flood.
    pub flood_per_minute: usize,
}

/// What the chat model words itself in answers from knowledge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelWrites {
    /// Freely with [`FREE_FROM`] parameters or more, and through an operator's own adapter; along the sources else.
    #[default]
    Auto,
    /// Sentences of its own, each checked against the sources.
    Freely,
    /// A sentence of the source, said again in one of the ways that keep what it says.
    AlongSources,
    /// Nothing: passages are quoted.
    Nothing,
}

/// Parameters from which a model has a free hand: below, most of its own sentences are wrong.
pub const FREE_FROM: u64 = 1_000_000_000;

impl ModelWrites {
    /// What a model of so many parameters does, as it is or `adapted` to its task.
    pub fn of(self, parameters: u64, adapted: bool) -> Self {
        match self {
            Self::Auto if adapted || parameters >= FREE_FROM => Self::Freely,
            Self::Auto => Self::AlongSources,
            set => set,
        }
    }
}

/// The database.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Everything the program writes itself: database, index, saved prefixes.
    pub state_dir: PathBuf,
    /// Keep conversations' texts (`true`), or only their outcomes (`false`).
    pub keep_text: bool,
    /// Mask cards, bank and tax numbers, passports, phones and e-mail addresses in the texts that are kept.
    pub mask_personal: bool,
}

/// What figures need to know besides what happened.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FiguresSettings {
    /// What this machine costs in an hour, asked or not. Not set: no cost is shown.
    pub machine_cost_per_hour: Option<f64>,
    /// What a conversation costs when a person answers it.
    pub person_cost_per_conversation: Option<f64>,
    /// Shown beside costs.
    pub currency: String,
    /// Where days begin: minutes east of Greenwich (180 is Moscow).
    pub utc_offset_minutes: i32,
}

/// How long what is recorded is kept. Days; 0: for ever.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// Words of customers, operators and people; outcomes and figures stay.
    pub text_days: u32,
    /// Whole conversations with all that belongs to them.
    pub conversation_days: u32,
}

/// The people's side: staff, teams, the website widget, channels, webhooks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeskSettings {
    /// Teams with working hours, by the name that operators' `handoff.queue` uses. Others always work.
    pub teams: Vec<TeamSettings>,
    /// How long an unused session of the console lives, in hours.
    pub session_hours: u64,
    /// How long a colleague's join link can be used, in hours.
    pub join_link_hours: u64,
    /// Attempts to log in, by account and by address, within five minutes.
    pub login_attempts: usize,
    /// Take the client's address from the last entry of `X-Forwarded-For`, which your proxy must set.
    pub trust_forwarded_for: bool,
    /// The console's live list goes back so many hours.
    pub live_hours: u64,
    /// Longest reply or note, in characters.
    pub reply_chars: usize,
    /// Most open event streams, of consoles and widgets together.
    pub event_streams: usize,
    /// Serve the website widget.
    pub widget: bool,
    /// Sites that may show the widget (`https://shop.example`); the server's own pages always may.
    pub widget_sites: Vec<String>,
    /// Serve the demo page `/widget/demo` also where others reach the server.
    pub widget_demo: bool,
    /// How long a visitor's token lives, in seconds; it is renewed while in use.
    pub widget_token_s: u64,
    /// How long a visitor's conversation can be gone on with, in days.
    pub widget_return_days: u64,
    /// Messages of one visitor within a minute; from one address five times as many.
    pub widget_messages_per_minute: usize,
    /// Longest message of a visitor or of a channel, in characters.
    pub message_chars: usize,
    /// Bridges to messengers and mail, by name: they post to `/v1/channels/NAME/messages`.
    pub channels: Vec<ChannelSettings>,
    /// Who else is told what happens at the desk.
    pub webhooks: Vec<WebhookSettings>,
    /// How long a webhook's receiver may take, in seconds.
    pub webhook_timeout_s: u64,
}

/// A team of the desk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeamSettings {
    pub name: String,
    /// Of its hours, e.g. `Europe/Berlin`.
    pub timezone: String,
    /// E.g. `mon-fri 09:00-18:00`, `sat 10:00-14:00`; empty: always.
    pub hours: Vec<String>,
    /// Days off, `2027-01-01`.
    pub holidays: Vec<String>,
}

/// A bridge to a messenger or a mail gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    pub name: String,
    /// Where replies go.
    pub url: String,
    /// `whsec_…`: signs what is sent there.
    pub secret: String,
    /// Steers routing, as `metadata.audience` does.
    #[serde(default)]
    pub audience: Option<String>,
}

/// Who is told of events.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    pub name: String,
    pub url: String,
    /// `whsec_…`: signs what is sent there.
    pub secret: String,
    /// Any of `handoff.created`, `conversation.closed`, `message.created`; empty: all.
    #[serde(default)]
    pub events: Vec<String>,
}

impl Default for DeskSettings {
    fn default() -> Self {
        Self {
            teams: Vec::new(),
            session_hours: 12,
            join_link_hours: 72,
            login_attempts: 10,
            trust_forwarded_for: false,
            live_hours: 24,
            reply_chars: 8000,
            event_streams: 500,
            widget: true,
            widget_sites: Vec::new(),
            widget_demo: false,
            widget_token_s: 3600,
            widget_return_days: 30,
            widget_messages_per_minute: 20,
            message_chars: 4000,
            channels: Vec::new(),
            webhooks: Vec::new(),
            webhook_timeout_s: 15,
        }
    }
}

impl Default for TeamSettings {
    fn default() -> Self {
        Self { name: String::new(), timezone: "UTC".into(), hours: Vec::new(), holidays: Vec::new() }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            public_url: None,
            keys: Vec::new(),
            allow_open: false,
            tls_cert: None,
            tls_key: None,
            cors_origins: Vec::new(),
            header_timeout_s: 15,
            max_body_bytes: 2 << 20,
            request_timeout_s: 300,
            shutdown_grace_s: 30,
            max_messages: 200,
            max_message_chars: 64_000,
            max_embedding_inputs: 2048,
            max_kept_responses: 1000,
            kept_responses_mib: 32,
        }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            dir: "models".into(),
            catalog: None,
            chat: "smollm2-135m-instruct-q4_1".into(),
            embed: "all-minilm-l6-v2".into(),
            rerank: String::new(),
            chat_languages: Vec::new(),
            embed_languages: Vec::new(),
        }
    }
}

impl Default for FilesSettings {
    fn default() -> Self {
        Self {
            max_file_bytes: 32 << 20,
            max_files: 2_000,
            max_total_mib: 2_048,
            max_vector_stores: 100,
            max_files_in_store: 1_000,
        }
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            backend: "auto".into(),
            device: "auto".into(),
            weights: "auto".into(),
            kv: "auto".into(),
            context_tokens: 0,
            kv_mib: 1024,
            packed_mib: 32_768,
            packed_dir: None,
            prefix_mib: 4096,
            adapters_mib: 1024,
            step_tokens: 512,
            prefill_chunk_tokens: 256,
            step_ms: 120,
            draft_tokens: 16,
            max_running: 16,
            max_waiting: 64,
            default_max_tokens: 512,
        }
    }
}

impl Default for KnowledgeSettings {
    fn default() -> Self {
        Self {
            dir: "kb".into(),
            watch: true,
            chunk_chars: 1200,
            max_file_bytes: 8 << 20,
            max_document_bytes: 64 << 20,
            max_document_text_bytes: 16 << 20,
            max_document_pages: 5000,
            max_document_rows: 20_000,
            document_timeout_s: 60,
            document_memory_mib: 1024,
            max_archive_files: 10_000,
            max_archive_bytes: 512 << 20,
            max_files: 50_000,
            core_share: 0.25,
        }
    }
}

impl Default for SupportSettings {
    fn default() -> Self {
        Self {
            model_writes: ModelWrites::Auto,
            max_answer_tokens: 160,
            passages: 4,
            passage_tokens: 900,
            history_tokens: 400,
            flood_per_minute: 20,
        }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { state_dir: "state".into(), keep_text: true, mask_personal: true }
    }
}

impl Settings {
    /// Reads settings from `file` (default `firstline.toml`, which may be absent) and the environment.
    ///
    /// # Errors
    /// Names the file, the key and the refused value; an unknown key is an error.
    pub fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Settings::default()));
        figment = match file {
            Some(path) if !path.is_file() => return Err(ConfigError::Missing(path.to_path_buf())),
            Some(path) => figment.merge(Toml::file_exact(path)),
            None if std::path::Path::new("firstline.toml").is_file() => {
                figment.merge(Toml::file_exact("firstline.toml"))
            }
            None => figment,
        };
        figment.merge(env()).extract().map_err(|e| ConfigError::Invalid(Box::new(e)))
    }
}

/// `FIRSTLINE_SERVER__PORT=8081` sets `server.port`; names without `__` (`FIRSTLINE_LOG`) are no settings.
fn env() -> Env {
    Env::prefixed("FIRSTLINE_").filter(|name| name.as_str().contains("__")).split("__")
}

/// What can be wrong with settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration file {} does not exist", .0.display())]
    Missing(PathBuf),
    #[error("the configuration is not valid: {0}")]
    Invalid(Box<figment::Error>),
}

/// Names this very build of the program: its version, and the size and time of its file. What one build computed and
/// saved may be laid out or rounded otherwise by another.
pub(crate) fn program_id() -> String {
    let file = std::env::current_exe().and_then(std::fs::metadata);
    let file = file.map(|m| (m.len(), m.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())));
    format!("{} {:?}", env!("CARGO_PKG_VERSION"), file.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_model_has_a_free_hand_only_through_an_adapter_or_where_it_is_said() {
        use ModelWrites::{AlongSources, Auto, Freely, Nothing};
        let of = |set: ModelWrites| [set.of(135_000_000, false), set.of(135_000_000, true), set.of(FREE_FROM, false)];
        assert_eq!(of(Auto), [AlongSources, Freely, Freely]);
        assert!([Freely, AlongSources, Nothing].into_iter().all(|set| of(set) == [set; 3]));
    }

    #[test]
    fn links_lead_to_the_public_url_or_to_where_the_server_listens() {
        let url = |host: &str| ServerSettings { host: host.into(), ..ServerSettings::default() }.public_url_at(81);
        assert_eq!(url("127.0.0.1"), "http://127.0.0.1:81");
        assert_eq!(url("0.0.0.0"), "http://127.0.0.1:81");
        assert_eq!(url("[::1]"), "http://[::1]:81");
        assert_eq!(url("localhost"), "http://localhost:81");
        let set = ServerSettings { public_url: Some("https://help.example/".into()), ..ServerSettings::default() };
        assert_eq!(set.public_url_at(81), "https://help.example");
    }
}
