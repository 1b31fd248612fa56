//! In: embedded tokens of one or several texts, each after its own or a shared beginning. Out: their
//! states, and keys and values that later tokens see. Follows `Qwen3VLTextModel` of transformers.
//!
//! Texts of different lengths stand one after the other in one matrix, so that every product takes all
//! of them at once and none is padded; attention alone takes them apart.

use std::ops::Range;

use candle_core::{DType, Device, Module, Result, Tensor};

use super::config::LanguageSizes;
use crate::checkpoint::weights::Scope;
use crate::compute::attention_groups::attend_in_groups;
use crate::compute::key_groups::{Group, Source};
use crate::compute::layers::{Linear, LoadResult, RmsNorm};
use crate::models::decoder_layer::{Attending, DecoderLayer};
use crate::models::rotary::RotaryEmbedding;

/// The network that reads and answers.
#[derive(Debug)]
pub(super) struct Language {
    /// [vocabulary, width].
    table: Tensor,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    head: Linear,
    sizes: LanguageSizes,
    /// Number format of the states.
    dtype: DType,
}

/// Keys and values of a text, layer by layer, both [tokens, key_heads * head].
#[derive(Debug, Clone, Default)]
pub(super) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    /// How many tokens it holds.
    pub(super) tokens: usize,
}

/// A text's next tokens.
pub(super) struct Text<'a> {
    /// Their rows.
    pub(super) rows: Range<usize>,
    /// What stands before the text, seen by all of it.
    pub(super) beginning: Option<&'a KvCache>,
    /// The text so far, which these tokens join.
    pub(super) memory: &'a mut KvCache,
}

/// What a picture adds behind the first layers: to which rows, and one tensor for each of these layers.
pub(super) struct Added<'a> {
    pub(super) first: usize,
    pub(super) layers: &'a [Tensor],
}

impl Language {
    /// `scope` is that of the whole model: the head stands beside the rest.
    pub(super) fn load(scope: &Scope, sizes: LanguageSizes, dtype: DType) -> LoadResult<Self> {
        let own = scope.at("model.language_model");
        let LanguageSizes { vocabulary, .. } = sizes;
        let width = sizes.layer.width;
        let table = own.at("embed_tokens").tensor("weight", &[vocabulary, width])?;
        let head = if sizes.tied {
            Linear::shared(table.clone(), None)
        } else {
            Linear::load_without_bias(&scope.at("lm_head"), width, vocabulary)?.for_few_rows()
        };
        let layers = own.at("layers");
        Ok(Self {
            table,
            layers: (0..sizes.depth)
                .map(|number| DecoderLayer::load(&layers.at(number), sizes.layer))
                .collect::<LoadResult<_>>()?,
            norm: sizes.layer.norm(&own.at("norm"), width)?,
            head,
            sizes,
            dtype,
        })
    }

    pub(super) fn device(&self) -> &Device {
        self.table.device()
    }

    /// Rows of the table, [ids, width].
    pub(super) fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let vocabulary = self.sizes.vocabulary;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            candle_core::bail!(
                "token id {id} is outside this model's vocabulary of {vocabulary}: the tokenizer \
                 belongs to another model"
            )
        }
        let numbers = Tensor::new(ids, self.device())?;
        self.table.index_select(&numbers, 0)?.to_dtype(self.dtype)
    }

    /// States [rows, width] of `x` [rows, width] behind the last layer, before the last norm. `texts` hold
    /// every row once, in order; `places` says where each row stands.
    pub(super) fn forward(
        &self,
        x: Tensor,
        places: &[[u32; 3]],
        texts: &mut [Text<'_>],
        added: Option<Added<'_>>,
    ) -> Result<Tensor> {
        let LanguageSizes { layer: sizes, theta, sections, .. } = self.sizes;
        let turns = RotaryEmbedding::of_tokens(places, sizes.head, theta, sections, self.device())?;
        let shared = sizes.heads / sizes.key_heads;
        let views: Vec<TextMask> = texts.iter().map(|text| TextMask::of(text, shared)).collect();
        let mut x = x;
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &turns, |asked| attend(asked, number, texts, &views))?;
            if let Some(added) = &added
                && let Some(tokens) = added.layers.get(number)
            {
                x = add_rows(&x, added.first, tokens)?;
            }
        }
        for text in texts {
            text.memory.tokens += text.rows.len();
        }
        Ok(x)
    }

    /// Logits [rows, vocabulary], f32, of the tokens that follow states [rows, width].
    pub(super) fn logits(&self, states: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.norm.forward(states)?)?.to_dtype(DType::F32)
    }
}

/// `x` with `tokens` added to its rows from `first` on.
fn add_rows(x: &Tensor, first: usize, tokens: &Tensor) -> Result<Tensor> {
    let (rows, count) = (x.dim(0)?, tokens.dim(0)?);
    let after = first + count;
    let sum = (x.narrow(0, first, count)? + tokens)?;
    Tensor::cat(&[&x.narrow(0, 0, first)?, &sum, &x.narrow(0, after, rows - after)?], 0)
}

/// Whom the queries of a text see, the same in every layer. Each head of keys takes the heads of queries
/// that it serves as so many rows of its own.
struct TextMask {
    rows: Vec<usize>,
    /// Of the text's own keys, those up to each query's token.
    seen: Vec<Range<usize>>,
}

impl TextMask {
    fn of(text: &Text<'_>, shared: usize) -> Self {
        let rows = text.rows.start * shared..text.rows.end * shared;
        let seen =
            rows.clone().map(|row| 0..text.memory.tokens + row / shared - text.rows.start + 1);
        Self { seen: seen.collect(), rows: rows.collect() }
    }
}

/// Lets the tokens of `texts`, which join their memories, attend in layer `number`.
fn attend(
    Attending { query, key, value, heads, packing }: Attending,
    number: usize,
    texts: &mut [Text<'_>],
    views: &[TextMask],
) -> Result<Tensor> {
    for text in texts.iter_mut() {
        let (first, count) = (text.rows.start, text.rows.len());
        let own = (key.narrow(0, first, count)?, value.narrow(0, first, count)?);
        text.memory.join(number, own)?;
    }
    let groups: Vec<Group> = texts
        .iter()
        .zip(views)
        .map(|(text, view)| {
            let beginning = text.beginning.and_then(|memory| memory.layers.get(number));
            let own = text.memory.layers.get(number);
            let whole = beginning.map(|(key, value)| Source { key, value, seen: None });
            let seen = Some(view.seen.as_slice());
            let own = own.map(|(key, value)| Source { key, value, seen });
            Group::new(&view.rows, whole.into_iter().chain(own).collect())
        })
        .collect();
    attend_in_groups(&query, heads, &groups, packing)
}

impl KvCache {
    /// Adds a layer's keys and values of further tokens.
    fn join(&mut self, layer: usize, (key, value): (Tensor, Tensor)) -> Result<()> {
        match self.layers.get_mut(layer) {
            Some(held) => {
                *held = (Tensor::cat(&[&held.0, &key], 0)?, Tensor::cat(&[&held.1, &value], 0)?);
            }
            // A copy, so that no memory outlives its text as a view of many texts.
            None => self.layers.push((key.force_contiguous()?, value.force_contiguous()?)),
        }
        Ok(())
    }
}
