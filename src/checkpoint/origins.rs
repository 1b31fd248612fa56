//! In: small files that are copied to a temporary folder. Out: the copies, and complaints that name what they were made
//! of: the folder is gone when a complaint is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::error_words::sentence;
use super::small_files::write;

/// Where the files of a temporary folder come from.
#[derive(Debug)]
pub(crate) struct Origins {
    root: PathBuf,
    /// Made from, by the path in the folder.
    known: BTreeMap<PathBuf, PathBuf>,
}

impl Origins {
    /// Of the folder `root`, which stands for `whole`.
    pub(crate) fn new(root: &Path, whole: &Path) -> Self {
        let known = [(root.to_path_buf(), whole.to_path_buf())].into();
        Self { root: root.to_path_buf(), known }
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Copies the JSON and text files of a folder.
    ///
    /// # Errors
    /// It cannot be read, or the copy not be written.
    pub(crate) fn copy_folder(&mut self, from: &Path, to: &Path) -> Result<()> {
        let entries =
            std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.note(to, from);
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", from.display()))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let small = name.ends_with(".json") || name.ends_with(".txt") || name == "spiece.model";
            if path.is_file() && small && !name.contains(".safetensors") && !name.contains(".bin") {
                self.copy(&path, &to.join(name))?;
            }
        }
        Ok(())
    }

    /// Copies a file.
    ///
    /// # Errors
    /// It cannot be read, or the copy not be written.
    pub(crate) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let text =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.note(to, from);
        write(to, text)
    }

    /// Notes that `made` is made from `origin`; the last note counts.
    pub(crate) fn note(&mut self, made: &Path, origin: &Path) {
        self.known.insert(made.to_path_buf(), origin.to_path_buf());
    }

    /// `error`, unless it names a file of the folder: then its words, with the origin's name in that place.
    pub(crate) fn with_user_paths(&self, error: anyhow::Error) -> anyhow::Error {
        let words = sentence(&error);
        if words.contains(&*self.root.to_string_lossy()) {
            anyhow::Error::msg(self.renamed(words))
        } else {
            error
        }
    }

    fn renamed(&self, mut words: String) -> String {
        // Longer paths come after the shorter ones that they begin with.
        for (made, origin) in self.known.iter().rev() {
            words = words.replace(&*made.to_string_lossy(), &origin.to_string_lossy());
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_known_path_is_renamed() {
        let mut origins = Origins::new(Path::new("/tmp/x"), Path::new("a.safetensors"));
        origins.note(Path::new("/tmp/x/vae"), Path::new("my/vae"));
        origins.note(Path::new("/tmp/x/vae/config.json"), Path::new("base/vae/config.json"));
        let told =
            |text: &str| origins.with_user_paths(anyhow::Error::msg(text.to_owned())).to_string();
        assert_eq!(told("/tmp/x/vae/config.json: bad"), "base/vae/config.json: bad");
        assert_eq!(told("/tmp/x/vae/other.json: bad"), "my/vae/other.json: bad");
        assert_eq!(told("/tmp/x/unet/config.json: bad"), "a.safetensors/unet/config.json: bad");
        assert_eq!(told("/tmp/y: bad"), "/tmp/y: bad");
        let wrapped = anyhow::Error::msg("/tmp/x/vae: bad").context("cannot be loaded");
        assert_eq!(origins.with_user_paths(wrapped).to_string(), "cannot be loaded: my/vae: bad");
    }
}
