//! The socket: HTTPS, pages of other origins, clients that are slow on purpose.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Server;

#[tokio::test]
async fn with_a_certificate_the_server_speaks_https_and_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_string(), "127.0.0.1".to_string()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::spawn(&format!("[server]\ntls_cert = {cert:?}\ntls_key = {key:?}\n"));
    assert!(server.base.starts_with("https://127.0.0.1:"), "{}", server.base);

    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
    let live = client.get(server.url("/health/live")).send().await.unwrap();
    assert_eq!(live.status(), 200);

    let stranger = reqwest::Client::builder().build().unwrap();
    assert!(stranger.get(server.url("/health/live")).send().await.is_err(), "nobody vouches for this certificate");
    let plain = server.url("/health/live").replace("https", "http");
    assert!(client.get(plain).send().await.is_err());
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_let_go() {
    let server = Server::spawn("[server]\nheader_timeout_s = 1\n");
    for begun in ["", "PR", "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-slow: "] {
        let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Ends only when the server closes the connection.
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        closed.unwrap_or_else(|_| panic!("{begun:?} is held for ever")).unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains("200"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn only_pages_of_the_origins_named_may_call_from_a_browser() {
    let server = Server::spawn("[server]\ncors_origins = [\"https://shop.example\"]\n");
    let preflight = |origin: &'static str| {
        let request = reqwest::Client::new().request(reqwest::Method::OPTIONS, server.url("/v1/chat/completions"));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        server.send(request.header("access-control-request-headers", "authorization,content-type,x-stainless-os"))
    };
    let reply = preflight("https://shop.example").await;
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
    assert!(reply.header("access-control-allow-headers").contains("x-stainless-os"));
    let reply = preflight("https://evil.example").await;
    assert!(reply.headers.get("access-control-allow-origin").is_none());

    let request = reqwest::Client::new().get(server.url("/health/live")).header("origin", "https://shop.example");
    let reply = server.send(request).await;
    assert!(reply.header("access-control-expose-headers").contains("x-conversation-id"));
    let nobody = Server::shared().get("/health/live").await;
    assert!(nobody.headers.get("access-control-allow-origin").is_none());
}
