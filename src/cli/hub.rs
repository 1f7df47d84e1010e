//! Fetching files from a Hugging Face hub (or the mirror in `HF_ENDPOINT`), going on after an interruption.
//!
//! What hf-hub 1.0 does with a half-written file, read in its source: `download_file` opens its target with
//! `File::create`, so the next attempt starts from zero; with `local_dir` the half-written file even stands under the
//! final name. Its *stream* takes a byte range, though. So the bytes come through hf-hub's stream, and the file is
//! written here: into `NAME.HASH.part` beside the target (the hash is the hub's, so a part never goes on with another
//! version of the file), from where it stopped, checked as a whole, and renamed.
//!
//! The hash comes from a `HEAD` of our own that does not follow redirects: the hub's `X-Linked-Etag` (SHA-256 of a
//! large file; the git blob id of a small one) stands on the redirect, and hf-hub's `get_file_metadata` follows it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use hf_hub::{HFClient, HFError};
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use sha1::Sha1;
use sha2::Digest;

use super::catalog::{hash_file, sha256_file};

/// Attempts in a row that bring no byte before a pull gives up.
const FRUITLESS_ATTEMPTS: u32 = 4;

/// One file that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// Path in the repository.
    pub file: &'a str,
    /// SHA-256 that the catalog states, hex; goes before what the hub says.
    pub sha256: Option<&'a str>,
}

/// A file as the hub describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remote {
    commit: String,
    bytes: u64,
    hash: Hash,
}

/// What the hub's ETag says about a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hash {
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the content.
    GitBlob(String),
    /// A mirror's own tag; only the size can be checked.
    Opaque(String),
}

impl Hash {
    fn from_etag(etag: &str) -> Self {
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        let is_hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hex => Self::Sha256(etag),
            40 if is_hex => Self::GitBlob(etag),
            _ => Self::Opaque(etag),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitBlob(text) | Self::Opaque(text) => text,
        }
    }
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    pub bytes: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    pub commit: String,
    /// It was there already.
    pub there: bool,
    /// Byte at which an earlier part was continued; 0: fetched whole.
    pub resumed_at: u64,
}

/// What can go wrong with a pull.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("the hub {endpoint} cannot be reached: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("{url} is not on the hub (wrong repository, revision or file name)")]
    NotFound { url: String },
    #[error(
        "the hub wants to know who asks for {repository}: accept its licence at {url} and set HF_TOKEN to a token of yours"
    )]
    Denied { repository: String, url: String },
    #[error(
        "{file}: the connection broke off at {done} of {bytes} bytes ({reason}); run the command again, it goes on from there"
    )]
    Interrupted { file: String, done: u64, bytes: u64, reason: String },
    #[error("{file}: the content has hash {found}, not {wanted}; the file was removed, run the command again")]
    Damaged { file: String, found: String, wanted: String },
    #[error("{url}: the hub's answer makes no sense: {reason}")]
    Answer { url: String, reason: String },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// A hub and how to talk to it.
pub struct Hub {
    client: HFClient,
    /// Follows no redirects.
    heads: reqwest::Client,
    token: Option<String>,
    /// Before the second attempt; doubles with each fruitless one.
    pause: Duration,
}

impl Hub {
    /// The hub of `HF_ENDPOINT` (default huggingface.co), with the token of `HF_TOKEN` or of hf-hub's token file.
    ///
    /// # Errors
    /// An endpoint that is no URL.
    pub fn from_env() -> Result<Self, HubError> {
        let fault = |reason: String| HubError::Unreachable {
            endpoint: std::env::var("HF_ENDPOINT").unwrap_or_default(),
            reason,
        };
        let token = token();
        let mut builder = HFClient::builder().cache_enabled(false);
        if let Some(token) = &token {
            builder = builder.token(token.clone());
        }
        let client = builder.build().map_err(|e| fault(e.to_string()))?;
        let heads = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(20))
            .timeout(Duration::from_secs(60))
            .user_agent(concat!("firstline/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| fault(e.to_string()))?;
        Ok(Self { client, heads, token, pause: Duration::from_secs(1) })
    }

    /// Where a person finds the file.
    pub fn url(&self, wanted: &Wanted<'_>) -> String {
        self.url_at(wanted, wanted.revision)
    }

    fn url_at(&self, wanted: &Wanted<'_>, revision: &str) -> String {
        format!("{}/{}/resolve/{revision}/{}", self.client.endpoint(), wanted.repository, wanted.file)
    }

    /// Brings one file to `target`: nothing to do if it is there and whole; else from where an earlier pull stopped.
    /// `progress` hears of bytes done and in all.
    ///
    /// # Errors
    /// See [`HubError`]. After [`HubError::Interrupted`] the part stays for the next attempt.
    pub async fn pull(
        &self,
        wanted: &Wanted<'_>,
        target: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Pulled, HubError> {
        let remote = self.describe(wanted).await?;
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| HubError::Io { path, source }
        };
        if target.is_file()
            && let Ok(sha256) = check(target, wanted, &remote)?
        {
            return Ok(Pulled { bytes: remote.bytes, sha256, commit: remote.commit, there: true, resumed_at: 0 });
        }
        let folder = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let part = part_path(target, &remote.hash);
        let mut resumed_at = length(&part);
        for last in [false, true] {
            self.fill(wanted, &remote, &part, progress).await?;
            match check(&part, wanted, &remote)? {
                Ok(sha256) => {
                    std::fs::rename(&part, target).map_err(io(target))?;
                    return Ok(Pulled { bytes: remote.bytes, sha256, commit: remote.commit, there: false, resumed_at });
                }
                Err(found) => {
                    std::fs::remove_file(&part).map_err(io(&part))?;
                    if last || resumed_at == 0 {
                        let expected = wanted.sha256.unwrap_or(remote.hash.text()).to_string();
                        return Err(HubError::Damaged { file: wanted.file.into(), found, wanted: expected });
                    }
                    resumed_at = 0; // the part was bad: once more, from the start
                }
            }
        }
        unreachable!("the second round returns")
    }

    /// Fetches until `part` has all its bytes. Goes on after broken connections for as long as they bring bytes.
    async fn fill(
        &self,
        wanted: &Wanted<'_>,
        remote: &Remote,
        part: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let mut fruitless = 0;
        loop {
            let done = length(part);
            progress(done.min(remote.bytes), remote.bytes);
            if done == remote.bytes && part.is_file() {
                return Ok(());
            }
            let reason = match self.stream(wanted, remote, part, done, progress).await {
                Ok(()) if length(part) == remote.bytes => return Ok(()),
                Ok(()) => "the answer was short".to_string(),
                Err(StreamFault::Final(error)) => return Err(error),
                Err(StreamFault::Transient(reason)) => reason,
            };
            fruitless = if length(part) > done { 0 } else { fruitless + 1 };
            if fruitless >= FRUITLESS_ATTEMPTS {
                let (file, bytes) = (wanted.file.to_string(), remote.bytes);
                return Err(HubError::Interrupted { file, done: length(part), bytes, reason });
            }
            tokio::time::sleep(self.pause * 2u32.pow(fruitless)).await;
        }
    }

    /// One answer of the hub, appended to `part` from byte `start`.
    async fn stream(
        &self,
        wanted: &Wanted<'_>,
        remote: &Remote,
        part: &Path,
        start: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StreamFault> {
        let start = if start > remote.bytes { 0 } else { start };
        let (owner, name) = hf_hub::split_id(wanted.repository);
        let repository = self.client.model(owner, name);
        let ask = |range: Option<std::ops::Range<u64>>| {
            let request = repository.download_file_stream().filename(wanted.file).revision(remote.commit.clone());
            request.maybe_range(range).send()
        };
        let range = (start > 0).then_some(start..remote.bytes);
        let (length, mut stream) = in_time(ask(range)).await?.map_err(|e| self.fault(wanted, e))?;
        let mut done = start;
        if start > 0 && length != Some(remote.bytes - start) {
            // The server does not know ranges and sends the whole file: take it from the start.
            (_, stream) = in_time(ask(None)).await?.map_err(|e| self.fault(wanted, e))?;
            done = 0;
        }
        let io = |source| StreamFault::Final(HubError::Io { path: part.to_path_buf(), source });
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(part).map_err(io)?;
        file.set_len(done).map_err(io)?;
        while let Some(bytes) = in_time(stream.next()).await? {
            let bytes = bytes.map_err(|e| self.fault(wanted, e))?;
            file.write_all(&bytes).map_err(io)?;
            done += bytes.len() as u64;
            progress(done.min(remote.bytes), remote.bytes);
        }
        Ok(())
    }

    /// Size, hash and commit of a file, from the headers of the hub's first answer.
    async fn describe(&self, wanted: &Wanted<'_>) -> Result<Remote, HubError> {
        let mut url = self.url(wanted);
        for _ in 0..5 {
            let answer = self.head(&url).await?;
            let headers = answer.headers();
            let status = answer.status();
            match status.as_u16() {
                401 | 403 => {
                    let (repository, page) = (wanted.repository, self.client.endpoint());
                    let url = format!("{page}/{repository}");
                    return Err(HubError::Denied { repository: repository.into(), url });
                }
                404 => return Err(HubError::NotFound { url }),
                _ => {}
            }
            // A renamed repository answers with a relative redirect and no description; a large file with an absolute one.
            if status.is_redirection() && header(headers, "x-linked-etag").is_none() {
                let onward = header(headers, LOCATION.as_str()).and_then(|to| answer.url().join(to).ok());
                if let Some(onward) = onward {
                    url = onward.to_string();
                    continue;
                }
            }
            if !status.is_success() && !status.is_redirection() {
                let endpoint = self.client.endpoint().to_string();
                return Err(HubError::Unreachable { endpoint, reason: format!("HTTP status {status} for {url}") });
            }
            let missing =
                |what: &str| HubError::Answer { url: url.clone(), reason: format!("no {what} in its headers") };
            let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"));
            let bytes = header(headers, "x-linked-size").or_else(|| header(headers, "content-length"));
            return Ok(Remote {
                hash: Hash::from_etag(etag.ok_or_else(|| missing("ETag"))?),
                bytes: bytes.and_then(|bytes| bytes.parse().ok()).ok_or_else(|| missing("size"))?,
                // A simple mirror may not say; its branch then stands for itself.
                commit: header(headers, "x-repo-commit").unwrap_or(wanted.revision).to_string(),
            });
        }
        Err(HubError::Answer { url, reason: "too many redirects".into() })
    }

    async fn head(&self, url: &str) -> Result<reqwest::Response, HubError> {
        let mut reason = String::new();
        for attempt in 0..3 {
            if attempt > 0 {
                tokio::time::sleep(self.pause * attempt / 2).await;
            }
            let mut request = self.heads.head(url);
            // The token is for the hub alone, not for whom it sends us to.
            let own = url.strip_prefix(self.client.endpoint()).is_some_and(|path| path.starts_with('/'));
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            match request.send().await {
                Ok(answer) if answer.status().is_server_error() => reason = format!("HTTP status {}", answer.status()),
                Ok(answer) => return Ok(answer),
                Err(error) => reason = innermost(&error),
            }
        }
        Err(HubError::Unreachable { endpoint: self.client.endpoint().into(), reason })
    }

    fn fault(&self, wanted: &Wanted<'_>, error: HFError) -> StreamFault {
        let url = self.url(wanted);
        StreamFault::Final(match error {
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => {
                HubError::Denied { repository: wanted.repository.into(), url }
            }
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } | HFError::EntryNotFound { .. } => {
                HubError::NotFound { url }
            }
            HFError::InvalidParameter(reason) => HubError::Answer { url, reason },
            other => return StreamFault::Transient(innermost(&other)),
        })
    }
}

/// A connection that says nothing for so long is dead; another one may live.
const SILENCE: Duration = Duration::from_secs(60);

/// Waits for the hub, but not for ever.
async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, StreamFault> {
    let silent = |_| StreamFault::Transient(format!("the hub sent nothing for {} s", SILENCE.as_secs()));
    tokio::time::timeout(SILENCE, answer).await.map_err(silent)
}

enum StreamFault {
    Final(HubError),
    Transient(String),
}

/// The file's SHA-256 if it is what the catalog or else the hub promised; else (inner `Err`) the hash that was found.
fn check(path: &Path, wanted: &Wanted<'_>, remote: &Remote) -> Result<Result<String, String>, HubError> {
    let io = |source| HubError::Io { path: path.to_path_buf(), source };
    if length(path) != remote.bytes {
        return Ok(Err(format!("of a file of {} bytes, not {}", length(path), remote.bytes)));
    }
    let sha256 = sha256_file(path).map_err(io)?;
    let good = match (wanted.sha256, &remote.hash) {
        (Some(promised), _) => sha256.eq_ignore_ascii_case(promised),
        (None, Hash::Sha256(promised)) => sha256 == *promised,
        (None, Hash::GitBlob(promised)) => git_blob_id(path).map_err(io)? == *promised,
        (None, Hash::Opaque(_)) => true,
    };
    Ok(if good { Ok(sha256) } else { Err(sha256) })
}

/// The id that git gives a file: SHA-1 of `blob LENGTH\0` and the content, hex.
fn git_blob_id(path: &Path) -> std::io::Result<String> {
    hash_file(path, Sha1::new().chain_update(format!("blob {}\0", length(path))))
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// `model.gguf` -> `model.gguf.0123456789abcdef.part`; parts of other versions beside it are left for their own pull.
fn part_path(target: &Path, hash: &Hash) -> PathBuf {
    let tag: String = hash.text().chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{tag}.part"));
    target.with_file_name(name)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The last cause of an error says what happened; the ones before it say where.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The user's token, where hf-hub looks for it.
fn token() -> Option<String> {
    let set = |name| std::env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
    if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    set("HF_TOKEN").or_else(|| {
        let file = set("HF_TOKEN_PATH").map_or_else(|| hf_hub::hf_home().join("token"), PathBuf::from);
        std::fs::read_to_string(file).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_tells_by_its_length_what_it_hashes() {
        let sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
        assert_eq!(Hash::from_etag(&format!("\"{sha256}\"")), Hash::Sha256(sha256.into()));
        assert_eq!(Hash::from_etag("W/\"5d41402abc4b2a76b9719d911017c5925d41402a\"").text().len(), 40);
        assert_eq!(Hash::from_etag("\"a mirror's tag\""), Hash::Opaque("a mirror's tag".into()));
    }

    #[test]
    fn the_git_blob_id_is_gits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello\n").unwrap();
        // printf 'hello\n' | git hash-object --stdin
        assert_eq!(git_blob_id(&path).unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn parts_of_two_versions_of_a_file_are_two_files() {
        let target = Path::new("/m/model.gguf");
        let (one, two) = (Hash::from_etag(&"a".repeat(64)), Hash::from_etag(&"b".repeat(64)));
        assert_ne!(part_path(target, &one), part_path(target, &two));
        assert!(part_path(target, &one).starts_with("/m"));
    }
}
