//! In: what Python's caller gives as images: a function of prompt and seed, or pairs of item and images. Out: a generator and an
//! iterator for the library, which have Python asked on the caller's thread.

use anyhow::anyhow;
use dpg_bench::{GeneratedImage, Hopeless, ImageGenerator, ItemImages, RgbImage, Settings};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyMapping};

use crate::pixels::{image_of, images_of};
use crate::work::{Desk, Stopped};

/// Where the images come from.
pub(crate) enum Source {
    /// A function that makes an image.
    Function(Py<PyAny>),
    /// The first pair, and the others.
    Pairs(ItemImages, Py<PyIterator>),
}

impl Source {
    /// Looks what was given; of pairs the first is taken.
    pub(crate) fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut pairs = match given.cast::<PyMapping>() {
            Ok(mapping) => mapping.items()?.try_iter()?,
            Err(_) if given.is_callable() => return Ok(Self::Function(given.clone().unbind())),
            Err(_) => given.try_iter().map_err(|_| {
                PyTypeError::new_err(
                    "images are a dict or an iterable of (item id, images), or a function of prompt and seed",
                )
            })?,
        };
        let first = pairs.next().ok_or_else(|| PyValueError::new_err("there are no images"))?;
        Ok(Self::Pairs(pair_of(&first?)?, pairs.unbind()))
    }
}

fn pair_of(pair: &Bound<'_, PyAny>) -> PyResult<ItemImages> {
    let (item, images): (String, Bound<'_, PyAny>) =
        pair.extract().map_err(|_| PyTypeError::new_err("each pair is (item id, images)"))?;
    let images = images_of(&images, &item)?;
    Ok(ItemImages { item, images })
}

/// The pairs, of which the first is known.
pub(crate) fn pairs(
    desk: Desk,
    first: ItemImages,
    others: Py<PyIterator>,
) -> impl Iterator<Item = anyhow::Result<ItemImages>> {
    let next = move || {
        let others = &others;
        let asked = desk.ask({
            let others = Python::attach(|py| others.clone_ref(py));
            move |py| {
                let mut others = others.bind(py).clone();
                others.next().map(|pair| pair_of(&pair?)).transpose()
            }
        });
        asked.map_err(|Stopped| anyhow!("the images ended with an exception")).transpose()
    };
    std::iter::once(Ok(first)).chain(std::iter::from_fn(next))
}

/// A Python function that makes images.
pub(crate) struct PythonModel {
    pub(crate) desk: Desk,
    pub(crate) function: Py<PyAny>,
    /// What tables call it.
    pub(crate) name: Option<String>,
}

impl PythonModel {
    fn image(&self, prompt: &str, seed: u64) -> anyhow::Result<RgbImage> {
        let prompt = prompt.to_owned();
        let function = Python::attach(|py| self.function.clone_ref(py));
        let asked = self.desk.ask(move |py| {
            let made = function.bind(py).call1((prompt, seed))?;
            image_of(&made, "what the function returned")
        });
        // A fault of the function, or Ctrl-C: its next image would be none either.
        let stops = |Stopped| Hopeless("the function ended with an exception".to_owned());
        Ok(asked.map_err(stops)?)
    }
}

impl ImageGenerator for PythonModel {
    fn settings(&self) -> Settings {
        let mut settings = Settings::new();
        settings.insert("model".to_owned(), "python".into());
        if let Some(name) = &self.name {
            settings.insert("name".to_owned(), name.clone().into());
        }
        settings
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
        let image = |&seed: &u64| {
            let pixels = self.image(prompt, seed)?;
            Ok(GeneratedImage { pixels, seed, prompt_tokens: None, truncated: None, served: None })
        };
        seeds.iter().map(image).collect()
    }
}
