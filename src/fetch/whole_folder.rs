//! In: a folder. Out: whether it has all files that are needed of a source.

use std::collections::BTreeMap;
use std::path::Path;

use super::catalog::Source;
use super::file_rules::{Precision, select};

/// Whether `folder` has all files that are needed of `source`.
pub(crate) fn holds(folder: &Path, source: &Source) -> bool {
    is_whole(&files_below(folder), source)
}

pub(crate) fn is_whole(files: &BTreeMap<String, u64>, source: &Source) -> bool {
    let names = files.keys().map(String::as_str).collect();
    select(source.rules, &names, Precision::Full).is_ok()
}

/// Names and lengths of the files below `folder`, two folders deep at most.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Follows links: the cache consists of them.
            let Ok(about) = std::fs::metadata(entry.path()) else { continue };
            let name = format!("{prefix}{name}");
            if about.is_file() {
                files.insert(name, about.len());
            } else if depth < 2 {
                folders.push((entry.path(), format!("{name}/"), depth + 1));
            }
        }
    }
    files
}
