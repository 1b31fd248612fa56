//! In: the sample of an audit, and the run with its images. Out: one HTML page that needs no other file and no network, on which
//! people label the questions. Nothing in it tells what the judge said. Every text is put in by the page's script, as text; a
//! content security policy lets that script and the style sheet run, by their digests, and nothing else.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;

use anyhow::{Context, ensure};
use base64::Engine;
use image::RgbImage;
use image::imageops::{FilterType, resize};
use rayon::prelude::*;
use serde::Serialize;

use super::escape::json_in_script;
use super::page_template::{filled, source_digest};
use crate::audit::folder::LONGEST_NAME;
use crate::audit::{AskedQuestion, AuditSample};
use crate::results::image_store::{pixels_sha256, read_image};
use crate::results::thumbnail::close_jpeg_of;
use crate::results::{FORMAT_VERSION, FormatVersion, RunDirectory};

const TEMPLATE: &str = include_str!("audit_page/page.html");
const STYLE: &str = include_str!("audit_page/page.css");
/// labels.js keeps and reads labels, view.js shows questions and takes answers.
const SCRIPT: &str =
    concat!(include_str!("audit_page/labels.js"), include_str!("audit_page/view.js"));
/// Longest side of an image in the page, in pixels: larger ones are made smaller.
const LONGEST_SIDE: u32 = 1024;

/// Where a page is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedFrom {
    /// As a file: it may connect to nothing.
    File,
    /// By the server, to which it sends each label.
    Server,
}

/// What the page's script reads.
#[derive(Serialize)]
struct PageData<'s> {
    format_version: FormatVersion,
    sample: &'s str,
    served: bool,
    longest_name: usize,
    images: &'s [PageImage<'s>],
    /// Place of the image, number and text.
    questions: Vec<(usize, u32, &'s str)>,
}

/// An image of the page.
#[derive(Serialize)]
struct PageImage<'s> {
    item: &'s str,
    image: u32,
    pixels_sha256: &'s str,
    width: u32,
    height: u32,
    /// Base 64.
    jpeg: String,
}

/// The images of a sample, read from its run: for the page in either form.
pub struct AuditPage<'s> {
    sample: &'s AuditSample,
    images: Vec<PageImage<'s>>,
}

impl<'s> AuditPage<'s> {
    /// Reads the images.
    ///
    /// # Errors
    /// One is not there, cannot be read, or is not the one that was drawn.
    pub fn of(run: &RunDirectory, sample: &'s AuditSample) -> anyhow::Result<Self> {
        let mut shown: Vec<&AskedQuestion> = Vec::new();
        for asked in &sample.questions {
            // The questions about one image stand together.
            if shown.last().is_none_or(|last| image_of(last) != image_of(asked)) {
                shown.push(asked);
            }
        }
        let images = shown.into_par_iter().map(|asked| page_image(run, asked));
        Ok(Self { sample, images: images.collect::<anyhow::Result<_>>()? })
    }

    /// The page.
    ///
    /// # Errors
    /// None that a sample can bring about.
    pub fn html(&self, opened: OpenedFrom) -> anyhow::Result<String> {
        let places: HashMap<(&str, u32), usize> = self
            .images
            .iter()
            .enumerate()
            .map(|(at, shown)| ((shown.item, shown.image), at))
            .collect();
        let questions = self.sample.questions.iter().filter_map(|asked| {
            Some((*places.get(&image_of(asked))?, asked.question, asked.text.as_str()))
        });
        let data = PageData {
            format_version: FORMAT_VERSION,
            sample: &self.sample.sha256,
            served: opened == OpenedFrom::Server,
            longest_name: LONGEST_NAME,
            images: &self.images,
            questions: questions.collect(),
        };
        let data = json_in_script(&serde_json::to_string(&data)?);
        let connects = match opened {
            OpenedFrom::File => "'none'",
            OpenedFrom::Server => "'self'",
        };
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src {connects}; base-uri 'none'; \
             form-action 'none'",
            source_digest(SCRIPT),
            source_digest(STYLE)
        );
        Ok(filled(TEMPLATE, |name| match name {
            "policy" => policy.clone(),
            "style" => STYLE.to_owned(),
            "data" => data.clone(),
            "script" => SCRIPT.to_owned(),
            _ => String::new(),
        }))
    }
}

fn image_of(asked: &AskedQuestion) -> (&str, u32) {
    (&asked.item, asked.image)
}

fn page_image<'s>(run: &RunDirectory, asked: &'s AskedQuestion) -> anyhow::Result<PageImage<'s>> {
    let AskedQuestion { item, image, pixels_sha256: drawn, .. } = asked;
    let path = run.checked_image_path(item, *image)?;
    let file = File::open(&path)
        .with_context(|| format!("{}, an image of the audit, cannot be read", path.display()))?;
    let picture = read_image(BufReader::new(file))
        .with_context(|| format!("{}, an image of the audit", path.display()))?;
    ensure!(
        pixels_sha256(&picture) == *drawn,
        "{} is not the image that was drawn: the run's images were made again; draw another audit with --name",
        path.display()
    );
    let shown = no_larger(picture);
    let jpeg = close_jpeg_of(&shown)
        .with_context(|| format!("{} cannot be put into the page", path.display()))?;
    Ok(PageImage {
        item,
        image: *image,
        pixels_sha256: drawn,
        width: shown.width(),
        height: shown.height(),
        jpeg: base64::engine::general_purpose::STANDARD.encode(jpeg),
    })
}

/// The image, or a smaller one whose longest side is [`LONGEST_SIDE`].
fn no_larger(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= LONGEST_SIDE {
        return picture;
    }
    let side = |pixels: u32| {
        let scaled = u64::from(pixels) * u64::from(LONGEST_SIDE) / u64::from(longest);
        u32::try_from(scaled).unwrap_or(LONGEST_SIDE).max(1)
    };
    resize(&picture, side(width), side(height), FilterType::Lanczos3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_no_handlers_and_the_script_no_markup() {
        let is_handler = |word: &&str| word.starts_with("on") && word.contains('=');
        assert_eq!(TEMPLATE.split_whitespace().find(is_handler), None);
        assert!(!TEMPLATE.contains("style=") && !TEMPLATE.contains("src="));
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "</script"]
        {
            assert!(!SCRIPT.contains(word), "{word}");
        }
    }

    #[test]
    fn large_images_are_made_smaller_and_keep_their_shape() {
        let size = |width, height| no_larger(RgbImage::new(width, height)).dimensions();
        assert_eq!(size(1024, 3), (1024, 3));
        assert_eq!(size(2048, 1024), (1024, 512));
        assert_eq!(size(1, 4096), (1, 1024));
    }
}
