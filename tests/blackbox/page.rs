//! The test-chat page.

use super::server::Server;

#[tokio::test]
async fn the_page_and_its_files_come_from_the_program_alone() {
    let server = Server::shared();
    let reply = server.get("/").await;
    let page = reply.text();
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    let policy = reply.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.contains("style=\"") && !page.contains("onclick"), "the policy would refuse it");
    for (file, kind) in [
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("markdown.js", "text/javascript"),
        ("why.js", "text/javascript"),
        ("words.js", "text/javascript"),
    ] {
        let reply = server.get(&format!("/page/{file}")).await;
        assert!(reply.status == 200 && reply.header("content-type").starts_with(kind), "{file}");
        let text = reply.text();
        assert!(!text.contains("innerHTML") && !text.contains("eval(") && !text.contains("://cdn"), "{file}");
    }
    server.get("/page/secret.js").await.error(404, "not_found", None);
}

#[tokio::test]
async fn the_page_knows_the_company_and_questions_it_can_answer() {
    let about = Server::shared().get("/page/about").await.json();
    assert_eq!(about["company"], "Kettlewood");
    assert_eq!(about["suggestions"]["en"][0], "How do I change the color of the lid?");
    assert_eq!(about["suggestions"]["ru"][0], "Как изменить цвет крышки?");
}
