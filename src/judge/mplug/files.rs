//! In: the path that a user gives for an mPLUG model. Out: its files, and the tensors in them that the
//! network needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::needed_tensors::NeededTensors;
use crate::checkpoint::pickle_file::StateDictLayout;
use crate::models::mplug::{Mplug, MplugConfig};

/// Weights that a folder may hold, the preferred ones first: what `convert` wrote, and what is published.
pub(crate) const WEIGHT_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// As the original unwraps its checkpoints.
const UNWRAPPING: StateDictLayout =
    StateDictLayout { keys: &["model", "module"], removed: "model." };

/// The one task that this judge is for.
const TASK: &str = "visual-question-answering";

/// Where a model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MplugFiles {
    /// The folder of the configuration and the vocabulary.
    pub folder: PathBuf,
    /// The weights.
    pub weights: PathBuf,
}

impl MplugFiles {
    /// The files of the folder `path`, or of the weights `path` with what is beside them.
    ///
    /// # Errors
    /// There are no weights, or the model is for another task.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let files = if path.is_dir() {
            let found = WEIGHT_FILES.iter().map(|name| path.join(name)).find(|file| file.is_file());
            let missing = || {
                let [converted, published] = WEIGHT_FILES;
                format!("{} holds neither {published} nor {converted}", path.display())
            };
            Self { folder: path.to_owned(), weights: found.with_context(missing)? }
        } else {
            ensure!(path.is_file(), "there is no model at {}", path.display());
            let folder = match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            Self { folder: folder.to_owned(), weights: path.to_owned() }
        };
        refuse_other_tasks(&files.folder.join("configuration.json"))?;
        Ok(files)
    }

    /// The tensors that a network of `config` needs.
    ///
    /// # Errors
    /// One is missing or has another shape.
    pub(crate) fn needed(&self, config: &MplugConfig) -> Result<NeededTensors, ModelError> {
        NeededTensors::open(&self.weights, UNWRAPPING, &Mplug::needed_tensors(config))
    }

    /// SHA-256 of `vocab.txt`, in hex.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn vocabulary_sha256(&self) -> Result<String> {
        let path = self.folder.join("vocab.txt");
        let bytes =
            std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// mPLUG's other models have the same files and would answer with captions.
fn refuse_other_tasks(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let text =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let config: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("{}: is no JSON", path.display()))?;
    match config.get("task").and_then(serde_json::Value::as_str) {
        Some(task) if task != TASK => {
            bail!("{}: this model is for the task {task}, not for {TASK}", path.display())
        }
        _ => Ok(()),
    }
}
