//! In: token ids. Out: the hidden states of a decoder-only language model, read as a text encoder: LLaMA (TinyLlama,
//! LLaMA 2 and 3), Qwen3 and Gemma 3. Follows `AutoModel` of transformers 5; dimensions come from `config.json`.
//! Tokenizing is left to the caller.
//!
//! Rows of several texts stand one after the other in one matrix; attention takes them apart. On the processor all
//! states are f32, and weights may be bf16, as published.

mod config;
mod rope;

use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Device, Module, Result, Tensor};

use self::config::{DecoderSizes, LayerView};
use super::decoder_layer::{Attending, DecoderLayer};
use super::rotary::RotaryEmbedding;
use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::attention_groups::attend_in_groups;
use crate::compute::key_groups::{CachedMask, Group, Source};
use crate::compute::layers::{LoadResult, RmsNorm, embed};

/// Where the text network stands in a file: alone, within one that speaks, and within one that sees pictures as
/// transformers 4 and 5 name its parts.
const PLACES: &[&str] =
    &["", "model", "language_model.model", "model.language_model", "language_model"];

/// How tensors begin that make words of states or see pictures.
const OTHER_TENSORS: &[&str] = &[
    "language_model.lm_head.",
    "lm_head.",
    "model.multi_modal_projector.",
    "model.vision_tower.",
    "multi_modal_projector.",
    "vision_tower.",
];

/// A decoder-only language model without its head.
#[derive(Debug)]
pub struct DecoderModel {
    kind: &'static str,
    /// [vocabulary, width].
    table: Tensor,
    /// What embeddings are multiplied with.
    embedding_factor: Option<f64>,
    layers: Vec<(DecoderLayer, LayerView)>,
    /// Frequencies of positions, by [`LayerView::rope`].
    ropes: Vec<Vec<f32>>,
    norm: RmsNorm,
    heads_served: usize,
    /// Number format of the states.
    dtype: DType,
    sha256: String,
    unused_parts: UnusedParts,
}

/// What `config.json` of `folder` calls its network, where it says so.
///
/// # Errors
/// The file is missing or broken.
pub(crate) fn model_type(folder: &Path) -> LoadResult<Option<String>> {
    Ok(Config::read(folder)?.name_if_any("model_type")?.map(str::to_owned))
}

impl DecoderModel {
    /// Values of `model_type` in `config.json` that this is for.
    pub const KINDS: [&str; 4] = ["llama", "qwen3", "gemma3_text", "gemma3"];

    /// Loads a folder as Hugging Face has it: `config.json`, and `model.safetensors` or shards with their index. With
    /// `dtype` f32 all is f32. With a half format weights are bf16, in which these models are trained and beside
    /// which f16 has too small a range; states are then bf16 on a GPU and f32 on the processor.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration implies, or the
    /// configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let stored = if dtype == DType::F32 { DType::F32 } else { DType::BF16 };
        let states = if device.is_cpu() { DType::F32 } else { stored };
        let whole = Config::read(folder)?;
        let config = config::of_text(&whole)?;
        let weights = Weights::open(folder, "model", stored, device)?;
        Self::build(config.as_ref().unwrap_or(&whole), &weights, states)
    }

    fn build(config: &Config, weights: &Weights, dtype: DType) -> LoadResult<Self> {
        let DecoderSizes { kind, vocabulary, layer, views, ropes, embedding_factor } =
            DecoderSizes::from_config(config)?;
        let root = weights.root();
        let places = PLACES.iter().map(|place| match *place {
            "" => weights.root(),
            place => root.at(place),
        });
        let own = places
            .clone()
            .find(|scope| scope.has("embed_tokens.weight"))
            .unwrap_or_else(|| root.at("model"));
        let table = own.at("embed_tokens").tensor("weight", &[vocabulary, layer.width])?;
        let layers = own.at("layers");
        refuse_more_layers(&layers, views.len(), config)?;
        let numbered = views.into_iter().enumerate();
        let layers = numbered
            .map(|(number, view)| Ok((DecoderLayer::load(&layers.at(number), layer)?, view)))
            .collect::<LoadResult<_>>()?;
        let norm = layer.norm(&own.at("norm"), layer.width)?;
        let mut unused_parts = UnusedParts::of(
            (config, &[config::READ, config::WITHOUT_EFFECT]),
            (weights, OTHER_TENSORS),
        );
        // Old files of LLaMA hold the positions' frequencies, which are computed.
        unused_parts.tensors.retain(|name| !name.ends_with("rotary_emb.inv_freq"));
        Ok(Self {
            kind,
            table,
            embedding_factor,
            layers,
            ropes,
            norm,
            heads_served: layer.heads / layer.key_heads,
            dtype,
            sha256: weights.sha256().to_owned(),
            unused_parts,
        })
    }

    /// Hidden states [b, n, width] of `ids`, b rows of one length n: last layer, after the final norm. Of row i only
    /// the tokens `texts[i]` are text; the others are padding, which none sees. Padding that sees text has the states
    /// that transformers gives it; where it sees none ([`DecoderModel::padding_sees_text`]) these mean nothing, since
    /// transformers' ways to attend differ there.
    ///
    /// # Errors
    /// Rows of different lengths, a row without text, or an id outside the vocabulary.
    pub fn forward(&self, ids: &[Vec<u32>], texts: &[Range<usize>]) -> Result<Tensor> {
        let x = embed(&self.table, ids, None)?.to_dtype(self.dtype)?;
        let (count, length, width) = x.dims3()?;
        let fits = |text: &Range<usize>| text.start < text.end && text.end <= length;
        if texts.len() != count || !texts.iter().all(fits) {
            candle_core::bail!("{texts:?} are no texts within {count} rows of {length} tokens")
        }
        let device = x.device().clone();
        let mut x = x.reshape((count * length, width))?;
        if let Some(factor) = self.embedding_factor {
            // Rounded to the states' format, as transformers does.
            let factor = Tensor::new(&[factor as f32], &device)?.to_dtype(self.dtype)?;
            x = x.broadcast_mul(&factor)?;
        }
        let turns: Vec<RotaryEmbedding> = self
            .ropes
            .iter()
            .map(|frequencies| RotaryEmbedding::of_rows(count, length, frequencies, &device))
            .collect::<Result<_>>()?;
        // Layers with one window share who sees whom.
        let mut masks: Vec<(Option<usize>, Vec<TextMask>)> = Vec::new();
        for (_, view) in &self.layers {
            if masks.iter().all(|(window, _)| *window != view.window) {
                let of = |(number, text): (usize, &Range<usize>)| {
                    TextMask::new(number, length, text, view.window, self.heads_served)
                };
                masks.push((view.window, texts.iter().enumerate().map(of).collect()));
            }
        }
        for (layer, view) in &self.layers {
            let Some((_, masks)) = masks.iter().find(|(window, _)| *window == view.window) else {
                candle_core::bail!("there is no mask for a window of {:?}", view.window)
            };
            x = layer.forward(&x, &turns[view.rope], |asked| attend(asked, length, masks))?;
        }
        self.norm.forward(&x)?.reshape((count, length, width))
    }

    /// Whether every token of padding of a row of `length` tokens sees some of `text`, in all layers.
    pub fn padding_sees_text(&self, text: &Range<usize>, length: usize) -> bool {
        let windows = self.layers.iter().filter_map(|(_, view)| view.window);
        // The last token sees no further back than its window.
        text.start == 0 && windows.min().is_none_or(|window| length < text.end + window)
    }

    /// Width of the hidden states.
    pub fn width(&self) -> usize {
        self.table.dims()[1]
    }

    /// Tokens that the table has rows for.
    pub fn vocabulary(&self) -> usize {
        self.table.dims()[0]
    }

    /// What `config.json` calls the network, without pictures.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Number format of the weights.
    pub fn dtype(&self) -> DType {
        self.table.dtype()
    }

    /// What of the files changed nothing.
    pub(crate) fn unused_parts(&self) -> &UnusedParts {
        &self.unused_parts
    }

    /// Digest of the weight files, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// A file with more layers than the configuration states is another model's.
fn refuse_more_layers(layers: &Scope, depth: usize, config: &Config) -> LoadResult<()> {
    match layers.has(&format!("{depth}.input_layernorm.weight")) {
        true => Err(config.unsupported("num_hidden_layers", "the weights have more layers")),
        false => Ok(()),
    }
}

/// Whom the queries of a text see in layers of one window.
struct TextMask {
    /// Rows of [`Attending::query`].
    rows: Vec<usize>,
    seen: Vec<Range<usize>>,
    /// The mask of these, once it is made.
    kept: CachedMask,
}

impl TextMask {
    /// Of row `number` of rows of `length` tokens, whose text is `text`.
    fn new(
        number: usize,
        length: usize,
        text: &Range<usize>,
        window: Option<usize>,
        heads_served: usize,
    ) -> Self {
        let seen = (0..length).flat_map(|token| {
            let first = window.map_or(0, |window| (token + 1).saturating_sub(window));
            let seen = first.max(text.start)..text.end.min(token + 1);
            // Padding that sees no text must see something.
            let seen = if seen.is_empty() { token..token + 1 } else { seen };
            std::iter::repeat_n(seen, heads_served)
        });
        let first = number * length * heads_served;
        Self {
            rows: (first..first + length * heads_served).collect(),
            seen: seen.collect(),
            kept: CachedMask::default(),
        }
    }
}

/// Lets rows of `length` tokens attend, each row of tokens to itself.
fn attend(
    Attending { query, key, value, heads, packing }: Attending,
    length: usize,
    masks: &[TextMask],
) -> Result<Tensor> {
    let own: Vec<(Tensor, Tensor)> = (0..masks.len())
        .map(|row| {
            let part = |tensor: &Tensor| tensor.narrow(0, row * length, length);
            Ok((part(&key)?, part(&value)?))
        })
        .collect::<Result<_>>()?;
    let groups: Vec<Group> = masks
        .iter()
        .zip(&own)
        .map(|(mask, (key, value))| {
            let source = Source { key, value, seen: Some(&mask.seen) };
            Group::new(&mask.rows, vec![source]).with_mask(&mask.kept)
        })
        .collect();
    attend_in_groups(&query, heads, &groups, packing)
}
