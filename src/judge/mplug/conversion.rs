//! In: a published mPLUG folder. Out: a folder in the same layout with `model.safetensors` for the pickle,
//! holding what the network needs and nothing else. It loads to the same digest and so to the same answers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::files::{MplugFiles, WEIGHT_FILES};
use crate::models::mplug::MplugConfig;
use crate::results::atomic_write::{name_path, sync_folder};

/// Configurations and vocabularies are far smaller; what is larger beside them is no part of the model.
const LARGEST_COPY: u64 = 16 << 20;

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Converted {
    /// The folder that was written.
    pub folder: PathBuf,
    /// Bytes of its tensors.
    pub tensor_bytes: u64,
    /// Tensors of the original that the network does not need.
    pub left_out: usize,
    /// Digest of the tensors, as the judge records it.
    pub tensors_sha256: String,
}

/// Converts the model at `from` into the folder `to`, which must not be there or be empty. `tool` is
/// noted in the file's header. The folder is there whole or not at all.
///
/// # Errors
/// The model is not whole, `to` holds something, or the disk said no.
pub fn convert(from: &Path, to: &Path, tool: &str) -> Result<Converted> {
    let files = MplugFiles::find(from)?;
    let config = MplugConfig::read(&files.folder)?;
    let needed = files.needed(&config)?;
    let is_empty = fs::read_dir(to).map_or(!to.exists(), |mut entries| entries.next().is_none());
    ensure!(is_empty, "{} is there already and not empty; name another folder", to.display());
    let name = to.file_name().with_context(|| format!("{} names no folder", to.display()))?;
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|error| name_path(error, "make", parent))?;
    // What a kill left there is taken over.
    let hidden = parent.join(format!(".writing-{}", name.to_string_lossy()));
    if hidden.exists() {
        fs::remove_dir_all(&hidden).map_err(|error| name_path(error, "remove", &hidden))?;
    }
    let written = write(&files, &needed, &hidden, tool).and_then(|tensors_sha256| {
        if to.exists() {
            fs::remove_dir(to).map_err(|error| name_path(error, "replace", to))?;
        }
        fs::rename(&hidden, to).map_err(|error| name_path(error, "write", to))?;
        sync_folder(parent)?;
        Ok(tensors_sha256)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&hidden);
    }
    let (tensor_bytes, left_out) = (needed.size(), needed.left_out());
    let tensors_sha256 = written.with_context(|| {
        format!("{} was not written (its tensors take {tensor_bytes} bytes)", to.display())
    })?;
    Ok(Converted { folder: to.to_owned(), tensor_bytes, left_out, tensors_sha256 })
}

fn write(
    files: &MplugFiles,
    needed: &crate::checkpoint::needed_tensors::NeededTensors,
    folder: &Path,
    tool: &str,
) -> Result<String> {
    fs::create_dir(folder).map_err(|error| name_path(error, "make", folder))?;
    let entries =
        fs::read_dir(&files.folder).map_err(|error| name_path(error, "read", &files.folder))?;
    for entry in entries {
        let entry = entry.map_err(|error| name_path(error, "read", &files.folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_part = ["json", "yaml", "txt", "md"]
            .iter()
            .any(|end| path.extension().is_some_and(|extension| extension == *end));
        let about = fs::metadata(&path).map_err(|error| name_path(error, "read", &path))?;
        if is_part && about.is_file() && about.len() <= LARGEST_COPY {
            fs::copy(&path, folder.join(&name)).map_err(|error| name_path(error, "copy", &path))?;
        }
    }
    let digest = needed.digest()?;
    let source = files.weights.file_name().map(|name| name.to_string_lossy().into_owned());
    let notes = [
        ("format", "pt".to_owned()),
        ("source", source.unwrap_or_default()),
        ("source_tensors_left_out", needed.left_out().to_string()),
        ("tensors_sha256", digest.clone()),
        ("converted_by", tool.to_owned()),
    ];
    let path = folder.join(WEIGHT_FILES[0]);
    needed.write(&path, &notes)?;
    // Read back: a disk may take bytes and keep others.
    let config = MplugConfig::read(folder)?;
    let copy = MplugFiles { folder: folder.to_owned(), weights: path }.needed(&config)?;
    ensure!(copy.digest()? == digest, "what was written is not what was read; look at the disk");
    sync_folder(folder)?;
    Ok(digest)
}
