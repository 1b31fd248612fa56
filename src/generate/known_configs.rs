//! In: nothing. Out: the configurations that Stable Diffusion 1.5 was published with, for single files
//! that come without any. The vocabulary is too large to be inside.

/// Path in a checkpoint's folder, and content.
pub const SD15: &[(&str, &str)] = &[
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
