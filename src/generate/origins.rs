//! In: files of a temporary folder, and what they were made of. Out: complaints that name the latter. The folder is
//! gone when a complaint is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::models::error_words::sentence;

/// Where the files of a temporary folder come from.
#[derive(Debug)]
pub(super) struct Origins {
    root: PathBuf,
    /// Made from, by the path in the folder.
    known: BTreeMap<PathBuf, PathBuf>,
}

impl Origins {
    /// Of the folder `root`, which stands for `whole`.
    pub(super) fn new(root: &Path, whole: &Path) -> Self {
        let known = [(root.to_path_buf(), whole.to_path_buf())].into();
        Self { root: root.to_path_buf(), known }
    }

    /// Notes that `made` is made from `origin`; the last note counts.
    pub(super) fn note(&mut self, made: &Path, origin: &Path) {
        self.known.insert(made.to_path_buf(), origin.to_path_buf());
    }

    /// `error`, unless it names a file of the folder: then its words, with the origin's name in that place.
    pub(super) fn told(&self, error: anyhow::Error) -> anyhow::Error {
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
        let told = |text: &str| origins.told(anyhow::Error::msg(text.to_owned())).to_string();
        assert_eq!(told("/tmp/x/vae/config.json: bad"), "base/vae/config.json: bad");
        assert_eq!(told("/tmp/x/vae/other.json: bad"), "my/vae/other.json: bad");
        assert_eq!(told("/tmp/x/unet/config.json: bad"), "a.safetensors/unet/config.json: bad");
        assert_eq!(told("/tmp/y: bad"), "/tmp/y: bad");
        let wrapped = anyhow::Error::msg("/tmp/x/vae: bad").context("cannot be loaded");
        assert_eq!(origins.told(wrapped).to_string(), "cannot be loaded: my/vae: bad");
    }
}
