//! In: `config.json` of a decoder-only language model, as transformers 4 or 5 writes it. Out: its sizes, or a sentence
//! on the key that this build cannot honour.

use super::rope::{gemma_ropes, rope};
use crate::checkpoint::config::Config;
use crate::compute::layers::{Activation, LoadResult};
use crate::models::decoder_layer::LayerSizes;

/// Keys that are read.
pub(super) const READ: &[&str] = &[
    "attention_bias",
    "attn_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "partial_rotary_factor",
    "quantization_config",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "sliding_window_pattern",
    "use_bidirectional_attention",
    "use_sliding_window",
    "vocab_size",
];

/// Keys of training, of the head, and of how the network is stored and called.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "final_logit_softcapping",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    // Another order of the same products.
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

/// Keys that ask for another network, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("attn_logit_softcapping", &[]),
    ("partial_rotary_factor", &["1", "1.0"]),
    ("quantization_config", &[]),
    ("use_bidirectional_attention", &["false"]),
];

/// What a layer's tokens see, and how their positions turn them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerView {
    /// How many tokens up to itself a token sees; all where there is nothing.
    pub(super) window: Option<usize>,
    /// Which frequencies.
    pub(super) rope: usize,
}

/// Sizes of a decoder.
#[derive(Debug)]
pub(super) struct DecoderSizes {
    pub(super) kind: &'static str,
    pub(super) vocabulary: usize,
    pub(super) layer: LayerSizes,
    /// One for each layer.
    pub(super) views: Vec<LayerView>,
    /// Frequencies of positions, `head / 2` each.
    pub(super) ropes: Vec<Vec<f32>>,
    pub(super) embedding_factor: Option<f64>,
}

/// The text model's configuration within that of a model that sees pictures.
pub(super) fn of_text(whole: &Config) -> LoadResult<Option<Config>> {
    match whole.name("model_type", "")? {
        "gemma3" => {
            whole.refuse_unless_neutral(&[("quantization_config", &[])])?;
            whole
                .part("text_config")?
                .map(Some)
                .ok_or_else(|| whole.unsupported("text_config", "a gemma3 model has it"))
        }
        _ => Ok(None),
    }
}

impl DecoderSizes {
    pub(super) fn from_config(config: &Config) -> LoadResult<Self> {
        config.refuse_unless_neutral(NEUTRAL)?;
        match config.name("model_type", "")? {
            "llama" => Self::llama(config),
            "qwen3" => Self::qwen3(config),
            "gemma3_text" => Self::gemma3(config),
            _ => Err(config.unsupported("model_type", "llama, qwen3, gemma3_text and gemma3 are")),
        }
    }

    fn llama(config: &Config) -> LoadResult<Self> {
        config.refuse_unless_all("layer_types", "\"full_attention\"")?;
        let heads = config.count("num_attention_heads", None)?;
        let width = config.count("hidden_size", None)?;
        let head = config.count_if_any(1, "head_dim")?.unwrap_or(width / heads);
        let layer = LayerSizes {
            mlp_bias: config.flag("mlp_bias", false)?,
            ..layer(config, width, (heads, heads), head, ("hidden_act", "silu"))?
        };
        let depth = config.count("num_hidden_layers", None)?;
        Ok(Self {
            kind: "llama",
            vocabulary: config.count("vocab_size", None)?,
            views: vec![LayerView { window: None, rope: 0 }; depth],
            ropes: vec![rope(config, head)?],
            embedding_factor: None,
            layer,
        })
    }

    fn qwen3(config: &Config) -> LoadResult<Self> {
        config.refuse_unless_neutral(&[("mlp_bias", &["false"])])?;
        let heads = config.count("num_attention_heads", None)?;
        let width = config.count("hidden_size", None)?;
        let head = config.count("head_dim", Some(128))?;
        let layer = LayerSizes {
            head_norms: true,
            ..layer(config, width, (heads, 32), head, ("hidden_act", "silu"))?
        };
        let depth = config.count("num_hidden_layers", None)?;
        let slides = config.flag("use_sliding_window", false)?;
        let first = config.count_from(0, "max_window_layers", Some(28))?;
        let window = config.count_if_any(1, "sliding_window")?.filter(|_| slides);
        let usual = |number: usize| window.is_some() && number >= first;
        let views = views(config, depth, window, usual)?;
        // One rope for both kinds of layers.
        let views = views.into_iter().map(|view| LayerView { rope: 0, ..view }).collect();
        Ok(Self {
            kind: "qwen3",
            vocabulary: config.count("vocab_size", None)?,
            views,
            ropes: vec![rope(config, head)?],
            embedding_factor: None,
            layer,
        })
    }

    fn gemma3(config: &Config) -> LoadResult<Self> {
        config.refuse_unless_neutral(&[("mlp_bias", &["false"])])?;
        let heads = config.count("num_attention_heads", Some(8))?;
        let width = config.count("hidden_size", Some(2304))?;
        let head = config.count("head_dim", Some(256))?;
        // Scores are divided by the root of this number, which attention takes for the head size.
        let divisor = config.count("query_pre_attn_scalar", Some(256))?;
        let factor = (head as f64 / divisor as f64).sqrt();
        let layer = LayerSizes {
            head_norms: true,
            norms_around: true,
            query_factor: (head != divisor).then_some(factor),
            ..layer(config, width, (heads, 4), head, ("hidden_activation", "gelu_pytorch_tanh"))?
        };
        let depth = config.count("num_hidden_layers", Some(26))?;
        let window = config.count("sliding_window", Some(4096))?;
        let pattern = config.count("sliding_window_pattern", Some(6))?;
        let usual = |number: usize| !(number + 1).is_multiple_of(pattern);
        Ok(Self {
            kind: "gemma3_text",
            vocabulary: config.count("vocab_size", Some(262_208))?,
            views: views(config, depth, Some(window), usual)?,
            ropes: gemma_ropes(config, head)?,
            embedding_factor: Some((width as f64).sqrt()),
            layer,
        })
    }
}

/// A layer as LLaMA has it; `heads` are those of queries, and of keys where the file does not say.
fn layer(
    config: &Config,
    width: usize,
    (heads, usual_key_heads): (usize, usize),
    head: usize,
    (key, usual): (&str, &str),
) -> LoadResult<LayerSizes> {
    let key_heads = config.count("num_key_value_heads", Some(usual_key_heads))?;
    if !heads.is_multiple_of(key_heads) {
        let hint = format!("it must divide {heads} heads");
        return Err(config.unsupported("num_key_value_heads", &hint));
    }
    if !head.is_multiple_of(2) {
        return Err(config.unsupported("head_dim", "an even number is needed"));
    }
    let activation = Activation::named(config.name(key, usual)?)
        .ok_or_else(|| config.unsupported(key, "silu, relu and the GELU family are"))?;
    Ok(LayerSizes {
        width,
        inner: config.count("intermediate_size", None)?,
        heads,
        key_heads,
        head,
        activation,
        eps: config.number("rms_norm_eps", 1e-6)?,
        head_norms: false,
        norms_around: false,
        attention_bias: config.flag("attention_bias", false)?,
        mlp_bias: false,
        query_factor: None,
    })
}

/// Which layers see `window` tokens: those that `layer_types` names, or those of `usual`. Their rope is 1, the others' 0.
fn views(
    config: &Config,
    depth: usize,
    window: Option<usize>,
    usual: impl Fn(usize) -> bool,
) -> LoadResult<Vec<LayerView>> {
    let refusal = || {
        let hint = format!("{depth} names are needed, full_attention or sliding_attention each");
        config.unsupported("layer_types", &hint)
    };
    let slides = match config.names_if_any("layer_types")? {
        None => (0..depth).map(usual).collect(),
        Some(names) if names.len() == depth => names
            .into_iter()
            .map(|name| match name {
                "full_attention" => Ok(false),
                "sliding_attention" => Ok(true),
                _ => Err(refusal()),
            })
            .collect::<LoadResult<Vec<_>>>()?,
        Some(_) => return Err(refusal()),
    };
    if slides.contains(&true) && window.is_none() {
        let hint = "the layers of sliding_attention need a window";
        return Err(config.unsupported("sliding_window", hint));
    }
    let view =
        |slides: bool| LayerView { window: window.filter(|_| slides), rope: usize::from(slides) };
    Ok(slides.into_iter().map(view).collect())
}
