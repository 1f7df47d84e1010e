//! `/kb/…`: what answers point to.

use super::server::Server;

#[tokio::test]
async fn an_image_of_an_article_is_served_byte_for_byte() {
    let reply = Server::shared().get("/kb/articles/en/images/mark.png").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "image/png"), "{}", reply.text());
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packs/mini/articles/en/images/mark.png");
    assert_eq!(reply.body, std::fs::read(file).unwrap());
}

#[tokio::test]
async fn an_svg_can_run_no_script() {
    let reply = Server::shared().get("/kb/articles/en/images/filter.svg").await;
    assert_eq!(reply.header("content-type"), "image/svg+xml");
    let policy = reply.header("content-security-policy");
    assert!(
        policy.contains("sandbox") && policy.contains("default-src 'none'") && !policy.contains("script"),
        "{policy}"
    );
}

#[tokio::test]
async fn an_article_is_a_page_that_runs_nothing() {
    let reply = Server::shared().get("/kb/articles/en/filter.md").await;
    let page = reply.text();
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    assert!(page.contains("Changing the filter") && !page.contains("<script"), "{page}");
    assert!(reply.header("content-security-policy").contains("default-src 'none'"));
}

#[tokio::test]
async fn the_faq_is_a_page() {
    let page = Server::shared().get("/kb/faq.csv").await.text();
    assert!(page.contains("How do I change the color of the lid?") && page.contains("<strong>Settings"), "{page}");
}

#[tokio::test]
async fn nothing_else_of_the_pack_or_the_machine_can_be_read() {
    let server = Server::shared();
    for path in [
        "/kb/operators/ann/v1.md",
        "/kb/operators/ann/operator.toml",
        "/kb/company.toml",
        "/kb/filters/spam.jsonl",
        "/kb/articles/en/images/unused.png",
        "/kb/articles",
        "/kb/..%2ffirstline.toml",
        "/kb/%2e%2e/firstline.toml",
        "/kb/articles/en/..%2f..%2fcompany.toml",
        "/kb//etc/passwd",
        "/kb/%2fetc%2fpasswd",
        "/kb/articles/en/filter.md%00.png",
    ] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}
