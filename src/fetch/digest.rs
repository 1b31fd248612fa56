//! In: a file, or what a publisher states of one. Out: its digest, in the kind that the publisher uses:
//! SHA-256 for large files, git's blob id for small ones.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::benchmark::digest::hex;

/// Digest of a whole file, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDigest {
    /// SHA-256 of its bytes.
    Sha256(String),
    /// SHA-1 over `blob <length>`, a NUL and its bytes, as `git hash-object` prints it.
    GitBlob(String),
}

impl FileDigest {
    /// From bare hex: 64 digits are SHA-256, 40 a git blob id, anything else is neither.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.len() {
            64 if is_hex => Some(Self::Sha256(text)),
            40 if is_hex => Some(Self::GitBlob(text)),
            _ => None,
        }
    }

    /// The bare hex; Hugging Face's cache names its blobs so.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// The digest, of this one's kind, of the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or changes its length meanwhile.
    pub(crate) fn of_same_kind(&self, path: &Path) -> io::Result<Self> {
        match self {
            Self::Sha256(_) => Self::sha256_of(path),
            Self::GitBlob(_) => {
                let mut hasher = Sha1::new();
                let length = std::fs::metadata(path)?.len();
                hasher.update(format!("blob {length}\0"));
                if each_piece(path, |piece| hasher.update(piece))? != length {
                    return Err(io::Error::other("its length changed while it was read"));
                }
                Ok(Self::GitBlob(hex(&hasher.finalize())))
            }
        }
    }

    /// The SHA-256 of the file at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn sha256_of(path: &Path) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        each_piece(path, |piece| hasher.update(piece))?;
        Ok(Self::Sha256(hex(&hasher.finalize())))
    }
}

fn each_piece(path: &Path, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                take(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

/// `sha256:...` or `git-blob:...`, as lock files hold it.
impl std::fmt::Display for FileDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256:{hex}"),
            Self::GitBlob(hex) => write!(f, "git-blob:{hex}"),
        }
    }
}

impl std::str::FromStr for FileDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, hex) = text.split_once(':').unwrap_or_default();
        match (kind, Self::from_hex(hex)) {
            ("sha256", Some(digest @ Self::Sha256(_)))
            | ("git-blob", Some(digest @ Self::GitBlob(_))) => Ok(digest),
            _ => Err(format!("`{text}` is no digest: it reads sha256:HEX or git-blob:HEX")),
        }
    }
}

impl serde::Serialize for FileDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for FileDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_taken_of_files_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        // `sha256sum` and `git hash-object` of these six bytes.
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let blob = "ce013625030ba8dba906f756967f9e9ca394464a";
        for hex in [sha256, blob] {
            let stated = FileDigest::from_hex(&hex.to_uppercase()).unwrap();
            assert_eq!(stated.of_same_kind(&path).unwrap(), stated);
            assert_eq!(stated.hex(), hex);
            assert_eq!(stated.to_string().parse::<FileDigest>().unwrap(), stated);
        }
        std::fs::write(&path, "hellO\n").unwrap();
        for hex in [sha256, blob] {
            let stated = FileDigest::from_hex(hex).unwrap();
            assert_ne!(stated.of_same_kind(&path).unwrap(), stated);
        }
        for bad in ["", "abc", &sha256[1..], &format!("../{}", &blob[3..])] {
            assert_eq!(FileDigest::from_hex(bad), None);
        }
        assert!(format!("sha256:{blob}").parse::<FileDigest>().is_err());
    }
}
