//! In: the labels of an audit, and its run. Out: whether the images that they speak of are still those on the disk.

use std::collections::BTreeSet;
use std::io::{Cursor, ErrorKind};

use anyhow::{Context, ensure};
use rayon::prelude::*;

use crate::audit::{AskedQuestion, AuditSample, Labels};
use crate::results::RunDirectory;
use crate::results::image_store::{pixels_sha256, read_image};

/// An image that somebody has labelled: item, index, digest of its pixels.
type Labelled<'s> = (&'s str, u32, &'s str);

/// Makes sure that each image of which a label counts is the one that was labelled, as `judge` does before it asks. An image that is
/// not there cannot be looked at; a sentence tells how many these are.
///
/// # Errors
/// One is another image by now, or no readable one.
pub(super) fn ensure_labelled_images(
    run: &RunDirectory,
    sample: &AuditSample,
    labels: &Labels,
) -> anyhow::Result<Option<String>> {
    let asked = labels.labels.iter().map(|label| &sample.questions[label.question]);
    let images: BTreeSet<Labelled<'_>> = asked
        .map(|AskedQuestion { item, image, pixels_sha256, .. }| (&**item, *image, &**pixels_sha256))
        .collect();
    let images: Vec<Labelled<'_>> = images.into_iter().collect();
    let there = images.par_iter().map(|image| is_there(run, *image));
    let there: Vec<bool> = there.collect::<anyhow::Result<_>>()?;
    let missing = there.iter().filter(|there| !**there).count();
    Ok((missing > 0).then(|| {
        format!(
            "{missing} of the {} labelled images are not on the disk, so that it cannot be seen whether they are still those that were \
             labelled",
            images.len()
        )
    }))
}

/// Whether the image is there; then it is the one that was labelled.
fn is_there(run: &RunDirectory, (item, image, labelled): Labelled<'_>) -> anyhow::Result<bool> {
    let path = run.checked_image_path(item, image)?;
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        bytes => bytes.map_err(anyhow::Error::from),
    };
    let picture = bytes.and_then(|bytes| Ok(read_image(Cursor::new(bytes))?));
    let picture = picture.with_context(|| {
        format!("{}, a labelled image, cannot be read; restore it", path.display())
    })?;
    ensure!(
        pixels_sha256(&picture) == labelled,
        "{} is not the image that was labelled: it was changed since; restore it, or draw another audit with --name once the new image \
         is in the run and judged",
        path.display()
    );
    Ok(true)
}
