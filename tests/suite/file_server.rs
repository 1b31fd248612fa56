//! Hugging Face and ModelScope on loopback: a repository whose files a test may cut, corrupt, redirect,
//! throttle or refuse, request by request.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dpg_bench::benchmark::digest::{git_blob_id, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::loopback::{Loopback, Part, Received, Reply, Then};

/// The files that a server has.
#[derive(Clone)]
pub struct Repository {
    pub name: &'static str,
    pub commit: String,
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files with a SHA-256; the others have a git blob id.
    pub large: Vec<String>,
    /// Header lines more for each file.
    pub headers: Vec<String>,
}

impl Repository {
    pub fn new(name: &'static str, commit: &str) -> Self {
        Self {
            name,
            commit: commit.to_owned(),
            files: BTreeMap::new(),
            large: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub fn small(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), bytes.into());
        self
    }

    pub fn large(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.large.push(path.to_owned());
        self.small(path, bytes)
    }

    /// All files below a folder; safetensors are large.
    pub fn folder(mut self, folder: &Path) -> Self {
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                let bytes = std::fs::read(&path).unwrap();
                let is_large = name.ends_with(".safetensors");
                self = if is_large { self.large(&name, bytes) } else { self.small(&name, bytes) };
            }
        }
        self
    }

    /// The digest that the hub states, in hex.
    pub fn hub_digest(&self, path: &str) -> String {
        let bytes = &self.files[path];
        if self.large.iter().any(|large| large == path) {
            sha256(bytes)
        } else {
            git_blob_id(bytes)
        }
    }

    fn hub_list(&self) -> Value {
        let file = |(path, bytes): (&String, &Vec<u8>)| {
            let mut entry =
                json!({"rfilename": path, "size": bytes.len(), "blobId": git_blob_id(bytes)});
            if self.large.contains(path) {
                entry["lfs"] =
                    json!({"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
            }
            entry
        };
        let files: Vec<Value> = self.files.iter().map(file).collect();
        json!({"sha": self.commit, "cardData": {"license": "test-licence"}, "siblings": files})
    }

    fn scope_list(&self) -> Value {
        let file = |(path, bytes): (&String, &Vec<u8>)| {
            let stated = if self.large.contains(path) { sha256(bytes) } else { String::new() };
            json!({"Path": path, "Type": "blob", "Size": bytes.len(), "Sha256": stated})
        };
        json!({"Code": 200, "Data": {"Files": self.files.iter().map(file).collect::<Vec<_>>()}})
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The server.
pub struct FileServer {
    pub server: Loopback,
    pub repository: Arc<Mutex<Repository>>,
}

impl FileServer {
    /// Serves `repository` with `fault` between it and the client.
    pub fn start(
        repository: Repository,
        fault: impl Fn(&Received, &str, usize, Part) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let repository = Arc::new(Mutex::new(repository));
        let (shared, asked) = (Arc::clone(&repository), Mutex::new(BTreeMap::new()));
        let server = Loopback::start(move |request| {
            let repository = shared.lock().unwrap().clone();
            let target = request.target().to_owned();
            let name = repository.name;
            if target.starts_with(&format!("/api/models/{name}/revision/")) {
                return Reply::Json(repository.hub_list());
            }
            if target.starts_with(&format!("/api/v1/models/{name}/repo/files?")) {
                return Reply::Json(repository.scope_list());
            }
            let commit = &repository.commit;
            let path = target
                .strip_prefix(&format!("/{name}/resolve/{commit}/"))
                .or_else(|| target.split_once("&FilePath=").map(|(_, path)| path))
                .or_else(|| target.strip_prefix("/cdn/"))
                .map(|path| path.replace("%2F", "/"));
            let Some((path, bytes)) =
                path.and_then(|path| Some((path.clone(), repository.files.get(&path)?.clone())))
            else {
                return Reply::Status(404, vec![], "{\"error\": \"Entry not found\"}".to_owned());
            };
            let before = {
                let mut asked = asked.lock().unwrap();
                let count = asked.entry(path.clone()).or_insert(0_usize);
                *count += 1;
                *count - 1
            };
            fault(request, &path, before, good(request, &bytes, &repository.headers))
        });
        Self { server, repository }
    }

    /// A server without a fault.
    pub fn good(repository: Repository) -> Self {
        Self::start(repository, |_, _, _, part| Reply::Part(part))
    }

    /// Requests for the file `path`.
    pub fn requests(&self, path: &str) -> Vec<Received> {
        let all = self.server.received();
        all.into_iter().filter(|request| request.target().ends_with(path)).collect()
    }
}

/// The whole file, or the part of it that the request is for.
fn good(request: &Received, bytes: &[u8], headers: &[String]) -> Part {
    let tag = format!("\"{}\"", &sha256(bytes)[..16]);
    let range = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let range = range.filter(|_| request.header("if-range").is_none_or(|given| given == tag));
    let mut lines = vec![format!("etag: {tag}")];
    lines.extend(headers.iter().cloned());
    let (status, body) = match range {
        Some(start) if start >= bytes.len() => (416, Vec::new()),
        Some(start) => {
            let (last, total) = (bytes.len() - 1, bytes.len());
            lines.push(format!("content-range: bytes {start}-{last}/{total}"));
            (206, bytes[start..].to_vec())
        }
        None => (200, bytes.to_vec()),
    };
    lines.push(format!("content-length: {}", body.len()));
    Part { status, headers: lines, body, then: Then::Keep }
}

/// The reply without its end, after which the connection is cut.
pub fn cut(mut part: Part, keep: usize) -> Reply {
    part.body.truncate(keep);
    part.then = Then::Cut;
    Reply::Part(part)
}
