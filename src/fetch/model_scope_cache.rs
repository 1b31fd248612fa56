//! In: a repository of ModelScope and the places of the environment. Out: the folders in which ModelScope's
//! own library may have put it, by the library's version. Whether they hold it is not looked at here.

use std::path::{Path, PathBuf};

use super::catalog::{Host, Source};
use super::places::Places;

/// Folders that may hold a repository, the likeliest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CachedFolders {
    /// Of 1.38 and later, at the newest state: `models/owner--name/snapshots/master`.
    pub newest: Vec<PathBuf>,
    /// The same at a revision that the user named to the library.
    pub named: Vec<PathBuf>,
    /// Of libraries before 1.38, but for the folder that this program's own fetches go to.
    pub older: Vec<PathBuf>,
}

/// Where ModelScope's library keeps `source`, under its name of today and those of before; nothing for
/// other publishers. The reference script asks for a name of before.
pub(crate) fn cached_folders(source: &Source, places: &Places) -> CachedFolders {
    let mut found = CachedFolders::default();
    if source.host != Host::ModelScope {
        return found;
    }
    let own = own_folder(source, places);
    for repository in std::iter::once(&source.repository).chain(source.former_names) {
        let snapshots = places
            .model_scope_snapshots
            .join("models")
            .join(repository.replace('/', "--"))
            .join("snapshots");
        // What the library takes where no revision is asked for.
        let usual = ["master", "main"].map(|name| snapshots.join(name));
        found.named.extend(sorted_folders(&snapshots).into_iter().filter(|at| !usual.contains(at)));
        found.newest.extend(usual);
        // Up to 1.37 dots in names were written so.
        let name = repository.replace('.', "___");
        for base in [&places.model_scope_cache, &places.model_scope_snapshots.join("hub")] {
            for at in [base.join("models").join(&name), base.join(&name)] {
                if at != own && !found.older.contains(&at) {
                    found.older.push(at);
                }
            }
        }
    }
    found
}

/// Where this program's fetches go: every version of the library finds it there.
pub(crate) fn own_folder(source: &Source, places: &Places) -> PathBuf {
    places.model_scope_cache.join("models").join(source.repository.replace('.', "___"))
}

fn sorted_folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}
