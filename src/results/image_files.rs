//! In: the images of a run. Out: their PNGs and thumbnails in its directory, out of which no link leads. How they are encoded is left
//! to others.
//!
//! The thumbnail comes first: where a PNG stands, it had its thumbnail, whatever was killed in between. Both are replaced and
//! never written in place, so further names of a file elsewhere keep its bytes.

use std::io;
use std::path::{Path, PathBuf};

use image::RgbImage;

use super::atomic_write::{atomic_write, name_path, write_unsynced};
use super::image_store::{MAX_IMAGE_SIDE, encode_png};
use super::inside::inside;
use super::kept_thumbnail::{PngMark, read_kept, to_keep};
use super::png_data::{PngData, encode_png_data};
use super::run_directory::RunDirectory;
use super::thumbnail::thumbnail_of;

impl RunDirectory {
    /// Where the picture of an image is: `images/<item>/<k>.png`. The item id must be one that the
    /// benchmark loader let through.
    pub fn image_path(&self, item: &str, image: u32) -> PathBuf {
        self.path().join("images").join(item).join(format!("{image}.png"))
    }

    /// Where its thumbnail is, if it has one: `thumbnails/<item>/<k>.jpg`.
    pub fn thumbnail_path(&self, item: &str, image: u32) -> PathBuf {
        self.path().join("thumbnails").join(item).join(format!("{image}.jpg"))
    }

    /// Keeps the picture of an image, with texts about it, and its thumbnail. The same input gives the same bytes.
    ///
    /// # Errors
    /// A symbolic link stands on the way, or the disk said no; a keyword outside PNG's rules (1 to 79 Latin-1 characters).
    pub fn write_image(
        &self,
        item: &str,
        image: u32,
        pixels: &RgbImage,
        texts: &[(&str, String)],
    ) -> io::Result<()> {
        self.put(item, image, pixels, encode_png(pixels, texts))
    }

    /// As [`RunDirectory::write_image`], with compressed data of the same pixels that came from elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn write_image_data(
        &self,
        item: &str,
        image: u32,
        pixels: &RgbImage,
        data: &PngData,
        texts: &[(&str, String)],
    ) -> io::Result<()> {
        self.put(item, image, pixels, encode_png_data(data, texts))
    }

    fn put(
        &self,
        item: &str,
        image: u32,
        pixels: &RgbImage,
        png: io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let path = self.checked_image_path(item, image)?;
        let png = png.map_err(|error| name_path(error, "encode", &path))?;
        if let Some(mark) = PngMark::of(&png) {
            self.put_thumbnail(item, image, pixels, &mark)?;
        }
        atomic_write(&path, &png)
    }

    /// Makes the thumbnail of an image that is here, unless it is there already. So a run that lost it, or was made before
    /// there were any, ends in the same files as another.
    ///
    /// # Errors
    /// As [`RunDirectory::write_image`].
    pub(crate) fn see_to_thumbnail(
        &self,
        item: &str,
        image: u32,
        pixels: &RgbImage,
    ) -> io::Result<()> {
        let png = self.image_path(item, image);
        if read_kept(&self.thumbnail_path(item, image), &png).is_some() {
            return Ok(());
        }
        match PngMark::of_file(&png) {
            Some(mark) => self.put_thumbnail(item, image, pixels, &mark),
            None => Ok(()),
        }
    }

    /// Not synced: what a power cut leaves of it tells that it is not whole.
    fn put_thumbnail(
        &self,
        item: &str,
        image: u32,
        pixels: &RgbImage,
        mark: &PngMark,
    ) -> io::Result<()> {
        // A larger image is written, but nothing here reads it.
        if pixels.width().max(pixels.height()) > MAX_IMAGE_SIDE {
            return Ok(());
        }
        let path = self.checked_thumbnail_path(item, image)?;
        let jpeg = thumbnail_of(pixels).map_err(|error| name_path(error, "encode", &path))?;
        write_unsynced(&path, &to_keep(&jpeg, mark))
    }

    /// Takes over the picture of an image from another run, and its thumbnail where it has one. Returns the picture's path.
    ///
    /// # Errors
    /// A symbolic link stands on the way, or the disk said no.
    pub(super) fn take_image(&self, from: &Self, item: &str, image: u32) -> io::Result<PathBuf> {
        let to = self.checked_image_path(item, image)?;
        let (png, thumbnail) = (from.image_path(item, image), from.thumbnail_path(item, image));
        // Looked at before, so that nothing else is taken over in its place.
        if read_kept(&thumbnail, &png).is_some() {
            link_or_copy(&thumbnail, &self.checked_thumbnail_path(item, image)?)?;
        }
        link_or_copy(&png, &to)?;
        Ok(to)
    }

    /// Where the picture of an image stands or is put, which no link on the way leads out of the run.
    ///
    /// # Errors
    /// A symbolic link stands on the way.
    pub(crate) fn checked_image_path(&self, item: &str, image: u32) -> io::Result<PathBuf> {
        inside(self.path(), &["images", item, &format!("{image}.png")])
    }

    fn checked_thumbnail_path(&self, item: &str, image: u32) -> io::Result<PathBuf> {
        inside(self.path(), &["thumbnails", item, &format!("{image}.jpg")])
    }
}

/// Puts the same file at `to`, all or nothing: as a further name of it where the file system can, which
/// takes no room.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    let named = |error| name_path(error, "write", to);
    let (Some(folder), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(named(io::ErrorKind::InvalidInput.into()));
    };
    std::fs::create_dir_all(folder).map_err(named)?;
    let mut hidden = std::ffi::OsString::from(".writing-");
    hidden.push(name);
    let temporary = folder.join(hidden);
    if let Err(error) = std::fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(named(error));
    }
    // A link that a stranger's part holds in the place of a picture is not taken over as one.
    if !from.is_symlink() && std::fs::hard_link(from, &temporary).is_ok() {
        std::fs::rename(&temporary, to).map_err(named)?;
        // Where both are names of one file already, renaming leaves both.
        let _ = std::fs::remove_file(&temporary);
        return Ok(());
    }
    let bytes = std::fs::read(from).map_err(|error| name_path(error, "read", from))?;
    atomic_write(to, &bytes)
}
