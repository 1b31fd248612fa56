//! In: what Hugging Face's API says of a repository at a revision (`/api/models/<repository>/revision/<revision>
//! ?blobs=true`). Out: a listing. Large files have a SHA-256, small ones their git blob id.

use serde_json::Value;

use super::digest::FileDigest;
use super::listing::{Listing, RemoteFile, encoded, is_plain_path};
use super::places::Endpoint;
use super::server_fault::ServerFault;

/// Where the list is.
pub(crate) fn list_url(hub: &Endpoint, repository: &str, revision: &str) -> String {
    hub.at(&format!("api/models/{repository}/revision/{}?blobs=true", encoded(revision, false)))
}

/// The page on which access is asked for.
pub(super) fn page(hub: &Endpoint, repository: &str) -> String {
    hub.at(repository)
}

/// Reads the list.
///
/// # Errors
/// It lacks the commit or the files.
pub(super) fn read(hub: &Endpoint, repository: &str, list: &Value) -> Result<Listing, ServerFault> {
    let commit = list.get("sha").and_then(Value::as_str).and_then(FileDigest::from_hex);
    let Some(FileDigest::GitBlob(commit)) = commit else {
        return Err(ServerFault::ListWithoutCommit);
    };
    let siblings = list.get("siblings").and_then(Value::as_array);
    let siblings = siblings.ok_or(ServerFault::ListWithoutFiles { words: None })?;
    let mut files = Vec::new();
    for sibling in siblings {
        let Some(path) = sibling.get("rfilename").and_then(Value::as_str) else { continue };
        if !is_plain_path(path) {
            continue;
        }
        let large = sibling.get("lfs").filter(|lfs| !lfs.is_null());
        let hex = large
            .and_then(|lfs| lfs.get("sha256").or_else(|| lfs.get("oid")))
            .or_else(|| sibling.get("blobId"))
            .and_then(Value::as_str);
        let digest = hex.and_then(FileDigest::from_hex);
        let size = large.and_then(|lfs| lfs.get("size")).or_else(|| sibling.get("size"));
        files.push(RemoteFile {
            url: hub.at(&format!("{repository}/resolve/{commit}/{}", encoded(path, true))),
            path: path.to_owned(),
            size: size.and_then(Value::as_u64),
            digest,
            last: false,
        });
    }
    let card = list.get("cardData");
    let name = |key: &str| card.and_then(|card| card.get(key)).and_then(Value::as_str);
    let licence = name("license_name").or_else(|| name("license")).map(str::to_owned);
    Ok(Listing { revision: commit, files, licence })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COMMIT: &str = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14";

    fn hub() -> Endpoint {
        Endpoint::parse("https://hub", "HF_ENDPOINT").unwrap()
    }

    #[test]
    fn a_list_becomes_files_with_the_digest_of_their_kind() {
        let sha256 = "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334";
        let list = json!({
            "sha": COMMIT,
            "cardData": {"license": "openrail++"},
            "siblings": [
                {"rfilename": "unet/config.json", "size": 743, "blobId": COMMIT},
                {"rfilename": "a b.safetensors", "size": 9, "blobId": COMMIT,
                 "lfs": {"sha256": sha256, "size": 9, "pointerSize": 135}},
                {"rfilename": "../outside", "size": 1, "blobId": COMMIT},
            ],
        });
        let listing = read(&hub(), "o/n", &list).unwrap();
        assert_eq!(listing.licence.as_deref(), Some("openrail++"));
        let names: Vec<&str> = listing.names().into_iter().collect();
        assert_eq!(names, ["a b.safetensors", "unet/config.json"]);
        assert_eq!(listing.files[0].digest, Some(FileDigest::GitBlob(COMMIT.to_owned())));
        assert_eq!(listing.files[1].digest, Some(FileDigest::Sha256(sha256.to_owned())));
        assert_eq!(
            listing.files[1].url,
            format!("https://hub/o/n/resolve/{COMMIT}/a%20b.safetensors")
        );
        assert_eq!(
            list_url(&hub(), "o/n", "refs/pr/1"),
            "https://hub/api/models/o/n/revision/refs%2Fpr%2F1?blobs=true"
        );
    }

    #[test]
    fn a_list_without_commit_or_files_is_refused() {
        for (list, expected) in [
            (json!({"siblings": []}), "no commit"),
            (json!({"sha": "main", "siblings": []}), "no commit"),
            (json!({"sha": COMMIT}), "no files"),
        ] {
            let error = read(&hub(), "o/n", &list).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
