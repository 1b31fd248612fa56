//! In: the flags of a model. Out: the plain options that a session takes.

use std::path::PathBuf;

use crate::cli::args::checkpoint::CheckpointArgs;
use crate::cli::args::ella::EllaArgs;
use crate::cli::args::program::ProgramArgs;
use crate::cli::args::sampling::SamplingArgs;
use crate::cli::args::shared::DeviceArgs;
use crate::generate::catalog::{self, CatalogModel};
use crate::session::generator_options::GeneratorOptions;

/// How images are generated; `run` has the same flags.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GeneratorArgs {
    /// Model, as `dpg-bench list` names it
    #[arg(long, default_value = catalog::DEFAULT, value_name = "MODEL")]
    pub model: String,
    /// TOML file that names a checkpoint with its parts and settings; flags stand above it
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub model_file: Option<PathBuf>,
    /// The checkpoint and its parts.
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    /// Images per prompt
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub images: u32,
    /// How pictures are sampled.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Images of a prompt made at a time [default: 1 on the processor, 4 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub batch: Option<u32>,
    /// Parts and settings of ELLA.
    #[command(flatten)]
    pub ella: EllaArgs,
    /// A program that makes the images.
    #[command(flatten)]
    pub program: ProgramArgs,
    /// Where the networks run.
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl GeneratorArgs {
    /// The model with its settings; those of the model file, where one is named, stand below the flags.
    ///
    /// # Errors
    /// A scheduler is unknown, or the model file cannot be read or says something unknown.
    pub(crate) fn options(&self) -> anyhow::Result<GeneratorOptions> {
        let CheckpointArgs { weights, base, tokenizer, vae, lora, embedding } =
            self.checkpoint.clone();
        let options = GeneratorOptions {
            model: self.model.clone(),
            name: None,
            weights,
            base,
            tokenizer,
            vae,
            loras: lora,
            embeddings: embedding,
            ella: self.ella.options(),
            program: self.program.options(),
            sampling: self.sampling.choice()?,
            preset: self.sampling.preset.clone(),
            batch: self.batch,
            devices: self.device.named(),
            dtype: self.device.dtype.clone(),
        };
        match &self.model_file {
            Some(path) => options.over_model_file(path),
            None => Ok(options),
        }
    }

    /// Whether the model is one of the demo's, which draw nothing but the demo's prompts.
    pub(crate) fn is_demo(&self) -> bool {
        let model = catalog::find(&self.model);
        self.model_file.is_none() && model.is_ok_and(CatalogModel::is_shipped)
    }
}

/// Where the run goes when the user does not say.
pub(crate) fn default_out(options: &GeneratorOptions) -> PathBuf {
    PathBuf::from("results").join(options.run_name())
}
