//! What the desk's side of the store promises, on a real file.

use serde_json::{Value, json};

use super::tests::turn;
use super::{
    Attempt, BoardQuery, Inbound, JoinFault, JoinLink, NewDelivery, NewHandoff, NewMessage, Present, Step, Store,
    StoreError, TurnRecord, View,
};

async fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    (dir, store)
}

fn handing_off(id: &str) -> TurnRecord {
    let mut turn = turn(id, "shop", "a person!");
    turn.action = "handoff".into();
    turn.beside.handoff = Some(NewHandoff {
        id: format!("ho_{id}"),
        queue: "support".into(),
        kind: "wants_person".into(),
        reason: "insists".into(),
        summary: "wants a person".into(),
        tags: vec!["wants_person".into()],
    });
    turn
}

fn human(id: &str, words: &str) -> TurnRecord {
    let mut turn = turn(id, "shop", words);
    turn.action = "human".into();
    turn.answer_text = String::new();
    turn
}

fn step(owner: &str, staff: Option<&str>, says: &[(&'static str, &str)]) -> Step {
    let message = |(sender, text): &(&'static str, &str)| NewMessage {
        id: None,
        sender,
        staff_id: staff.map(str::to_string),
        text: text.to_string(),
    };
    Step {
        owner: owner.into(),
        staff_id: staff.map(str::to_string),
        closed_as: (owner == "closed").then(|| "solved".into()),
        by: staff.map(str::to_string),
        what: "taken",
        messages: says.iter().map(message).collect(),
        solved: None,
    }
}

async fn act(store: &Store, id: &str, step: Step) -> Present {
    store.act(id, |_| Ok::<_, ()>(step)).await.unwrap().unwrap().unwrap().0
}

async fn anna(store: &Store) -> String {
    let link = JoinLink { name: "Anna".into(), role: "lead".into(), teams: Vec::new() };
    store.add_join_link("h", &link, None, true).await.unwrap();
    store.join("h", "", "anna", "hash").await.unwrap().unwrap().id
}

async fn events(store: &Store) -> Vec<(String, Value)> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT kind, body FROM events ORDER BY id").fetch_all(&store.pool).await.unwrap();
    rows.into_iter().map(|(kind, body)| (kind, serde_json::from_str(&body).unwrap())).collect()
}

#[tokio::test]
async fn a_handoff_is_in_the_queue_when_its_turn_is_recorded() {
    let (_dir, store) = open().await;
    store.append(&turn("c1", "shop", "hello")).await.unwrap();
    store.append(&handing_off("c1")).await.unwrap();
    let present = store.present("c1").await.unwrap().unwrap();
    assert_eq!((present.owner.as_str(), present.team.as_deref()), ("waiting", Some("support")));
    assert!(present.waiting_since_ms.is_some() && present.turns == 2);
    let waiting = store.board(&BoardQuery { view: View::Waiting, limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!(waiting[0].handoff_reason.as_deref(), Some("insists"));
    let kinds: Vec<String> = store.changes_after(0, None, 50).await.unwrap().into_iter().map(|c| c.kind).collect();
    assert_eq!(kinds, ["message", "queue", "owner", "message"]);
    let kinds: Vec<String> = events(&store).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["handoff", "owner"]);
}

#[tokio::test]
async fn what_is_said_stands_in_one_order_and_notes_are_among_it() {
    let (_dir, store) = open().await;
    let anna = anna(&store).await;
    store.append(&handing_off("c1")).await.unwrap();
    act(&store, "c1", step("person", Some(&anna), &[("system", "Anna is here")])).await;
    store.append(&human("c1", "are you there?")).await.unwrap();
    act(&store, "c1", step("person", Some(&anna), &[("person", "yes"), ("note", "rude")])).await;
    let said = store.timeline("c1").await.unwrap();
    let said: Vec<_> = said.iter().map(|s| (s.from.as_str(), s.text.as_str())).collect();
    // The human turn takes 9 ms in these records: it began before it was written.
    assert_eq!(said.len(), 6, "{said:?}");
    assert!(said.contains(&("person", "yes")) && said.contains(&("note", "rude")), "{said:?}");
    let present = store.present("c1").await.unwrap().unwrap();
    assert_eq!((present.last_from.as_str(), present.staff_name.as_deref()), ("person", Some("Anna")));
    assert_eq!(events(&store).await.iter().filter(|(kind, _)| kind == "person_reply").count(), 1);
}

#[tokio::test]
async fn a_reply_that_is_sent_twice_is_kept_once() {
    let (_dir, store) = open().await;
    let anna = anna(&store).await;
    store.append(&handing_off("c1")).await.unwrap();
    let mut reply = step("person", Some(&anna), &[("person", "yes")]);
    reply.messages[0].id = Some("7b1d".into());
    act(&store, "c1", reply.clone()).await;
    act(&store, "c1", reply).await;
    assert_eq!(store.timeline("c1").await.unwrap().iter().filter(|s| s.from == "person").count(), 1);
}

#[tokio::test]
async fn a_customer_who_writes_opens_a_closed_conversation_again() {
    let (_dir, store) = open().await;
    store.append(&turn("c1", "shop", "hello")).await.unwrap();
    let closed = act(&store, "c1", step("closed", None, &[])).await;
    assert_eq!(closed.closed_as.as_deref(), Some("solved"));
    store.append(&turn("c1", "shop", "one more thing")).await.unwrap();
    let open = store.present("c1").await.unwrap().unwrap();
    assert_eq!((open.owner.as_str(), open.closed_as), ("bot", None));
    let last = events(&store).await.pop().unwrap();
    assert_eq!(last, ("owner".into(), json!({"from": "closed", "to": "bot"})));
}

#[tokio::test]
async fn a_refused_act_changes_nothing() {
    let (_dir, store) = open().await;
    store.append(&turn("c1", "shop", "hello")).await.unwrap();
    let before = (store.present("c1").await.unwrap(), store.last_seq().await.unwrap());
    assert_eq!(store.act("c1", |_| Err::<Step, _>("no")).await.unwrap().unwrap(), Err("no"));
    assert_eq!((store.present("c1").await.unwrap(), store.last_seq().await.unwrap()), before);
    assert!(store.act("nowhere", |_| Err::<Step, _>("no")).await.unwrap().is_none());
}

#[tokio::test]
async fn people_read_what_was_written_and_it_is_masked_when_they_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap().masking_personal(true);
    store.append(&handing_off("c1")).await.unwrap();
    store.append(&human("c1", "my mail is a@b.example")).await.unwrap();
    let words = |said: Vec<super::Said>| said.into_iter().map(|s| s.text).collect::<Vec<_>>().join("|");
    assert!(words(store.timeline("c1").await.unwrap()).contains("a@b.example"));
    act(&store, "c1", step("bot", None, &[])).await;
    let after = words(store.timeline("c1").await.unwrap());
    assert!(after.contains("[email]") && !after.contains("a@b"), "{after}");
}

#[tokio::test]
async fn without_texts_words_are_gone_when_the_conversation_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), false).await.unwrap();
    store.append(&handing_off("c1")).await.unwrap();
    act(&store, "c1", step("person", None, &[("person", "xylophone")])).await;
    act(&store, "c1", step("closed", None, &[])).await;
    assert!(store.timeline("c1").await.unwrap().iter().all(|said| said.text.is_empty()));
    assert_eq!(store.last_handoff("c1").await.unwrap().unwrap().summary, "");
}

fn message(id: &str, customer: &str) -> Inbound {
    Inbound {
        origin: "channel:mail".into(),
        message_id: id.into(),
        customer_id: Some(customer.into()),
        conversation_id: String::new(),
        channel: Some("mail".into()),
        since_ms: 0,
        text: "hello".into(),
        context: json!({"key_name": "@channel:mail"}),
    }
}

#[tokio::test]
async fn a_message_is_accepted_once_and_answered_once() {
    let (_dir, store) = open().await;
    let first = store.accept(&message("m1", "ada")).await.unwrap();
    let again = store.accept(&message("m1", "ada")).await.unwrap();
    assert!(!first.duplicate && again.duplicate && first.conversation_id == again.conversation_id);
    // A second one before the first is answered belongs to the same conversation, another customer's does not.
    assert_eq!(store.accept(&message("m2", "ada")).await.unwrap().conversation_id, first.conversation_id);
    assert_ne!(store.accept(&message("m3", "bob")).await.unwrap().conversation_id, first.conversation_id);
    assert_eq!(store.timeline(&first.conversation_id).await.unwrap().iter().filter(|s| s.pending).count(), 2);

    let mut answer = turn(&first.conversation_id, "@channel:mail", "hello");
    answer.beside.inbound = Some(("channel:mail".into(), "m1".into()));
    store.append(&answer).await.unwrap();
    let twice = TurnRecord { id: uuid::Uuid::now_v7().to_string(), ..answer.clone() };
    assert!(matches!(store.append(&twice).await, Err(StoreError::AnsweredAlready)));
    assert_eq!(store.accept(&message("m1", "ada")).await.unwrap().turn_id, Some(answer.id));
    let left: Vec<String> = store.unanswered().await.unwrap().into_iter().map(|(_, id)| id).collect();
    assert_eq!(left, ["m2", "m3"]);
    assert_eq!(store.take_up("channel:mail", "m1").await.unwrap(), None);
}

#[tokio::test]
async fn a_message_that_breaks_the_program_is_not_tried_for_ever() {
    let (_dir, store) = open().await;
    store.accept(&message("m1", "ada")).await.unwrap();
    let mut tries = 0;
    while store.take_up("channel:mail", "m1").await.unwrap().is_some() {
        tries += 1;
    }
    assert_eq!(tries, 5);
    assert!(store.unanswered().await.unwrap().is_empty());
}

#[tokio::test]
async fn deliveries_are_made_with_the_number_that_they_came_from_and_tried_until_taken() {
    let (_dir, store) = open().await;
    store.append(&turn("c1", "shop", "before any webhook")).await.unwrap();
    let from = store.relayed("webhooks").await.unwrap();
    assert_eq!(from, store.last_seq().await.unwrap());
    store.append(&turn("c1", "shop", "after")).await.unwrap();
    let delivery = NewDelivery {
        endpoint: "webhook:crm".into(),
        kind: "message.created".into(),
        conversation_id: Some("c1".into()),
        payload: "{}".into(),
    };
    store.relay("webhooks", from + 1, &[delivery]).await.unwrap();
    assert_eq!(store.relayed("webhooks").await.unwrap(), from + 1);
    let due = store.due("webhook:crm", 10).await.unwrap();
    let failed = Attempt::Failed { status: Some(500), error: "500".into(), next_ms: Some(0) };
    store.attempted(&due[0].id, &failed).await.unwrap();
    let due = store.due("webhook:crm", 10).await.unwrap();
    assert_eq!(due[0].attempts, 1);
    store.attempted(&due[0].id, &Attempt::Delivered { status: 204 }).await.unwrap();
    assert!(store.due("webhook:crm", 10).await.unwrap().is_empty());
    let log = store.deliveries(None, 10).await.unwrap();
    assert_eq!((log[0].state.as_str(), log[0].attempts, log[0].status), ("delivered", 2, Some(204)));
}

#[tokio::test]
async fn a_join_link_works_once_and_the_last_lead_stays() {
    let (_dir, store) = open().await;
    let anna = anna(&store).await;
    assert_eq!(store.join("h", "", "eve", "x").await.unwrap(), Err(JoinFault::Link));
    let link = JoinLink { name: "Boris".into(), role: "operator".into(), teams: vec!["support".into()] };
    store.add_join_link("h2", &link, Some(i64::MAX), false).await.unwrap();
    assert_eq!(store.join("h2", "", "anna", "x").await.unwrap(), Err(JoinFault::LoginTaken));
    let boris = store.join("h2", "Boris B.", "boris", "x").await.unwrap().unwrap();
    assert_eq!((boris.name.as_str(), &boris.teams[..]), ("Boris B.", &["support".to_string()][..]));
    assert_eq!(store.change_staff(&anna, Some("operator"), None, None).await.unwrap(), Some(false));
    assert_eq!(store.change_staff(&boris.id, Some("lead"), None, None).await.unwrap(), Some(true));
    assert_eq!(store.change_staff(&anna, None, Some(false), None).await.unwrap(), Some(true));
    assert_eq!(store.change_staff("nobody", None, None, None).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_ends_with_its_time_its_logout_and_its_account() {
    let (_dir, store) = open().await;
    let anna = anna(&store).await;
    store.add_session("s1", &anna, "csrf", 60_000).await.unwrap();
    store.add_session("s2", &anna, "csrf", 60_000).await.unwrap();
    store.add_session("old", &anna, "csrf", -1).await.unwrap();
    assert_eq!(store.session("s1").await.unwrap().unwrap().staff.login, "anna");
    assert_eq!(store.session("old").await.unwrap(), None);
    store.set_password(&anna, "new", "s1").await.unwrap();
    assert!(store.session("s1").await.unwrap().is_some() && store.session("s2").await.unwrap().is_none());
    store.end_session("s1").await.unwrap();
    assert_eq!(store.session("s1").await.unwrap(), None);
}

#[tokio::test]
async fn the_board_finds_words_pages_through_and_keeps_teams_apart() {
    let (_dir, store) = open().await;
    for n in 0..5 {
        store.append(&turn(&format!("c{n}"), "shop", &format!("Где мой заказ номер{n}?"))).await.unwrap();
    }
    store.append(&handing_off("c3")).await.unwrap();
    let all = BoardQuery { view: View::All, limit: 2, ..Default::default() };
    let mut seen = Vec::new();
    let mut query = all.clone();
    loop {
        let page = store.board(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.after = Some(last.place(View::All));
        seen.extend(page.into_iter().map(|item| item.present.conversation_id));
    }
    seen.sort();
    assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4"]);
    let found = store.board(&BoardQuery { words: "ЗАКАЗ номер2".into(), ..all.clone() }).await.unwrap();
    assert_eq!(found.iter().map(|i| i.present.conversation_id.as_str()).collect::<Vec<_>>(), ["c2"]);
    let of_sales = BoardQuery { teams: vec!["sales".into()], limit: 10, ..all };
    assert!(store.board(&of_sales).await.unwrap().iter().all(|item| item.present.team.is_none()));
    assert_eq!(store.board_counts("anna", &["sales".into()]).await.unwrap().waiting, 0);
    assert_eq!(store.board_counts("anna", &[]).await.unwrap().waiting, 1);
}

#[tokio::test]
async fn a_plain_clients_next_record_takes_the_place_of_the_one_before() {
    let (_dir, store) = open().await;
    let first = handing_off("c1");
    store.append(&first).await.unwrap();
    let mut second = turn("c2", "shop", "hello?");
    second.conversation.group_id = "c1".into();
    second.continues = Some(first.id);
    store.append(&second).await.unwrap();
    let all = store.board(&BoardQuery { view: View::All, limit: 9, ..Default::default() }).await.unwrap();
    let [item] = &all[..] else { panic!("{all:?}") };
    assert_eq!((item.present.conversation_id.as_str(), item.present.owner.as_str()), ("c2", "waiting"));
    assert_eq!((item.present.turns, item.present.handoff_id.as_deref()), (2, Some("ho_c1")));
}

#[tokio::test]
async fn the_feed_wakes_its_followers() {
    let (_dir, store) = open().await;
    let mut changed = store.changed();
    changed.mark_unchanged();
    store.announce("knowledge", None, &json!({"id": "faq.csv#1"})).await.unwrap();
    changed.changed().await.unwrap();
    assert_eq!(store.changes_after(0, None, 9).await.unwrap()[0].body, json!({"id": "faq.csv#1"}));
}

/// 10,000 conversations of ten turns each, 200,000 messages, made by SQL.
async fn fill(store: &Store) {
    store.append(&turn("seed", "shop", "Where is my order number 7?")).await.unwrap();
    let statements = [
        "CREATE TEMP TABLE n AS WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000) SELECT n FROM n",
        "INSERT INTO conversations SELECT 'c' || n, 'shop', 'c' || n, 'web', n FROM n",
        "INSERT INTO turns SELECT 't' || n.n || '.' || k.n, 'c' || n.n, k.n,
                CASE WHEN k.n > 1 THEN 't' || n.n || '.' || (k.n - 1) END, n.n * 1000 + k.n * 20, 0, operator,
                operator_version, state, action, kind, reason, confidence, sources, model_hash, pack_version,
                prompt_tokens, cached_tokens, completion_tokens, first_token_ms, total_ms, NULL
           FROM n CROSS JOIN n AS k CROSS JOIN turns s WHERE k.n <= 10 AND s.conversation_id = 'seed'",
        "INSERT INTO texts SELECT id, 'Where is my order number ' || id || ', please?',
                'Your order is on its way; look at **Orders** in the menu. ' || id FROM turns WHERE conversation_id <> 'seed'",
        "INSERT INTO desk_search SELECT t.conversation_id, x.customer || ' ' || x.answer FROM turns t JOIN texts x ON x.turn_id = t.id
          WHERE t.conversation_id <> 'seed'",
        "INSERT INTO desk (conversation_id, owner, queue_told, team, channel, mood, turns, last_from, last_text, superseded,
                           started_ms, updated_ms, waiting_since_ms)
         SELECT 'c' || n, CASE n % 10 WHEN 0 THEN 'waiting' WHEN 1 THEN 'closed' ELSE 'bot' END, 0, 'support', 'web', 'calm', 10,
                'bot', 'Your order', 0, n, n * 1000, n FROM n",
    ];
    let mut connection = store.pool.acquire().await.unwrap();
    for statement in statements {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "measures; run it on a quiet machine with --ignored --nocapture"]
async fn ten_thousand_conversations_are_listed_and_searched_within_200_ms() {
    let (_dir, store) = open().await;
    fill(&store).await;
    let messages: i64 = sqlx::query_scalar("SELECT 2 * COUNT(*) FROM turns").fetch_one(&store.pool).await.unwrap();
    let mut slowest = std::time::Duration::ZERO;
    let mut report = |what: &str, started: std::time::Instant, found: usize| {
        let took = started.elapsed();
        println!("{what}: {found} in {:.1} ms", took.as_secs_f64() * 1e3);
        slowest = slowest.max(took);
    };
    let now = std::time::Instant::now;
    for (what, view, words) in [
        ("live", View::Live, ""),
        ("waiting", View::Waiting, ""),
        ("closed", View::Closed, ""),
        ("all", View::All, ""),
        ("search, rare", View::All, "t77.5"),
        ("search, in every message", View::All, "order"),
    ] {
        let query = BoardQuery { view, words: words.into(), limit: 51, ..Default::default() };
        let started = now();
        let found = store.board(&query).await.unwrap();
        report(what, started, found.len());
        assert!(!found.is_empty(), "{what}");
    }
    let query =
        BoardQuery { view: View::All, limit: 51, after: Some((5_000_000, "c5000".into())), ..Default::default() };
    let started = now();
    report("a page from the middle", started, store.board(&query).await.unwrap().len());
    let started = now();
    report("counts", started, usize::try_from(store.board_counts("x", &[]).await.unwrap().waiting).unwrap());
    let started = now();
    report("one conversation", started, store.timeline("c777").await.unwrap().len());
    println!("{messages} messages; the slowest took {:.1} ms", slowest.as_secs_f64() * 1e3);
    assert!(messages >= 200_000 && slowest.as_millis() < 200);
}

#[tokio::test]
async fn without_texts_words_that_were_needed_to_deliver_an_answer_go_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), false).await.unwrap();
    let accepted = store.accept(&message("m1", "ada")).await.unwrap();
    let mut answer = turn(&accepted.conversation_id, "@channel:mail", "hello");
    answer.beside.inbound = Some(("channel:mail".into(), "m1".into()));
    store.append(&answer).await.unwrap();
    assert_eq!(store.said(&accepted.conversation_id, &answer.id).await.unwrap()[1].text, "re: hello");
    assert_eq!(store.forget_words(0).await.unwrap(), 0);
    assert_eq!(store.forget_words(i64::MAX).await.unwrap(), 1);
    assert!(store.said(&accepted.conversation_id, &answer.id).await.unwrap().is_empty());
}
