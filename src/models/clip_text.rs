//! In: token ids. Out: the hidden states of CLIP's text encoder, and its pooled output. Follows
//! `CLIPTextModel` and `CLIPTextModelWithProjection` of transformers; dimensions come from
//! `config.json`. Tokenizing is left to the caller.

use std::path::Path;

use candle_core::{DType, Device, Module, Result, Tensor};

use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Activation, LayerNorm, Linear, LoadResult, embed};

/// Keys that change the arithmetic, or what the pipelines hand to it, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("model_type", &["clip_text_model"]),
    ("quantization_config", &[]),
    // The pipelines of diffusers hand over the tokenizer's mask where it is on.
    ("use_attention_mask", &["false"]),
];

/// Keys that are read.
const READ: &[&str] = &[
    "architectures",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "projection_dim",
    "vocab_size",
];

/// Keys of training, of other ends of the network, and of how it is stored and called.
const WITHOUT_EFFECT: &[&str] = &[
    "attention_dropout",
    "attn_implementation",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dropout",
    "dtype",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
];

/// How tensors begin that belong to other ends of the network.
const OTHER_TENSORS: &[&str] =
    &["logit_scale", "text_projection.weight", "vision_model.", "visual_projection."];

/// Classes of transformers that hold this encoder.
const ARCHITECTURES: &[&str] = &["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"];

/// CLIP's text encoder.
#[derive(Debug)]
pub struct ClipTextModel {
    token_embedding: Tensor,
    position_embedding: Tensor,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    sha256: String,
    unused_parts: UnusedParts,
}

/// Dimensions of the encoder's layers.
#[derive(Debug, Clone, Copy)]
struct LayerSize {
    width: usize,
    inner: usize,
    heads: usize,
    activation: Activation,
    eps: f64,
}

impl ClipTextModel {
    /// Loads `text_encoder/`: `config.json` and `model.safetensors` or a variant of it, with or
    /// without the prefix `text_model.`.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration
    /// implies, or the configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read(folder)?;
        Self::build(&config, &Weights::open(folder, "model", dtype, device)?)
    }

    /// The encoder that `config` describes, of `weights`.
    pub(crate) fn build(config: &Config, weights: &Weights) -> LoadResult<Self> {
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(&["hidden_act", "max_position_embeddings", "vocab_size"])?;
        if let Some(names) = config.names_if_any("architectures")?
            && !names.iter().all(|name| ARCHITECTURES.contains(name))
        {
            let hint = format!("only {} are", ARCHITECTURES.join(", "));
            return Err(config.unsupported("architectures", &hint));
        }
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        let activation = Activation::named(config.name("hidden_act", "quick_gelu")?)
            .ok_or_else(|| config.unsupported("hidden_act", "only the GELU family and relu are"))?;
        let size = LayerSize {
            width: config.count("hidden_size", None)?,
            inner: config.count("intermediate_size", None)?,
            heads: config.count("num_attention_heads", None)?,
            activation,
            eps: config.number("layer_norm_eps", 1e-5)?,
        };
        config.divides("num_attention_heads", size.heads, size.width)?;
        let depth = config.count("num_hidden_layers", None)?;
        let vocabulary = config.count("vocab_size", Some(49408))?;
        let length = config.count("max_position_embeddings", Some(77))?;
        let prefixed = weights.root().at("text_model");
        // Hub checkpoints have the prefix, those that transformers 5 saves have not.
        let root = if prefixed.has("final_layer_norm.weight") { prefixed } else { weights.root() };
        let embeddings = root.at("embeddings");
        let layers = root.at("encoder.layers");
        Ok(Self {
            token_embedding: embeddings
                .tensor("token_embedding.weight", &[vocabulary, size.width])?,
            position_embedding: embeddings
                .tensor("position_embedding.weight", &[length, size.width])?,
            layers: (0..depth)
                .map(|number| EncoderLayer::load(&layers.at(number), size))
                .collect::<LoadResult<_>>()?,
            final_layer_norm: LayerNorm::load(&root.at("final_layer_norm"), size.width, size.eps)?,
            sha256: weights.sha256().to_owned(),
            unused_parts: UnusedParts::of(
                (config, &[&neutral, READ, WITHOUT_EFFECT]),
                (weights, OTHER_TENSORS),
            ),
        })
    }

    /// Hidden states [b, n, width] of `ids`: b rows of the same length n, at most
    /// [`ClipTextModel::max_tokens`]. Last layer, after the final norm.
    ///
    /// # Errors
    /// Rows of different lengths, too many tokens, or an id outside the vocabulary.
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        Ok(self.states(ids)?.last)
    }

    /// Hidden states of the last two layers, as [`ClipTextModel::forward`].
    ///
    /// # Errors
    /// As [`ClipTextModel::forward`].
    pub fn states(&self, ids: &[Vec<u32>]) -> Result<ClipStates> {
        let embedded = embed(&self.token_embedding, ids, Some(self.max_tokens()))?;
        let length = embedded.dim(1)?;
        let mut x = embedded.broadcast_add(&self.position_embedding.narrow(0, 0, length)?)?;
        let mut penultimate = x.clone();
        for layer in &self.layers {
            penultimate = x;
            x = layer.forward(&penultimate)?;
        }
        Ok(ClipStates { penultimate, last: self.final_layer_norm.forward(&x)? })
    }

    /// The longest row of ids.
    pub fn max_tokens(&self) -> usize {
        self.position_embedding.dims()[0]
    }

    /// Rows of the table of tokens.
    pub(crate) fn token_rows(&self) -> usize {
        self.token_embedding.dims()[0]
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

/// Hidden states of [`ClipTextModel`], each [b, n, width].
#[derive(Debug, Clone)]
pub struct ClipStates {
    /// Before the last layer, without the final norm: what SDXL attends to (`hidden_states[-2]`).
    pub penultimate: Tensor,
    /// After the last layer and the final norm.
    pub last: Tensor,
}

/// CLIP's text encoder with its pooled output: FLUX's.
#[derive(Debug)]
pub struct ClipTextModelWithPooling {
    text: ClipTextModel,
    end: EndToken,
}

/// CLIP's text encoder with the projection of its pooled output: SDXL's second one.
#[derive(Debug)]
pub struct ClipTextModelWithProjection {
    inner: ClipTextModelWithPooling,
    text_projection: Linear,
}

/// The position whose state is pooled.
#[derive(Debug, Clone, Copy)]
enum EndToken {
    /// The first of the row's highest id: configurations up to 2023 state the wrong end token, 2.
    HighestId,
    /// The first of that id, or the row's beginning where it is absent.
    Id(u32),
}

impl ClipTextModelWithPooling {
    /// Loads `text_encoder/` as [`ClipTextModel::load`] does.
    ///
    /// # Errors
    /// As [`ClipTextModel::load`].
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read(folder)?;
        Self::build(&config, &Weights::open(folder, "model", dtype, device)?)
    }

    fn build(config: &Config, weights: &Weights) -> LoadResult<Self> {
        config.refuse_null(&["eos_token_id"])?;
        Ok(Self {
            text: ClipTextModel::build(config, weights)?,
            end: match config.count_from(0, "eos_token_id", Some(49407))? {
                2 => EndToken::HighestId,
                id => EndToken::Id(id as u32),
            },
        })
    }

    /// Hidden states as [`ClipTextModel::states`] gives them, and the pooled output [b, width]: the last layer's normed state at
    /// the end token.
    ///
    /// # Errors
    /// As [`ClipTextModel::forward`].
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<(ClipStates, Tensor)> {
        let states = self.text.states(ids)?;
        let pooled = ids
            .iter()
            .enumerate()
            .map(|(row, ids)| states.last.get(row)?.narrow(0, self.end.position(ids), 1))
            .collect::<Result<Vec<_>>>()?;
        let pooled = Tensor::cat(&pooled, 0)?;
        Ok((states, pooled))
    }

    /// The encoder alone.
    pub fn text(&self) -> &ClipTextModel {
        &self.text
    }
}

impl ClipTextModelWithProjection {
    /// Loads `text_encoder_2/` as [`ClipTextModel::load`] does, and `text_projection.weight`.
    ///
    /// # Errors
    /// As [`ClipTextModel::load`].
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read(folder)?;
        config.refuse_null(&["eos_token_id", "projection_dim"])?;
        let weights = Weights::open(folder, "model", dtype, device)?;
        let inner = ClipTextModelWithPooling::build(&config, &weights)?;
        let width = config.count("hidden_size", None)?;
        let projected = config.count("projection_dim", Some(512))?;
        let scope = weights.root().at("text_projection");
        let text_projection = Linear::load_without_bias(&scope, width, projected)?;
        Ok(Self { inner, text_projection })
    }

    /// Hidden states as [`ClipTextModel::states`] gives them, and the pooled output [b, projection]: the
    /// last layer's normed state at the end token, projected.
    ///
    /// # Errors
    /// As [`ClipTextModel::forward`].
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<(ClipStates, Tensor)> {
        let (states, pooled) = self.inner.forward(ids)?;
        Ok((states, self.text_projection.forward(&pooled)?))
    }

    /// The longest row of ids.
    pub fn max_tokens(&self) -> usize {
        self.inner.text.max_tokens()
    }

    /// Rows of the table of tokens.
    pub(crate) fn token_rows(&self) -> usize {
        self.inner.text.token_rows()
    }

    /// What of the files changed nothing.
    pub(crate) fn unused_parts(&self) -> &UnusedParts {
        self.inner.text.unused_parts()
    }

    /// Digest of the weight files, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        self.inner.text.sha256()
    }
}

impl EndToken {
    fn position(self, ids: &[u32]) -> usize {
        let end = match self {
            EndToken::HighestId => ids.iter().copied().max().unwrap_or(0),
            EndToken::Id(id) => id,
        };
        ids.iter().position(|id| *id == end).unwrap_or(0)
    }
}

/// Causal self-attention and a feed-forward, each behind its norm and beside its shortcut.
#[derive(Debug)]
struct EncoderLayer {
    layer_norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
}

impl EncoderLayer {
    fn load(scope: &Scope, size: LayerSize) -> LoadResult<Self> {
        let LayerSize { width, inner, heads, activation, eps } = size;
        let linear = |scope: &Scope, input: usize, output: usize| {
            Linear::load(scope, input, output).map(Linear::for_few_rows)
        };
        let projection = |name: &str| linear(&scope.at("self_attn").at(name), width, width);
        Ok(Self {
            layer_norm1: LayerNorm::load(&scope.at("layer_norm1"), width, eps)?,
            query: projection("q_proj")?,
            key: projection("k_proj")?,
            value: projection("v_proj")?,
            out: projection("out_proj")?,
            layer_norm2: LayerNorm::load(&scope.at("layer_norm2"), width, eps)?,
            fc1: linear(&scope.at("mlp.fc1"), width, inner)?,
            fc2: linear(&scope.at("mlp.fc2"), inner, width)?,
            heads,
            activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.layer_norm1.forward(x)?;
        let query = self.query.forward(&normed)?;
        let key = self.key.forward(&normed)?;
        let value = self.value.forward(&normed)?;
        let (causal, packing) = (AttentionMask::Causal, self.out.packing());
        let mixed = attend(&query, &key, &value, self.heads, causal, packing)?;
        let x = self.out.forward_with_shortcut(&mixed, x)?;
        let inner = self.fc1.forward(&self.layer_norm2.forward(&x)?)?;
        self.fc2.forward_with_shortcut(&self.activation.apply_to_own(inner)?, &x)
    }
}
