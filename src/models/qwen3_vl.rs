//! In: a picture's patches and texts about it, as tokens. Out: the logits of the tokens that follow.
//! Qwen3-VL (2B, 4B, 8B and other dense sizes), from a checkpoint folder as published. Pictures are cut
//! into patches and texts into tokens elsewhere; what is said is chosen elsewhere.
//!
//! A picture is seen once and the beginning of a conversation about it is read once; any number of
//! questions then go on from there, all in one pass, each seeing the beginning's keys and values and
//! its own.
//!
//! Follows `Qwen3VLForConditionalGeneration` of transformers 5; `tests.rs` holds it to that, picture by
//! picture and token by token (relative error 1e-6). candle-transformers 0.11 has a model of this name
//! too, which cannot stand in: on the same checkpoint its last logits are off by 0.3 to 0.4. It places
//! every token at a position of its own, while a picture's tokens share one time and stand in rows and
//! columns; its mask lets each token of a prompt see the later ones; the mergers take the tanh form of
//! GELU where the exact one is meant. An untied head must have a bias, which no checkpoint has; its
//! cache belongs to the layers, so that no beginning can be shared, and is allocated for the longest
//! context at once; and it gives the logits of the last token alone.
//!
//! On the processor all states are f32. Weights may be bf16 there, as published; they take half the
//! memory and give the numbers of f32 weights, see `compute::cpu::half_linear`.

mod config;
pub mod grid;
mod language;
mod positions;
#[cfg(test)]
mod tests;
mod vision;

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use self::config::Sizes;
use self::grid::{Grid, ImageStates};
use self::language::{Added, KvCache, Language, Text};
use self::positions::PositionIds;
use self::vision::Vision;
use crate::checkpoint::config::Config;
use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weight_files::find_files;
use crate::checkpoint::weights::Weights;
use crate::compute::layers::LoadResult;

/// How a picture is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchLayout {
    /// Pixels along a patch's side.
    pub patch: usize,
    /// Patches along the side of the square that becomes one token.
    pub merge: usize,
    /// How often a patch holds its pixels, as frames of a still video.
    pub frames: usize,
    /// Colours.
    pub channels: usize,
}

/// What a checkpoint's `config.json` tells those who prepare its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outline {
    /// How pictures are to be cut.
    pub layout: PatchLayout,
    /// The token that stands for a picture's tokens in a text.
    pub image_token: u32,
    /// How many tokens there are logits of.
    pub vocabulary: usize,
}

impl Outline {
    /// Reads the `config.json` of `folder`, and sees that the weights are there; does not read these.
    ///
    /// # Errors
    /// A file is missing or broken, or the configuration asks for arithmetic that is not here.
    pub(crate) fn read(folder: &Path, dtype: DType) -> LoadResult<Self> {
        let sizes = Sizes::from_config(&Config::read(folder)?)?;
        find_files(folder, "model", dtype)?.iter().try_for_each(|file| match file.metadata() {
            Ok(_) => Ok(()),
            Err(source) => Err(ModelError::unreadable(file, source)),
        })?;
        Ok(Self::of(&sizes))
    }

    fn of(sizes: &Sizes) -> Self {
        let layout = PatchLayout {
            patch: sizes.vision.patch,
            merge: sizes.vision.merge,
            frames: sizes.vision.frames,
            channels: sizes.vision.channels,
        };
        let vocabulary = sizes.language.vocabulary;
        Self { layout, image_token: sizes.image_token, vocabulary }
    }
}

/// Qwen3-VL.
#[derive(Debug)]
pub struct Qwen3Vl {
    vision: Vision,
    language: Language,
    outline: Outline,
    sha256: String,
}

/// A conversation up to where the questions part.
#[derive(Debug)]
pub struct Beginning {
    memory: KvCache,
    next: u32,
}

impl Qwen3Vl {
    /// Loads `config.json` and `model.safetensors` (or shards with their index) of `folder`. On a GPU all
    /// arithmetic is in `dtype`; on the processor only the weights are, and it is in f32.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration
    /// implies, or the configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let sizes = Sizes::from_config(&Config::read(folder)?)?;
        let weights = Weights::open(folder, "model", dtype, device)?;
        let dtype = if device.is_cpu() { DType::F32 } else { dtype };
        let outline = Outline::of(&sizes);
        let visual = weights.root().at("model.visual");
        Ok(Self {
            vision: Vision::load(&visual, sizes.vision, sizes.language.layer.width, dtype)?,
            language: Language::load(&weights.root(), sizes.language, dtype)?,
            outline,
            sha256: weights.sha256().to_owned(),
        })
    }

    /// What its configuration tells those who prepare its input.
    pub(crate) fn outline(&self) -> Outline {
        self.outline
    }

    /// Digest of the weight files, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Sees a picture: `patches` [rows * columns, channels * frames * patch * patch], normalised, square by
    /// square of those that become one token.
    ///
    /// # Errors
    /// The grid is no grid of whole squares, or the patches are not one for each of its places.
    pub(crate) fn encode_image(&self, patches: &Tensor, grid: Grid) -> Result<ImageStates> {
        self.vision.forward(patches, grid)
    }

    /// Reads the tokens `before` the picture, the picture, and those `after` it that all questions share.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn begin(&self, before: &[u32], image: &ImageStates, after: &[u32]) -> Result<Beginning> {
        self.read_beginning(before, image, after).map(|(beginning, _)| beginning)
    }

    /// [`Qwen3Vl::begin`], with the states behind the last layer.
    fn read_beginning(
        &self,
        before: &[u32],
        image: &ImageStates,
        after: &[u32],
    ) -> Result<(Beginning, Tensor)> {
        let mut places = PositionIds::default();
        places.text(before.len());
        places.picture(image.rows, image.columns);
        places.text(after.len());
        let mut parts = vec![image.tokens.clone()];
        if !before.is_empty() {
            parts.insert(0, self.language.embed(before)?);
        }
        if !after.is_empty() {
            parts.push(self.language.embed(after)?);
        }
        let mut memory = KvCache::default();
        let text = Text { rows: 0..places.tokens.len(), beginning: None, memory: &mut memory };
        let added = Added { first: before.len(), layers: &image.deepstack };
        let states = self.language.forward(
            Tensor::cat(&parts, 0)?,
            &places.tokens,
            &mut [text],
            Some(added),
        )?;
        Ok((Beginning { memory, next: places.next }, states))
    }

    /// Reads the rest of several texts with one beginning, and gives what goes on from there, with the
    /// logits [texts, vocabulary], f32, of the token that follows each.
    ///
    /// # Errors
    /// A text without a token, or an id outside the vocabulary.
    pub fn read<'a>(
        &'a self,
        beginning: &'a Beginning,
        texts: &[Vec<u32>],
    ) -> Result<(Replies<'a>, Tensor)> {
        let (replies, states) = self.read_texts(beginning, texts)?;
        let mut last = 0;
        let numbers: Vec<u32> = texts
            .iter()
            .map(|text| {
                last += text.len() as u32;
                last - 1
            })
            .collect();
        let numbers = Tensor::new(numbers, states.device())?;
        let logits = self.language.logits(&states.index_select(&numbers, 0)?)?;
        Ok((replies, logits))
    }

    /// [`Qwen3Vl::read`], with the states of every token instead of the logits.
    fn read_texts<'a>(
        &'a self,
        beginning: &'a Beginning,
        texts: &[Vec<u32>],
    ) -> Result<(Replies<'a>, Tensor)> {
        if texts.is_empty() || texts.iter().any(Vec::is_empty) {
            candle_core::bail!("there is no text to read, or one without a token")
        }
        let one = || One { memory: KvCache::default(), next: beginning.next };
        let mut replies =
            Replies { model: self, beginning, texts: texts.iter().map(|_| one()).collect() };
        let tokens: Vec<(usize, &[u32])> = texts.iter().map(Vec::as_slice).enumerate().collect();
        let states = replies.read(&tokens)?;
        Ok((replies, states))
    }
}

/// Texts after one beginning, to be continued token by token.
#[derive(Debug)]
pub struct Replies<'a> {
    model: &'a Qwen3Vl,
    beginning: &'a Beginning,
    texts: Vec<One>,
}

/// A text of its own.
#[derive(Debug)]
struct One {
    memory: KvCache,
    /// Where its next token stands.
    next: u32,
}

impl Replies<'_> {
    /// Goes on in some of the texts, each (its number, its next token), numbers rising: the logits
    /// [texts that went on, vocabulary], f32, of the token after that.
    ///
    /// # Errors
    /// No text, a number that is not there or out of order, or an id outside the vocabulary.
    pub(crate) fn go_on(&mut self, tokens: &[(usize, u32)]) -> Result<Tensor> {
        let slices: Vec<(usize, &[u32])> =
            tokens.iter().map(|(text, token)| (*text, std::slice::from_ref(token))).collect();
        let states = self.read(&slices)?;
        self.model.language.logits(&states)
    }

    /// States of further tokens of some texts, one after the other.
    fn read(&mut self, tokens: &[(usize, &[u32])]) -> Result<Tensor> {
        let rising = tokens.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !rising || tokens.last().is_none_or(|(text, _)| *text >= self.texts.len()) {
            let numbers: Vec<usize> = tokens.iter().map(|(text, _)| *text).collect();
            candle_core::bail!("texts {numbers:?} of {} cannot go on", self.texts.len())
        }
        let language = &self.model.language;
        let ids: Vec<u32> = tokens.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let (mut places, mut texts) = (Vec::with_capacity(ids.len()), Vec::new());
        let mut waiting = tokens.iter().peekable();
        for (number, one) in self.texts.iter_mut().enumerate() {
            let Some((_, ids)) = waiting.next_if(|(text, _)| *text == number) else { continue };
            let mut own = PositionIds::after(one.next);
            own.text(ids.len());
            let first = places.len();
            places.extend(own.tokens);
            one.next = own.next;
            texts.push(Text {
                rows: first..places.len(),
                beginning: Some(&self.beginning.memory),
                memory: &mut one.memory,
            });
        }
        language.forward(language.embed(&ids)?, &places, &mut texts, None)
    }
}
