//! `firstline ask`: one question, in this process or of a running server.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::loaded;
use crate::config::Settings;
use crate::llm::ChatMessage;
use crate::support::{TurnEvent, TurnOutcome, TurnRequest};

#[derive(Debug, Args)]
pub struct AskArgs {
    /// The customer's words
    question: String,
    /// Ask this operator instead of letting routing choose
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Ask a running server, e.g. http://127.0.0.1:8080; without it the models are loaded here
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// API key for --url
    #[arg(long, value_name = "KEY", env = "FIRSTLINE_KEY", hide_env_values = true, requires = "url")]
    key: Option<String>,
    /// Show everything that was weighed, as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(settings: &Settings, args: &AskArgs) -> anyhow::Result<ExitCode> {
    if args.question.trim().is_empty() {
        bail!("the question is empty");
    }
    match &args.url {
        Some(url) => super::block_on(ask_server(url.trim_end_matches('/'), args))?,
        None => ask_here(settings, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ask_here(settings: &Settings, args: &AskArgs) -> anyhow::Result<()> {
    let support = loaded::load(settings)?.support(settings, &settings.store.state_dir, &|_| {})?;
    let request = TurnRequest {
        messages: vec![ChatMessage { role: "user".into(), content: args.question.clone() }],
        operator: args.operator.clone(),
        conversation_id: uuid::Uuid::new_v4().to_string(),
        group_id: uuid::Uuid::new_v4().to_string(),
        public_url: settings.server.public_url_at(settings.server.port),
        ..TurnRequest::default()
    };
    super::block_on(async {
        let mut turn = support.turn(request).await?;
        let mut answer = String::new();
        while let Some(event) = turn.next().await {
            match event {
                TurnEvent::Text(text) | TurnEvent::Promise(text) if args.json => answer += &text,
                TurnEvent::Text(text) | TurnEvent::Promise(text) => {
                    print!("{text}");
                    std::io::stdout().flush()?;
                }
                TurnEvent::Done(outcome) if args.json => {
                    println!("{}", serde_json::to_string_pretty(&json!({"answer": answer, "outcome": outcome}))?);
                }
                TurnEvent::Done(outcome) => print_outcome(&outcome),
            }
        }
        Ok(())
    })
}

fn print_outcome(outcome: &TurnOutcome) {
    let version = &outcome.operator_version;
    println!("\n");
    println!("action    {} ({})", word(&json!(outcome.action)), outcome.kind);
    println!("why       {}", outcome.reason);
    println!("operator  {} {version}, confidence {:.2}", outcome.operator, outcome.confidence);
    for source in &outcome.sources {
        println!("source    {:.2}  {}  {}", source.score, source.title, source.url);
    }
    if let Some(handoff) = &outcome.handoff {
        println!("handoff   queue {}: {}", handoff.queue, handoff.summary);
    }
}

async fn ask_server(url: &str, args: &AskArgs) -> anyhow::Result<()> {
    let body = json!({
        "model": args.operator.as_deref().unwrap_or("support"),
        "messages": [{"role": "user", "content": args.question}],
    });
    let client = reqwest::Client::builder().timeout(Duration::from_secs(600)).build()?;
    let mut request = client.post(format!("{url}/v1/chat/completions")).header("Content-Type", "application/json");
    if let Some(key) = &args.key {
        request = request.bearer_auth(key);
    }
    let answer = request.body(body.to_string()).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let text = answer.text().await?;
    let answer: Value = serde_json::from_str(&text)
        .with_context(|| format!("{url} answered {status} with something that is not JSON"))?;
    if !status.is_success() {
        bail!("{url} answered {status}: {}", answer["error"]["message"].as_str().unwrap_or(&text));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    println!("{}\n", answer["choices"][0]["message"]["content"].as_str().unwrap_or_default());
    let support = &answer["support"];
    println!("action    {} ({})", word(&support["action"]), word(&support["kind"]));
    println!("why       {}", word(&support["reason"]));
    let confidence = support["confidence"].as_f64().unwrap_or(0.0);
    println!(
        "operator  {} {}, confidence {confidence:.2}",
        word(&support["operator"]),
        word(&support["operator_version"])
    );
    for source in support["sources"].as_array().into_iter().flatten() {
        let score = source["score"].as_f64().unwrap_or(0.0);
        println!("source    {score:.2}  {}  {}", word(&source["title"]), word(&source["url"]));
    }
    if support["handoff"].is_object() {
        println!("handoff   queue {}: {}", word(&support["handoff"]["queue"]), word(&support["handoff"]["summary"]));
    }
    Ok(())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
