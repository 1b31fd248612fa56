//! In: nothing. Out: the configurations that Stable Diffusion 1.5, 2.1 and SDXL base were published with, for
//! single files that come without any. The vocabulary is too large to be inside.

/// Path in a checkpoint's folder, and content.
pub(crate) const SD15: &[(&str, &str)] = &[
    ("model_index.json", r#"{"_class_name": "StableDiffusionPipeline"}"#),
    (
        "scheduler/scheduler_config.json",
        r#"{"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
"beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000, "set_alpha_to_one": false,
"skip_prk_steps": true, "steps_offset": 1, "trained_betas": null}"#,
    ),
    (
        "text_encoder/config.json",
        r#"{"hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072,
"layer_norm_eps": 1e-05, "max_position_embeddings": 77, "num_attention_heads": 12,
"num_hidden_layers": 12, "vocab_size": 49408}"#,
    ),
    (
        "unet/config.json",
        r#"{"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8,
"block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
"cross_attention_dim": 768, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
"CrossAttnDownBlock2D", "DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": true,
"freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
"norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}"#,
    ),
    (
        "vae/config.json",
        r#"{"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
"DownEncoderBlock2D"], "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
"norm_num_groups": 32, "out_channels": 3, "sample_size": 512, "scaling_factor": 0.18215,
"up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D",
"UpDecoderBlock2D"]}"#,
    ),
];

/// The same for Stable Diffusion 2.1 for 768 pixels. The scheduler states no prediction: there are files of both kinds. The
/// vocabulary pads with `!`.
pub(crate) const SD2: &[(&str, &str)] = &[
    ("model_index.json", r#"{"_class_name": "StableDiffusionPipeline"}"#),
    (
        "scheduler/scheduler_config.json",
        r#"{"_class_name": "DDIMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
"beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000, "set_alpha_to_one": false,
"skip_prk_steps": true, "steps_offset": 1, "trained_betas": null}"#,
    ),
    (
        "text_encoder/config.json",
        r#"{"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096,
"layer_norm_eps": 1e-05, "max_position_embeddings": 77, "num_attention_heads": 16,
"num_hidden_layers": 23, "vocab_size": 49408}"#,
    ),
    (
        "unet/config.json",
        r#"{"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": [5, 10, 20, 20],
"block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
"cross_attention_dim": 1024, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
"CrossAttnDownBlock2D", "DownBlock2D"], "downsample_padding": 1, "dual_cross_attention": false,
"flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
"mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
"sample_size": 96, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
"CrossAttnUpBlock2D"], "upcast_attention": true, "use_linear_projection": true}"#,
    ),
    (
        "vae/config.json",
        r#"{"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
"DownEncoderBlock2D"], "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
"norm_num_groups": 32, "out_channels": 3, "sample_size": 768, "scaling_factor": 0.18215,
"up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D",
"UpDecoderBlock2D"]}"#,
    ),
];

/// The same for Stable Diffusion XL base. The second vocabulary is the first one's; it pads with `!`.
pub const SDXL: &[(&str, &str)] = &[
    (
        "model_index.json",
        r#"{"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": true}"#,
    ),
    (
        "scheduler/scheduler_config.json",
        r#"{"_class_name": "EulerDiscreteScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
"beta_start": 0.00085, "clip_sample": false, "interpolation_type": "linear",
"num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0,
"set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "timestep_spacing": "leading",
"trained_betas": null, "use_karras_sigmas": false}"#,
    ),
    (
        "text_encoder/config.json",
        r#"{"hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072,
"layer_norm_eps": 1e-05, "max_position_embeddings": 77, "num_attention_heads": 12,
"num_hidden_layers": 12, "projection_dim": 768, "eos_token_id": 2, "vocab_size": 49408}"#,
    ),
    (
        "text_encoder_2/config.json",
        r#"{"hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120,
"layer_norm_eps": 1e-05, "max_position_embeddings": 77, "num_attention_heads": 20,
"num_hidden_layers": 32, "projection_dim": 1280, "eos_token_id": 2, "vocab_size": 49408}"#,
    ),
    (
        "unet/config.json",
        r#"{"_class_name": "UNet2DConditionModel", "act_fn": "silu", "addition_embed_type": "text_time",
"addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20],
"block_out_channels": [320, 640, 1280], "center_input_sample": false, "cross_attention_dim": 2048,
"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
"downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
"layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
"out_channels": 4, "projection_class_embeddings_input_dim": 2816, "sample_size": 128,
"transformer_layers_per_block": [1, 2, 10],
"up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
"use_linear_projection": true}"#,
    ),
    (
        "vae/config.json",
        r#"{"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
"DownEncoderBlock2D"], "force_upcast": true, "in_channels": 3, "latent_channels": 4,
"layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 1024,
"scaling_factor": 0.13025, "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D",
"UpDecoderBlock2D", "UpDecoderBlock2D"]}"#,
    ),
];
