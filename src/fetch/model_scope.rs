//! In: what ModelScope's API says of a repository (`/api/v1/models/<repository>/repo/files`). Out: a
//! listing. It names no commit of the whole, so the digests of its files stand for it.

use serde_json::Value;

use super::digest::FileDigest;
use super::listing::{Listing, RemoteFile, encoded, is_plain_path};
use super::places::Endpoint;
use super::server_fault::ServerFault;

/// Where the list is.
pub(crate) fn list_url(server: &Endpoint, repository: &str, revision: &str) -> String {
    let revision = encoded(revision, false);
    let path = format!("api/v1/models/{repository}/repo/files?Revision={revision}&Recursive=True");
    server.at(&path)
}

/// The page of the repository.
pub(super) fn page(server: &Endpoint, repository: &str) -> String {
    server.at(&format!("models/{repository}"))
}

/// Reads the list.
///
/// # Errors
/// It names no files.
pub(super) fn read(
    server: &Endpoint,
    repository: &str,
    revision: &str,
    list: &Value,
) -> Result<Listing, ServerFault> {
    let data = list.get("Data");
    let entries = data.and_then(|data| data.get("Files").unwrap_or(data).as_array());
    let entries = entries.ok_or_else(|| {
        let words = list.get("Message").and_then(Value::as_str).unwrap_or("no reason given");
        ServerFault::ListWithoutFiles { words: Some(words.to_owned()) }
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let Some(path) = text("Path").or_else(|| text("Name")) else { continue };
        if text("Type") == Some("tree") || !is_plain_path(path) {
            continue;
        }
        let query =
            format!("Revision={}&FilePath={}", encoded(revision, false), encoded(path, false));
        files.push(RemoteFile {
            url: server.at(&format!("api/v1/models/{repository}/repo?{query}")),
            path: path.to_owned(),
            size: entry.get("Size").and_then(Value::as_u64),
            digest: text("Sha256").and_then(FileDigest::from_hex),
            last: false,
        });
    }
    Ok(Listing { revision: revision.to_owned(), files, licence: None })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_becomes_files() {
        let server = Endpoint::parse("https://scope", "MODELSCOPE_ENDPOINT").unwrap();
        let sha256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3";
        let list = json!({"Code": 200, "Data": {"Files": [
            {"Path": "vocab.txt", "Type": "blob", "Size": 231_508, "Sha256": sha256},
            {"Path": "config.yaml", "Type": "blob", "Size": 5, "Sha256": ""},
            {"Path": "sub", "Type": "tree", "Size": 0},
            {"Path": "/etc/passwd", "Type": "blob", "Size": 1},
        ]}});
        let listing = read(&server, "iic/m", "master", &list).unwrap();
        assert_eq!(listing.files.len(), 2);
        assert_eq!(listing.files[0].digest, FileDigest::from_hex(sha256));
        assert_eq!(listing.files[1].digest, None);
        assert_eq!(
            listing.files[0].url,
            "https://scope/api/v1/models/iic/m/repo?Revision=master&FilePath=vocab.txt"
        );
        let refusal = json!({"Code": 10_010_205, "Message": "no such model"});
        let error = read(&server, "iic/m", "master", &refusal).unwrap_err().to_string();
        assert!(error.contains("no such model"), "{error}");
    }
}
