use std::fs;
use std::path::Path;

use super::*;
use crate::config::KnowledgeSettings;

/// Writes files (path, content) into a folder.
pub(crate) fn write(dir: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// A small pack without faults.
pub(crate) const SMALL: [(&str, &str); 6] = [
    (
        "company.toml",
        "name = \"Acme\"\nlanguages = [\"en\", \"ru\"]\n[about]\nen = \"Acme makes boxes.\"\nru = \"Acme делает коробки.\"\n",
    ),
    ("operators/anna/operator.toml", "role = \"First line\"\ndefault = true\n"),
    (
        "operators/anna/v1.md",
        "# Anna\nBe kind.\n# Scenarios\n## Refund\nRefunds are made by people within five days.\n",
    ),
    (
        "faq.csv",
        "question,answer,lang,tags\nHow do I open a box? | Box opening,\"Pull the red tab. See [the page](https://acme.example/open).\",en,box\n",
    ),
    (
        "articles/en/setup.md",
        "---\ntitle: Setup\ntags: [box, start]\n---\n# Setup\n\nUnpack.\n\n## Error LC-102\n\nThe domain is not allowed. Run:\n\n```sh\nacme --allow\n```\n",
    ),
    (
        "app-map.yaml",
        "- id: settings\n  label: {en: Settings, ru: Настройки}\n  children:\n    - id: settings.billing\n      kind: tab\n      label: {en: Billing, ru: Оплата}\n      help: {en: \"Invoices and plan.\", ru: \"Счета и тариф.\"}\n",
    ),
];

fn settings(dir: &Path) -> KnowledgeSettings {
    KnowledgeSettings { dir: dir.to_path_buf(), ..KnowledgeSettings::default() }
}

/// The small pack with some files changed or added, read.
fn read_with(changes: &[(&str, &str)]) -> Pack {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &SMALL);
    write(dir.path(), changes);
    Pack::read(&settings(dir.path()))
}

fn has(pack: &Pack, path: &str, line: usize, fatal: bool, words: &str) {
    let found =
        pack.faults.iter().any(|f| f.path == path && f.line == line && f.fatal == fatal && f.reason.contains(words));
    assert!(found, "no fault {path}:{line} \"{words}\" (fatal: {fatal}) among\n{}", list(&pack.faults));
}

#[test]
fn a_good_pack_is_read_whole_and_without_faults() {
    let pack = read_with(&[]);
    assert_eq!(pack.faults, []);
    assert_eq!(pack.company.name, "Acme");
    assert_eq!(pack.operators[0].active_version, "v1");
    assert_eq!(pack.operators[0].versions["v1"].sections[0].headings, ["Scenarios", "Refund"]);
    assert_eq!(pack.faq[0].questions, ["How do I open a box?", "Box opening"]);
    assert_eq!((pack.articles[0].title.as_str(), pack.articles[0].lang.as_str()), ("Setup", "en"));
    assert_eq!(pack.articles[0].tags, ["box", "start"]);
    assert_eq!(pack.app_map[1].path["ru"], ["Настройки", "Оплата"]);
    assert_eq!(pack.app_map[1].line, 4);
}

#[test]
fn every_fault_is_told_with_its_line_not_only_the_first() {
    let pack = read_with(&[
        ("company.toml", "name = \"Acme\"\nlanguages = [\"english\"]\n[about]\n[tone]\naddress = \"rude\"\n"),
        ("operators/anna/operator.toml", "role = \"x\"\nactive_version = \"v9\"\n"),
        ("operators/Bad Name/operator.toml", "role = \"x\"\nvolume = 11\n"),
        ("faq.csv", "question,answer\nA?,\n,b\nC?,d,e,f\nD?,ok\n"),
        ("filters/a.jsonl", "{\"text\": \"x\", \"label\": \"spam\"}\n{\"text\": \"y\", \"label\": \"silly\"}\n{oops\n"),
        (
            "evals/a.jsonl",
            "{\"id\": \"1\", \"lang\": \"en\", \"turns\": [{\"user\": \"x\", \"action\": [\"dance\"]}]}\n",
        ),
        ("app-map.yaml", "- id: a\n  label: {en: A, ru: А}\n- id: a\n  kind: lever\n  label: {en: B, ru: Б}\n"),
    ]);
    has(&pack, "company.toml", 2, true, "`english`");
    has(&pack, "company.toml", 5, true, "`rude`");
    has(&pack, "operators/anna/operator.toml", 2, true, "`v9`");
    has(&pack, "operators/Bad Name", 0, true, "lowercase");
    has(&pack, "operators/Bad Name/operator.toml", 2, true, "volume");
    has(&pack, "faq.csv", 2, true, "answer to \"A?\" is empty");
    has(&pack, "faq.csv", 3, true, "question is empty");
    has(&pack, "faq.csv", 4, true, "has 4 columns");
    has(&pack, "filters/a.jsonl", 2, true, "`silly`");
    has(&pack, "filters/a.jsonl", 3, true, "column 2");
    has(&pack, "evals/a.jsonl", 1, true, "`dance`");
    has(&pack, "app-map.yaml", 1, true, "twice");
    has(&pack, "app-map.yaml", 1, true, "`lever`");
    assert!(!pack.is_usable());
}

#[test]
fn simulated_customers_are_read_apart_from_dialogues_and_must_have_words_and_an_end() {
    let good = r#"{"id":"a","lang":"en","goal":"Open a box","says":["how do I open it?"],"content_with":[["tab"]],"ends":"answer"}"#;
    let mute = r#"{"id":"b","lang":"en","goal":"x","says":[" "],"content_with":[["y"]],"ends":"answer"}"#;
    let endless = r#"{"id":"a","lang":"en","goal":"x","says":["z"],"temper":"hurried","ends":"answer"}"#;
    let pack = read_with(&[("evals/customers/a.jsonl", &[good, mute, endless].join("\n"))]);
    assert_eq!((pack.evals.len(), pack.customers.len()), (0, 3));
    assert_eq!((pack.customers[0].temper, pack.customers[0].ends), (Temper::Calm, End::Answer));
    has(&pack, "evals/customers/a.jsonl", 2, true, "nothing to say");
    has(&pack, "evals/customers/a.jsonl", 3, true, "`content_with`");
    has(&pack, "evals/customers/a.jsonl", 3, false, "twice");
}

#[test]
fn a_pack_without_operators_says_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[SMALL[0], SMALL[3]]);
    let pack = Pack::read(&settings(dir.path()));
    has(&pack, "operators", 0, true, "operators/NAME/operator.toml");
}

#[test]
fn files_that_cannot_be_trusted_are_faults_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(dir.path(), &SMALL);
    write(outside.path(), &[("secret.md", "# Secret\nword")]);
    std::os::unix::fs::symlink(outside.path().join("secret.md"), dir.path().join("articles/secret.md")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("articles/folder")).unwrap();
    fs::write(dir.path().join("articles/latin.md"), b"# ok\nline\ncaf\xe9\n").unwrap();
    fs::write(dir.path().join("articles/huge.md"), "x".repeat(5000)).unwrap();
    let pack = Pack::read(&KnowledgeSettings { max_file_bytes: 4000, ..settings(dir.path()) });
    has(&pack, "articles/secret.md", 0, true, "leads out of the pack");
    has(&pack, "articles/folder", 0, true, "leads out of the pack");
    has(&pack, "articles/latin.md", 3, true, "not UTF-8");
    has(&pack, "articles/huge.md", 0, true, "the limit is 4000");
    assert_eq!(pack.articles.len(), 1);
    let pack = Pack::read(&KnowledgeSettings { max_files: 3, ..settings(dir.path()) });
    assert!(pack.faults.iter().any(|f| f.fatal && f.reason.contains("more than 3 files")));
    let pack = Pack::read(&settings(&dir.path().join("nothing")));
    assert!(!pack.is_usable());
}

#[test]
fn broken_images_and_links_are_warnings_and_the_pack_is_served() {
    let pack = read_with(&[(
        "articles/en/a.md",
        "# A\n\n![x](img/none.png) and [y](../none.md) and [z](setup.md#part) and [w](https://w.example)\n\n```\nopen\n",
    )]);
    has(&pack, "articles/en/a.md", 3, false, "img/none.png");
    has(&pack, "articles/en/a.md", 3, false, "../none.md");
    has(&pack, "articles/en/a.md", 5, false, "never closed");
    assert_eq!(pack.faults.len(), 3);
    assert!(pack.is_usable());
}

#[test]
fn semicolons_and_a_byte_order_mark_from_a_spreadsheet_are_understood() {
    let pack = read_with(&[("faq.csv", "\u{feff}question;answer\nКак открыть?;\"Потяните; сильно\"\n")]);
    assert_eq!(pack.faq[0].answer, "Потяните; сильно");
    assert_eq!(pack.faq[0].lang, "ru");
    assert_eq!(pack.faults, []);
}

#[test]
fn what_people_added_at_the_desk_replaces_the_packs_own_answer() {
    let desk = tempfile::tempdir().unwrap();
    write(
        desk.path(),
        &[("faq.jsonl", "{\"question\": \"How do I open a box?\", \"answer\": \"Cut the tape.\", \"lang\": \"en\"}\n")],
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &SMALL);
    let pack = Pack::read_with(&settings(dir.path()), Some(desk.path()), None);
    assert_eq!(pack.faq.len(), 1);
    assert_eq!((pack.faq[0].answer.as_str(), pack.faq[0].path.as_str()), ("Cut the tape.", "desk/faq.jsonl"));
}
