//! A real server process, started once for most tests.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

pub const CHAT_MODEL: &str = "smollm2-135m-instruct-q4_1";
pub const EMBED_MODEL: &str = "all-minilm-l6-v2";

const PACKED_DIR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/packed");

/// A running server. Dropping it stops the process; so does the end of the test program.
pub struct Server {
    pub base: String,
    /// Its pack, state and settings.
    pub dir: tempfile::TempDir,
    /// The shell between us stops the server when this closes.
    stdin: Option<ChildStdin>,
    shell: Child,
    log: Arc<Mutex<String>>,
    lines: Mutex<Receiver<String>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Server {
    /// The server that most tests share: the small pack, no keys, default settings.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Server::start(""))
    }

    /// A server of one's own, with these settings (TOML), ready to serve.
    pub fn start(settings: &str) -> Server {
        let server = Self::spawn(settings);
        server.wait_for("ready after");
        server
    }

    /// The same with further files (path from the server's folder, text), pages of its pack for instance.
    pub fn start_with(settings: &str, files: &[(String, String)]) -> Server {
        let dir = Self::folder("tests/packs/mini", settings);
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file is written");
        }
        let server = Self::spawn_in(dir, &["--port", "0"]);
        server.wait_for("ready after");
        server
    }

    /// A server that is listening but may still be loading.
    pub fn spawn(settings: &str) -> Server {
        Self::spawn_in(Self::folder("tests/packs/mini", settings), &["--port", "0"])
    }

    /// The same with another pack of this repository.
    pub fn spawn_with(pack: &str, settings: &str) -> Server {
        Self::spawn_in(Self::folder(pack, settings), &["--port", "0"])
    }

    /// A folder with a pack and these settings.
    fn folder(pack: &str, settings: &str) -> tempfile::TempDir {
        let dir = Self::bare_folder(pack, settings);
        // What the small pack teaches the filters is learnt once for all tests, not for seconds by each server.
        static LEARNT: OnceLock<()> = OnceLock::new();
        let learnt = Path::new(env!("CARGO_TARGET_TMPDIR")).join("filters");
        LEARNT.get_or_init(|| {
            let dir = Self::bare_folder("tests/packs/mini", "");
            let of_server = dir.path().join("state/filters");
            std::fs::create_dir_all(&learnt).expect("a folder");
            copy_dir(&learnt, &of_server);
            let server = Self::spawn_in(dir, &["--port", "0"]);
            server.wait_for("ready after");
            let dir = server.stop();
            copy_dir(&dir.path().join("state/filters"), &learnt);
        });
        copy_dir(&learnt, &dir.path().join("state/filters"));
        dir
    }

    fn bare_folder(pack: &str, settings: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        copy_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join(pack), &dir.path().join("kb"));
        std::fs::write(dir.path().join("firstline.toml"), settings).expect("settings are written");
        dir
    }

    fn spawn_in(dir: tempfile::TempDir, args: &[&str]) -> Server {
        // The server outlives neither this process nor a failed test: the shell waits for the end of its own input.
        const KEEPER: &str = r#""$@" </dev/null & pid=$!; exec >/dev/null 2>&1; cat; kill -TERM $pid; wait $pid"#;
        let settings = std::fs::read_to_string(dir.path().join("firstline.toml")).unwrap_or_default();
        // All servers have the same model: the first leaves its packed weights for the others.
        let packed = (!settings.contains("packed_dir")).then_some(("FIRSTLINE_ENGINE__PACKED_DIR", PACKED_DIR));
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER, "sh", env!("CARGO_BIN_EXE_firstline")])
            .args(arguments(dir.path()))
            .args(args)
            .env_remove("FIRSTLINE_LOG")
            // Several servers run at once.
            .env("FIRSTLINE_ENGINE__KV_MIB", "512")
            .envs(packed)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = shell.stderr.take().expect("stderr is piped");
        let lines = follow(stderr, log.clone());
        let stdin = shell.stdin.take();
        let mut server = Server { base: String::new(), dir, stdin, shell, log, lines: Mutex::new(lines) };
        let line = server.wait_for("listening on http");
        let base = line.split_once("listening on ").and_then(|(_, rest)| rest.split(',').next());
        server.base = base.expect("an address").to_string();
        server
    }

    /// Waits for a line of the server's own output.
    pub fn wait_for(&self, words: &str) -> String {
        let lines = self.lines.lock().expect("no test died here");
        loop {
            match lines.recv_timeout(Duration::from_secs(180)) {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(_) => panic!("the server did not say {words:?}; it said:\n{}", self.log()),
            }
        }
    }

    /// All that the server has written so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no test died here").clone()
    }

    /// Asks the process to stop, as SIGTERM does, and waits until it has.
    pub fn stop(mut self) -> tempfile::TempDir {
        self.end();
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary folder"))
    }

    /// Stops the process; all that it wrote.
    pub fn into_log(mut self) -> String {
        self.end();
        // The lines end when the process has closed its output.
        let lines = self.lines.lock().expect("no test died here");
        while lines.recv().is_ok() {}
        drop(lines);
        self.log()
    }

    /// Kills the process at once, as a loss of power would; its folder.
    pub fn kill(mut self) -> tempfile::TempDir {
        let pid = self.pid();
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill runs");
        assert!(killed.success(), "the server {pid} was gone already");
        self.end();
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary folder"))
    }

    /// The process's own id: the shell's only child.
    fn pid(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let children = std::fs::read_to_string(children).expect("the shell has a child");
        let is_server = |pid: &&str| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "firstline")
        };
        let pid = children.split_whitespace().find(is_server).expect("the server runs");
        pid.parse().expect("a number")
    }

    /// Sends SIGTERM without waiting.
    pub fn begin_stop(&mut self) {
        self.stdin = None;
    }

    fn end(&mut self) {
        self.stdin = None;
        let _ = self.shell.wait();
    }

    /// Starts again over the same folder.
    pub fn again(dir: tempfile::TempDir) -> Server {
        let server = Self::spawn_in(dir, &["--port", "0"]);
        server.wait_for("ready after");
        server
    }

    /// The same, ready and after it has said something that may come before or after it is ready.
    pub fn again_while(dir: tempfile::TempDir, words: &str) -> Server {
        let server = Self::spawn_in(dir, &["--port", "0"]);
        server.wait_for(words);
        if !server.log().contains("ready after") {
            server.wait_for("ready after");
        }
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(reqwest::Client::new().get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_bytes(path, body.to_string().into_bytes()).await
    }

    pub async fn post_bytes(&self, path: &str, body: Vec<u8>) -> Reply {
        let request = reqwest::Client::new().post(self.url(path)).header("content-type", "application/json").body(body);
        self.send(request).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("the answer is whole").to_vec();
        Reply { status, headers, body }
    }

    /// A chat request with these messages and further fields.
    pub async fn chat(&self, model: &str, messages: Value, extra: Value) -> Reply {
        self.post("/v1/chat/completions", &chat_body(model, messages, extra)).await
    }

    /// One question without further fields.
    pub async fn ask(&self, model: &str, question: &str) -> Reply {
        self.chat(model, json!([{"role": "user", "content": question}]), json!({})).await
    }

    /// A metric's value, summed over its labels; 0 where it is not there yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").await.body).expect("metrics are text");
        let of_name = text.lines().filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The answer's text.
    pub fn content(&self) -> String {
        let body = self.json();
        assert_eq!(self.status, 200, "{body}");
        body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_string()
    }

    /// Asserts on OpenAI's error shape and returns the error.
    pub fn error(&self, status: u16, code: &str, param: Option<&str>) -> Value {
        let body = self.json();
        assert_eq!(self.status, status, "{body}");
        let error = body["error"].clone();
        assert_eq!((error["code"].as_str(), error["param"].as_str()), (Some(code), param), "{body}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
        assert!(error["type"].is_string(), "{body}");
        error
    }
}

pub fn chat_body(model: &str, messages: Value, extra: Value) -> Value {
    let mut body = json!({"model": model, "messages": messages});
    for (name, value) in extra.as_object().expect("extra fields are an object") {
        body[name] = value.clone();
    }
    body
}

pub fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// `serve` with pack, models and state of this folder.
pub fn arguments(dir: &Path) -> Vec<String> {
    let path = |path: PathBuf| path.to_str().expect("a plain path").to_string();
    let named = [("--config", dir.join("firstline.toml")), ("--kb", dir.join("kb")), ("--state", dir.join("state"))];
    let mut arguments = vec!["serve".to_string()];
    for (flag, value) in named.into_iter().chain([("--models", models_dir())]) {
        arguments.extend([flag.to_string(), path(value)]);
    }
    arguments
}

/// Where the starter models lie.
pub fn models_dir() -> PathBuf {
    let dir = match std::env::var_os("FIRSTLINE_MODELS") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/firstline/models"),
    };
    for model in [CHAT_MODEL, EMBED_MODEL] {
        let there = dir.join(model).is_dir();
        assert!(there, "the model {model} is not in {}; run scripts/fetch-models", dir.display());
    }
    dir
}

fn follow(stderr: impl std::io::Read + Send + 'static, log: Arc<Mutex<String>>) -> Receiver<String> {
    let (sender, receiver): (Sender<String>, _) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Ok(mut log) = log.lock() {
                log.push_str(&line);
                log.push('\n');
            }
            let _ = sender.send(line);
        }
    });
    receiver
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
