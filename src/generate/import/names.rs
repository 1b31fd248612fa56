//! In: the file names of a folder of pictures, or the lines of a map. Out: what each says about item and image,
//! all in one layout, or why that cannot be told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{ImportError, IndexDoubt, MapLineFault};
use super::naming::Layout;
use crate::benchmark::Benchmark;
use crate::results::atomic_write::name_path;

/// A file, read as an image of an item. `number` is as the name has it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// How the name was read.
    pub layout: Layout,
    /// The item.
    pub item: String,
    /// The number in the name, from 0 or 1, or a seed; `None` where there is none.
    pub number: Option<u64>,
    /// The file, relative to the imported folder, with `/`.
    pub name: String,
}

/// What names may refer to.
pub(crate) struct KnownNames<'a> {
    /// Item ids and their places in the benchmark.
    pub items: HashMap<&'a str, usize>,
    /// The different prompt texts in the order of the file, each as the items that have it.
    prompts: Vec<Vec<&'a str>>,
}

impl<'a> KnownNames<'a> {
    /// Those of a benchmark.
    pub(crate) fn new(benchmark: &'a Benchmark) -> Self {
        let items = (0..).zip(&benchmark.items);
        let mut prompts: Vec<Vec<&str>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for item in &benchmark.items {
            let place = *places.entry(&item.prompt).or_insert(prompts.len());
            if place == prompts.len() {
                prompts.push(Vec::new());
            }
            prompts[place].push(&item.id);
        }
        Self { items: items.map(|(place, item)| (item.id.as_str(), place)).collect(), prompts }
    }
}

/// The claims of every picture in the folder, all of one layout, and the files that belong to no item.
///
/// # Errors
/// The folder cannot be listed, or its names are of several layouts.
pub(crate) fn claims_of_names(
    folder: &Path,
    known: &KnownNames<'_>,
) -> Result<(Vec<Claim>, Vec<String>), ImportError> {
    let mut readings: Vec<(String, Vec<Claim>)> = Vec::new();
    for name in list(folder)? {
        let claims = readings_of(&name, known);
        readings.push((name, claims));
    }
    let clear = readings.iter().filter_map(|(_, claims)| {
        let first = claims.first()?;
        claims.iter().all(|claim| claim.layout == first.layout).then_some(first)
    });
    let mut clear_by_layout: BTreeMap<Layout, Claim> = BTreeMap::new();
    for claim in clear {
        clear_by_layout.entry(claim.layout).or_insert_with(|| claim.clone());
    }
    // Overviews beside the single files that they show are left alone.
    let is_single = |layout: &Layout| !matches!(layout, Layout::Grids | Layout::OnePerItem);
    if clear_by_layout.keys().any(is_single) && clear_by_layout.remove(&Layout::Grids).is_some() {
        for (_, claims) in &mut readings {
            claims.retain(|claim| claim.layout != Layout::Grids);
        }
    }
    let mixed = |first: &Claim, second: &Claim| ImportError::MixedLayouts {
        first: first.name.clone(),
        second: second.name.clone(),
        layouts: [first.layout, second.layout],
    };
    let layouts: Vec<&Claim> = clear_by_layout.values().collect();
    if let [first, second, ..] = layouts.as_slice() {
        return Err(mixed(first, second));
    }
    // A name that can be read in two ways (item ids may end in `_1`) is read as its clear neighbours.
    let layout = layouts.first().map(|claim| claim.layout);
    let (mut claims, mut unknown) = (Vec::new(), Vec::new());
    for (name, mut own) in readings {
        own.sort_by_key(|claim| claim.layout);
        match (own.as_slice(), layout) {
            ([], _) => unknown.push(name),
            (own, Some(layout)) if own.iter().any(|claim| claim.layout == layout) => {
                claims.extend(own.iter().filter(|claim| claim.layout == layout).cloned());
            }
            ([first, .., last], _) => return Err(mixed(first, last)),
            ([_], _) => unknown.push(name),
        }
    }
    if layout == Some(Layout::Prompts) {
        check_prompt_numbers(&claims, &unknown, known.prompts.len())?;
    }
    Ok((claims, unknown))
}

/// `p01065` with 1,065 prompts and no `p00000`: counted from 1, and every picture would be its neighbour's.
fn check_prompt_numbers(
    claims: &[Claim],
    unknown: &[String],
    prompts: usize,
) -> Result<(), ImportError> {
    let number = |name: &str| Some(prompt_and_sample(name.rsplit_once('.')?.0)?.0);
    let beyond = unknown.iter().find(|name| number(name) == Some(prompts as u64));
    match beyond {
        Some(beyond) if !claims.iter().any(|claim| number(&claim.name) == Some(0)) => {
            Err(ImportError::PromptNumbers { beyond: beyond.clone(), prompts })
        }
        _ => Ok(()),
    }
}

/// Every way to read a file name: at most one per layout, but for prompts that several items share.
fn readings_of(name: &str, known: &KnownNames<'_>) -> Vec<Claim> {
    let claim = |layout, item: &str, number| Claim {
        layout,
        item: item.to_owned(),
        number,
        name: name.to_owned(),
    };
    let parts: Vec<&str> = name.split('/').collect();
    let Some((stem, extension)) = parts.last().and_then(|file| file.rsplit_once('.')) else {
        return Vec::new();
    };
    if !["png", "jpg", "jpeg", "webp"].contains(&extension.to_ascii_lowercase().as_str()) {
        return Vec::new();
    }
    let known_item = |item: &str| known.items.contains_key(item);
    let file = match parts.as_slice() {
        [file] => *file,
        &[item, _] | &[item, "samples", _] => {
            let layout = if parts.len() == 2 { Layout::Folders } else { Layout::Samples };
            let number = index(stem).filter(|_| known_item(item));
            return number.map(|number| claim(layout, item, Some(number))).into_iter().collect();
        }
        _ => return Vec::new(),
    };
    let mut claims = Vec::new();
    if let Some((item, number)) = stem.rsplit_once('_')
        && known_item(item)
    {
        if let Some(number) = index(number) {
            claims.push(claim(Layout::Flat, item, Some(number)));
        } else if number == "grid" {
            claims.push(claim(Layout::Grids, item, None));
        }
    }
    // The reference script takes the name up to its first dot; an id that holds a dot needs the stem.
    let key = file.split('.').next().unwrap_or_default();
    if let Some(item) = [stem, key].into_iter().find(|item| known_item(item)) {
        claims.push(claim(Layout::OnePerItem, item, None));
    }
    if let Some((prompt, sample)) = prompt_and_sample(stem) {
        let items = usize::try_from(prompt).ok().and_then(|prompt| known.prompts.get(prompt));
        let items = items.into_iter().flatten();
        claims.extend(items.map(|item| claim(Layout::Prompts, item, Some(sample))));
    }
    claims
}

/// The numbers of `p00012_s3`.
fn prompt_and_sample(stem: &str) -> Option<(u64, u64)> {
    let (prompt, sample) = stem.strip_prefix('p')?.split_once("_s")?;
    Some((index(prompt)?, index(sample)?))
}

/// Digits only: `+1` and ` 1` are no image numbers.
fn index(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Files of the folder, of its direct subfolders and of their `samples`, relative, in name order. Hidden ones
/// are left out.
fn list(folder: &Path) -> Result<Vec<String>, ImportError> {
    let mut names = Vec::new();
    for (name, path) in entries(folder)? {
        if !path.is_dir() {
            names.push(name);
            continue;
        }
        for (file, path) in entries(&path)? {
            if file == "samples" && path.is_dir() {
                let inside = entries(&path)?;
                names.extend(
                    inside.into_iter().map(|(sample, _)| format!("{name}/{file}/{sample}")),
                );
            } else {
                names.push(format!("{name}/{file}"));
            }
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

#[derive(Deserialize)]
struct MapLine {
    item: String,
    image: u32,
    path: String,
}

/// The claims of a JSON Lines file.
///
/// # Errors
/// It cannot be read, or a line is wrong.
pub(crate) fn read_map(path: &Path, known: &KnownNames<'_>) -> Result<Vec<Claim>, ImportError> {
    let text = std::fs::read_to_string(path).map_err(|error| name_path(error, "read", path))?;
    let mut claims = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad =
            |reason| ImportError::BadMapLine { path: path.to_owned(), line: index + 1, reason };
        let MapLine { item, image, path: picture } =
            serde_json::from_str(line).map_err(|error| bad(MapLineFault::Unparsable(error)))?;
        if !known.items.contains_key(item.as_str()) {
            return Err(bad(MapLineFault::UnknownItem(item)));
        }
        // The path goes into the records, which must mean the same on another machine.
        let inside = Path::new(&picture).components().all(|part| {
            matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir)
        });
        if !inside || picture.is_empty() {
            return Err(bad(MapLineFault::PathOutside(picture)));
        }
        let number = Some(u64::from(image));
        claims.push(Claim { layout: Layout::Map, item, number, name: picture });
    }
    Ok(claims)
}

/// How numbers in names become images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbering {
    /// Names hold no numbers.
    None,
    /// Images are counted from this number.
    From(u32),
    /// Names hold these seeds, in order: the first is image 0 of every item.
    Seeds(Vec<u64>),
    /// Names hold seeds that differ from item to item: in each, the smallest is image 0.
    SeedsOfItems,
}

/// Tells images counted from 0 or 1 from seeds, by the numbers that are there.
///
/// # Errors
/// Both can be meant.
pub fn numbering(claims: &[Claim], images: u32) -> Result<Numbering, ImportError> {
    let last = u64::from(images);
    let with = |wanted: u64| claims.iter().find(|claim| claim.number == Some(wanted));
    let numbers: BTreeSet<u64> = claims.iter().filter_map(|claim| claim.number).collect();
    let beyond = numbers.iter().any(|number| *number > last);
    let few = |count: usize| count as u64 <= last;
    let counted = with(0).is_some() || with(last).is_some();
    if beyond && few(numbers.len()) {
        return Ok(Numbering::Seeds(numbers.into_iter().collect()));
    }
    if beyond && !counted {
        let mut of_items: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for claim in claims {
            of_items.entry(&claim.item).or_default().extend(claim.number);
        }
        if of_items.values().all(|numbers| few(numbers.len())) {
            return Ok(Numbering::SeedsOfItems);
        }
    }
    let unclear = |reason| Err(ImportError::UnclearIndex { reason });
    match (with(0), with(last)) {
        (Some(_), None) => Ok(Numbering::From(0)),
        (None, Some(_)) => Ok(Numbering::From(1)),
        (Some(zero), Some(last)) => {
            let (zero, last) = (zero.name.clone(), last.name.clone());
            unclear(IndexDoubt::BothEnds { zero, last, images })
        }
        (None, None) if beyond => {
            unclear(IndexDoubt::TooManyNumbers { images, numbers: numbers.len() })
        }
        (None, None) => {
            let first = numbers.first().copied().unwrap_or_default();
            unclear(IndexDoubt::NeitherEnd { images, first })
        }
    }
}
