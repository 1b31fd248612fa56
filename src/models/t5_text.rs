//! In: token ids. Out: the hidden states of T5's encoder. Follows `T5EncoderModel` of transformers;
//! dimensions come from `config.json`. Tokenizing is left to the caller.

use std::path::Path;

use candle_core::{DType, Device, Module, Result, Tensor};

use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::attention::attend_with_bias;
use crate::compute::layers::{Activation, Linear, LoadResult, RmsNorm, embed};

/// Keys that ask for another network, with the values under which they do not. UMT5 has positions of its own in
/// every block.
const NEUTRAL: &[(&str, &[&str])] =
    &[("is_decoder", &["false"]), ("model_type", &["t5", "mt5"]), ("quantization_config", &[])];

/// Keys that are read.
const READ: &[&str] = &[
    "d_ff",
    "d_kv",
    "d_model",
    "dense_act_fn",
    "feed_forward_proj",
    "is_gated_act",
    "layer_norm_epsilon",
    "num_heads",
    "num_layers",
    "relative_attention_max_distance",
    "relative_attention_num_buckets",
    "vocab_size",
];

/// Other names of keys, with those that transformers takes them for.
const ALIASES: &[(&str, &str)] = &[
    ("head_dim", "d_kv"),
    ("hidden_size", "d_model"),
    ("num_attention_heads", "num_heads"),
    ("num_hidden_layers", "num_layers"),
];

/// Keys of the decoder, of training, and of how the network is stored and called.
const WITHOUT_EFFECT: &[&str] = &[
    "architectures",
    "attn_implementation",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "dropout_rate",
    "dtype",
    "eos_token_id",
    "gradient_checkpointing",
    "head_dim",
    "hidden_size",
    "id2label",
    "initializer_factor",
    "is_encoder_decoder",
    "label2id",
    "n_positions",
    "num_attention_heads",
    "num_decoder_layers",
    "num_hidden_layers",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "scale_decoder_outputs",
    "task_specific_params",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// How tensors begin that belong to the decoder, or that are the token table under its other name.
const OTHER_TENSORS: &[&str] =
    &["decoder.", "encoder.embed_tokens.weight", "lm_head.", "shared.weight"];

/// T5's encoder.
#[derive(Debug)]
pub struct T5EncoderModel {
    token_embedding: Tensor,
    /// [buckets, heads], of the first block and used by all, f32.
    relative_attention_bias: Tensor,
    buckets: Buckets,
    blocks: Vec<Block>,
    final_layer_norm: RmsNorm,
    heads: usize,
    sha256: String,
    unused_parts: UnusedParts,
}

/// Dimensions of the encoder's blocks.
#[derive(Debug, Clone, Copy)]
struct BlockSize {
    width: usize,
    /// All heads together, which T5 does not tie to `width`.
    attention: usize,
    inner: usize,
    gated: bool,
    activation: Activation,
    eps: f64,
    /// Whether the feed-forward's output layer, and with it the sum of all blocks, stays in f32.
    sums_in_f32: bool,
}

impl T5EncoderModel {
    /// Loads a folder in the layout of flan-t5: `config.json`, and `model.safetensors` or shards with
    /// their index. A decoder in those files is passed over. Every weight becomes `dtype`, the
    /// feed-forward's `wo` too, which transformers alone would keep in f32 under f16: ELLA was
    /// trained and released with all of T5 in f16.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration
    /// implies, or the configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read(folder)?;
        Self::build(&config, &Weights::open(folder, "model", dtype, device)?)
    }

    /// As [`T5EncoderModel::load`], but under f16 the feed-forward's `wo` is f32, and so is the sum of the blocks, as
    /// transformers alone has it: T5 v1.1 overflows f16 there.
    ///
    /// # Errors
    /// As there.
    pub fn load_summing_in_f32(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read(folder)?;
        Self::build_summing_in_f32(&config, &Weights::open(folder, "model", dtype, device)?)
    }

    /// The encoder that `config` describes as [`T5EncoderModel::load_summing_in_f32`] has it, of `weights`.
    pub(crate) fn build_summing_in_f32(config: &Config, weights: &Weights) -> LoadResult<Self> {
        Self::with_sums(config, weights, weights.dtype() == DType::F16)
    }

    /// The encoder that `config` describes, of `weights`.
    pub(crate) fn build(config: &Config, weights: &Weights) -> LoadResult<Self> {
        Self::with_sums(config, weights, false)
    }

    fn with_sums(config: &Config, weights: &Weights, sums_in_f32: bool) -> LoadResult<Self> {
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(READ)?;
        for (alias, key) in ALIASES {
            config.refuse_unless_same(alias, key)?;
        }
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        let projection = config.name("feed_forward_proj", "relu")?;
        let (gated, name) = match projection {
            // Of all names only this one means another function than it says.
            "gated-gelu" => (true, "gelu_new"),
            other => match other.strip_prefix("gated-") {
                Some(name) => (true, name),
                None => (false, other),
            },
        };
        let stated = Activation::named(name).ok_or_else(|| {
            config.unsupported("feed_forward_proj", "gated or not, relu and the GELU family are")
        })?;
        // transformers writes both beside `feed_forward_proj`, and follows them where they differ from it.
        let activation = match config.name_if_any("dense_act_fn")? {
            None => stated,
            Some(name) => Activation::named(name).ok_or_else(|| {
                config.unsupported("dense_act_fn", "only relu and the GELU family are")
            })?,
        };
        let gated = config.flag("is_gated_act", gated)?;
        let heads = config.count("num_heads", None)?;
        let size = BlockSize {
            width: config.count("d_model", None)?,
            attention: heads * config.count("d_kv", None)?,
            inner: config.count("d_ff", None)?,
            gated,
            activation,
            eps: config.number("layer_norm_epsilon", 1e-6)?,
            sums_in_f32,
        };
        let depth = config.count("num_layers", None)?;
        let vocabulary = config.count("vocab_size", None)?;
        let buckets = Buckets::from_config(config)?;
        let encoder = weights.root().at("encoder");
        let own = encoder.at("embed_tokens");
        // Encoder and decoder share one table; files hold it under either name, or both.
        let table = if own.has("weight") { own } else { weights.root().at("shared") };
        let blocks = encoder.at("block");
        let bias = blocks.at("0.layer.0.SelfAttention.relative_attention_bias");
        let relative_attention_bias = bias
            .tensor("weight", &[buckets.count, heads])?
            .to_dtype(DType::F32)
            .map_err(|source| bias.refused("weight", source))?;
        Ok(Self {
            token_embedding: table.tensor("weight", &[vocabulary, size.width])?,
            relative_attention_bias,
            buckets,
            blocks: (0..depth)
                .map(|number| Block::load(&blocks.at(number).at("layer"), size))
                .collect::<LoadResult<_>>()?,
            final_layer_norm: RmsNorm::load(&encoder.at("final_layer_norm"), size.width, size.eps)?,
            heads,
            sha256: weights.sha256().to_owned(),
            unused_parts: UnusedParts::of(
                (config, &[&neutral, READ, WITHOUT_EFFECT]),
                (weights, OTHER_TENSORS),
            ),
        })
    }

    /// Hidden states [b, n, width] of `ids`, b rows of one length n: last block, after the final norm.
    /// Of row i only the first `lengths[i]` tokens are seen; the others are padding, whose own hidden
    /// states are those that transformers gives them under the same mask.
    ///
    /// # Errors
    /// Rows of different lengths, a row without a token, or an id outside the vocabulary.
    pub fn forward(&self, ids: &[Vec<u32>], lengths: &[usize]) -> Result<Tensor> {
        let mut x = embed(&self.token_embedding, ids, None)?;
        let length = x.dim(1)?;
        if lengths.len() != ids.len() || lengths.iter().any(|seen| !(1..=length).contains(seen)) {
            candle_core::bail!("{lengths:?} tokens seen of {} rows of {length}", ids.len())
        }
        let bias = self.bias(length, lengths)?;
        for block in &self.blocks {
            x = block.forward(&x, &bias, self.heads)?;
        }
        self.final_layer_norm.forward(&x)?.to_dtype(self.token_embedding.dtype())
    }

    /// What is added to the attention scores, f32: relative position and mask, [b, heads, n, n], or
    /// [1, heads, n, n] where no row has padding.
    fn bias(&self, length: usize, lengths: &[usize]) -> Result<Tensor> {
        let device = self.relative_attention_bias.device();
        let buckets: Vec<u32> = (0..length)
            .flat_map(|query| (0..length).map(move |key| (query, key)))
            .map(|(query, key)| self.buckets.of(key as i64 - query as i64))
            .collect();
        let buckets = Tensor::from_vec(buckets, length * length, device)?;
        let position = self
            .relative_attention_bias
            .index_select(&buckets, 0)?
            .reshape((length, length, self.heads))?
            .permute((2, 0, 1))?
            .contiguous()?
            .unsqueeze(0)?;
        if lengths.iter().all(|&seen| seen == length) {
            return Ok(position);
        }
        let mask: Vec<f32> = lengths
            .iter()
            .flat_map(|&seen| {
                (0..length).map(move |key| if key < seen { 0.0 } else { f32::NEG_INFINITY })
            })
            .collect();
        let mask = Tensor::from_vec(mask, (lengths.len(), 1, 1, length), device)?;
        position.broadcast_add(&mask)
    }

    /// Width of the hidden states.
    pub fn width(&self) -> usize {
        self.token_embedding.dims()[1]
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

/// How distances between tokens share the rows of the bias table.
#[derive(Debug, Clone, Copy)]
struct Buckets {
    count: usize,
    max_distance: usize,
}

impl Buckets {
    fn from_config(config: &Config) -> LoadResult<Self> {
        let count = config.count("relative_attention_num_buckets", Some(32))?;
        let max_distance = config.count("relative_attention_max_distance", Some(128))?;
        if !count.is_multiple_of(4) {
            let hint = "a multiple of 4 is needed";
            return Err(config.unsupported("relative_attention_num_buckets", hint));
        }
        if max_distance <= count / 4 {
            let hint = "more than a quarter of the buckets is needed";
            return Err(config.unsupported("relative_attention_max_distance", hint));
        }
        Ok(Self { count, max_distance })
    }

    /// Bucket of a key that stands `distance` tokens after the query. Half of the buckets look ahead,
    /// half behind; of each, half hold one distance and the others grow logarithmically. In f32, as
    /// in transformers, so that distances at an edge fall to the same side.
    fn of(self, distance: i64) -> u32 {
        let half = self.count / 2;
        let exact = half / 2;
        let ahead = if distance > 0 { half } else { 0 };
        let distance = distance.unsigned_abs() as usize;
        if distance < exact {
            return (ahead + distance) as u32;
        }
        let range = (self.max_distance as f64 / exact as f64).ln() as f32;
        let share = (distance as f32 / exact as f32).ln() / range;
        let grown = (share * (half - exact) as f32) as usize;
        (ahead + (exact + grown).min(half - 1)) as u32
    }
}

/// Self-attention and a feed-forward, each behind its norm and beside its shortcut.
#[derive(Debug)]
struct Block {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    feed_forward_norm: RmsNorm,
    /// The gate is applied to the activated half.
    gate: Option<Linear>,
    inner: Linear,
    outer: Linear,
    activation: Activation,
    /// Number formats of the layers' inputs, and of the last layer's.
    dtypes: (DType, DType),
}

impl Block {
    fn load(scope: &Scope, size: BlockSize) -> LoadResult<Self> {
        let BlockSize { width, attention, inner, gated, activation, eps, sums_in_f32 } = size;
        let (first, second) = (scope.at(0), scope.at(1));
        let heads = first.at("SelfAttention");
        let dense = second.at("DenseReluDense");
        let linear = |scope: &Scope, input: usize, output: usize| {
            Linear::load_without_bias(scope, input, output).map(Linear::for_few_rows)
        };
        let last = dense.at("wo");
        let stored = last.tensor("weight", &[width, inner])?;
        let dtype = stored.dtype();
        let outer = if sums_in_f32 { stored.to_dtype(DType::F32) } else { Ok(stored) };
        let outer = outer.map_err(|source| last.refused("weight", source))?;
        Ok(Self {
            attention_norm: RmsNorm::load(&first.at("layer_norm"), width, eps)?,
            query: linear(&heads.at("q"), width, attention)?,
            key: linear(&heads.at("k"), width, attention)?,
            value: linear(&heads.at("v"), width, attention)?,
            out: linear(&heads.at("o"), attention, width)?,
            feed_forward_norm: RmsNorm::load(&second.at("layer_norm"), width, eps)?,
            gate: gated.then(|| linear(&dense.at("wi_1"), width, inner)).transpose()?,
            inner: linear(&dense.at(if gated { "wi_0" } else { "wi" }), width, inner)?,
            dtypes: (dtype, outer.dtype()),
            outer: Linear::without_bias(outer).for_few_rows(),
            activation,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor, heads: usize) -> Result<Tensor> {
        let (dtype, sum) = self.dtypes;
        let x = without_infinities((x + self.attend(x, bias, heads)?.to_dtype(x.dtype())?)?)?;
        let normed = self.feed_forward_norm.forward(&x)?.to_dtype(dtype)?;
        let mut inner = self.activation.apply_to_own(self.inner.forward(&normed)?)?;
        if let Some(gate) = &self.gate {
            inner = (inner * gate.forward(&normed)?)?;
        }
        let outer = self.outer.forward(&inner.to_dtype(sum)?)?;
        without_infinities((x.to_dtype(sum)? + outer)?)
    }

    /// Scores are not divided by the root of the head size: T5's weights hold that factor.
    fn attend(&self, x: &Tensor, bias: &Tensor, heads: usize) -> Result<Tensor> {
        let normed = self.attention_norm.forward(x)?.to_dtype(self.dtypes.0)?;
        let query = self.query.forward(&normed)?;
        let key = self.key.forward(&normed)?;
        let value = self.value.forward(&normed)?;
        let packing = self.out.packing();
        self.out.forward(&attend_with_bias(&query, &key, &value, heads, bias, packing)?)
    }
}

/// As transformers does under f16 alone: where anything is infinite, everything is held 1000 below
/// the largest number.
fn without_infinities(x: Tensor) -> Result<Tensor> {
    if x.dtype() != DType::F16 {
        return Ok(x);
    }
    let largest = x.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
    if largest.is_infinite() {
        let bound = f64::from(half::f16::MAX) - 1000.0;
        return x.clamp(-bound, bound);
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::golden::Golden;

    #[test]
    fn buckets_equal_transformers_at_every_distance() {
        let golden = Golden::open("../ella-golden/t5");
        let usual = Buckets { count: 32, max_distance: 128 };
        let other = Buckets { count: 8, max_distance: 21 };
        for (name, buckets, wrong) in
            [("buckets.usual", usual, other), ("buckets.other", other, usual)]
        {
            let expected: Vec<u32> =
                golden.get(name).to_dtype(DType::U32).unwrap().to_vec1().unwrap();
            let reach = (expected.len() / 2) as i64;
            let ours: Vec<u32> = (-reach..=reach).map(|d| buckets.of(d)).collect();
            assert_eq!(ours, expected);
            assert!((-reach..=reach).any(|d| wrong.of(d) != expected[(d + reach) as usize]));
        }
    }
}
