//! In: token ids, or states of several texts one after the other. Out: BERT's blocks over them -
//! embeddings, self-attention, cross-attention, feed-forward, word prediction - with the norm after
//! each sum, as `BertModel` of transformers and its descendants have them. How blocks are put together,
//! and what a text sees, is left to the networks.
//!
//! Texts stand one after the other in one matrix, [tokens of all, width], so there is no padding and
//! nothing to hide it behind. What a row sees is a range of rows: [`spans`] gives that of its own text.

use std::ops::Range;

use candle_core::{Module, Result, Tensor};

use crate::checkpoint::config::Config;
use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::attention_groups::attend_in_groups;
use crate::compute::key_groups::{CachedMask, Group, Source};
use crate::compute::layers::{Activation, FusedLinears, LayerNorm, Linear, LoadResult, embed};

/// Dimensions of BERT's blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BertSize {
    /// Of the states.
    pub(crate) width: usize,
    /// Of the feed-forward.
    pub(crate) inner: usize,
    /// Of every attention.
    pub(crate) heads: usize,
    /// Of feed-forward and word prediction.
    pub(crate) activation: Activation,
    /// Of every norm.
    pub(crate) eps: f64,
}

impl BertSize {
    /// From the keys that transformers uses.
    pub(crate) fn from_config(config: &Config) -> LoadResult<Self> {
        let activation =
            Activation::named(config.name("hidden_act", "gelu")?).ok_or_else(|| {
                config.unsupported("hidden_act", "only the GELU family, relu and silu are")
            })?;
        let size = Self {
            width: config.count("hidden_size", Some(768))?,
            inner: config.count("intermediate_size", Some(3072))?,
            heads: config.count("num_attention_heads", Some(12))?,
            activation,
            eps: config.number("layer_norm_eps", 1e-12)?,
        };
        config.divides("num_attention_heads", size.heads, size.width)?;
        Ok(size)
    }
}

/// The rows of each of the texts of these `lengths`.
pub(crate) fn rows_of_texts(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut first = 0;
    let ranges = lengths.iter().map(|length| {
        first += length;
        first - length..first
    });
    ranges.collect()
}

/// For every row of texts of these `lengths`, the rows of its own text.
pub(crate) fn spans(lengths: &[usize]) -> Vec<Range<usize>> {
    let texts = rows_of_texts(lengths).into_iter();
    texts.flat_map(|rows| std::iter::repeat_n(rows.clone(), rows.len())).collect()
}

/// What rows see of each other, the same in all layers.
#[derive(Debug)]
pub(crate) struct SelfAttentionMask {
    rows: Vec<usize>,
    /// For every row, the rows that it sees.
    seen: Vec<Range<usize>>,
    mask: CachedMask,
}

impl SelfAttentionMask {
    /// Of rows that each see a range of them.
    pub(crate) fn new(seen: Vec<Range<usize>>) -> Self {
        Self { rows: (0..seen.len()).collect(), seen, mask: CachedMask::default() }
    }

    /// Of texts of these `lengths`, which see themselves alone.
    pub(crate) fn texts(lengths: &[usize]) -> Self {
        Self::new(spans(lengths))
    }
}

/// Words, positions and, where there are any, segments, all of which are the first here.
#[derive(Debug)]
pub(crate) struct BertEmbeddings {
    words: Tensor,
    positions: Tensor,
    /// [width].
    segment: Option<Tensor>,
    norm: LayerNorm,
}

impl BertEmbeddings {
    /// `segments` is the number of token types, if the checkpoint has such a table.
    pub(crate) fn load(
        scope: &Scope,
        size: BertSize,
        vocabulary: usize,
        positions: usize,
        segments: Option<usize>,
    ) -> LoadResult<Self> {
        let words = scope.tensor("word_embeddings.weight", &[vocabulary, size.width])?;
        Self::load_with_words(scope, size, words, positions, segments)
    }

    /// As [`BertEmbeddings::load`], with the table of `words` [vocabulary, width] at hand.
    pub(crate) fn load_with_words(
        scope: &Scope,
        size: BertSize,
        words: Tensor,
        positions: usize,
        segments: Option<usize>,
    ) -> LoadResult<Self> {
        let name = "token_type_embeddings.weight";
        let segment = segments
            .map(|count| {
                let table = scope.tensor(name, &[count, size.width])?;
                table.get(0).map_err(|source| scope.refused(name, source))
            })
            .transpose()?;
        Ok(Self {
            words,
            positions: scope.tensor("position_embeddings.weight", &[positions, size.width])?,
            segment,
            norm: LayerNorm::load(&scope.at("LayerNorm"), size.width, size.eps)?,
        })
    }

    /// [ids, width] of `ids`, each at its own one of `positions`.
    pub(crate) fn forward(&self, ids: &[u32], positions: &[u32]) -> Result<Tensor> {
        let most = self.positions.dim(0)?;
        if positions.len() != ids.len() || positions.iter().any(|place| *place as usize >= most) {
            candle_core::bail!(
                "{} tokens at positions up to {:?}: this text network has {most} positions",
                ids.len(),
                positions.iter().max()
            )
        }
        let count = ids.len();
        let words = embed(&self.words, &[ids.to_vec()], None)?.squeeze(0)?;
        let words = match &self.segment {
            Some(segment) => words.broadcast_add(segment)?,
            None => words,
        };
        let places = Tensor::from_slice(positions, count, self.positions.device())?;
        self.norm.forward(&(words + self.positions.index_select(&places, 0)?)?)
    }

    /// [tokens, width] of whole `texts`, each from position 0 on.
    pub(crate) fn forward_texts(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let positions: Vec<u32> = texts.iter().flat_map(|text| 0..text.len() as u32).collect();
        self.forward(&texts.concat(), &positions)
    }
}

/// Keys and values of one attention, [m, heads * d] each.
#[derive(Debug, Clone)]
pub(crate) struct KeysAndValues {
    key: Tensor,
    value: Tensor,
}

impl KeysAndValues {
    /// For a group of queries that each see all of them.
    pub(crate) fn all(&self) -> Source<'_> {
        Source { key: &self.key, value: &self.value, seen: None }
    }

    /// Those of `count` rows of the states from `first` on.
    pub(crate) fn rows(&self, first: usize, count: usize) -> Result<Self> {
        let some = |all: &Tensor| all.narrow(0, first, count);
        Ok(Self { key: some(&self.key)?, value: some(&self.value)? })
    }

    /// `group`, whose sources are rows of these, one after the other.
    pub(crate) fn serve<'a>(&'a self, group: Group<'a>) -> Group<'a> {
        group.joined(&self.key, &self.value)
    }

    /// For a group of queries that each see a part, in the order of the group's rows.
    pub(crate) fn seen<'a>(&'a self, seen: &'a [Range<usize>]) -> Source<'a> {
        Source { seen: Some(seen), ..self.all() }
    }
}

/// What rows have said so far, one position after the other: keys and values, [rows, positions, heads * d] each, or
/// in one tensor [rows, positions, 2 * heads * d].
#[derive(Debug, Clone)]
pub(crate) struct KvCache(Vec<Tensor>);

/// Cross-attentions of several layers, whose keys and values of the same states are one product on a GPU.
#[derive(Debug)]
pub(crate) struct FusedKeysAndValues(FusedLinears);

impl FusedKeysAndValues {
    /// Of all of `layers` that have one; `None` where they stay apart, as [`FusedLinears::on_gpu`] has it.
    pub(crate) fn new<'l>(layers: impl Iterator<Item = &'l mut BertLayer>) -> Option<Self> {
        let attentions = layers.filter_map(|layer| layer.crossattention.as_mut());
        let mut parts: Vec<&mut Linear> =
            attentions.flat_map(|attention| [&mut attention.key, &mut attention.value]).collect();
        FusedLinears::on_gpu(&mut parts).map(Self)
    }

    /// Keys and values of `states` [m, encoder_width] for each layer: views of one product.
    pub(crate) fn of(&self, states: &Tensor) -> Result<Vec<KeysAndValues>> {
        let all = self.0.forward(states)?;
        let pair = |pair: &[Tensor]| KeysAndValues { key: pair[0].clone(), value: pair[1].clone() };
        Ok(all.chunks_exact(2).map(pair).collect())
    }
}

/// Attention with the norm of its result and the shortcut.
#[derive(Debug)]
pub(crate) struct BertAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNorm,
    heads: usize,
    /// On a GPU, for an attention of rows to themselves.
    packed: Option<Packed>,
}

/// Queries, keys and values as one product, and keys and values as one.
#[derive(Debug)]
struct Packed {
    all: FusedLinears,
    keys_and_values: Linear,
}

impl BertAttention {
    /// `scope` is that of `self` and `output`; keys and values come from states of `key_width`.
    pub(crate) fn load(scope: &Scope, size: BertSize, key_width: usize) -> LoadResult<Self> {
        let (own, output) = (scope.at("self"), scope.at("output"));
        Ok(Self {
            query: linear(&own.at("query"), size.width, size.width)?,
            key: linear(&own.at("key"), key_width, size.width)?,
            value: linear(&own.at("value"), key_width, size.width)?,
            dense: linear(&output.at("dense"), size.width, size.width)?,
            norm: LayerNorm::load(&output.at("LayerNorm"), size.width, size.eps)?,
            heads: size.heads,
            packed: None,
        })
    }

    /// The same for rows that attend to themselves, whose products are one on a GPU.
    fn pack(mut self) -> Self {
        let mut parts = [&mut self.query, &mut self.key, &mut self.value];
        self.packed = FusedLinears::on_gpu(&mut parts).and_then(|all| {
            let keys_and_values = all.from(1).ok()?;
            Some(Packed { all, keys_and_values })
        });
        self
    }

    /// Keys and values of `states` [m, key_width].
    pub(crate) fn keys_and_values(&self, states: &Tensor) -> Result<KeysAndValues> {
        Ok(KeysAndValues { key: self.key.forward(states)?, value: self.value.forward(states)? })
    }

    /// `x` [rows, width] after it has attended to what its groups see.
    pub(crate) fn forward(&self, x: &Tensor, groups: &[Group]) -> Result<Tensor> {
        self.forward_query(x, &self.query.forward(x)?, groups)
    }

    fn forward_query(&self, x: &Tensor, query: &Tensor, groups: &[Group]) -> Result<Tensor> {
        let mixed = attend_in_groups(query, self.heads, groups, self.dense.packing())?;
        self.norm.forward(&self.dense.forward_with_shortcut(&mixed, x)?)
    }

    /// `x` [rows, width] after every row has attended to the rows that it sees.
    pub(crate) fn forward_masked(&self, x: &Tensor, among: &SelfAttentionMask) -> Result<Tensor> {
        let (query, own) = match &self.packed {
            Some(packed) => {
                let all = packed.all.forward(x)?;
                let (key, value) = (all[1].clone(), all[2].clone());
                (all[0].clone(), KeysAndValues { key, value })
            }
            None => (self.query.forward(x)?, self.keys_and_values(x)?),
        };
        let group = Group::new(&among.rows, vec![own.seen(&among.seen)]).with_mask(&among.mask);
        self.forward_query(x, &query, &[group])
    }

    /// `x` [rows, width] after every row has attended to itself and its past, to which it is added.
    /// Row r goes on where row `parents[r]` of the past ended.
    pub(crate) fn forward_after(
        &self,
        x: &Tensor,
        past: &mut Option<KvCache>,
        parents: &Tensor,
    ) -> Result<Tensor> {
        let new = match &self.packed {
            Some(packed) => vec![packed.keys_and_values.forward(x)?],
            None => vec![self.key.forward(x)?, self.value.forward(x)?],
        };
        let with_past = |(number, new): (usize, Tensor)| match past.as_ref() {
            None => new.unsqueeze(1),
            Some(KvCache(kept)) => {
                Tensor::cat(&[kept[number].index_select(parents, 0)?, new.unsqueeze(1)?], 1)
            }
        };
        let all = new.into_iter().enumerate().map(with_past).collect::<Result<Vec<_>>>()?;
        let (key, value) = match all.as_slice() {
            [both] => {
                let width = both.dim(2)? / 2;
                (both.narrow(2, 0, width)?, both.narrow(2, width, width)?)
            }
            apart => (apart[0].clone(), apart[1].clone()),
        };
        let query = self.query.forward(x)?.unsqueeze(1)?;
        let (visible, packing) = (AttentionMask::All, self.dense.packing());
        let mixed = attend(&query, &key, &value, self.heads, visible, packing)?.squeeze(1)?;
        *past = Some(KvCache(all));
        self.norm.forward(&self.dense.forward_with_shortcut(&mixed, x)?)
    }
}

/// Self-attention, cross-attention where there is any, and a feed-forward.
#[derive(Debug)]
pub(crate) struct BertLayer {
    attention: BertAttention,
    crossattention: Option<BertAttention>,
    intermediate: Linear,
    output: Linear,
    norm: LayerNorm,
    activation: Activation,
}

impl BertLayer {
    /// With a cross-attention to states of width `encoder_width`, where that is given.
    pub(crate) fn load(
        scope: &Scope,
        size: BertSize,
        encoder_width: Option<usize>,
    ) -> LoadResult<Self> {
        let crossattention = encoder_width
            .map(|width| BertAttention::load(&scope.at("crossattention"), size, width))
            .transpose()?;
        let (inner, outer) = (scope.at("intermediate"), scope.at("output"));
        Ok(Self {
            attention: BertAttention::load(&scope.at("attention"), size, size.width)?.pack(),
            crossattention,
            intermediate: linear(&inner.at("dense"), size.width, size.inner)?,
            output: linear(&outer.at("dense"), size.inner, size.width)?,
            norm: LayerNorm::load(&outer.at("LayerNorm"), size.width, size.eps)?,
            activation: size.activation,
        })
    }

    /// `x` [rows, width] through the whole layer: every row sees what it sees `among` the rows and then, if it
    /// has a cross-attention and there are groups, what its group in `cross` sees.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        among: &SelfAttentionMask,
        cross: Option<&[Group]>,
    ) -> Result<Tensor> {
        self.rest(&self.attention.forward_masked(x, among)?, cross)
    }

    /// As [`BertLayer::forward`] for one more position, see [`BertAttention::forward_after`].
    pub(crate) fn forward_after(
        &self,
        x: &Tensor,
        past: &mut Option<KvCache>,
        parents: &Tensor,
        cross: Option<&[Group]>,
    ) -> Result<Tensor> {
        self.rest(&self.attention.forward_after(x, past, parents)?, cross)
    }

    fn rest(&self, x: &Tensor, cross: Option<&[Group]>) -> Result<Tensor> {
        let crossed = match (&self.crossattention, cross) {
            (Some(attention), Some(groups)) => Some(attention.forward(x, groups)?),
            _ => None,
        };
        let x = crossed.as_ref().unwrap_or(x);
        let inner = self.activation.apply_to_own(self.intermediate.forward(x)?)?;
        self.norm.forward(&self.output.forward_with_shortcut(&inner, x)?)
    }

    /// The cross-attention's keys and values of `states` [m, encoder_width].
    ///
    /// # Errors
    /// This layer has no cross-attention.
    pub(crate) fn cross_keys_and_values(&self, states: &Tensor) -> Result<KeysAndValues> {
        match &self.crossattention {
            Some(attention) => attention.keys_and_values(states),
            None => candle_core::bail!("this layer has no cross-attention"),
        }
    }
}

/// The scores of every word of the vocabulary to stand next.
#[derive(Debug)]
pub(crate) struct BertWordPrediction {
    dense: Linear,
    norm: LayerNorm,
    activation: Activation,
    decoder: Linear,
}

impl BertWordPrediction {
    /// `scope` is `cls.predictions`; `words` [vocabulary, width] is the decoder's table, which most
    /// checkpoints share with the embeddings.
    pub(crate) fn load(scope: &Scope, size: BertSize, words: Tensor) -> LoadResult<Self> {
        let transform = scope.at("transform");
        let bias = scope.tensor("bias", &words.dims()[..1])?;
        Ok(Self {
            dense: linear(&transform.at("dense"), size.width, size.width)?,
            norm: LayerNorm::load(&transform.at("LayerNorm"), size.width, size.eps)?,
            activation: size.activation,
            decoder: Linear::shared(words, Some(bias)),
        })
    }

    /// Logits [rows, vocabulary] after `x` [rows, width].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.activation.apply(&self.dense.forward(x)?)?;
        self.decoder.forward(&self.norm.forward(&x)?)
    }
}

/// A layer for the rows of a few questions.
fn linear(scope: &Scope, input: usize, output: usize) -> LoadResult<Linear> {
    Linear::load(scope, input, output).map(Linear::for_few_rows)
}

#[cfg(test)]
mod tests;
