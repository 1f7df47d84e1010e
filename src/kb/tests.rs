use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::pack::tests::{SMALL, write};
use super::*;
use crate::config::KnowledgeSettings;
use crate::embed::tests::tiny_embedder;

struct Place {
    pack: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { pack: tempfile::tempdir().unwrap(), state: tempfile::tempdir().unwrap() };
        write(place.pack.path(), &SMALL);
        place
    }

    fn settings(&self) -> KnowledgeSettings {
        KnowledgeSettings { dir: self.pack.path().to_path_buf(), ..KnowledgeSettings::default() }
    }

    fn open(&self) -> (Knowledge, IndexReport) {
        self.open_reading("en")
    }

    /// With an embedding model that reads this language only.
    fn open_reading(&self, lang: &str) -> (Knowledge, IndexReport) {
        Knowledge::open(&self.settings(), self.state.path(), tiny_embedder(&[lang]), &mut |_| {}).unwrap()
    }
}

fn query<'a>(text: &'a str, operator: Option<&'a str>) -> SearchQuery<'a> {
    SearchQuery { text, operator, limit: 5, ..SearchQuery::default() }
}

fn ids(passages: &[Passage]) -> Vec<&str> {
    passages.iter().map(|p| p.chunk.id.as_str()).collect()
}

#[test]
fn a_question_finds_its_answer_with_every_figure() {
    let place = Place::new();
    let (knowledge, report) = place.open();
    assert_eq!((report.chunks, report.reused), (8, 0));
    let snapshot = knowledge.snapshot();
    let found = snapshot.search(&query("how do I open a box", None)).unwrap();
    let first = &found[0];
    assert_eq!(first.chunk.id, "faq.csv#how-do-i-open-a-box");
    assert!(first.question_cosine.is_some() && first.cosine >= first.question_cosine && first.bm25.is_some());
    assert_eq!((first.coverage, first.question_coverage), (1.0, 1.0));
    let found = snapshot.search(&query("LC-102", None)).unwrap();
    assert_eq!(found[0].chunk.id, "articles/en/setup.md#error-lc-102");
    assert!(found[0].chunk.assets.contains(&Asset::Code { n: 1, language: "sh".into(), text: "acme --allow".into() }));
    assert_eq!(snapshot.chunk("articles/en/setup.md").unwrap().title, "Setup");
}

#[test]
fn facts_and_samples_of_an_instruction_are_found_by_its_own_version_alone() {
    let place = Place::new();
    let instruction = |colour: &str| {
        format!(
            "# Anna\nBe kind.\n# Facts\n## Colours\nBoxes are {colour}.\n# Manner\n## Short\nCustomer: may I paint a box\nGood: Paint it {colour}.\n"
        )
    };
    write(
        place.pack.path(),
        &[
            ("operators/anna/v1.md", &instruction("red")),
            ("operators/anna/v2.md", &instruction("blue")),
            (
                "operators/anna/operator.toml",
                "role = \"x\"\ndefault = true\nactive_version = \"v1\"\n[shares]\nv1 = 0.5\nv2 = 0.5\n",
            ),
        ],
    );
    let (knowledge, _) = place.open();
    let snapshot = knowledge.snapshot();
    let found = |words: &str, operator: Option<&str>, version: Option<&str>| -> String {
        let kinds = [SourceKind::Article, SourceKind::Example];
        let wanted = SearchQuery { version, kinds: &kinds, ..query(words, operator) };
        snapshot.search(&wanted).unwrap().iter().map(|p| format!("{} ", p.chunk.text)).collect()
    };
    for words in ["what colours have boxes?", "may I paint a box"] {
        let (first, second) = (found(words, Some("anna"), Some("v1")), found(words, Some("anna"), Some("v2")));
        assert!(first.contains("red") && !first.contains("blue"), "{first}");
        assert!(second.contains("blue") && !second.contains("red"), "{second}");
        let nobody = found(words, None, None);
        assert!(!nobody.contains("red") && !nobody.contains("blue"), "{nobody}");
    }
}

#[test]
fn russian_questions_are_found_by_their_stems_without_vectors() {
    let place = Place::new();
    let (knowledge, _) = place.open_reading("de");
    let found = knowledge.snapshot().search(&query("где оплатить счета", None)).unwrap();
    assert_eq!(found[0].chunk.id, "app-map.yaml#settings.billing:ru");
    assert_eq!(found[0].cosine, None);
    assert!(found[0].coverage > 0.3);
}

#[test]
fn russian_texts_are_compared_in_rough_english_where_the_model_reads_english() {
    let place = Place::new();
    let (english, report) = place.open();
    let (german, without) = place.open_reading("de");
    let russian = |knowledge: &Knowledge| {
        let found = knowledge.snapshot().search(&query("где оплатить счета", None)).unwrap();
        found.into_iter().find(|p| p.chunk.lang == "ru").unwrap()
    };
    let (by_glossary, by_words) = (russian(&english), russian(&german));
    assert!(by_glossary.cosine.is_some() && by_glossary.by_glossary);
    assert!(by_words.cosine.is_none() && !by_words.by_glossary);
    assert!(report.embedded > without.embedded);
    let asked = english.snapshot().search(&query("how do I open a box", None)).unwrap();
    assert!(asked.iter().all(|p| !p.by_glossary), "what the model reads is compared as it stands");
}

#[test]
fn an_operators_own_sections_are_found_by_that_operator_alone() {
    let place = Place::new();
    let (knowledge, _) = place.open();
    let snapshot = knowledge.snapshot();
    let section = "operators/anna/v1.md#scenarios/refund";
    assert_eq!(snapshot.search(&query("refund within five days", Some("anna"))).unwrap()[0].chunk.id, section);
    let others = snapshot.search(&query("refund within five days", Some("bob"))).unwrap();
    assert!(!ids(&others).contains(&section));
    let only = SearchQuery { kinds: &[SourceKind::Faq], ..query("open a box setup", Some("anna")) };
    assert!(snapshot.search(&only).unwrap().iter().all(|p| p.chunk.kind == SourceKind::Faq));
    assert!(snapshot.search(&query("", None)).unwrap().is_empty());
}

#[test]
fn an_unchanged_pack_is_opened_without_embedding_and_a_changed_one_embeds_only_what_changed() {
    let place = Place::new();
    let (first, _) = place.open();
    let version = first.snapshot().version().to_string();
    let (again, report) = place.open();
    assert_eq!(report.embedded, 0);
    assert!(report.reused > 0);
    assert_eq!(again.snapshot().version(), version);
    write(place.pack.path(), &[("articles/en/new.md", "# New\n\nSomething new about ribbons.\n")]);
    let report = again.reload().unwrap();
    assert_eq!(report.embedded, 1);
    assert_ne!(again.snapshot().version(), version);
    assert_eq!(again.snapshot().search(&query("ribbons", None)).unwrap()[0].chunk.id, "articles/en/new.md");
    // Only the current version is left on disk.
    let folders = fs::read_dir(place.state.path().join("index")).unwrap().flatten().filter(|e| e.path().is_dir());
    assert_eq!(folders.count(), 1);
}

#[test]
fn a_faulty_change_leaves_the_last_good_snapshot_serving() {
    let place = Place::new();
    let (knowledge, _) = place.open();
    let version = knowledge.snapshot().version().to_string();
    write(place.pack.path(), &[("faq.csv", "question,answer\nBroken?,\n")]);
    let said = knowledge.reload().unwrap_err().to_string();
    assert!(said.contains("faq.csv:2"), "{said}");
    assert_eq!(knowledge.snapshot().version(), version);
    assert!(knowledge.faults().iter().any(|fault| fault.fatal));
    assert!(!knowledge.snapshot().search(&query("open a box", None)).unwrap().is_empty());
    write(place.pack.path(), &[SMALL[3]]);
    knowledge.reload().unwrap();
    assert!(knowledge.faults().is_empty());
}

#[test]
fn a_damaged_index_is_made_again() {
    let place = Place::new();
    drop(place.open());
    let root = place.state.path().join("index");
    let version = fs::read_to_string(root.join("current")).unwrap();
    let vectors = root.join(&version).join("vectors.usearch");
    let bytes = fs::read(&vectors).unwrap();
    fs::write(&vectors, &bytes[..bytes.len() / 2]).unwrap();
    let (knowledge, report) = place.open();
    assert!(report.embedded > 0);
    assert!(!knowledge.snapshot().search(&query("open a box", None)).unwrap().is_empty());
}

#[test]
fn what_a_crash_left_behind_is_ignored_and_swept_away() {
    let place = Place::new();
    drop(place.open());
    let left = place.state.path().join("index/building-1");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("meta.json"), "{").unwrap();
    write(place.pack.path(), &[("articles/en/new.md", "# New\n\nRibbons.\n")]);
    drop(place.open());
    assert!(!left.exists());
}

#[test]
fn an_index_that_is_interrupted_goes_on_where_it_stopped() {
    let place = Place::new();
    let pages: Vec<(String, String)> = (0..200)
        .map(|n| (format!("articles/en/p{n}.md"), format!("# Page {n}\n\nShelf {n} holds boxes of size {}.\n", n * 7)))
        .collect();
    let pages: Vec<(&str, &str)> = pages.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    write(place.pack.path(), &pages);
    let mut embedded = 0;
    let open = |progress: &mut dyn FnMut(IndexProgress)| {
        Knowledge::open(&place.settings(), place.state.path(), tiny_embedder(&["en"]), progress).unwrap()
    };
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        open(&mut |p| {
            if p.step == IndexStep::Embed && p.done > 0 {
                embedded = p.done;
                panic!("interrupted");
            }
        })
    }));
    assert!(stopped.is_err() && embedded > 0);
    let (knowledge, report) = open(&mut |_| {});
    assert_eq!(report.reused, embedded);
    assert!(report.embedded > 0);
    assert!(!knowledge.snapshot().search(&query("open a box", None)).unwrap().is_empty());
    assert!(!place.state.path().join("index/embedded.part").exists());
}

#[test]
fn the_same_thing_said_twice_is_found_once() {
    let place = Place::new();
    let twin = "# Ribbons\n\nA ribbon is tied around the box with two loops and one knot.\n";
    write(place.pack.path(), &[("articles/en/a.md", twin), ("articles/en/b.md", twin)]);
    let (knowledge, _) = place.open();
    let found = knowledge.snapshot().search(&query("ribbon knot", None)).unwrap();
    assert_eq!(ids(&found).iter().filter(|id| id.ends_with("a.md") || id.ends_with("b.md")).count(), 1);
}

#[test]
fn a_watched_folder_is_read_again_after_a_change() {
    let place = Place::new();
    let (knowledge, _) = place.open();
    let guard = knowledge.watch().unwrap();
    let before = knowledge.snapshot().version().to_string();
    write(place.pack.path(), &[("articles/en/new.md", "# New\n\nRibbons.\n")]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while knowledge.snapshot().version() == before && Instant::now() < deadline {
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_ne!(knowledge.snapshot().version(), before);
    drop(guard);
}

#[test]
fn a_pack_that_cannot_be_written_to_is_read_all_the_same() {
    let place = Place::new();
    let set = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    set(place.pack.path(), 0o555);
    let (knowledge, _) = place.open();
    assert!(knowledge.snapshot().pack().is_usable());
    set(place.pack.path(), 0o755);
}

#[test]
fn many_searches_at_once_all_find_the_same() {
    let place = Place::new();
    let (knowledge, _) = place.open();
    let snapshot = knowledge.snapshot();
    let expected = ids(&snapshot.search(&query("open a box setup domain", None)).unwrap()).join(" ");
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let found = snapshot.search(&query("open a box setup domain", None)).unwrap();
                assert_eq!(ids(&found).join(" "), expected);
            });
        }
    });
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named_with_what_to_do() {
    let place = Place::new();
    let file = place.state.path().join("file");
    fs::write(&file, "x").unwrap();
    let said = match Knowledge::open(&place.settings(), &file, tiny_embedder(&["en"]), &mut |_| {}) {
        Ok(_) => panic!("it was opened"),
        Err(e) => e.to_string(),
    };
    assert!(said.contains("--state"), "{said}");
}
