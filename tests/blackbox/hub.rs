//! `firstline models pull` against a stand-in of the Hugging Face hub: the endpoints that a download uses, a content
//! delivery host behind a redirect, and connections that break.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use sha2::Digest;

const CONFIG: &[u8] = b"{\"hello\": \"world\"}\n";
/// `git hash-object` of [`CONFIG`].
const CONFIG_BLOB: &str = "56c8e280338ea64e1ab62ef9bacdf02840a0dabb";

/// How one answer of the delivery host ends.
#[derive(Clone, Copy)]
enum Cut {
    /// The connection breaks after so many bytes.
    After(usize),
    /// Nothing more comes after so many bytes, and the connection stays.
    StallAfter(usize),
}

struct Hub {
    base: Mutex<String>,
    weights: Vec<u8>,
    /// For the next answers, first come first cut; then all are whole.
    cuts: Mutex<VecDeque<Cut>>,
    knows_ranges: bool,
    wants_token: bool,
    /// `GET /cdn/model.gguf bytes=5-`
    log: Mutex<Vec<String>>,
}

impl Hub {
    fn start(change: impl FnOnce(&mut Hub)) -> Arc<Self> {
        let weights = (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut hub = Hub {
            base: Mutex::default(),
            weights,
            cuts: Mutex::default(),
            knows_ranges: true,
            wants_token: false,
            log: Mutex::default(),
        };
        change(&mut hub);
        let hub = Arc::new(hub);
        let (told, base) = std::sync::mpsc::channel();
        let served = hub.clone();
        std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
                let routes = Router::new()
                    .route("/{owner}/{name}/resolve/{revision}/{*file}", get(resolve))
                    .route("/cdn/{file}", get(deliver))
                    .with_state(served);
                axum::serve(listener, routes).await.unwrap();
            });
        });
        *hub.base.lock().unwrap() = base.recv().unwrap();
        hub
    }

    fn base(&self) -> String {
        self.base.lock().unwrap().clone()
    }

    fn sha256(&self) -> String {
        sha2::Sha256::digest(&self.weights).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Downloads of the weights so far: the `Range` of each.
    fn downloads(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter_map(|line| line.strip_prefix("GET /cdn/model.gguf"))
            .map(|range| range.trim().into())
            .collect()
    }
}

async fn resolve(
    State(hub): State<Arc<Hub>>,
    UrlPath((_, _, _, file)): UrlPath<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if hub.wants_token && !headers.contains_key("authorization") {
        return (StatusCode::UNAUTHORIZED, "who are you?").into_response();
    }
    let commit = ("x-repo-commit", "0123456789012345678901234567890123456789".to_string());
    match file.as_str() {
        "model.gguf" => {
            let headers = [
                commit,
                ("x-linked-etag", format!("\"{}\"", hub.sha256())),
                ("x-linked-size", hub.weights.len().to_string()),
                ("location", format!("{}/cdn/model.gguf", hub.base())),
            ];
            (StatusCode::FOUND, headers, "").into_response()
        }
        "config.json" => {
            hub.log.lock().unwrap().push("GET config.json".into());
            ([commit, ("etag", format!("\"{CONFIG_BLOB}\""))], CONFIG).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn deliver(
    State(hub): State<Arc<Hub>>,
    UrlPath(file): UrlPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let range = headers.get("range").and_then(|range| range.to_str().ok()).unwrap_or_default();
    hub.log.lock().unwrap().push(format!("{method} /cdn/{file} {range}"));
    let start = match range.strip_prefix("bytes=").and_then(|range| range.split('-').next()?.parse::<usize>().ok()) {
        Some(start) if hub.knows_ranges => start,
        _ => 0,
    };
    let rest = Bytes::copy_from_slice(&hub.weights[start..]);
    let cut = if method == Method::GET { hub.cuts.lock().unwrap().pop_front() } else { None };
    let sent = match cut {
        Some(Cut::After(bytes) | Cut::StallAfter(bytes)) => rest.slice(..bytes.min(rest.len())),
        None => rest.clone(),
    };
    let pieces: Vec<std::io::Result<Bytes>> =
        sent.chunks(65_536).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let pieces = futures::stream::iter(pieces);
    let body = match cut {
        None => Body::from_stream(pieces),
        Some(Cut::After(_)) => {
            let end = std::io::Error::other("the connection breaks here");
            Body::from_stream(pieces.chain(futures::stream::once(async { Err(end) })))
        }
        Some(Cut::StallAfter(_)) => Body::from_stream(pieces.chain(futures::stream::pending())),
    };
    let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let all = hub.weights.len();
    let content_range = format!("bytes {start}-{}/{all}", all - 1);
    (status, [("content-length", rest.len().to_string()), ("content-range", content_range)], body).into_response()
}

/// A machine without models, with a catalog that knows one model of the stand-in.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = r#"[[model]]
            name = "tiny"
            kind = "chat"
            licence = "none"
            languages = ["en"]
            context = 128
            size_mib_approx = 4
            memory_mib = 10
            supported = true
            source = { hub = "company/tiny" }
            files = [{ path = "model.gguf" }, { path = "config.json" }]"#;
        std::fs::write(folder.path().join("catalog.toml"), catalog).unwrap();
        Self { folder }
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("models/tiny")
    }

    /// Where the program keeps the first bytes of an interrupted download of these weights.
    fn part(&self, hub: &Hub) -> PathBuf {
        self.model().join(format!("model.gguf.{}.part", &hub.sha256()[..16]))
    }

    fn models(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstline"));
        command
            .current_dir(self.folder.path())
            .arg("models")
            .args(arguments)
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", self.folder.path())
            .env_remove("HF_TOKEN")
            .env("FIRSTLINE_MODELS", self.folder.path().join("models"))
            .env("FIRSTLINE_MODELS__CATALOG", self.folder.path().join("catalog.toml"));
        command
    }

    fn run(&self, endpoint: &str, arguments: &[&str]) -> (bool, String) {
        told(self.models(endpoint, arguments).output().unwrap())
    }

    fn pull(&self, hub: &Hub) -> (bool, String) {
        self.run(&hub.base(), &["pull", "tiny"])
    }
}

fn told(output: Output) -> (bool, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_pull_brings_every_file_and_a_second_one_fetches_nothing() {
    let (hub, machine) = (Hub::start(|_| ()), Machine::new());
    let (good, text) = machine.pull(&hub);
    assert!(good, "{text}");
    assert_eq!(read(&machine.model().join("model.gguf")), hub.weights);
    assert_eq!(read(&machine.model().join("config.json")), CONFIG);
    let (good, text) = machine.pull(&hub);
    assert!(good && text.contains("was there"), "{text}");
    assert_eq!(hub.downloads().len(), 1, "{:?}", hub.downloads());
    let (good, text) = machine.run(&hub.base(), &["verify", "tiny"]);
    assert!(good && text.contains("tiny: good"), "{text}");
}

#[test]
fn a_connection_that_breaks_midway_is_continued_by_a_range_request() {
    let hub =
        Hub::start(|hub| *hub.cuts.get_mut().unwrap() = VecDeque::from([Cut::After(700_000), Cut::After(900_000)]));
    let machine = Machine::new();
    let (good, text) = machine.pull(&hub);
    assert!(good, "{text}");
    assert_eq!(read(&machine.model().join("model.gguf")), hub.weights);
    let downloads = hub.downloads();
    assert_eq!(downloads.len(), 3, "{downloads:?}");
    assert_eq!(downloads[0], "");
    let start: usize = downloads[1].strip_prefix("bytes=").unwrap().split('-').next().unwrap().parse().unwrap();
    assert!((1..=700_000).contains(&start), "{downloads:?}");
}

#[test]
fn a_pull_that_was_killed_goes_on_at_the_next_start() {
    let hub = Hub::start(|hub| hub.cuts.get_mut().unwrap().push_back(Cut::StallAfter(1_300_000)));
    let machine = Machine::new();
    let mut first =
        machine.models(&hub.base(), &["pull", "tiny"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let part = machine.part(&hub);
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::metadata(&part).map_or(0, |file| file.len()) < 1_300_000 {
        assert!(Instant::now() < deadline, "the first pull wrote nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!machine.model().join("model.gguf").exists(), "a half-written file must not stand under its final name");
    let (good, text) = machine.pull(&hub);
    assert!(good && text.contains("gone on"), "{text}");
    assert_eq!(read(&machine.model().join("model.gguf")), hub.weights);
    assert!(hub.downloads()[1].starts_with("bytes=1300000-"), "{:?}", hub.downloads());
}

#[test]
fn a_server_that_ignores_ranges_gets_the_whole_file_fetched() {
    let (hub, machine) = (Hub::start(|hub| hub.knows_ranges = false), Machine::new());
    std::fs::create_dir_all(machine.model()).unwrap();
    std::fs::write(machine.part(&hub), &hub.weights[..500_000]).unwrap();
    let (good, text) = machine.pull(&hub);
    assert!(good, "{text}");
    assert_eq!(read(&machine.model().join("model.gguf")), hub.weights);
}

#[test]
fn a_damaged_part_is_noticed_and_the_file_fetched_anew() {
    let (hub, machine) = (Hub::start(|_| ()), Machine::new());
    std::fs::create_dir_all(machine.model()).unwrap();
    std::fs::write(machine.part(&hub), vec![7; 500_000]).unwrap();
    let (good, text) = machine.pull(&hub);
    assert!(good, "{text}");
    assert_eq!(read(&machine.model().join("model.gguf")), hub.weights);
    assert_eq!(hub.downloads().len(), 2, "{:?}", hub.downloads());
}

#[test]
fn a_file_that_was_changed_on_disk_fails_verification() {
    let (hub, machine) = (Hub::start(|_| ()), Machine::new());
    assert!(machine.pull(&hub).0);
    std::fs::write(machine.model().join("config.json"), "{}").unwrap();
    let (good, text) = machine.run(&hub.base(), &["verify", "tiny"]);
    assert!(!good && text.contains("config.json") && text.contains("SHA-256"), "{text}");
}

#[test]
fn without_a_hub_a_pull_says_which_file_to_copy_where() {
    let machine = Machine::new();
    let (good, text) = machine.run("http://127.0.0.1:1", &["pull", "tiny"]);
    assert!(!good);
    assert!(text.contains("http://127.0.0.1:1/company/tiny/resolve/main/model.gguf"), "{text}");
    assert!(text.contains(&machine.model().join("config.json").display().to_string()), "{text}");
}

#[test]
fn a_model_that_asks_for_a_token_says_how_to_give_one() {
    let (hub, machine) = (Hub::start(|hub| hub.wants_token = true), Machine::new());
    let (good, text) = machine.pull(&hub);
    assert!(!good && text.contains("HF_TOKEN"), "{text}");
    let output = machine.models(&hub.base(), &["pull", "tiny"]).env("HF_TOKEN", "secret").output().unwrap();
    let (good, text) = told(output);
    assert!(good && !text.contains("secret"), "{text}");
}

#[test]
fn a_name_that_is_not_in_the_catalog_is_refused() {
    let (good, text) = Machine::new().run("http://127.0.0.1:1", &["pull", "tyni"]);
    assert!(!good && text.contains("\"tyni\"") && text.contains("models list"), "{text}");
}
