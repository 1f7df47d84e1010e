//! What the store promises, on a real file.

use serde_json::json;

use super::append::now_ms;
use super::{Beside, Conversation, Store, StoreError, TurnRecord};

pub(super) fn turn(id: &str, key: &str, customer: &str) -> TurnRecord {
    TurnRecord {
        id: uuid::Uuid::now_v7().to_string(),
        conversation: Conversation {
            id: id.into(),
            key_name: key.into(),
            group_id: id.into(),
            inferred: false,
            channel: Some("web".into()),
            operator: Some("igor".into()),
            operator_version: Some("v1".into()),
            state: json!({"failures": 1}),
            started_ms: now_ms(),
            updated_ms: now_ms(),
        },
        continues: None,
        customer_text: customer.into(),
        answer_text: format!("re: {customer}"),
        action: "answer".into(),
        kind: Some("verbatim".into()),
        reason: Some(format!("asked {customer}")),
        confidence: 0.5,
        sources: json!([{"id": "faq.csv#1", "score": 0.9}]),
        model_hash: "abc".into(),
        pack_version: "p1".into(),
        prompt_tokens: 10,
        cached_tokens: 5,
        completion_tokens: 3,
        first_token_ms: 7,
        total_ms: 9,
        chain_hash: None,
        beside: Beside::default(),
    }
}

/// What was said, as (customer, answer).
async fn texts(store: &Store, conversation: &str) -> Vec<(String, String)> {
    let said = store.timeline(conversation).await.unwrap();
    said.chunks(2).map(|pair| (pair[0].text.clone(), pair[1].text.clone())).collect()
}

#[tokio::test]
async fn a_conversation_is_still_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/state");
    let store = Store::open(&state, true).await.unwrap();
    assert_eq!(store.append(&turn("c1", "shop", "hello")).await.unwrap(), 1);
    assert_eq!(store.append(&turn("c1", "shop", "how?")).await.unwrap(), 2);
    store.close().await;
    let store = Store::open(&state, true).await.unwrap();
    let found = store.conversation("c1", "shop").await.unwrap().unwrap();
    assert_eq!((found.operator.as_deref(), &found.state), (Some("igor"), &json!({"failures": 1})));
    let texts = texts(&store, "c1").await;
    assert_eq!(texts, [("hello".into(), "re: hello".into()), ("how?".into(), "re: how?".to_string())]);
}

#[tokio::test]
async fn another_key_can_neither_read_nor_append() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    store.append(&turn("c1", "shop", "hello")).await.unwrap();
    assert_eq!(store.conversation("c1", "other").await.unwrap(), None);
    assert!(matches!(store.append(&turn("c1", "other", "mine")).await, Err(StoreError::Sql(_))));
    assert_eq!(texts(&store, "c1").await.len(), 1);
}

#[tokio::test]
async fn turns_appended_at_once_get_numbers_without_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    let appends = (0..40).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.append(&turn("c1", "shop", &n.to_string())).await.unwrap() })
    });
    let mut numbers: Vec<i64> = futures::future::join_all(appends).await.into_iter().map(|n| n.unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    assert_eq!(store.messages_last_minute("c1").await.unwrap(), 40);
    assert_eq!(store.messages_last_minute("c2").await.unwrap(), 0);
}

#[tokio::test]
async fn without_texts_no_word_reaches_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), false).await.unwrap();
    store.append(&turn("c1", "shop", "xylophone-secret")).await.unwrap();
    assert_eq!(texts(&store, "c1").await, [(String::new(), String::new())]);
    assert_eq!(store.conversation("c1", "shop").await.unwrap().unwrap().state, json!({"failures": 1}));
    store.close().await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|w| w == b"xylophone"));
    }
}

#[tokio::test]
async fn personal_data_is_masked_in_kept_texts_by_setting_only() {
    let said = "card 4111 1111 1111 1111, mail a@b.example";
    for (mask, kept) in [(true, "card [card], mail [email]"), (false, said)] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), true).await.unwrap().masking_personal(mask);
        store.append(&turn("c1", "shop", said)).await.unwrap();
        assert_eq!(texts(&store, "c1").await[0].0, kept);
    }
}

#[tokio::test]
async fn a_plain_clients_next_record_continues_the_group_and_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    let mut first = turn("c1", "shop", "hello");
    first.chain_hash = Some("h1".into());
    store.append(&first).await.unwrap();
    assert_eq!(store.by_chain_hash("h1", "other").await.unwrap(), None);
    let found = store.by_chain_hash("h1", "shop").await.unwrap().unwrap();
    assert_eq!(found.group_id, "c1");
    let mut second = turn("c2", "shop", "how?");
    second.conversation.group_id = found.group_id;
    second.continues = Some(found.turn_id);
    store.append(&second).await.unwrap();
    // The first record goes on by its id; the second one's history must not see that.
    store.append(&turn("c1", "shop", "private")).await.unwrap();
    let texts: Vec<String> = texts(&store, "c2").await.into_iter().map(|t| t.0).collect();
    assert_eq!(texts, ["hello", "how?"]);
}

#[tokio::test]
async fn events_are_kept_beside_turns() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    store.append(&turn("c1", "shop", "hello")).await.unwrap();
    store.append_event(Some("c1"), "cancelled", &json!({"after_ms": 12})).await.unwrap();
    store.append_event(None, "started", &json!({})).await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM events").fetch_one(&store.pool).await.unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("firstline.db"), "this is no database at all, only some words").unwrap();
    let error = Store::open(dir.path(), true).await.err().unwrap().to_string();
    assert!(error.contains("firstline.db"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_what_customers_wrote_also_in_a_folder_that_was_there() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    store.append(&turn("c1", "shop", "hello")).await.unwrap();
    let files: Vec<_> = dir.path().read_dir().unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.iter().any(|file| file.file_name().to_string_lossy().ends_with("-wal")), "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}
