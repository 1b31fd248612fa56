//! In: the flags of a model. Out: the plain options that a session takes.

use std::path::PathBuf;

use crate::cli::args::checkpoint::CheckpointArgs;
use crate::cli::args::control::ControlArgs;
use crate::cli::args::ella::EllaArgs;
use crate::cli::args::program::ProgramArgs;
use crate::cli::args::sampling::SamplingArgs;
use crate::cli::args::server::ServerArgs;
use crate::cli::args::shared::DeviceArgs;
use crate::generate::catalog::{self, CatalogModel};
use crate::generate::model_file::ModelFile;
use crate::session::generator_options::GeneratorOptions;

/// How images are generated; `run` has the same flags.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GeneratorArgs {
    /// A name of the catalog; not stated, the model file's or the demo's.
    #[arg(short, long, value_name = "MODEL", help_heading = "Model", help = model_help())]
    pub model: Option<String>,
    /// TOML file that names a checkpoint with its parts and settings; flags override it
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub model_file: Option<PathBuf>,
    /// The checkpoint and its parts.
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    /// Images per prompt
    #[arg(
        short = 'n',
        long,
        visible_aliases = ["num-images", "num-images-per-prompt"],
        aliases = ["images-per-prompt", "images-per-item"],
        default_value_t = 4,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10_000),
        help_heading = "Sampling"
    )]
    pub images: u32,
    /// How images are sampled.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Images of a prompt made at a time [default: 1 on the processor, 4 on a GPU]
    #[arg(
        long,
        alias = "batch-size",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=256),
        help_heading = "Device"
    )]
    pub batch: Option<u32>,
    /// Parts and settings of ELLA.
    #[command(flatten)]
    pub ella: EllaArgs,
    /// A ControlNet.
    #[command(flatten)]
    pub control: ControlArgs,
    /// A program that makes the images.
    #[command(flatten)]
    pub program: ProgramArgs,
    /// A server that makes the images.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Where the networks run.
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl GeneratorArgs {
    /// Makes sure that there is a model of that name, and then that the devices are spelled in a known way: of several
    /// mistakes the one about the model is told.
    ///
    /// # Errors
    /// One is not, or the model file cannot be read.
    pub(crate) fn check_names(&self) -> anyhow::Result<()> {
        let file = self.model_file.as_deref().map(ModelFile::read).transpose()?;
        let of_file = file.as_ref().map(|file| file.model.as_str());
        let model = self.model.as_deref().or(of_file).unwrap_or(catalog::DEFAULT);
        catalog::check_name(model)?;
        self.device.check_devices()
    }

    /// The model with its settings; those of the model file, where one is named, are overridden by the flags.
    ///
    /// # Errors
    /// A scheduler or number format is unknown, the model file cannot be read or says something unknown, or `auto` knows no
    /// model.
    pub(crate) fn options(&self) -> anyhow::Result<GeneratorOptions> {
        let CheckpointArgs { weights, base, tokenizer, vae, lora, embedding } =
            self.checkpoint.clone();
        let options = GeneratorOptions {
            model: self.model_name().to_owned(),
            name: None,
            recognised: None,
            weights,
            base,
            tokenizer,
            vae,
            loras: lora,
            embeddings: embedding,
            ella: self.ella.options(),
            control: self.control.options(),
            program: self.program.options(),
            server: self.server.options(),
            sampling: self.sampling.choice()?,
            preset: self.sampling.preset.clone(),
            batch: self.batch,
            devices: self.device.named(),
            dtype: self.device.dtype()?,
            products: self.device.products,
        };
        match &self.model_file {
            Some(path) => {
                let mut options = options.over_model_file(path)?;
                if let Some(model) = &self.model {
                    options.model.clone_from(model);
                }
                options.with_recognised_model()
            }
            None => options.with_recognised_model(),
        }
    }

    /// The model that the flags name, else the default one.
    fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or(catalog::DEFAULT)
    }

    /// Whether the model is one of the demo's, which draw nothing but the demo's prompts.
    pub(crate) fn is_demo(&self) -> bool {
        let model = catalog::find(self.model_name());
        self.model_file.is_none() && model.is_ok_and(CatalogModel::is_shipped)
    }
}

fn model_help() -> String {
    let default = catalog::DEFAULT;
    format!(
        "Model, as `dpg-bench list` names it, or auto: that of the checkpoint [default: {default}, or the model file's]"
    )
}

/// Where the run of a model is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RunFolderArgs {
    /// Run directory [default: results/MODEL]
    #[arg(
        short,
        long,
        visible_alias = "output-dir",
        alias = "output",
        value_name = "RUN",
        help_heading = "Output"
    )]
    out: Option<PathBuf>,
}

impl RunFolderArgs {
    /// The directory that the user names.
    pub(crate) fn named(&self) -> Option<PathBuf> {
        self.out.clone()
    }

    /// The run directory: `results/` and the model's name where the user names none.
    pub(crate) fn path(&self, options: &GeneratorOptions) -> PathBuf {
        let usual = || PathBuf::from("results").join(options.run_name());
        self.out.clone().unwrap_or_else(usual)
    }
}
