//! In: nothing. Out: what a row of the catalog says of a repository. The rows are in `catalog`.

use super::file_rules::FileRule::{self, EitherOf};

/// Who publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// huggingface.co, or what `HF_ENDPOINT` names.
    HuggingFace,
    /// modelscope.cn, or what `MODELSCOPE_ENDPOINT` names.
    ModelScope,
    /// raw.githubusercontent.com, or what `DPG_BENCH_GITHUB_RAW` names.
    GitHub,
}

impl Host {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face",
            Self::ModelScope => "ModelScope",
            Self::GitHub => "GitHub",
        }
    }

    /// What its repositories' newest state is called.
    pub fn newest(self) -> &'static str {
        match self {
            Self::HuggingFace | Self::GitHub => "main",
            Self::ModelScope => "master",
        }
    }

    /// How the place where its files go is moved.
    pub fn elsewhere(self) -> &'static str {
        match self {
            Self::HuggingFace => "name a folder elsewhere in HF_HOME",
            Self::ModelScope => "name a folder elsewhere in MODELSCOPE_CACHE",
            Self::GitHub => "start from another folder",
        }
    }
}

/// A repository and what is needed of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Who publishes it.
    pub host: Host,
    /// `owner/name`.
    pub repository: &'static str,
    /// What it was called before, under which others may have fetched it.
    pub former_names: &'static [&'static str],
    /// The commit that is fetched; `None` takes the newest of the first fetch, and keeps to it.
    pub revision: Option<&'static str>,
    /// Its files.
    pub rules: &'static [FileRule],
    /// Digests in hex by path, of files at `revision`.
    pub pins: &'static [(&'static str, &'static str)],
    /// Its licence, by name.
    pub licence: &'static str,
}

/// Vocabulary of CLIP.
pub(super) const CLIP_TOKENIZER: FileRule =
    EitherOf(&["tokenizer/vocab.json", "tokenizer/merges.txt"], &["tokenizer/tokenizer.json"]);
