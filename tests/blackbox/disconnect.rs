//! A client that leaves frees its sequence.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{CHAT_MODEL, Server, user};

const RUNNING: &str = "vllm:num_requests_running";
const CANCELLED: &str = "firstline_generations_cancelled_total";

/// Sends a request for a long answer by hand, so that the connection is ours to cut.
fn ask_for_a_long_answer(server: &Server, streamed: bool) -> TcpStream {
    let body = json!({"model": CHAT_MODEL, "messages": [user("Write a very long story.")], "max_tokens": 6000,
        "temperature": 0, "logit_bias": {"2": -100}, "stream": streamed})
    .to_string();
    let address = server.base.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body.as_bytes()).unwrap();
    connection
}

/// Polls a metric until it is as wished.
async fn until(server: &Server, metric: &str, wished: impl Fn(f64) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let value = server.metric(metric).await;
        if wished(value) {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{metric} stays {value}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_sequence_streamed_or_not() {
    let server = &Server::start("");
    for (round, streamed) in [(1.0, true), (2.0, false)] {
        let mut connection = ask_for_a_long_answer(server, streamed);
        until(server, RUNNING, |running| running == 1.0).await;
        if streamed {
            let mut first = [0; 64];
            connection.read_exact(&mut first).unwrap();
            assert!(first.starts_with(b"HTTP/1.1 200"));
        }
        drop(connection);
        let took = until(server, RUNNING, |running| running == 0.0).await;
        assert!(took < Duration::from_secs(2), "streamed: {streamed}, freed after {took:?}");
        until(server, CANCELLED, |cancelled| cancelled == round).await;
    }
    // The same connections' cache is whole: the next request is served.
    let extra = json!({"temperature": 0, "max_tokens": 8});
    let reply = server.chat(CHAT_MODEL, json!([user("Name the capital of France.")]), extra).await;
    assert!(reply.content().contains("Paris"), "{}", reply.text());
}
