//! In: what is asked of a program, and the lines it writes. Out: the line of a request, and the replies, checked.
//! The process itself is `worker.rs`. docs/programs.md describes the lines for people.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Version of the lines: a program that speaks another one is refused.
pub(super) const PROTOCOL: u64 = 1;

/// The first line of a program, when it has loaded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Started {
    /// Version of the lines.
    protocol: u64,
    /// What it calls its model; recorded.
    pub(super) model: String,
    /// Whatever changes its images; recorded, and compared on a resume.
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
}

impl Started {
    /// Reads it.
    ///
    /// # Errors
    /// It is something else, or of another version.
    pub(super) fn read(line: &str) -> Result<Self> {
        let started: Self = serde_json::from_str(line).with_context(|| {
            format!(
                "the program's first line must be like {{\"protocol\": {PROTOCOL}, \"model\": \"NAME\", \
                 \"settings\": {{}}}}; it is {}",
                shown(line)
            )
        })?;
        ensure!(
            started.protocol == PROTOCOL,
            "the program speaks protocol {}, this is protocol {PROTOCOL}",
            started.protocol
        );
        ensure!(
            !started.model.trim().is_empty(),
            "the program's first line has an empty \"model\""
        );
        Ok(started)
    }
}

/// Which image of the run is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct ImageName<'a> {
    /// Id of its item.
    pub(super) item: &'a str,
    /// Its index within the item.
    pub(super) image: u32,
}

/// One image that is asked for: a line of JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Request<'a> {
    #[serde(flatten)]
    pub(super) of: ImageName<'a>,
    pub(super) prompt: &'a str,
    pub(super) seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) negative_prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) height: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) guidance: Option<f64>,
    /// Where the image is to be written, as PNG.
    pub(super) out: &'a Path,
}

/// What a program answers to a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// The image is made.
    Image {
        /// Where: where it was asked for.
        path: PathBuf,
    },
    /// The image could not be made.
    Error {
        /// Why, in the program's words.
        error: String,
    },
}

impl Reply {
    /// Reads a line, the reply to a request for `of`.
    ///
    /// # Errors
    /// It is no JSON object, names another image, or neither names a path nor an error.
    pub(super) fn read(line: &str, of: ImageName<'_>) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            item: Option<String>,
            image: Option<u32>,
            path: Option<PathBuf>,
            error: Option<String>,
        }
        let Line { item, image, path, error } = serde_json::from_str(line)
            .with_context(|| format!("the program's reply is no JSON object: {}", shown(line)))?;
        let (item, image) = (item.as_deref().unwrap_or(of.item), image.unwrap_or(of.image));
        ensure!(
            (ImageName { item, image }) == of,
            "the program's reply is of item {item}, image {image}, where item {}, image {} was asked for",
            of.item,
            of.image
        );
        match (path, error) {
            (None, Some(error)) => Ok(Self::Error { error }),
            (Some(path), None) => Ok(Self::Image { path }),
            _ => bail!(
                "the program's reply must have \"path\" or \"error\", and not both: {}",
                shown(line)
            ),
        }
    }
}

/// The beginning of a line.
pub(super) fn shown(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("`{}...`", &line[..end]),
        None => format!("`{line}`"),
    }
}
