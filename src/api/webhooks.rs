//! Webhooks going out. One task turns the feed of changes into deliveries, each exactly once; one task an endpoint sends
//! what is due, and tries again until the other side has taken it. Only the addresses in the settings are ever called,
//! and redirects are not followed.

use std::time::Duration;

use serde_json::{Value, json};

use super::state::{AppState, Loaded};
use crate::config::DeskSettings;
use crate::desk::webhook::{Secret, pause_after};
use crate::store::{Attempt, Change, Due, NewDelivery, Present, Said, Store, StoreError};

/// The relay's name in the database.
const RELAY: &str = "webhooks";
/// Entries of the feed, and deliveries, read at once.
const BATCH: i64 = 100;
/// How often due retries are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// What can be told.
const EVENTS: [&str; 3] = ["handoff.created", "conversation.closed", "message.created"];

/// All endpoints of the settings, checked.
#[derive(Debug, Clone)]
pub struct Webhooks {
    endpoints: Vec<Endpoint>,
    timeout: Duration,
}

#[derive(Debug, Clone)]
struct Endpoint {
    /// `channel:NAME` or `webhook:NAME`
    name: String,
    url: reqwest::Url,
    secret: Secret,
    events: Vec<String>,
    /// Gets the replies to this channel's customers, and nothing else.
    channel: Option<String>,
}

impl Webhooks {
    /// # Errors
    /// Names the channel or webhook and what is wrong with it.
    pub fn read(settings: &DeskSettings) -> Result<Self, String> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let channels = settings.channels.iter().map(|c| ("channel", &c.name, &c.url, &c.secret, &[] as &[String]));
        let webhooks = settings.webhooks.iter().map(|w| ("webhook", &w.name, &w.url, &w.secret, &w.events[..]));
        for (kind, name, url, secret, events) in channels.chain(webhooks) {
            let place = format!("desk.{kind}s {name:?}");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 60 || !name.chars().all(plain) {
                return Err(format!("{place}: a name is lowercase letters, digits, `-` and `_`, at most 60"));
            }
            let url = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let url =
                url.ok_or_else(|| format!("{place}: url must be an address like \"https://bridge.example/hook\""))?;
            let secret = Secret::read(secret).map_err(|reason| format!("{place}: {reason}"))?;
            if let Some(event) = events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
                return Err(format!("{place}: there is no event {event:?}; there are: {}", EVENTS.join(", ")));
            }
            let full = format!("{kind}:{name}");
            if endpoints.iter().any(|endpoint| endpoint.name == full) {
                return Err(format!("{place}: there are two of this name"));
            }
            let channel = (kind == "channel").then(|| name.clone());
            endpoints.push(Endpoint { name: full, url, secret, events: events.to_vec(), channel });
        }
        Ok(Self { endpoints, timeout: Duration::from_secs(settings.webhook_timeout_s.clamp(1, 300)) })
    }
}

impl Endpoint {
    fn wants(&self, event: &str, channel: Option<&str>, to_customer: bool) -> bool {
        match &self.channel {
            Some(own) => to_customer && channel == Some(own),
            None => self.events.is_empty() || self.events.iter().any(|wanted| wanted == event),
        }
    }
}

/// Starts the tasks; they end with the program.
pub fn start(state: &AppState, webhooks: Webhooks) {
    let Ok(client) = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(webhooks.timeout)
        .user_agent(concat!("firstline/", env!("CARGO_PKG_VERSION")))
        .build()
        .inspect_err(|error| tracing::error!(%error, "webhooks cannot be sent"))
    else {
        return;
    };
    for endpoint in webhooks.endpoints.clone() {
        tokio::spawn(send_all(state.clone(), endpoint, client.clone()));
    }
    tokio::spawn(relay_all(state.clone(), webhooks.endpoints));
}

/// Follows the feed.
async fn relay_all(state: AppState, endpoints: Vec<Endpoint>) {
    let Ok(loaded) = state.loaded() else { return };
    let mut changed = loaded.store.changed();
    let mut first = true;
    loop {
        changed.mark_unchanged();
        match relay_some(loaded, &endpoints, std::mem::take(&mut first)).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(_) if state.is_stopping() => return,
            Err(error) => tracing::error!(%error, "webhooks cannot be prepared; trying again"),
        }
        let _ = tokio::time::timeout(LOOK, changed.changed()).await;
    }
}

/// `true` where there may be more.
async fn relay_some(loaded: &Loaded, endpoints: &[Endpoint], first: bool) -> Result<bool, StoreError> {
    let store = &loaded.store;
    let from = store.relayed(RELAY).await?;
    if endpoints.is_empty() {
        // What happens while there is nobody to be told is told to nobody later.
        if first || store.last_seq().await? > from {
            store.relay(RELAY, store.last_seq().await?, &[]).await?;
        }
        return Ok(false);
    }
    let changes = store.changes_after(from, None, BATCH).await?;
    let Some(last) = changes.last().map(|change| change.seq) else { return Ok(false) };
    let mut deliveries = Vec::new();
    for change in &changes {
        for event in events_of(store, change).await? {
            let wanting = endpoints.iter().filter(|e| e.wants(event.kind, event.channel.as_deref(), event.to_customer));
            deliveries.extend(wanting.map(|endpoint| NewDelivery {
                endpoint: endpoint.name.clone(),
                kind: event.kind.into(),
                conversation_id: change.conversation_id.clone(),
                payload: event.payload.to_string(),
            }));
        }
    }
    store.relay(RELAY, last, &deliveries).await?;
    Ok(true)
}

struct Told {
    kind: &'static str,
    channel: Option<String>,
    /// Words for the customer.
    to_customer: bool,
    payload: Value,
}

/// What an entry of the feed means to others.
async fn events_of(store: &Store, change: &Change) -> Result<Vec<Told>, StoreError> {
    let Some(id) = &change.conversation_id else { return Ok(Vec::new()) };
    let word = |name: &str| change.body.get(name).and_then(Value::as_str);
    let Some(present) = store.present(id).await? else { return Ok(Vec::new()) };
    let told = |kind: &'static str, to_customer: bool, mut data: Value| {
        data["conversation_id"] = json!(id);
        data["channel"] = json!(present.channel);
        data["customer"] = json!({"id": present.customer_id, "name": present.customer_name});
        let at = chrono::DateTime::from_timestamp_millis(change.at_ms).unwrap_or_default();
        let payload = json!({"type": kind, "timestamp": at.to_rfc3339(), "data": data});
        Told { kind, channel: present.channel.clone(), to_customer, payload }
    };
    match (change.kind.as_str(), word("from")) {
        ("queue", _) => {
            let Some(handoff) = store.last_handoff(id).await? else { return Ok(Vec::new()) };
            let data = json!({"handoff": {
                "id": handoff.id, "queue": handoff.queue, "kind": handoff.kind, "reason": handoff.reason,
                "summary": handoff.summary, "tags": handoff.tags,
            }});
            Ok(vec![told("handoff.created", false, data)])
        }
        ("owner", _) if word("what") == Some("closed") => {
            Ok(vec![told("conversation.closed", false, closed_data(&present))])
        }
        ("message", Some("note")) | ("message", None) => Ok(Vec::new()),
        ("message", Some(_)) => {
            let wanted = word("turn_id").or(word("message_id")).unwrap_or_default();
            let said = store.said(id, wanted).await?;
            Ok(said
                .iter()
                .filter(|said| !said.text.is_empty())
                .map(|said| told("message.created", said.from != "customer", message_data(said)))
                .collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn closed_data(present: &Present) -> Value {
    json!({"as": present.closed_as, "team": present.team})
}

fn message_data(said: &Said) -> Value {
    json!({"message": {
        "id": said.id, "at_ms": said.at_ms, "from": said.from, "name": said.staff_name, "text": said.text,
    }})
}

/// Sends what is due at an endpoint.
async fn send_all(state: AppState, endpoint: Endpoint, client: reqwest::Client) {
    let Ok(loaded) = state.loaded() else { return };
    loop {
        match loaded.store.due(&endpoint.name, BATCH).await {
            Ok(due) => {
                for delivery in &due {
                    let attempt = send(&endpoint, &client, delivery).await;
                    if let Attempt::Failed { error, next_ms, .. } = &attempt {
                        let again = next_ms.is_some();
                        tracing::warn!(endpoint = endpoint.name, id = delivery.id, error, again, "a webhook failed");
                    }
                    if let Err(error) = loaded.store.attempted(&delivery.id, &attempt).await {
                        tracing::error!(%error, "a webhook's outcome was not noted; it will be sent again");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "due webhooks cannot be read"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn send(endpoint: &Endpoint, client: &reqwest::Client, delivery: &Due) -> Attempt {
    let now = chrono::Utc::now();
    let signature = endpoint.secret.signature(&delivery.id, now.timestamp(), &delivery.payload);
    let response = client
        .post(endpoint.url.clone())
        .header("content-type", "application/json")
        .header("webhook-id", &delivery.id)
        .header("webhook-timestamp", now.timestamp().to_string())
        .header("webhook-signature", signature)
        .body(delivery.payload.clone())
        .send()
        .await;
    let (status, error) = match response {
        Ok(response) if response.status().is_success() => {
            return Attempt::Delivered { status: response.status().as_u16() };
        }
        Ok(response) => (Some(response.status().as_u16()), format!("the receiver answered {}", response.status())),
        // Without the address: the log is shown to staff, and an address may hold a secret.
        Err(error) => (None, error.without_url().to_string()),
    };
    let attempt = u32::try_from(delivery.attempts + 1).unwrap_or(u32::MAX);
    let pause = pause_after(attempt, rand::random::<f64>());
    let next_ms = pause.map(|pause| now.timestamp_millis() + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 4));
    Attempt::Failed { status, error, next_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ChannelSettings, WebhookSettings};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn settings(url: &str, events: &[&str]) -> DeskSettings {
        DeskSettings {
            channels: vec![ChannelSettings {
                name: "telegram".into(),
                url: "https://bridge.example/in".into(),
                secret: SECRET.into(),
                audience: None,
            }],
            webhooks: vec![WebhookSettings {
                name: "crm".into(),
                url: url.into(),
                secret: SECRET.into(),
                events: events.iter().map(|e| e.to_string()).collect(),
            }],
            ..DeskSettings::default()
        }
    }

    #[test]
    fn a_channel_hears_words_to_its_own_customers_only() {
        let webhooks = Webhooks::read(&settings("https://crm.example", &["handoff.created"])).unwrap();
        let [channel, crm] = &webhooks.endpoints[..] else { panic!("two endpoints") };
        assert!(channel.wants("message.created", Some("telegram"), true));
        assert!(!channel.wants("message.created", Some("telegram"), false));
        assert!(!channel.wants("message.created", Some("mail"), true));
        assert!(crm.wants("handoff.created", None, false) && !crm.wants("message.created", Some("telegram"), true));
    }

    #[test]
    fn faulty_endpoints_are_named() {
        let fault = |url: &str, events: &[&str]| Webhooks::read(&settings(url, events)).unwrap_err();
        assert!(fault("ftp://x", &[]).contains("\"crm\""));
        assert!(fault("https://x", &["all"]).contains("handoff.created"));
    }
}
