//! In: what was measured. Out: a JSON file, and that file read again.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::parity::Parity;
use super::speed::{JudgeSpeed, PictureSpeed, ProductSpeed};
use crate::compute::products::Products;

/// Version of the file's format; a reader refuses another major. 1.1 has `published` of images and `blocks` of parity.
const FORMAT_VERSION: &str = "1.1";

/// Everything that was measured on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurements {
    /// Version of this file's format.
    pub format_version: String,
    /// The program's version.
    pub version: String,
    /// The commit that it was built from.
    pub git_commit: Option<String>,
    /// Features of the build, as `cuda`.
    pub features: Vec<String>,
    /// The device, as `cuda:0, NVIDIA H100 80GB HBM3`.
    pub device: String,
    /// Whether the networks had their published size; of tiny ones no time means anything.
    pub full_size: bool,
    /// Differences from the processor in f32.
    #[serde(default)]
    pub parity: Vec<Parity>,
    /// The device's speed in large products.
    #[serde(default)]
    pub products: Vec<ProductSpeed>,
    /// Times of pictures.
    #[serde(default)]
    pub pictures: Vec<PictureSpeed>,
    /// Times of answers.
    #[serde(default)]
    pub judges: Vec<JudgeSpeed>,
}

/// The features that this program was built with.
pub(crate) fn features() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("flash-attn", cfg!(feature = "flash-attn")),
    ];
    all.into_iter().filter_map(|(name, is_on)| is_on.then_some(name)).collect()
}

impl Measurements {
    /// Nothing yet, of this program on `device`.
    pub(crate) fn new(device: String, full_size: bool) -> Self {
        Self {
            format_version: FORMAT_VERSION.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: option_env!("DPG_BENCH_GIT_COMMIT").map(str::to_owned),
            features: features().into_iter().map(str::to_owned).collect(),
            device,
            full_size,
            parity: Vec::new(),
            products: Vec::new(),
            pictures: Vec::new(),
            judges: Vec::new(),
        }
    }

    /// Reads a file that was made of this.
    ///
    /// # Errors
    /// It cannot be read, or has another format.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read(path).with_context(|| format!("{shown}: cannot be read"))?;
        let found: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{shown}: is no file that `dpg-bench measure --out` made"))?;
        let major = |version: &str| version.split('.').next().map(str::to_owned);
        ensure!(
            major(&found.format_version) == major(FORMAT_VERSION),
            "{shown}: has format version {}, this program reads {FORMAT_VERSION}; measure again",
            found.format_version
        );
        Ok(found)
    }

    /// The times of `model`'s pictures with these products at the largest batch that was measured.
    pub(crate) fn picture(&self, model: &str, products: Products) -> Option<&PictureSpeed> {
        let is_meant =
            |speed: &&PictureSpeed| speed.model == model && speed.rounding.is_asked(products);
        self.pictures.iter().filter(is_meant).max_by_key(|speed| speed.batch)
    }

    /// The times of the answers of `judge` with these products and most pictures at a time.
    pub(crate) fn judge(&self, judge: &str, products: Products) -> Option<&JudgeSpeed> {
        let is_meant =
            |speed: &&JudgeSpeed| speed.judge == judge && speed.rounding.is_asked(products);
        self.judges.iter().filter(is_meant).max_by_key(|speed| speed.pictures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("measured.json");
        let mut record = Measurements::new("cpu".to_owned(), false);
        std::fs::write(&path, serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(Measurements::read(&path).unwrap(), record);
        record.format_version = "2.0".to_owned();
        std::fs::write(&path, serde_json::to_string(&record).unwrap()).unwrap();
        let message = format!("{:#}", Measurements::read(&path).unwrap_err());
        assert!(message.contains("2.0") && message.contains("measured.json"), "{message}");
        // What 1.0 lacks is absent.
        let old = r#"{"format_version": "1.0", "version": "0.1.0", "git_commit": null, "features": [],
            "device": "cpu", "full_size": true, "parity": [{"network": "clip", "device": "cpu",
            "dtype": "f16", "largest": 0.1, "relative": 0.01, "scale": 3.0, "not_numbers": 0,
            "seconds": 1.5}], "pictures": [{"model": "sd15", "dtype": "f32", "batch": 1, "steps": 50,
            "side": 512, "text": 0.1, "seconds": 60.0, "per_picture": 60.0, "decode": 2.0,
            "tera": null}]}"#;
        std::fs::write(&path, old).unwrap();
        let old = Measurements::read(&path).unwrap();
        assert_eq!(old.parity[0].blocks, None);
        let speed = old.picture("sd15", Products::F32).unwrap();
        assert_eq!((speed.per_picture, &speed.published), (60.0, &None));
        std::fs::write(&path, "{}").unwrap();
        assert!(format!("{:#}", Measurements::read(&path).unwrap_err()).contains("measure --out"));
    }
}
