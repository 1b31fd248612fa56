//! In: nothing. Out: what a publisher states of a repository at one commit, the same for all publishers.

use std::collections::BTreeSet;

use super::digest::FileDigest;
use crate::http::percent_encoded;

/// A file as its publisher states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Path in the repository.
    pub path: String,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Digest.
    pub digest: Option<FileDigest>,
    /// Where it is got.
    pub url: String,
    /// Whether it comes after all others: with it, the rest is taken for whole.
    pub last: bool,
}

/// A repository as its publisher states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Commit, or where the publisher has none, the name of its newest state.
    pub revision: String,
    /// Its files.
    pub files: Vec<RemoteFile>,
    /// Its licence, where the publisher states one.
    pub licence: Option<String>,
}

impl Listing {
    /// Names of the files.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.files.iter().map(|file| file.path.as_str()).collect()
    }
}

/// Whether a name from elsewhere stays below the folder that it is joined to.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.chars().any(|c| c.is_control() || matches!(c, '\\' | ':'))
    };
    path.split('/').all(plain)
}

/// `text` for a part of an address, percent-encoded but for `/` where `keep_slash`.
pub(super) fn encoded(text: &str, keep_slash: bool) -> String {
    match keep_slash {
        true => text.split('/').map(percent_encoded).collect::<Vec<_>>().join("/"),
        false => percent_encoded(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_folder() {
        for good in ["a", "a/b.json", "ella-sd1.5-tsc-t5xl.safetensors", "prompts/..x"] {
            assert!(is_plain_path(good), "{good}");
        }
        for bad in ["", "/a", "a//b", "../a", "a/../../b", "a/.", "c:\\x", "a\\b", "a\0b", "a:b"] {
            assert!(!is_plain_path(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_hold_no_odd_characters() {
        assert_eq!(encoded("a b/ü&?#%", true), "a%20b/%C3%BC%26%3F%23%25");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }
}
