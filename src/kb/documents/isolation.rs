//! Reading a file that is not trusted: in a child of this program, with limits that the operating system enforces.
//!
//! The parent sends the file and gets a reading or an error back. A child that runs too long is ended; one that asks
//! for too much memory, overflows its stack or panics ends by itself; all three are an error of that file, and nothing
//! else. `firstline` names itself as the program to start; where nobody did (a library's user, a unit test), files are
//! read in this process, where a panic is caught and the rest is trusted.
//!
//! What was read is remembered by the file's hash: a pack that changes in one file is read again in no time.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DocumentError, Format, Limits, Reading, read_here};

/// The hidden command that reads one file.
pub(crate) const COMMAND: &str = "read-document";
/// Stack of the thread that reads.
const STACK_BYTES: usize = 64 << 20;
/// Readings remembered, in bytes of their text.
const REMEMBERED_BYTES: usize = 256 << 20;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
static REMEMBERED: Mutex<Remembered> = Mutex::new(Remembered { readings: None, bytes: 0 });

type Outcome = Result<Reading, DocumentError>;

struct Remembered {
    readings: Option<HashMap<[u8; 32], Arc<Outcome>>>,
    bytes: usize,
}

/// What the parent asks of its child.
#[derive(Serialize, Deserialize)]
struct Request {
    format: Format,
    limits: Limits,
}

/// From now on files are read by children of this program, which must answer [`COMMAND`] with [`answer_parent`].
pub(crate) fn read_in_children(program: PathBuf) {
    // Named once, by `main`.
    let _ = PROGRAM.set(program);
}

/// Reads a file.
///
/// # Errors
/// Where it cannot be read, for whatever reason.
pub(crate) fn read(format: Format, bytes: &[u8], limits: &Limits) -> Arc<Outcome> {
    if bytes.len() as u64 > limits.max_bytes {
        let limit = format!("{} bytes; it has {}", limits.max_bytes, bytes.len());
        return Arc::new(Err(DocumentError::TooMuch { limit, setting: "knowledge.max_document_bytes".into() }));
    }
    let key = key(format, bytes, limits);
    let known =
        REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner).readings.as_ref().and_then(|r| r.get(&key).cloned());
    if let Some(known) = known {
        return known;
    }
    let outcome = Arc::new(match PROGRAM.get() {
        Some(program) => in_child(program, format, bytes, limits),
        None => in_thread(format, bytes.to_vec(), limits.clone()),
    });
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    let size = outcome.as_ref().as_ref().map_or(0, |reading| reading.markdown.len()) + 200;
    if remembered.bytes + size > REMEMBERED_BYTES {
        remembered.readings = None;
        remembered.bytes = 0;
    }
    remembered.bytes += size;
    remembered.readings.get_or_insert_default().insert(key, outcome.clone());
    outcome
}

fn key(format: Format, bytes: &[u8], limits: &Limits) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{format:?} {limits:?}").as_bytes()).update(bytes);
    *hasher.finalize().as_bytes()
}

/// The same without a child. A panic is an error.
fn in_thread(format: Format, bytes: Vec<u8>, limits: Limits) -> Outcome {
    let thread = std::thread::Builder::new().name("read-document".into()).stack_size(STACK_BYTES);
    let reading = thread.spawn(move || read_here(format, &bytes, &limits));
    let crashed = |reason: &str| DocumentError::Crashed { reason: reason.into() };
    match reading.map(std::thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(crashed("a panic")),
        Err(e) => Err(crashed(&e.to_string())),
    }
}

fn in_child(program: &PathBuf, format: Format, bytes: &[u8], limits: &Limits) -> Outcome {
    let crashed = |reason: String| DocumentError::Crashed { reason };
    let request = serde_json::to_string(&Request { format, limits: limits.clone() });
    let mut child = Command::new(program)
        .arg(COMMAND)
        .arg(request.map_err(|e| crashed(e.to_string()))?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| crashed(format!("no process could be started: {e}")))?;
    let (status, said, complaint) = talk(&mut child, bytes, limits);
    let Some(status) = status else {
        let limit = format!("{} seconds", limits.timeout_s);
        return Err(DocumentError::TooMuch { limit, setting: "knowledge.document_timeout_s".into() });
    };
    match serde_json::from_slice(&said) {
        Ok(outcome) if status.success() => outcome,
        _ if complaint.contains("memory allocation of") => {
            let limit = format!("{} MiB of memory", limits.memory_mib);
            Err(DocumentError::TooMuch { limit, setting: "knowledge.document_memory_mib".into() })
        }
        _ => Err(crashed(
            complaint.lines().find(|line| !line.trim().is_empty()).map_or(status.to_string(), str::to_string),
        )),
    }
}

/// Sends the file and takes the answer: how the child ended (`None`: it had to be ended), what it said, and what it
/// complained of.
fn talk(child: &mut Child, bytes: &[u8], limits: &Limits) -> (Option<ExitStatus>, Vec<u8>, String) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // JSON writes a byte of text in at most six.
    let most = (limits.max_text_bytes as u64).saturating_mul(6).saturating_add(1 << 20);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A child that ended early does not read all; its answer says why.
            stdin.map(|mut stdin| stdin.write_all(bytes))
        });
        let complaint = scope.spawn(move || {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(4096).read_to_end(&mut text);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        let (sender, receiver) = mpsc::channel();
        scope.spawn(move || {
            let mut said = Vec::new();
            let _ = stdout.map(|stdout| stdout.take(most).read_to_end(&mut said));
            let _ = sender.send(said);
        });
        let said = receiver.recv_timeout(Duration::from_secs(limits.timeout_s.max(1)));
        let in_time = !matches!(said, Err(RecvTimeoutError::Timeout));
        // Also where it was in time: it has nothing more to say.
        if !in_time {
            let _ = child.kill();
        }
        let status = child.wait().ok().filter(|_| in_time);
        (status, said.unwrap_or_default(), complaint.join().unwrap_or_default())
    })
}

/// The child's side: reads the file from stdin, writes the outcome to stdout. `request`: what the parent sent.
///
/// # Errors
/// Where the parent is no parent of ours.
pub(crate) fn answer_parent(request: &str) -> Result<(), String> {
    let Request { format, limits } = serde_json::from_str(request).map_err(|e| e.to_string())?;
    let memory = limits.memory_mib.max(128) << 20;
    let seconds = limits.timeout_s.max(1) + 1;
    // Where the system has no such limits, the parent's clock is still there.
    let _ = rlimit::Resource::DATA.set(memory, memory);
    let _ = rlimit::Resource::CPU.set(seconds, seconds);
    let _ = rlimit::Resource::CORE.set(0, 0);
    let mut bytes = Vec::new();
    std::io::stdin().take(limits.max_bytes + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = in_thread(format, bytes, limits);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &outcome).map_err(|e| e.to_string())?;
    out.flush().map_err(|e| e.to_string())
}
