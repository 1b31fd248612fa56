//! In: the file names of a folder of pictures, or the lines of a map. Out: which image of which item
//! each file is, or why that cannot be told. Opening the pictures is left to `import_images`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::import_error::ImportError;
use crate::benchmark::{Benchmark, Item};
use crate::results::atomic_write::name_path;

/// How the pictures of a folder are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `<item>/<k>.png`: one folder per item.
    Folders,
    /// `<item>_<k>.png`, as UniGenBench has it.
    Flat,
    /// `<item>.png`: a 2x2 grid per item, as the reference script reads it, or, with one image per
    /// item, the image itself.
    OnePerItem,
    /// Listed in a JSON Lines file.
    Map,
}

impl Layout {
    /// A file name of this layout.
    pub fn example(self) -> &'static str {
        match self {
            Self::Folders => "<item>/<k>.png",
            Self::Flat => "<item>_<k>.png",
            Self::OnePerItem => "<item>.png",
            Self::Map => "a map",
        }
    }
}

/// What to import.
#[derive(Debug, Clone, Copy)]
pub struct ImportRequest<'a> {
    /// Folder of the pictures.
    pub folder: &'a Path,
    /// JSON Lines file of `{"item": .., "image": .., "path": ..}`, the image from 0, the path inside
    /// the folder. `None` to go by the file names.
    pub map: Option<&'a Path>,
    /// Images per item.
    pub images_per_item: u32,
    /// Whether file names count images from 0 or 1; `None` to tell from the numbers present.
    pub first_index: Option<u32>,
    /// Side of each image in pixels; `None` to take it from the files.
    pub resolution: Option<u32>,
}

/// One file and the images that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// The item.
    pub item: String,
    /// The first image that the file holds, from 0 (0 in a file of several).
    pub image: u32,
    /// The file, as a path.
    pub path: PathBuf,
    /// The file, relative to the imported folder, with `/`.
    pub name: String,
}

/// Which files are to be imported and which are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// How the files are named.
    pub layout: Layout,
    /// What the file names count from; `None` where they hold no numbers.
    pub first_index: Option<u32>,
    /// The files, in the order of items in the benchmark, then of images.
    pub files: Vec<PlannedFile>,
    /// Files that belong to no item, in name order.
    pub unknown: Vec<String>,
    /// Files of items that are not selected.
    pub not_selected: usize,
    /// Files of images beyond the number of images per item, in name order.
    pub surplus: Vec<String>,
}

/// A file, read as an image of an item. `number` is as the name has it.
#[derive(Debug, Clone)]
struct Claim {
    layout: Layout,
    item: String,
    number: Option<u32>,
    name: String,
}

/// Finds out which file is which image of the selected items.
///
/// # Errors
/// See [`ImportError`].
pub fn plan_files(
    benchmark: &Benchmark,
    items: &[&Item],
    request: &ImportRequest<'_>,
) -> Result<FilePlan, ImportError> {
    let known: HashMap<&str, usize> = benchmark
        .items
        .iter()
        .enumerate()
        .map(|(position, item)| (item.id.as_str(), position))
        .collect();
    let (claims, unknown) = match request.map {
        Some(map) => (read_map(map, &known)?, Vec::new()),
        None => claims_of_names(request.folder, &known)?,
    };
    let Some(layout) = claims.first().map(|claim| claim.layout) else {
        return Err(ImportError::NothingFound { folder: request.folder.to_owned() });
    };
    let first_index = match layout {
        Layout::OnePerItem => None,
        Layout::Map => Some(0),
        Layout::Folders | Layout::Flat => Some(match request.first_index {
            Some(first) => first,
            None => first_index(&claims, request.images_per_item)?,
        }),
    };
    let selected: BTreeSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let mut plan = FilePlan {
        layout,
        first_index,
        files: Vec::new(),
        unknown,
        not_selected: 0,
        surplus: Vec::new(),
    };
    let mut taken: BTreeMap<(usize, u32), PlannedFile> = BTreeMap::new();
    for claim in claims {
        if !selected.contains(claim.item.as_str()) {
            plan.not_selected += 1;
            continue;
        }
        let image = match (claim.number, first_index) {
            (Some(number), Some(first)) => number.checked_sub(first),
            _ => Some(0),
        };
        let Some(image) = image.filter(|&image| image < request.images_per_item) else {
            plan.surplus.push(claim.name);
            continue;
        };
        let file = PlannedFile {
            path: request.folder.join(&claim.name),
            item: claim.item,
            image,
            name: claim.name,
        };
        let key = (known.get(file.item.as_str()).copied().unwrap_or_default(), image);
        if let Some(other) = taken.get(&key) {
            return Err(ImportError::Duplicate {
                first: other.name.clone(),
                second: file.name,
                item: file.item,
                image,
            });
        }
        taken.insert(key, file);
    }
    plan.files = taken.into_values().collect();
    if plan.files.is_empty() {
        return Err(ImportError::NothingFound { folder: request.folder.to_owned() });
    }
    Ok(plan)
}

/// The claims of every picture in the folder, all of one layout, and the files that belong to no item.
fn claims_of_names(
    folder: &Path,
    known: &HashMap<&str, usize>,
) -> Result<(Vec<Claim>, Vec<String>), ImportError> {
    let mut readings: Vec<(String, Vec<Claim>)> = Vec::new();
    for name in list(folder)? {
        let claims = readings_of(&name, known);
        readings.push((name, claims));
    }
    let clear =
        readings.iter().filter(|(_, claims)| claims.len() == 1).map(|(_, claims)| &claims[0]);
    let mut clear_by_layout: BTreeMap<Layout, &Claim> = BTreeMap::new();
    for claim in clear {
        clear_by_layout.entry(claim.layout).or_insert(claim);
    }
    let mixed = |first: &Claim, second: &Claim| ImportError::MixedLayouts {
        first: first.name.clone(),
        second: second.name.clone(),
        layouts: [first.layout, second.layout],
    };
    let layouts: Vec<&Claim> = clear_by_layout.into_values().collect();
    if let [first, second, ..] = layouts.as_slice() {
        return Err(mixed(first, second));
    }
    // A name that can be read in two ways (item ids may end in `_1`) is read as its clear neighbours.
    let layout = layouts.first().map(|claim| claim.layout);
    let (mut claims, mut unknown) = (Vec::new(), Vec::new());
    for (name, mut own) in readings {
        if own.is_empty() {
            unknown.push(name);
            continue;
        }
        if own.len() > 1 {
            own.sort_by_key(|claim| claim.layout);
            let fitting = own.iter().position(|claim| Some(claim.layout) == layout);
            let Some(fitting) = fitting else { return Err(mixed(&own[0], &own[1])) };
            own.swap(0, fitting);
        }
        claims.extend(own.into_iter().take(1));
    }
    Ok((claims, unknown))
}

/// Every way to read a file name, at most one per layout.
fn readings_of(name: &str, known: &HashMap<&str, usize>) -> Vec<Claim> {
    let claim = |layout, item: &str, number| Claim {
        layout,
        item: item.to_owned(),
        number,
        name: name.to_owned(),
    };
    let (folder, file) = match name.split_once('/') {
        Some((folder, file)) => (Some(folder), file),
        None => (None, name),
    };
    let Some((stem, extension)) = file.rsplit_once('.') else { return Vec::new() };
    if !["png", "jpg", "jpeg", "webp"].contains(&extension.to_ascii_lowercase().as_str()) {
        return Vec::new();
    }
    if let Some(item) = folder {
        let number = index(stem).filter(|_| known.contains_key(item));
        return number
            .map(|number| claim(Layout::Folders, item, Some(number)))
            .into_iter()
            .collect();
    }
    let mut claims = Vec::new();
    if let Some((item, number)) = stem.rsplit_once('_')
        && known.contains_key(item)
        && let Some(number) = index(number)
    {
        claims.push(claim(Layout::Flat, item, Some(number)));
    }
    // The reference script takes the name up to its first dot; an id that holds a dot needs the stem.
    let key = file.split('.').next().unwrap_or_default();
    if let Some(item) = [stem, key].into_iter().find(|item| known.contains_key(item)) {
        claims.push(claim(Layout::OnePerItem, item, None));
    }
    claims
}

/// Digits only: `+1` and ` 1` are no image numbers.
fn index(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Files of the folder and of its direct subfolders, relative, in name order. Hidden ones are left out.
fn list(folder: &Path) -> Result<Vec<String>, ImportError> {
    let mut names = Vec::new();
    for (name, path) in entries(folder)? {
        if path.is_dir() {
            let inside = entries(&path)?;
            names.extend(inside.into_iter().map(|(file, _)| format!("{name}/{file}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, ImportError> {
    let name = |error| name_path(error, "list", folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(name)? {
        let entry = entry.map_err(name)?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with('.') {
            found.push((file, entry.path()));
        }
    }
    Ok(found)
}

/// 0 or 1, from the numbers that are there.
fn first_index(claims: &[Claim], images: u32) -> Result<u32, ImportError> {
    let with = |wanted: u32| claims.iter().find(|claim| claim.number == Some(wanted));
    match (with(0), with(images)) {
        (Some(_), None) => Ok(0),
        (None, Some(_)) => Ok(1),
        (Some(zero), Some(last)) => Err(ImportError::UnclearIndex {
            reason: format!(
                "{} and {} are both there for {images} images per item",
                zero.name, last.name
            ),
        }),
        (None, None) => {
            let smallest = claims.iter().filter_map(|claim| claim.number).min().unwrap_or_default();
            Err(ImportError::UnclearIndex {
                reason: format!(
                    "there is no image 0 and no image {images}, only {smallest} and so on"
                ),
            })
        }
    }
}

#[derive(Deserialize)]
struct MapLine {
    item: String,
    image: u32,
    path: String,
}

fn read_map(path: &Path, known: &HashMap<&str, usize>) -> Result<Vec<Claim>, ImportError> {
    let text = std::fs::read_to_string(path).map_err(|error| name_path(error, "read", path))?;
    let mut claims = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |reason: String| ImportError::BadMapLine {
            path: path.to_owned(),
            line: index + 1,
            reason,
        };
        let MapLine { item, image, path: picture } =
            serde_json::from_str(line).map_err(|error| {
                bad(format!(
                    "{error}; write it like {{\"item\": \"x\", \"image\": 0, \"path\": \"x.png\"}}"
                ))
            })?;
        if !known.contains_key(item.as_str()) {
            return Err(bad(format!(
                "the benchmark has no item `{item}`; remove the line or mend the id"
            )));
        }
        // The path goes into the records, which must mean the same on another machine.
        let inside = Path::new(&picture).components().all(|part| {
            matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir)
        });
        if !inside || picture.is_empty() {
            return Err(bad(format!(
                "`{picture}` leaves the folder of --images; give a path inside it"
            )));
        }
        claims.push(Claim { layout: Layout::Map, item, number: Some(image), name: picture });
    }
    Ok(claims)
}
