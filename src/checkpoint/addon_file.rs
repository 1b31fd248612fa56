//! In: a folder that an adapter or an embedding was saved to. Out: the file of it that holds the tensors.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// How files of tensors end, the better of two first.
const ENDINGS: [&str; 2] = [".safetensors", ".bin"];

/// Files that hold something else, by a part of their names; as in diffusers.
const OTHERS: [&str; 3] = ["scheduler", "optimizer", "checkpoint"];

/// The file of one of the usual `stems`, or else the only file of tensors in `folder`; `None` where there is none.
///
/// # Errors
/// There are several, or the folder cannot be read.
pub(crate) fn addon_file(folder: &Path, stems: &[&str]) -> Result<Option<PathBuf>> {
    let unreadable = || format!("{}: cannot be read", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        if let (Some(name), true) = (entry.file_name().to_str(), entry.path().is_file()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    for ending in ENDINGS {
        for stem in stems {
            if let Some(name) = names.iter().find(|name| **name == format!("{stem}{ending}")) {
                return Ok(Some(folder.join(name)));
            }
        }
        let is_tensors =
            |name: &&String| name.ends_with(ending) && !OTHERS.iter().any(|o| name.contains(o));
        let found: Vec<&String> = names.iter().filter(is_tensors).collect();
        ensure!(
            found.len() < 2,
            "{} holds several files of tensors, `{}` among them; name the one that is meant",
            folder.display(),
            found[0]
        );
        if let Some(name) = found.first() {
            return Ok(Some(folder.join(name)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_file_stands_above_an_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let found = || {
            let file = addon_file(folder.path(), &["usual", "other"])?;
            Ok::<_, anyhow::Error>(
                file.map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()),
            )
        };
        let add = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(found().unwrap(), None);
        add("optimizer.bin");
        assert_eq!(found().unwrap(), None);
        add("mine.bin");
        assert_eq!(found().unwrap().as_deref(), Some("mine.bin"));
        add("mine.safetensors");
        assert_eq!(found().unwrap().as_deref(), Some("mine.safetensors"));
        add("yours.safetensors");
        assert!(found().unwrap_err().to_string().contains("mine.safetensors"));
        add("other.safetensors");
        assert_eq!(found().unwrap().as_deref(), Some("other.safetensors"));
        add("usual.safetensors");
        assert_eq!(found().unwrap().as_deref(), Some("usual.safetensors"));
    }
}
