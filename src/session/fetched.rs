//! In: the name of a model or judge. Out: where its files lie if they were fetched, for flags that the user
//! leaves out, and the sentence on how to get them. Or `owner/name` of a model on Hugging Face. Out: its
//! folder in the local cache.

use std::path::{Component, Path, PathBuf};

use anyhow::bail;

use crate::fetch::catalog::{CONNECTOR_FILE, find};
use crate::fetch::{Places, Role, in_hub_cache, locate};

/// Where files come from and go to, as the environment says.
///
/// # Errors
/// A variable holds what it cannot hold.
pub fn places() -> anyhow::Result<Places> {
    if cfg!(test) {
        // Unit tests see nothing of what the machine that they run on has fetched.
        return Ok(Places::new(&|_| None)?);
    }
    Ok(Places::from_environment()?)
}

/// The part `role` of what `fetch NAME` gets: a folder, or the connector's file; `None` where it is not
/// there, or nothing of that name can be fetched.
///
/// # Errors
/// As [`places`].
pub fn part(name: &str, role: Role) -> anyhow::Result<Option<PathBuf>> {
    let Ok(row) = find(name) else { return Ok(None) };
    let places = places()?;
    let found = row.all(role).find_map(|source| locate(source, &places)).map(|found| found.folder);
    Ok(match role {
        Role::Connector => found.map(|folder| folder.join(CONNECTOR_FILE)),
        _ => found,
    })
}

/// What the user named as weights: a file or folder as it is, else `owner/name` in the local cache of Hugging Face,
/// which stands for the folder of its newest revision there. Nothing is downloaded.
///
/// # Errors
/// It is neither; or as [`places`].
pub fn named(path: &Path) -> anyhow::Result<PathBuf> {
    if path.exists() { Ok(path.to_owned()) } else { by_name(path, &places()?) }
}

/// The folder of the model `path`, as `owner/name`. What cannot be such a name is returned as it is; so is a name below
/// a folder that is there, which is taken for a path with a slip in it.
fn by_name(path: &Path, places: &Places) -> anyhow::Result<PathBuf> {
    let Some((owner, name)) = hub_name(path) else { return Ok(path.to_owned()) };
    let found = in_hub_cache(&format!("{owner}/{name}"), places);
    match found.as_slice() {
        [folder] => Ok(folder.clone()),
        _ if Path::new(owner).is_dir() => Ok(path.to_owned()),
        [] => bail!(
            "there is no model at {owner}/{name}, nor one of that name in the Hugging Face cache {}; if it is one \
             there, `hf download {owner}/{name}` gets it",
            places.hub_cache.display()
        ),
        [one, ..] => bail!(
            "the Hugging Face cache holds {} revisions of {owner}/{name} and does not say which is the newest; \
             give the folder of one of them in {}",
            found.len(),
            one.parent().unwrap_or(one).display()
        ),
    }
}

/// Whether `path` can be the name of a model on Hugging Face.
pub fn is_hub_name(path: &Path) -> bool {
    hub_name(path).is_some()
}

/// Owner and name, where `path` can be a model on Hugging Face: two plain words, not the name of a weights file.
fn hub_name(path: &Path) -> Option<(&str, &str)> {
    let mut parts = path.components();
    let (Component::Normal(owner), Component::Normal(name), None) =
        (parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let is_plain = |word: &str| {
        !word.starts_with('.')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let is_file = [".safetensors", ".bin", ".ckpt", ".pt", ".pth"]
        .iter()
        .any(|ending| name.to_str().is_some_and(|name| name.ends_with(ending)));
    let (owner, name) = (owner.to_str()?, name.to_str()?);
    (is_plain(owner) && is_plain(name) && !is_file).then_some((owner, name))
}

/// Which command gets the part, if one does: `` `dpg-bench fetch sd15` gets it ``.
pub fn advice(name: &str, role: Role) -> Option<String> {
    find(name).ok()?.source(role)?;
    Some(format!("`dpg-bench fetch {name}` gets it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_the_newest_revision_in_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--some-owner--some.model-1");
        let snapshots = repository.join("snapshots");
        let variable = |name: &str| (name == "HF_HUB_CACHE").then(|| cache.path().into());
        let places = Places::new(&variable).unwrap();
        let find = |name: &str| by_name(Path::new(name), &places);
        let refused = |name: &str| find(name).unwrap_err().to_string();
        assert!(
            refused("some-owner/some.model-1").contains("`hf download some-owner/some.model-1`")
        );
        for revision in ["aaa", "bbb"] {
            std::fs::create_dir_all(snapshots.join(revision)).unwrap();
        }
        assert!(refused("some-owner/some.model-1").contains("2 revisions"));
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        std::fs::write(repository.join("refs/main"), "bbb\n").unwrap();
        assert_eq!(find("some-owner/some.model-1").unwrap(), snapshots.join("bbb"));
        std::fs::remove_file(repository.join("refs/main")).unwrap();
        std::fs::remove_dir(snapshots.join("bbb")).unwrap();
        assert_eq!(find("some-owner/some.model-1").unwrap(), snapshots.join("aaa"));
        assert!(refused("some-owner/other").contains("no model at some-owner/other"));
    }

    #[test]
    fn paths_stay_paths() {
        let variable = |name: &str| (name == "HF_HUB_CACHE").then(|| "no such cache".into());
        let places = Places::new(&variable).unwrap();
        for path in ["model", "/a/b", "./a/b/c", "../a", "a/b.safetensors", "a/b/c", "src/nothing"]
        {
            assert_eq!(by_name(Path::new(path), &places).unwrap(), Path::new(path), "{path}");
        }
        assert_eq!(named(Path::new("src/session")).unwrap(), Path::new("src/session"));
    }
}
