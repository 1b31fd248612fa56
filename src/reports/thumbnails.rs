//! In: the pictures of the runs. Out: small JPEGs of them and their addresses in the page: those that the run keeps, where they are
//! still those of its pictures, and else made of the PNGs. Where the files are put is left to `report_folder`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use image::RgbImage;
use rayon::prelude::*;

use crate::results::image_store::read_image;
use crate::results::kept_thumbnail::read_kept;
use crate::results::png_rows::{Buffers, png_rows};
use crate::results::thumbnail::{Shrinking, jpeg_of, shrunk};
use crate::stage_observer::StageObserver;

use super::address::address_of;

/// A picture of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picture {
    /// Place of the run in the report, from 0.
    pub run: usize,
    /// Item id.
    pub item: String,
    /// Index of the image.
    pub image: u32,
    /// The file.
    pub path: PathBuf,
    /// Where the run keeps its thumbnail, if it does.
    pub thumbnail: PathBuf,
}

/// Addresses of the thumbnails, by run, item and image.
#[derive(Debug, Default)]
pub(crate) struct Thumbnails {
    addresses: BTreeMap<(usize, String, u32), String>,
    /// Pictures that could not be read, each with the reason.
    pub unreadable: Vec<String>,
}

impl Thumbnails {
    /// The address of a thumbnail inside the page; `None` where there is no picture.
    pub(crate) fn address(&self, run: usize, item: &str, image: u32) -> Option<&str> {
        self.addresses.get(&(run, item.to_owned(), image)).map(String::as_str)
    }

    /// Makes all thumbnails: as files `images/<run>/<item>/<image>.jpg` of `folder`, or, without a
    /// folder, as data addresses.
    ///
    /// # Errors
    /// A thumbnail cannot be written. A picture that cannot be read is listed in `unreadable`.
    pub(crate) fn make(
        pictures: &[Picture],
        folder: Option<&Path>,
        observer: &dyn StageObserver,
    ) -> anyhow::Result<Self> {
        if let Some(folder) = folder {
            let mut folders: Vec<(usize, &str)> =
                pictures.iter().map(|picture| (picture.run, picture.item.as_str())).collect();
            folders.dedup();
            for (run, item) in folders {
                let path = folder.join("images").join((run + 1).to_string()).join(item);
                std::fs::create_dir_all(&path)
                    .with_context(|| format!("cannot make {}", path.display()))?;
            }
        }
        observer.started(pictures.len() as u64, 0);
        let made: Vec<anyhow::Result<Result<String, String>>> = pictures
            .par_iter()
            .map_init(Memory::default, |memory, picture| {
                let _done = Done(observer, picture);
                let kept = read_kept(&picture.thumbnail, &picture.path);
                let jpeg = match kept.map_or_else(|| thumbnail(&picture.path, memory), Ok) {
                    Ok(jpeg) => jpeg,
                    Err(error) => return Ok(Err(format!("{}: {error}", picture.path.display()))),
                };
                let Some(folder) = folder else {
                    let text = base64::engine::general_purpose::STANDARD.encode(&jpeg);
                    return Ok(Ok(format!("data:image/jpeg;base64,{text}")));
                };
                let (run, image) = (picture.run + 1, picture.image);
                let path = folder.join("images").join(run.to_string()).join(&picture.item);
                let path = path.join(format!("{image}.jpg"));
                std::fs::write(&path, &jpeg)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(Ok(format!("images/{run}/{}/{image}.jpg", address_of(&picture.item))))
            })
            .collect();
        observer.finished();
        let mut thumbnails = Self::default();
        for (picture, made) in pictures.iter().zip(made) {
            match made? {
                Ok(address) => {
                    let key = (picture.run, picture.item.clone(), picture.image);
                    thumbnails.addresses.insert(key, address);
                }
                Err(reason) => thumbnails.unreadable.push(reason),
            }
        }
        Ok(thumbnails)
    }
}

/// Says that a picture is behind us, with or without a thumbnail.
struct Done<'a>(&'a dyn StageObserver, &'a Picture);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.image_done(&self.1.item, self.1.image);
    }
}

/// What a thread uses again for its next picture.
#[derive(Default)]
struct Memory {
    file: Vec<u8>,
    rows: Buffers,
}

/// Makes the thumbnail of a file.
fn thumbnail(path: &Path, memory: &mut Memory) -> anyhow::Result<Vec<u8>> {
    memory.file.clear();
    File::open(path)?.read_to_end(&mut memory.file)?;
    let small = match shrunk_in_passing(&memory.file, &mut memory.rows) {
        Some(small) => small,
        None => shrunk(&read_image(Cursor::new(&memory.file)).map_err(anyhow::Error::msg)?),
    };
    Ok(jpeg_of(&small)?)
}

/// Shrinks a PNG as runs hold them: half of the time goes into unpacking, and thousands are read. `None`
/// of any other file.
fn shrunk_in_passing(bytes: &[u8], buffers: &mut Buffers) -> Option<RgbImage> {
    let picture = png_rows(bytes, buffers)?;
    let mut shrinking = Shrinking::new(picture.width, picture.height);
    picture.for_each(|row| shrinking.add(row))?;
    Some(shrinking.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::image_store::write_png;
    use crate::results::kept_thumbnail::{PngMark, to_keep};
    use crate::results::thumbnail::thumbnail_of;
    use crate::stage_observer::Silent;

    #[test]
    fn thumbnails_made_of_a_png_and_of_its_pixels_have_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.png");
        let mut memory = Memory::default();
        for (width, height) in [(512, 512), (600, 401), (64, 64), (1, 700), (193, 2), (1, 1)] {
            let pixels = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x ^ y) % 256) as u8])
            });
            write_png(&path, &pixels, &[("prompt", "a kite".to_owned())]).unwrap();
            let of_png = thumbnail(&path, &mut memory).unwrap();
            assert!(of_png == thumbnail_of(&pixels).unwrap(), "{width}x{height}");
        }
    }

    /// The thumbnail that the run keeps is of other pixels than the PNG, with its mark: so it is seen which of the two is shown.
    #[test]
    fn what_the_run_keeps_is_shown_as_long_as_it_is_that_of_the_png() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.png");
        let kept_at = folder.path().join("0.jpg");
        let of = |shade| RgbImage::from_pixel(300, 200, image::Rgb([shade, 9, 9]));
        let [of_png, kept, of_other] = [1, 99, 200].map(|shade| thumbnail_of(&of(shade)).unwrap());
        write_png(&path, &of(1), &[]).unwrap();
        let shown = || {
            let picture = Picture {
                run: 0,
                item: "a b".to_owned(),
                image: 0,
                path: path.clone(),
                thumbnail: kept_at.clone(),
            };
            let one = std::slice::from_ref(&picture);
            let out = folder.path().join("report");
            let made = Thumbnails::make(one, Some(&out), &Silent).unwrap();
            assert_eq!(made.address(0, "a b", 0), Some("images/1/a%20b/0.jpg"));
            let beside = std::fs::read(out.join("images/1/a b/0.jpg")).unwrap();
            let inline = Thumbnails::make(one, None, &Silent).unwrap();
            let text = base64::engine::general_purpose::STANDARD.encode(&beside);
            let address = format!("data:image/jpeg;base64,{text}");
            assert_eq!(inline.address(0, "a b", 0), Some(address.as_str()));
            beside
        };
        assert!(shown() == of_png);
        std::fs::write(&kept_at, to_keep(&kept, &PngMark::of_file(&path).unwrap())).unwrap();
        assert!(shown() == kept);
        write_png(&path, &of(200), &[]).unwrap();
        assert!(shown() == of_other);
        write_png(&path, &of(1), &[]).unwrap();
        assert!(shown() == kept);
        std::fs::write(&kept_at, "no thumbnail").unwrap();
        assert!(shown() == of_png);
    }

    #[test]
    fn a_picture_read_in_passing_is_the_same_and_others_are_left_to_the_decoder() {
        let folder = tempfile::tempdir().unwrap();
        let picture = RgbImage::from_fn(600, 401, |x, y| {
            image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x ^ y) % 256) as u8])
        });
        let (plain, grey) = (folder.path().join("a.png"), folder.path().join("b.png"));
        picture.save(&plain).unwrap();
        let mut memory = Memory::default();
        let mut in_passing =
            |path: &Path| shrunk_in_passing(&std::fs::read(path).unwrap(), &mut memory.rows);
        assert_eq!(in_passing(&plain), Some(shrunk(&picture)));
        image::DynamicImage::ImageRgb8(picture).to_luma8().save(&grey).unwrap();
        assert_eq!(in_passing(&grey), None);
        let small = image::load_from_memory(&thumbnail(&grey, &mut memory).unwrap()).unwrap();
        assert_eq!((small.width(), small.height()), (150, 100));
        std::fs::write(&grey, "no picture").unwrap();
        assert!(thumbnail(&grey, &mut memory).is_err());
    }
}
