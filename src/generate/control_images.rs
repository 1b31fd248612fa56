//! In: a folder with one control image for each item, named by the item's id. Out: the image of an item, and digests of
//! them for the records of a run. What a network makes of them is left to the pipelines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;
use rayon::prelude::*;

use crate::results::image_store::{image_header, pixels_sha256, read_upright_image};
use crate::wording::counted;

/// What a control image's file may be.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Items that a sentence names.
const NAMED: usize = 5;

/// The control images of a folder. Clones share what they have read.
#[derive(Debug, Clone)]
pub struct ControlImages {
    folder: PathBuf,
    /// Files by the name without its ending.
    files: Arc<BTreeMap<String, Vec<PathBuf>>>,
    /// Digests of the pixels that a run was noted with, by item.
    noted: Arc<Mutex<BTreeMap<String, String>>>,
}

impl PartialEq for ControlImages {
    fn eq(&self, other: &Self) -> bool {
        (&self.folder, &self.files) == (&other.folder, &other.files)
    }
}

impl ControlImages {
    /// Lists `folder`.
    ///
    /// # Errors
    /// It is no folder that can be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let listed = || -> std::io::Result<BTreeMap<String, Vec<PathBuf>>> {
            let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if let Some(stem) = stem_of_image(&path) {
                    files.entry(stem).or_default().push(path);
                }
            }
            files.values_mut().for_each(|paths| paths.sort());
            Ok(files)
        };
        let files = listed().with_context(|| {
            format!("--control-images {} is no folder that can be read", folder.display())
        })?;
        let folder = folder.to_owned();
        Ok(Self { folder, files: Arc::new(files), noted: Arc::default() })
    }

    /// Makes sure that each of `items` has one file that begins as an image does.
    ///
    /// # Errors
    /// One has none or several, or its file is no image; the sentence names the first items and the folder.
    pub fn check(&self, items: &[&str]) -> Result<()> {
        let missing: Vec<&str> =
            items.iter().copied().filter(|item| !self.files.contains_key(*item)).collect();
        ensure!(
            missing.is_empty(),
            "--control-images {} has no image for {} of {}: {}; each item needs a file {} (.jpg, .jpeg and .webp too)",
            self.folder.display(),
            missing.len(),
            counted(items.len(), "item"),
            named(&missing),
            self.folder.join(format!("{}.png", missing.first().unwrap_or(&"ITEM"))).display()
        );
        let faults: Vec<anyhow::Error> =
            items.par_iter().filter_map(|item| self.check_header(item).err()).collect();
        faults.into_iter().next().map_or(Ok(()), Err)
    }

    fn check_header(&self, item: &str) -> Result<()> {
        let path = self.path(item)?;
        let file = File::open(path)
            .with_context(|| format!("control image {} cannot be read", path.display()))?;
        ensure!(
            image_header(BufReader::new(file)).is_some(),
            "control image {} is no PNG, JPEG or WebP that can be read",
            path.display()
        );
        Ok(())
    }

    /// Digests of the pixels of the images of `items`, which are held against what [`Self::read`] gives later.
    ///
    /// # Errors
    /// One is missing or cannot be read.
    pub fn note(&self, items: &[&str]) -> Result<BTreeMap<String, String>> {
        let digest = |item: &&str| -> Result<(String, String)> {
            Ok(((*item).to_owned(), pixels_sha256(&self.decoded(item)?)))
        };
        let digests = items.par_iter().map(digest).collect::<Result<BTreeMap<_, _>>>()?;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend(digests.clone());
        Ok(digests)
    }

    /// The control image of `item`, as diffusers' `load_image` reads it: turned as its EXIF data says, RGB.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is not the one that was noted.
    pub fn read(&self, item: &str) -> Result<RgbImage> {
        let image = self.decoded(item)?;
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            noted.get(item).is_none_or(|noted| *noted == pixels_sha256(&image)),
            "control image {} was changed since the run began; put it back, and give the command again",
            self.path(item)?.display()
        );
        Ok(image)
    }

    /// The file of `item`.
    pub fn path(&self, item: &str) -> Result<&Path> {
        match self.files.get(item).map_or(&[][..], Vec::as_slice) {
            [one] => Ok(one),
            [] => {
                Err(anyhow!("--control-images {} has no image for {item}", self.folder.display()))
            }
            [one, other, ..] => bail!(
                "item {item} has two control images, {} and {}; keep one of them",
                one.display(),
                other.display()
            ),
        }
    }

    fn decoded(&self, item: &str) -> Result<RgbImage> {
        let path = self.path(item)?;
        let named = || format!("control image {} cannot be read", path.display());
        let file = File::open(path).with_context(named)?;
        read_upright_image(BufReader::new(file)).with_context(named)
    }

    /// Refuses a run that has images of another control image: `made` are pairs of an item and the digest that its record has.
    ///
    /// # Errors
    /// In a sentence that names the first items and their files.
    pub(crate) fn refuse_others<'m>(
        &self,
        digests: &BTreeMap<String, String>,
        made: impl Iterator<Item = (&'m str, Option<&'m str>)>,
    ) -> Result<()> {
        let is_other = |(item, digest): &(&str, Option<&str>)| {
            digests.get(*item).is_some_and(|now| Some(now.as_str()) != *digest)
        };
        let others: BTreeSet<&str> = made.filter(is_other).map(|(item, _)| item).collect();
        let others: Vec<&str> = others.into_iter().collect();
        ensure!(
            others.is_empty(),
            "the run has images that were made with another control image than {} now has, of {}: {}; put the former \
             files back, or give another --out",
            self.folder.display(),
            counted(others.len(), "item"),
            named(&others)
        );
        Ok(())
    }
}

/// The first of `items`.
fn named(items: &[&str]) -> String {
    let mut text = items.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if items.len() > NAMED {
        text += " ...";
    }
    text
}

/// A file's name without its ending, where that is an image's.
fn stem_of_image(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (stem, ending) = name.rsplit_once('.')?;
    let is_image = ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    (is_image && !stem.is_empty() && !path.is_dir()).then(|| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(folder: &Path, name: &str, shade: u8) {
        RgbImage::from_pixel(3, 2, image::Rgb([shade, 1, 2])).save(folder.join(name)).unwrap();
    }

    #[test]
    fn each_item_has_one_image() {
        let folder = tempfile::tempdir().unwrap();
        for (name, shade) in [("a.png", 1), ("b.PNG", 2), ("c.d.png", 3)] {
            save(folder.path(), name, shade);
        }
        std::fs::write(folder.path().join("notes.txt"), "a").unwrap();
        std::fs::create_dir(folder.path().join("x.png")).unwrap();
        let open = || ControlImages::open(folder.path()).unwrap();
        let images = open();
        images.check(&["a", "b", "c.d"]).unwrap();
        assert_eq!(images.read("b").unwrap().get_pixel(0, 0).0, [2, 1, 2]);
        let refused =
            |images: &ControlImages, items: &[&str]| images.check(items).unwrap_err().to_string();
        let many = ["a", "e", "f", "g", "h", "i", "j", "x"];
        let message = refused(&images, &many);
        assert!(message.contains("7 of 8 items: e, f, g, h, i ...; each"), "{message}");
        assert!(message.contains("e.png ("), "{message}");
        // Two files of one item.
        save(folder.path(), "a.webp.png", 1);
        std::fs::rename(folder.path().join("a.webp.png"), folder.path().join("a.webp")).unwrap();
        let message = refused(&open(), &["b", "a"]);
        assert!(message.contains("a.png and") && message.contains("a.webp;"), "{message}");
        std::fs::remove_file(folder.path().join("a.webp")).unwrap();
        // No image.
        std::fs::write(folder.path().join("c.d.png"), "none").unwrap();
        assert!(refused(&open(), &["c.d"]).contains("c.d.png is no PNG"));
        let message = ControlImages::open(&folder.path().join("nowhere")).unwrap_err().to_string();
        assert!(message.contains("--control-images") && message.contains("nowhere"), "{message}");
    }

    #[test]
    fn an_image_that_changes_after_it_was_noted_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "a.png", 1);
        let images = ControlImages::open(folder.path()).unwrap();
        let digests = images.note(&["a"]).unwrap();
        assert_eq!(digests["a"], pixels_sha256(&images.read("a").unwrap()));
        // Another file of the same pixels is the same image.
        save(folder.path(), "a.png", 1);
        images.clone().read("a").unwrap();
        save(folder.path(), "a.png", 2);
        assert!(images.clone().read("a").unwrap_err().to_string().contains("was changed"));
        let made = |digest: Option<&'static str>| [("a", digest), ("other", None)].into_iter();
        let own = [("a", Some(digests["a"].as_str()))];
        images.refuse_others(&digests, own.into_iter()).unwrap();
        for other in [Some("0"), None] {
            let message = images.refuse_others(&digests, made(other)).unwrap_err().to_string();
            assert!(message.contains("of 1 item: a;"), "{message}");
        }
    }
}
