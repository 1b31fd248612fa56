//! In: a folder that should hold a checkpoint in the diffusers layout. Out: a complaint where it does
//! not, its small files, and their digest. The weights are left to `models`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::needed_file::NeededFile;
use super::scheduler_config::edm;
use super::scheduler_config::pipeline_rules::PipelineRules;
use super::small_files::read_component;
use crate::benchmark::digest::hex;
use crate::text::clip::embedding_words::WORDS_FILE;

/// A pipeline of diffusers whose checkpoints are read here. What it changes when it loads one, it changes here:
/// docs/generation.md has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffusersPipeline {
    /// `StableDiffusionPipeline` over Stable Diffusion 1.x.
    Sd1,
    /// `StableDiffusionPipeline` over Stable Diffusion 2.x.
    Sd2,
    /// `LatentConsistencyModelPipeline`.
    Lcm,
    /// `StableDiffusionXLPipeline`.
    Sdxl,
    /// The same with a scheduler of EDM: Playground v2.5.
    SdxlEdm,
    /// `PixArtAlphaPipeline`.
    PixArtAlpha,
    /// `PixArtSigmaPipeline`.
    PixArtSigma,
    /// `StableDiffusion3Pipeline`.
    Sd3,
    /// `FluxPipeline`.
    Flux,
}

/// A checkpoint in the diffusers layout with one text encoder.
const SD_FILES: &[NeededFile] = &[
    NeededFile::Exactly("model_index.json"),
    NeededFile::Exactly("scheduler/scheduler_config.json"),
    NeededFile::OneOf(&[
        &["tokenizer/vocab.json", "tokenizer/merges.txt"],
        &["tokenizer/tokenizer.json"],
    ]),
    NeededFile::Exactly("text_encoder/config.json"),
    NeededFile::Weights { folder: "text_encoder", stem: "model" },
    NeededFile::Exactly("unet/config.json"),
    NeededFile::Weights { folder: "unet", stem: "diffusion_pytorch_model" },
    NeededFile::Exactly("vae/config.json"),
    NeededFile::Weights { folder: "vae", stem: "diffusion_pytorch_model" },
];

/// A Stable Diffusion XL base checkpoint in the diffusers layout.
const SDXL_FILES: &[NeededFile] = &[
    NeededFile::Exactly("model_index.json"),
    NeededFile::Exactly("scheduler/scheduler_config.json"),
    NeededFile::OneOf(&[
        &["tokenizer/vocab.json", "tokenizer/merges.txt"],
        &["tokenizer/tokenizer.json"],
    ]),
    NeededFile::OneOf(&[
        &["tokenizer_2/vocab.json", "tokenizer_2/merges.txt"],
        &["tokenizer_2/tokenizer.json"],
    ]),
    NeededFile::Exactly("text_encoder/config.json"),
    NeededFile::Weights { folder: "text_encoder", stem: "model" },
    NeededFile::Exactly("text_encoder_2/config.json"),
    NeededFile::Weights { folder: "text_encoder_2", stem: "model" },
    NeededFile::Exactly("unet/config.json"),
    NeededFile::Weights { folder: "unet", stem: "diffusion_pytorch_model" },
    NeededFile::Exactly("vae/config.json"),
    NeededFile::Weights { folder: "vae", stem: "diffusion_pytorch_model" },
];

/// A PixArt checkpoint in the diffusers layout.
const PIXART_FILES: &[NeededFile] = &[
    NeededFile::Exactly("model_index.json"),
    NeededFile::Exactly("scheduler/scheduler_config.json"),
    NeededFile::OneOf(&[&["tokenizer/spiece.model"], &["tokenizer/tokenizer.json"]]),
    NeededFile::Exactly("text_encoder/config.json"),
    NeededFile::Weights { folder: "text_encoder", stem: "model" },
    NeededFile::Exactly("transformer/config.json"),
    NeededFile::Weights { folder: "transformer", stem: "diffusion_pytorch_model" },
    NeededFile::Exactly("vae/config.json"),
    NeededFile::Weights { folder: "vae", stem: "diffusion_pytorch_model" },
];

/// A Stable Diffusion 3 checkpoint in the diffusers layout; T5 may be absent.
const SD3_FILES: &[NeededFile] = &[
    NeededFile::Exactly("model_index.json"),
    NeededFile::Exactly("scheduler/scheduler_config.json"),
    NeededFile::OneOf(&[
        &["tokenizer/vocab.json", "tokenizer/merges.txt"],
        &["tokenizer/tokenizer.json"],
    ]),
    NeededFile::OneOf(&[
        &["tokenizer_2/vocab.json", "tokenizer_2/merges.txt"],
        &["tokenizer_2/tokenizer.json"],
    ]),
    NeededFile::Exactly("text_encoder/config.json"),
    NeededFile::Weights { folder: "text_encoder", stem: "model" },
    NeededFile::Exactly("text_encoder_2/config.json"),
    NeededFile::Weights { folder: "text_encoder_2", stem: "model" },
    NeededFile::Exactly("transformer/config.json"),
    NeededFile::Weights { folder: "transformer", stem: "diffusion_pytorch_model" },
    NeededFile::Exactly("vae/config.json"),
    NeededFile::Weights { folder: "vae", stem: "diffusion_pytorch_model" },
];

/// A FLUX.1 checkpoint in the diffusers layout.
const FLUX_FILES: &[NeededFile] = &[
    NeededFile::Exactly("model_index.json"),
    NeededFile::Exactly("scheduler/scheduler_config.json"),
    NeededFile::OneOf(&[
        &["tokenizer/vocab.json", "tokenizer/merges.txt"],
        &["tokenizer/tokenizer.json"],
    ]),
    NeededFile::OneOf(&[&["tokenizer_2/spiece.model"], &["tokenizer_2/tokenizer.json"]]),
    NeededFile::Exactly("text_encoder/config.json"),
    NeededFile::Weights { folder: "text_encoder", stem: "model" },
    NeededFile::Exactly("text_encoder_2/config.json"),
    NeededFile::Weights { folder: "text_encoder_2", stem: "model" },
    NeededFile::Exactly("transformer/config.json"),
    NeededFile::Weights { folder: "transformer", stem: "diffusion_pytorch_model" },
    NeededFile::Exactly("vae/config.json"),
    NeededFile::Weights { folder: "vae", stem: "diffusion_pytorch_model" },
];

/// A component of a pipeline: its name, its library, and the classes that are built here.
type Component = (&'static str, &'static str, &'static [&'static str]);

/// The side of the latents that a UNet was trained on.
pub(crate) struct SampleSize {
    /// Height and width, where they are known.
    pub(crate) size: Option<(usize, usize)>,
    /// What was mended.
    pub(crate) note: Option<String>,
}

impl DiffusersPipeline {
    /// Its class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Sd1 | Self::Sd2 => "StableDiffusionPipeline",
            Self::Lcm => "LatentConsistencyModelPipeline",
            Self::Sdxl | Self::SdxlEdm => "StableDiffusionXLPipeline",
            Self::PixArtAlpha => "PixArtAlphaPipeline",
            Self::PixArtSigma => "PixArtSigmaPipeline",
            Self::Sd3 => "StableDiffusion3Pipeline",
            Self::Flux => "FluxPipeline",
        }
    }

    /// The class of the pipeline that runs its checkpoints under a ControlNet; its own where there is none here.
    pub fn class_with_controlnet(self) -> &'static str {
        match self {
            Self::Sd1 | Self::Sd2 => "StableDiffusionControlNetPipeline",
            Self::Sdxl => "StableDiffusionXLControlNetPipeline",
            _ => self.class(),
        }
    }

    /// The files that a folder of it must hold.
    pub fn files(self) -> &'static [NeededFile] {
        match self {
            Self::Sd1 | Self::Sd2 | Self::Lcm => SD_FILES,
            Self::Sdxl | Self::SdxlEdm => SDXL_FILES,
            Self::PixArtAlpha | Self::PixArtSigma => PIXART_FILES,
            Self::Sd3 => SD3_FILES,
            Self::Flux => FLUX_FILES,
        }
    }

    fn components(self) -> &'static [Component] {
        const TOKENIZERS: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];
        const UNET: Component = ("unet", "diffusers", &["UNet2DConditionModel"]);
        const VAE: Component = ("vae", "diffusers", &["AutoencoderKL"]);
        const T5_TOKENIZERS: &[&str] = &["T5Tokenizer", "T5TokenizerFast"];
        match self {
            Self::Sd1 | Self::Sd2 | Self::Lcm => &[
                ("tokenizer", "transformers", TOKENIZERS),
                ("text_encoder", "transformers", &["CLIPTextModel"]),
                UNET,
                VAE,
            ],
            Self::Sdxl | Self::SdxlEdm => &[
                ("tokenizer", "transformers", TOKENIZERS),
                ("tokenizer_2", "transformers", TOKENIZERS),
                // Only its hidden states are used.
                ("text_encoder", "transformers", &["CLIPTextModel", "CLIPTextModelWithProjection"]),
                ("text_encoder_2", "transformers", &["CLIPTextModelWithProjection"]),
                UNET,
                VAE,
            ],
            Self::PixArtAlpha | Self::PixArtSigma => &[
                ("tokenizer", "transformers", T5_TOKENIZERS),
                ("text_encoder", "transformers", &["T5EncoderModel"]),
                // The second is what files of 2023 name; diffusers takes it for the first.
                ("transformer", "diffusers", &["PixArtTransformer2DModel", "Transformer2DModel"]),
                VAE,
            ],
            // Whether there is a T5 is up to the pipeline.
            Self::Sd3 => &[
                ("tokenizer", "transformers", TOKENIZERS),
                ("tokenizer_2", "transformers", TOKENIZERS),
                ("text_encoder", "transformers", &["CLIPTextModelWithProjection"]),
                ("text_encoder_2", "transformers", &["CLIPTextModelWithProjection"]),
                ("transformer", "diffusers", &["SD3Transformer2DModel"]),
                VAE,
            ],
            Self::Flux => &[
                ("tokenizer", "transformers", TOKENIZERS),
                ("tokenizer_2", "transformers", T5_TOKENIZERS),
                ("text_encoder", "transformers", &["CLIPTextModel"]),
                ("text_encoder_2", "transformers", &["T5EncoderModel"]),
                ("transformer", "diffusers", &["FluxTransformer2DModel"]),
                VAE,
            ],
        }
    }

    /// Refuses a component whose class, in `model_index.json`, is not built here.
    fn check_components(self, index: &Value) -> Result<()> {
        for (name, library, classes) in self.components() {
            let Some(entry) = index.get(*name) else { continue };
            let found = (entry[0].as_str(), entry[1].as_str());
            ensure!(
                found.0 == Some(library) && found.1.is_some_and(|class| classes.contains(&class)),
                "component `{name}` is {entry}, which is not supported; only {} of {library} is",
                classes.join(" or ")
            );
        }
        Ok(())
    }

    /// What it does to the scheduler of the checkpoint in `folder`.
    pub(crate) fn scheduler_rules(self, folder: &Path) -> Result<PipelineRules> {
        let path = folder.join("model_index.json");
        let index = read_component(&path)?;
        let class_name = match index.get("scheduler") {
            None => None,
            Some(entry) => {
                let (library, class) = (entry[0].as_str(), entry[1].as_str());
                ensure!(
                    library == Some("diffusers") && class.is_some(),
                    "{}: component `scheduler` is {entry}, which is not supported; name a scheduler of \
                     diffusers",
                    path.display()
                );
                // Another scheduler would not help: the network is trained for these formulas.
                let is_edm = class.is_some_and(|class| class.starts_with(edm::PREFIX));
                ensure!(
                    is_edm == (self == Self::SdxlEdm),
                    "{}: the scheduler is {}, {}",
                    path.display(),
                    class.unwrap_or_default(),
                    match is_edm {
                        true =>
                            "in the EDM formulation; --model playground-v25 runs such a checkpoint",
                        false => {
                            "where Playground v2.5 has EDMDPMSolverMultistepScheduler or EDMEulerScheduler; such a \
                             checkpoint is for --model playground-v2 or --model sdxl"
                        }
                    }
                );
                class.map(str::to_owned)
            }
        };
        Ok(PipelineRules { class_name, fixes_outdated: self.fixes_outdated() })
    }

    /// Whether values of outdated files are mended.
    fn fixes_outdated(self) -> bool {
        matches!(self, Self::Sd1 | Self::Sd2)
    }

    /// Whether it scales latents by the autoencoder's `latents_mean` and `latents_std`; the others pass them over.
    pub(crate) fn scales_by_statistics(self) -> bool {
        matches!(self, Self::Sdxl | Self::SdxlEdm)
    }

    /// Whether it adds the autoencoder's `shift_factor` to latents; the others pass it over.
    pub(crate) fn adds_shift_factor(self) -> bool {
        matches!(self, Self::Sd3 | Self::Flux)
    }

    /// The model that runs the checkpoint in `folder`, with its `model_index.json`, where there is one: by the class, and
    /// where two models share that by the width of the text or by the scheduler.
    pub(crate) fn model_of(index: &Value, folder: &Path) -> Option<&'static str> {
        let is_edm =
            || index["scheduler"][1].as_str().is_some_and(|class| class.starts_with(edm::PREFIX));
        match Self::model_of_class(index["_class_name"].as_str()?)? {
            "sd15" if text_width(folder) == Some(SD2_WIDTH) => Some("sd2"),
            "sdxl" if is_edm() => Some("playground-v25"),
            model => Some(model),
        }
    }

    /// The model that runs checkpoints of the class `found`, where there is one; of several the first.
    fn model_of_class(found: &str) -> Option<&'static str> {
        match found {
            "StableDiffusionPipeline" => Some("sd15"),
            "LatentConsistencyModelPipeline" => Some("lcm"),
            "StableDiffusionXLPipeline" => Some("sdxl"),
            "PixArtAlphaPipeline" => Some("pixart-alpha"),
            "PixArtSigmaPipeline" => Some("pixart-sigma"),
            "StableDiffusion3Pipeline" => Some("sd3"),
            "FluxPipeline" => Some("flux"),
            _ => None,
        }
    }

    /// Refuses a checkpoint of the other Stable Diffusion: both name one class, and the width of the text tells them
    /// apart.
    fn check_release(self, folder: &Path) -> Result<()> {
        let (width, release, model) = match self {
            Self::Sd1 => (SD2_WIDTH, "2.x", "sd2"),
            Self::Sd2 => (768, "1.x", "sd15"),
            Self::Lcm
            | Self::Sdxl
            | Self::SdxlEdm
            | Self::PixArtAlpha
            | Self::PixArtSigma
            | Self::Sd3
            | Self::Flux => return Ok(()),
        };
        ensure!(
            text_width(folder) != Some(width),
            "{}: cross_attention_dim = {width}: this is a checkpoint of Stable Diffusion {release}, which --model {model} \
             runs",
            folder.join("unet/config.json").display()
        );
        Ok(())
    }

    /// The size of the latents, `stated` in the UNet's configuration: checkpoints that were written before
    /// diffusers 0.9 state a wrong one, which `StableDiffusionPipeline` mends.
    pub(crate) fn sample_size(
        self,
        folder: &Path,
        stated: Option<(usize, usize)>,
    ) -> Result<SampleSize> {
        let path = folder.join("unet/config.json");
        let config = read_component(&path)?;
        let (true, Some(side), Some(version)) = (
            self.fixes_outdated(),
            config["sample_size"].as_u64(),
            config.get("_diffusers_version"),
        ) else {
            return Ok(SampleSize { size: stated, note: None });
        };
        let release = version.as_str().and_then(release).with_context(|| {
            format!("{}: _diffusers_version = {version} is no version", path.display())
        })?;
        if side >= 64 || release >= (0, 9) {
            return Ok(SampleSize { size: stated, note: None });
        }
        let note =
            format!("sample_size: {side} in a file of diffusers {version}, 64 in {}", self.class());
        Ok(SampleSize { size: Some((64, 64)), note: Some(note) })
    }
}

/// The width of Stable Diffusion 2's text.
const SD2_WIDTH: u64 = 1024;

/// The width of the text that the UNet in `folder` attends to. What is wrong with the file is told where it is read.
fn text_width(folder: &Path) -> Option<u64> {
    read_component(&folder.join("unet/config.json")).ok()?["cross_attention_dim"].as_u64()
}

/// The first two numbers of a version.
fn release(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let number = |part: Option<&str>| {
        let part = part.unwrap_or("0");
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    };
    Some((number(parts.next())?, number(parts.next())?))
}

/// `model_index.json` of `folder`, which must name `pipeline` and components that are built here; `model`
/// is its name in the catalog. Complains about absent files before any is read.
///
/// # Errors
/// A file is missing or broken, or the checkpoint is of another kind.
pub(crate) fn check_folder(
    folder: &Path,
    model: &str,
    pipeline: DiffusersPipeline,
) -> Result<Value> {
    let class = pipeline.class();
    ensure!(
        folder.is_dir(),
        "{} is no folder; --weights takes a diffusers folder, a single file or OWNER/NAME of the Hugging Face cache",
        folder.display()
    );
    let path = folder.join("model_index.json");
    let index = path.is_file().then(|| read_component(&path)).transpose()?.unwrap_or_default();
    // Of another model, its own files are missing too: that is the least of it.
    if path.is_file() {
        let found = index.get("_class_name").and_then(Value::as_str).unwrap_or("nothing");
        let right = DiffusersPipeline::model_of(&index, folder);
        let right = right.map(|model| format!("; try --model {model}")).unwrap_or_default();
        ensure!(
            found == class,
            "{} names a {found}; model {model} runs {class} checkpoints{right}",
            path.display()
        );
    }
    let missing = pipeline.files().iter().filter(|file| !file.is_in(folder));
    let list: String = missing.map(|file| format!("\n  {file}")).collect();
    if !list.is_empty() {
        bail!("{} is no complete {class} checkpoint; it lacks:{list}", folder.display());
    }
    pipeline.check_components(&index).with_context(|| path.display().to_string())?;
    pipeline.check_release(folder)?;
    Ok(index)
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    log::debug!("opened {}", path.display());
    Ok(text)
}

/// The small files of a tokenizer that decide its ids, by their names in `folder`.
pub(crate) fn tokenizer_files(folder: &str) -> Vec<String> {
    let names = [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        WORDS_FILE,
    ];
    names.iter().map(|name| format!("{folder}/{name}")).collect()
}

/// SHA-256 over names, lengths and contents of those of `files` that are in `folder`.
pub(crate) fn files_sha256(
    folder: &Path,
    files: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in files {
        let file = file.as_ref();
        let path = folder.join(file);
        if !path.is_file() {
            continue;
        }
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher.update(format!("{file} {}\n", bytes.len()));
        hasher.update(bytes);
    }
    Ok(hex(&hasher.finalize()))
}
