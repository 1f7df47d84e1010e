//! Files and vector stores: what is uploaded is searched, and answered from where it was attached to the pack.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Reply, Server};

/// A form with one file.
fn upload(server: &Server, filename: &str, content: &[u8], key: &str) -> reqwest::RequestBuilder {
    let mut body = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n--edge\r\nContent-Disposition: \
         form-data; name=\"file\"; filename=\"{filename}\"\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--edge--\r\n");
    let request = reqwest::Client::new().post(server.url("/v1/files")).bearer_auth(key);
    request.header("content-type", "multipart/form-data; boundary=edge").body(body)
}

async fn uploaded(server: &Server, filename: &str, content: &[u8], key: &str) -> String {
    let reply = server.send(upload(server, filename, content, key)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_string()
}

async fn post(server: &Server, path: &str, body: Value, key: &str) -> Reply {
    let request = reqwest::Client::new().post(server.url(path)).bearer_auth(key);
    server.send(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn get(server: &Server, path: &str, key: &str) -> Reply {
    server.send(reqwest::Client::new().get(server.url(path)).bearer_auth(key)).await
}

async fn delete(server: &Server, path: &str, key: &str) -> Reply {
    server.send(reqwest::Client::new().delete(server.url(path)).bearer_auth(key)).await
}

/// The attached file, once it is indexed or has failed.
async fn indexed(server: &Server, store: &str, file: &str, key: &str) -> Value {
    for _ in 0..1200 {
        let shown = get(server, &format!("/v1/vector_stores/{store}/files/{file}"), key).await.json();
        if shown["status"] != "in_progress" {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{file} was not indexed: {}", server.log());
}

const LENDING: &str =
    "# Lending a ladder\n\nThe workshop lends a ladder for 17 crowns a day; the deposit is 230 crowns.\n";

#[tokio::test]
async fn operators_answer_from_a_file_that_was_attached_to_the_pack_until_it_is_taken_out() {
    let server = &Server::start("");
    let question = "How much is the deposit for lending a ladder?";
    let before = server.ask("support", question).await.content();
    assert!(!before.contains("230"), "{before}");

    let file = uploaded(server, "lending.md", LENDING.as_bytes(), "").await;
    post(server, "/v1/vector_stores/vs_pack/files", json!({"file_id": file}), "").await;
    assert_eq!(indexed(server, "vs_pack", &file, "").await["status"], "completed");
    let reply = server.ask("support", question).await;
    let answer = reply.content();
    assert!(answer.contains("230 crowns"), "{answer}");
    let source = reply.json()["support"]["sources"][0].clone();
    let url = source["url"].as_str().unwrap_or_default();
    assert!(url.contains("/kb/uploads/articles/"), "{source}");
    let page = server.send(reqwest::Client::new().get(url)).await;
    assert!(page.status == 200 && page.text().contains("Lending a ladder"), "{}", page.text());

    // A document of another format, byte for byte behind its link.
    let pdf = include_bytes!("../data/documents/guide.pdf");
    let guide = uploaded(server, "guide.pdf", pdf, "").await;
    post(server, "/v1/vector_stores/vs_pack/files", json!({"file_id": guide}), "").await;
    assert_eq!(indexed(server, "vs_pack", &guide, "").await["status"], "completed");
    let linked = server.get(&format!("/kb/uploads/articles/{guide}/guide.pdf")).await;
    assert!(linked.status == 200 && linked.body == pdf);

    // Deleting the file takes it out of the pack too.
    assert_eq!(delete(server, &format!("/v1/files/{file}"), "").await.status, 200);
    let mut gone = false;
    for _ in 0..600 {
        gone = server.send(reqwest::Client::new().get(url)).await.status == 404;
        if gone {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(gone, "the page is still served: {}", server.log());
    let after = server.ask("support", question).await.content();
    assert!(!after.contains("230"), "{after}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_a_bad_file_fails_alone() {
    let server = Server::start("");
    let file = uploaded(&server, "lending.md", LENDING.as_bytes(), "").await;
    let bad = uploaded(&server, "bad.md", b"# Bad\n\n\xff\xfe not UTF-8\n", "").await;
    let strange = uploaded(&server, "tool.exe", b"MZ", "").await;
    let own = post(&server, "/v1/vector_stores", json!({"name": "own", "file_ids": [file]}), "").await.json();
    let own = own["id"].as_str().unwrap().to_string();
    for id in [&file, &bad, &strange] {
        let attached = post(&server, "/v1/vector_stores/vs_pack/files", json!({"file_id": id}), "").await;
        assert_eq!(attached.status, 200, "{}", attached.text());
    }
    // At once: nothing, or half, of it is indexed.
    let server = Server::again(server.kill());
    assert_eq!(get(&server, &format!("/v1/files/{file}/content"), "").await.text(), LENDING);
    assert_eq!(indexed(&server, "vs_pack", &file, "").await["status"], "completed");
    assert_eq!(indexed(&server, &own, &file, "").await["status"], "completed");
    let failed = indexed(&server, "vs_pack", &bad, "").await;
    assert_eq!(
        (&failed["status"], &failed["last_error"]["code"]),
        (&json!("failed"), &json!("invalid_file")),
        "{failed}"
    );
    assert!(failed["last_error"]["message"].as_str().unwrap().contains("UTF-8"), "{failed}");
    assert_eq!(indexed(&server, "vs_pack", &strange, "").await["last_error"]["code"], "unsupported_file");
    let found = post(&server, &format!("/v1/vector_stores/{own}/search"), json!({"query": "ladder deposit"}), "").await;
    assert!(found.text().contains("230 crowns"), "{}", found.text());
    assert!(server.ask("support", "How much is the deposit for lending a ladder?").await.content().contains("230"));
    // What is deleted is gone after the next start too.
    delete(&server, &format!("/v1/vector_stores/{own}"), "").await;
    delete(&server, &format!("/v1/vector_stores/vs_pack/files/{file}"), "").await;
    let server = Server::again(server.kill());
    post(&server, &format!("/v1/vector_stores/{own}/search"), json!({"query": "ladder"}), "").await.error(
        404,
        "vector_store_not_found",
        None,
    );
    let pack = post(&server, "/v1/vector_stores/vs_pack/search", json!({"query": "ladder deposit"}), "").await;
    assert!(pack.status == 200 && !pack.text().contains("230 crowns"), "{}", pack.text());
    assert!(!server.dir.path().join("state/vector_stores").join(&own).exists());
}

/// A key's settings.
fn key(name: &str, scopes: &str) -> String {
    use sha2::Digest;
    let sha256: String = sha2::Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[server.keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = {scopes}\n")
}

#[tokio::test]
async fn keys_see_their_own_files_alone_and_limits_hold() {
    let files = "[files]\nmax_file_bytes = 4000\nmax_files = 4\nmax_vector_stores = 1\nmax_files_in_store = 1\n";
    let keys = [key("a", "[\"files\"]"), key("b", "[\"files\", \"knowledge\", \"chat\"]"), key("c", "[\"chat\"]")];
    let server = &Server::start(&format!("{files}{}", keys.concat()));
    let file = uploaded(server, "lending.md", LENDING.as_bytes(), "a").await;
    server.send(upload(server, "x.md", b"x", "c")).await.error(403, "insufficient_scope", None);
    get(server, "/v1/vector_stores", "c").await.error(403, "insufficient_scope", None);
    get(server, &format!("/v1/files/{file}"), "b").await.error(404, "file_not_found", None);
    get(server, &format!("/v1/files/{file}/content"), "b").await.error(404, "file_not_found", None);
    delete(server, &format!("/v1/files/{file}"), "b").await.error(404, "file_not_found", None);
    assert_eq!(get(server, "/v1/files", "b").await.json()["data"], json!([]));

    let own = post(server, "/v1/vector_stores", json!({"file_ids": [file]}), "a").await.json();
    let own = format!("/v1/vector_stores/{}", own["id"].as_str().unwrap());
    get(server, &own, "b").await.error(404, "vector_store_not_found", None);
    post(server, &format!("{own}/search"), json!({"query": "ladder"}), "b").await.error(
        404,
        "vector_store_not_found",
        None,
    );
    // The pack may be searched by both, and changed by one.
    let pack = "/v1/vector_stores/vs_pack";
    assert_eq!(post(server, &format!("{pack}/search"), json!({"query": "filter"}), "a").await.status, 200);
    let attach = json!({"file_id": file});
    post(server, &format!("{pack}/files"), attach.clone(), "a").await.error(403, "insufficient_scope", None);
    post(server, &format!("{pack}/files"), attach, "b").await.error(404, "file_not_found", None);

    let large = server.send(upload(server, "large.md", &[b'a'; 5000], "a")).await;
    let error = large.error(413, "limit_reached", Some("file"));
    assert!(error["message"].as_str().unwrap().contains("files.max_file_bytes"), "{error}");
    server.send(upload(server, "huge.md", &vec![b'a'; 300_000], "a")).await.error(413, "body_too_large", None);
    let second = uploaded(server, "second.md", b"# Second\n\nText.\n", "a").await;
    post(server, &format!("{own}/files"), json!({"file_id": second}), "a").await.error(400, "limit_reached", None);
    post(server, "/v1/vector_stores", json!({}), "a").await.error(400, "limit_reached", None);
    for name in ["third.md", "fourth.md"] {
        uploaded(server, name, b"text", "b").await;
    }
    server.send(upload(server, "fifth.md", b"text", "b")).await.error(400, "limit_reached", None);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_upload_and_nothing_uploaded_is_shown_as_a_page() {
    let server = Server::shared();
    let request =
        upload(server, "evil.html", b"<script>alert(1)</script>", "").header("origin", "https://evil.example");
    server.send(request).await.error(403, "origin_not_allowed", None);
    let file = uploaded(server, "page.html", b"<script>alert(1)</script>", "").await;
    let content = server.get(&format!("/v1/files/{file}/content")).await;
    assert_eq!(content.header("content-type"), "application/octet-stream");
    assert_eq!(
        (content.header("content-disposition"), content.header("x-content-type-options")),
        ("attachment", "nosniff")
    );
}
