//! A weak model writes along the sources: a sentence of the passage in other words, the passage's exact parts behind it.

use serde_json::json;

use super::server::{Server, user};

const PAGE: &str = "# Nightly exports\n\nTo schedule a nightly export, open **Reports → Nightly**. The file lands in the \
    [export folder](https://files.example/nightly) of your workspace and stays there for a fortnight.\n\n\
    ```bash\nlumi export --nightly --keep \"14 d\"\n```\n";

#[tokio::test]
async fn a_sentence_is_said_again_and_the_rest_is_exact() {
    let page = [("kb/articles/en/nightly.md".to_string(), PAGE.to_string())];
    let server = Server::start_with("", &page);
    let mut said = std::collections::BTreeSet::new();
    for seed in 0..6 {
        let question = json!([user("how do I schedule a nightly export")]);
        let reply = server.chat("support", question, json!({"temperature": 1.5, "seed": seed})).await;
        let answer = reply.content();
        assert_eq!(reply.json()["support"]["kind"], "grounded", "{answer}");
        let (first, rest) = answer.split_once("**.").or(answer.split_once("export.")).expect("a first sentence");
        said.insert(first.to_string());
        for exact in
            ["[export folder](https://files.example/nightly)", "```bash\nlumi export --nightly --keep \"14 d\"\n```"]
        {
            assert!(rest.contains(exact), "{answer}");
        }
        assert!(first.contains("schedule a nightly export") || first.contains("**Reports → Nightly**"), "{answer}");
    }
    assert!(said.len() > 1, "always the same words: {said:?}");
}

#[tokio::test]
async fn a_company_may_want_quotations_only() {
    let page = [("kb/articles/en/nightly.md".to_string(), PAGE.to_string())];
    let server = Server::start_with("[support]\nmodel_writes = \"nothing\"\n", &page);
    let reply = server.ask("support", "how do I schedule a nightly export").await;
    assert_eq!(reply.json()["support"]["kind"], "quoted");
    assert!(
        reply.content().starts_with("To schedule a nightly export, open **Reports → Nightly**."),
        "{}",
        reply.content()
    );
}
