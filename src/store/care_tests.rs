//! What is deleted is gone, what stays stays, and which messages are found to lack an answer.

use sqlx::AssertSqlSafe;

use super::append::now_ms;
use super::figures::FiguresQuery;
use super::suggestions::WhyUnanswered;
use super::tests::turn;
use super::{Store, TurnRecord};
use crate::config::{FiguresSettings, RetentionSettings};

const DAY_MS: i64 = 86_400_000;

async fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    (dir, store)
}

fn said(id: &str, words: &str, action: &str, kind: &str, at_ms: i64) -> TurnRecord {
    let mut record = turn(id, "shop", words);
    (record.action, record.kind) = (action.into(), Some(kind.into()));
    (record.conversation.started_ms, record.conversation.updated_ms) = (at_ms, at_ms);
    record
}

async fn run(store: &Store, sql: String) {
    sqlx::query(AssertSqlSafe(sql)).execute(&store.pool).await.unwrap();
}

/// A person's message.
async fn reply(store: &Store, id: &str, text: &str, at_ms: i64) {
    let key = uuid::Uuid::now_v7();
    run(
        store,
        format!("INSERT INTO messages (id, conversation_id, at_ms, sender, text) VALUES ('{key}', '{id}', {at_ms}, 'person', '{text}')"),
    )
    .await;
}

async fn count(store: &Store, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"))).fetch_one(&store.pool).await.unwrap()
}

fn holds(dir: &std::path::Path, word: &[u8]) -> bool {
    let files = dir.read_dir().unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(word.len()).any(|window| window == word))
}

#[tokio::test]
async fn of_a_forgotten_customer_no_row_and_no_byte_is_left_and_others_stay() {
    let (dir, store) = open().await;
    for (id, words) in [("a", "zanzibarword one"), ("b", "zanzibarword two"), ("c", "other")] {
        store.append(&said(id, words, "answer", "verbatim", now_ms())).await.unwrap();
        reply(&store, id, &format!("re {words}"), now_ms()).await;
    }
    for id in ["a", "b"] {
        run(
            &store,
            format!(
                "INSERT INTO desk (conversation_id, owner, queue_told, customer_id, mood, turns, last_from, last_text,
                                   superseded, started_ms, updated_ms)
                 VALUES ('{id}', 'bot', 0, 'ann', 'calm', 1, 'bot', 're', 0, 0, 0)
                 ON CONFLICT (conversation_id) DO UPDATE SET customer_id = 'ann'"
            ),
        )
        .await;
    }
    store.figures(&FiguresQuery::default(), &FiguresSettings::default()).await.unwrap();
    assert!(holds(dir.path(), b"zanzibarword"));
    let deleted = store.forget("ann").await.unwrap();
    assert_eq!((deleted.conversations, deleted.log_is_clean), (2, true));
    assert!(!holds(dir.path(), b"zanzibarword"));
    for table in ["conversations", "turns", "texts", "messages", "conversation_figures"] {
        assert_eq!(count(&store, table).await, 1, "{table}");
    }
    assert_eq!(store.forget("ann").await.unwrap().conversations, 0);
}

#[tokio::test]
async fn words_go_by_age_and_then_whole_conversations_and_figures_stay() {
    let (_dir, store) = open().await;
    for (id, days) in [("old", 100), ("middle", 40), ("new", 1)] {
        store.append(&said(id, "words", "answer", "verbatim", now_ms() - days * DAY_MS)).await.unwrap();
    }
    let settings = RetentionSettings { text_days: 30, conversation_days: 90 };
    let deleted = store.retain(&settings).await.unwrap();
    assert_eq!(deleted.conversations, 1);
    assert_eq!((count(&store, "texts").await, count(&store, "turns").await), (1, 2));
    let figures = store.figures(&FiguresQuery::default(), &FiguresSettings::default()).await.unwrap();
    assert_eq!((figures.total.conversations, figures.total.resolved_assumed), (3, 3));
    assert_eq!(store.retain(&settings).await.unwrap().rows, 0);
}

#[tokio::test]
async fn messages_without_an_answer_are_found_with_what_a_person_said_instead() {
    let (_dir, store) = open().await;
    let at = now_ms() - DAY_MS;
    store.append(&said("none", "do you sell tea", "clarify", "no_answer", at)).await.unwrap();
    store.append(&said("person", "how do I descale it", "answer", "quoted", at)).await.unwrap();
    store.append(&said("person", "a person please", "clarify", "wants_person", at + 1)).await.unwrap();
    store.append(&said("person", "a person!", "handoff", "wants_person", at + 2)).await.unwrap();
    reply(&store, "person", "Hi", at + 3).await;
    reply(&store, "person", "With vinegar, once a month.", at + 4).await;
    store.append(&said("fine", "how long is the warranty", "answer", "verbatim", at)).await.unwrap();
    store.append(&said("junk", "buy now", "clarify", "no_answer", at)).await.unwrap();
    store.append_event(Some("junk"), "closed", &serde_json::json!({"as": "spam"})).await.unwrap();
    let found = store.open_questions(at - 1, 10).await.unwrap();
    let of = |id: &str| found.iter().find(|u| u.conversation_id == id).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((of("none").reason, &of("none").draft), (WhyUnanswered::NoAnswer, &None));
    let asked = of("person");
    assert_eq!((asked.reason, asked.question.as_str()), (WhyUnanswered::Handoff, "how do I descale it"));
    assert_eq!(asked.draft.as_deref(), Some("With vinegar, once a month."));
    store.judge_suggestion("s-x", "Ann", &[asked.turn_id.clone()], None).await.unwrap();
    assert_eq!(store.open_questions(at - 1, 10).await.unwrap().len(), 1);
}
