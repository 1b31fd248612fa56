//! In: the name of a model or judge. Out: where its files lie if they were fetched, for flags that the user
//! leaves out, and the sentence on how to get them.

use std::path::PathBuf;

use crate::fetch::catalog::{CONNECTOR_FILE, find};
use crate::fetch::{Places, Role, locate};

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

/// Which command gets the part, if one does: `` `dpg-bench fetch sd15` gets it ``.
pub fn advice(name: &str, role: Role) -> Option<String> {
    find(name).ok()?.source(role)?;
    Some(format!("`dpg-bench fetch {name}` gets it"))
}
