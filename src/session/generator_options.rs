//! In: what the user says of a model, a model file, a preset and the model's own defaults. Out: one value for
//! each setting: the user's overrides the model file's, that the preset's, that the model's own.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::control_options::ControlPartOptions;
use super::ella_options::EllaPartOptions;
use super::fetched;
use super::program_options::ProgramPartOptions;
use super::server_options::ServerPartOptions;
use crate::checkpoint::assembled::CheckpointParts;
use crate::checkpoint::embeddings::EmbeddingFile;
use crate::checkpoint::lora::LoraFile;
use crate::compute::products::Products;
use crate::fetch::Role;
use crate::generate::catalog::{self, CatalogModel};
use crate::generate::model_file::ModelFile;
use crate::generate::noise::seeds::SeedMode;
use crate::generate::pipelines::ella::EllaReading;
use crate::generate::pipelines::options::DiffusionOptions;
use crate::generate::recognised::recognise;
use crate::generate::sampling_choice::{SamplingChoice, preset};
use crate::results::Settings;

/// Which model makes the images, from which files, how, and where it computes.
#[derive(Debug, Clone)]
pub struct GeneratorOptions {
    /// Model, as `dpg-bench list` names it.
    pub model: String,
    /// Name of its own for the record, as a model file gives it.
    pub name: Option<String>,
    /// Where the model was `auto`: a sentence on which it is, and by what it was known.
    pub recognised: Option<String>,
    /// The checkpoint: a folder in the diffusers layout, or one .safetensors file in the latent-diffusion
    /// layout; where it is `None`, what `fetch` got.
    pub weights: Option<PathBuf>,
    /// For a single file: a folder whose configurations and vocabulary it uses.
    pub base: Option<PathBuf>,
    /// Folder with another vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Another autoencoder: its folder or file.
    pub vae: Option<PathBuf>,
    /// LoRA adapters, each with its weight.
    pub loras: Vec<LoraFile>,
    /// Textual-inversion embeddings.
    pub embeddings: Vec<EmbeddingFile>,
    /// Parts and settings of ELLA.
    pub ella: EllaPartOptions,
    /// A ControlNet.
    pub control: ControlPartOptions,
    /// The user's program, for the model `program`.
    pub program: ProgramPartOptions,
    /// The image server, for the model `server`.
    pub server: ServerPartOptions,
    /// Size, steps, guidance, scheduler, seeds; what is `None` is the preset's or the model's own.
    pub sampling: SamplingChoice,
    /// Settings under one name, which stand below `sampling`.
    pub preset: Option<String>,
    /// Images of a prompt made at a time; where it is `None`, 1 on the processor and 4 on a GPU.
    pub batch: Option<u32>,
    /// Devices, `auto`, `cpu` or `cuda[:INDEX]`, with the model on each; none means `auto`.
    pub devices: Vec<String>,
    /// Number format of the networks: `auto`, `f32`, `f16` or `bf16`.
    pub dtype: String,
    /// How the factors of products are rounded on the processor; where it is `None`, not at all.
    pub products: Option<Products>,
}

/// Every value of a run's sampling.
#[derive(Debug, Clone)]
pub struct Sampling {
    /// What the pipeline takes.
    pub options: DiffusionOptions,
    /// Base seed.
    pub seed: u64,
    /// How an image's seed follows from it.
    pub seed_mode: SeedMode,
    /// What was stated otherwise than in the preset.
    pub note: Option<String>,
}

impl GeneratorOptions {
    /// The model `model` with its own settings.
    pub fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            name: None,
            recognised: None,
            weights: None,
            base: None,
            tokenizer: None,
            vae: None,
            loras: Vec::new(),
            embeddings: Vec::new(),
            ella: EllaPartOptions::default(),
            control: ControlPartOptions::default(),
            program: ProgramPartOptions::default(),
            server: ServerPartOptions::default(),
            sampling: SamplingChoice::default(),
            preset: None,
            batch: None,
            devices: Vec::new(),
            dtype: "auto".to_owned(),
            products: None,
        }
    }

    /// The same options with those of the model file at `path` below them; its model replaces theirs.
    ///
    /// # Errors
    /// The model file cannot be read or says something unknown.
    pub fn over_model_file(self, path: &Path) -> anyhow::Result<Self> {
        let file = ModelFile::read(path)?;
        Ok(Self {
            model: file.model,
            name: Some(file.name),
            weights: self.weights.or(file.checkpoint),
            base: self.base.or(file.base),
            tokenizer: self.tokenizer.or(file.tokenizer),
            vae: self.vae.or(file.vae),
            loras: file.loras.into_iter().chain(self.loras).collect(),
            embeddings: file.embeddings.into_iter().chain(self.embeddings).collect(),
            ella: EllaPartOptions {
                connector: self.ella.connector.or(file.ella),
                text_encoder: self.ella.text_encoder.or(file.text_encoder),
                reading: EllaReading {
                    tokens: self.ella.reading.tokens.or(file.ella_tokens),
                    template: self.ella.reading.template.or(file.text_template),
                    skip: match self.ella.reading.skip {
                        0 => file.text_skip,
                        skip => skip,
                    },
                },
                ..self.ella
            },
            control: ControlPartOptions {
                controlnet: self.control.controlnet.or(file.controlnet),
                images: self.control.images.or(file.control_images),
                scale: self.control.scale.or(file.controlnet_scale),
                start: self.control.start.or(file.control_guidance_start),
                end: self.control.end.or(file.control_guidance_end),
            },
            program: ProgramPartOptions {
                command: self.program.command.or(file.program),
                ..self.program
            },
            server: self.server.over(file.server.unwrap_or_default()),
            sampling: self.sampling.or(file.settings),
            products: self.products.or(file.products),
            ..self
        })
    }

    /// The same with the model that the checkpoint is of, where the model is `auto`.
    ///
    /// # Errors
    /// No checkpoint is named, no model here runs it, or two models could.
    pub fn with_recognised_model(mut self) -> anyhow::Result<Self> {
        if self.model != catalog::AUTO {
            return Ok(self);
        }
        let Some(weights) = &self.weights else {
            bail!("model auto needs --weights: that checkpoint tells which model it is");
        };
        let mut found = recognise(self.base.as_deref().unwrap_or(&fetched::named(weights)?))?;
        if self.ella.connector.is_some() {
            found = found.with_ella();
        }
        self.recognised = Some(format!("model auto is {}: {}", found.model, found.why));
        found.model.clone_into(&mut self.model);
        Ok(self)
    }

    /// Whether the model is one of the demo's, which draw nothing but the demo's prompts.
    pub fn is_demo(&self) -> bool {
        catalog::find(&self.model).is_ok_and(CatalogModel::is_shipped)
    }

    /// Width and height of the images in pixels, where they are known without loading the model: both are stated.
    pub fn stated_size(&self) -> Option<(u32, u32)> {
        let step = catalog::find(&self.model).map_or(1, CatalogModel::size_step);
        let side =
            |side: Option<usize>| side.and_then(|side| u32::try_from(side / step * step).ok());
        side(self.sampling.width).zip(side(self.sampling.height))
    }

    /// What the run is called where the user does not say.
    pub fn run_name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.model)
    }

    /// The devices named, at least one.
    pub fn device_names(&self) -> Vec<&str> {
        match self.devices.as_slice() {
            [] => vec!["auto"],
            named => named.iter().map(String::as_str).collect(),
        }
    }

    /// Where the checkpoint of the catalog's model `model` lies: where the user says, which may be
    /// `owner/name` in the local cache of Hugging Face, else where `fetch` put it.
    ///
    /// # Errors
    /// There is nothing of that name; a variable of the environment holds what it cannot hold.
    pub fn find_weights(&self, model: &str) -> anyhow::Result<Option<PathBuf>> {
        match &self.weights {
            Some(weights) => fetched::named(weights).map(Some),
            None => fetched::part(model, Role::Checkpoint),
        }
    }

    /// The parts of the checkpoint at `checkpoint`.
    pub fn parts(&self, checkpoint: &Path) -> CheckpointParts {
        CheckpointParts {
            checkpoint: checkpoint.to_path_buf(),
            base: self.base.clone(),
            tokenizer: self.tokenizer.clone(),
            vae: self.vae.clone(),
            loras: self.loras.clone(),
            embeddings: self.embeddings.clone(),
            prediction: None,
        }
    }

    /// Resolves every value of the sampling for `model`.
    ///
    /// # Errors
    /// The preset is unknown.
    pub fn resolve_sampling(&self, model: &CatalogModel) -> anyhow::Result<Sampling> {
        let stated = self.sampling.clone();
        let preset = self.preset.as_deref().map(preset).transpose()?;
        let mut record = Settings::new();
        let mut note = None;
        if let Some(preset) = &preset {
            record.insert("preset".to_owned(), preset.name.into());
            let conflicts = stated.conflicts(&preset.choice);
            note = (!conflicts.is_empty()).then(|| {
                format!(
                    "note: {} stated otherwise than in preset {}, which this run therefore is not",
                    conflicts.join(", "),
                    preset.name
                )
            });
        }
        let choice = stated.or(preset.map(|preset| preset.choice).unwrap_or_default());
        // A checkpoint that is not there is told where it is loaded.
        let checkpoint = self.find_weights(model.name).ok().flatten();
        let defaults = model.defaults_for(checkpoint.as_deref());
        Ok(Sampling {
            seed: choice.seed.unwrap_or_default(),
            seed_mode: choice.seed_mode.unwrap_or_default(),
            options: DiffusionOptions {
                steps: choice.steps.unwrap_or(defaults.steps),
                guidance: choice.guidance.unwrap_or(defaults.guidance),
                true_cfg: choice.true_cfg,
                width: choice.width,
                height: choice.height,
                scheduler: choice.scheduler.or(defaults.scheduler),
                overrides: choice.scheduler_overrides(),
                negative_prompt: choice.negative_prompt,
                rng: choice.rng.unwrap_or_default(),
                control: None,
                record,
            },
            note,
        })
    }
}
