//! In: nothing. Out: the repositories of models with transformers, for `catalog`. No revision is pinned.

use super::file_rules::FileRule::{EitherOf, FirstOf, Needed, Optional, Weights};
use super::source::{CLIP_TOKENIZER, Host, Source};

/// PixArt-alpha for 1024 pixels.
pub(crate) const PIXART_ALPHA: Source = Source {
    host: Host::HuggingFace,
    repository: "PixArt-alpha/PixArt-XL-2-1024-MS",
    former_names: &[],
    revision: None,
    rules: &[
        Needed("model_index.json"),
        Needed("scheduler/scheduler_config.json"),
        FirstOf(&["tokenizer/tokenizer.json", "tokenizer/spiece.model"]),
        Optional("tokenizer/spiece.model"),
        Optional("tokenizer/tokenizer_config.json"),
        Needed("text_encoder/config.json"),
        Weights("text_encoder/model"),
        Needed("transformer/config.json"),
        Weights("transformer/diffusion_pytorch_model"),
        Needed("vae/config.json"),
        Weights("vae/diffusion_pytorch_model"),
    ],
    pins: &[],
    licence: "CreativeML OpenRAIL++-M",
};

/// PixArt-Sigma for 1024 pixels.
pub(crate) const PIXART_SIGMA: Source =
    Source { repository: "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", ..PIXART_ALPHA };

/// FLUX.1 dev.
pub(crate) const FLUX_DEV: Source = Source {
    host: Host::HuggingFace,
    repository: "black-forest-labs/FLUX.1-dev",
    former_names: &[],
    revision: None,
    rules: &[
        Needed("model_index.json"),
        Needed("scheduler/scheduler_config.json"),
        CLIP_TOKENIZER,
        Optional("tokenizer/tokenizer_config.json"),
        Optional("tokenizer/special_tokens_map.json"),
        FirstOf(&["tokenizer_2/tokenizer.json", "tokenizer_2/spiece.model"]),
        Optional("tokenizer_2/spiece.model"),
        Optional("tokenizer_2/tokenizer_config.json"),
        Needed("text_encoder/config.json"),
        Weights("text_encoder/model"),
        Needed("text_encoder_2/config.json"),
        Weights("text_encoder_2/model"),
        Needed("transformer/config.json"),
        Weights("transformer/diffusion_pytorch_model"),
        Needed("vae/config.json"),
        Weights("vae/diffusion_pytorch_model"),
    ],
    pins: &[],
    licence: "FLUX.1 [dev] Non-Commercial License",
};

/// Stable Diffusion 3.5 medium.
pub(crate) const SD35_MEDIUM: Source = Source {
    host: Host::HuggingFace,
    repository: "stabilityai/stable-diffusion-3.5-medium",
    former_names: &[],
    revision: None,
    rules: &[
        Needed("model_index.json"),
        Needed("scheduler/scheduler_config.json"),
        CLIP_TOKENIZER,
        Optional("tokenizer/tokenizer_config.json"),
        Optional("tokenizer/special_tokens_map.json"),
        EitherOf(
            &["tokenizer_2/vocab.json", "tokenizer_2/merges.txt"],
            &["tokenizer_2/tokenizer.json"],
        ),
        Optional("tokenizer_2/tokenizer_config.json"),
        Optional("tokenizer_2/special_tokens_map.json"),
        FirstOf(&["tokenizer_3/tokenizer.json", "tokenizer_3/spiece.model"]),
        Optional("tokenizer_3/spiece.model"),
        Optional("tokenizer_3/tokenizer_config.json"),
        Needed("text_encoder/config.json"),
        Weights("text_encoder/model"),
        Needed("text_encoder_2/config.json"),
        Weights("text_encoder_2/model"),
        Needed("text_encoder_3/config.json"),
        Weights("text_encoder_3/model"),
        Needed("transformer/config.json"),
        Weights("transformer/diffusion_pytorch_model"),
        Needed("vae/config.json"),
        Weights("vae/diffusion_pytorch_model"),
    ],
    pins: &[],
    licence: "Stability AI Community License",
};
