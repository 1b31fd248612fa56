//! In: nothing. Out: the table of models that can generate, with the pipeline of each and the files that it
//! needs. Loading them is left to one file per pipeline.

use std::path::Path;

use anyhow::{Context, ensure};

use super::ImageGenerator;
use super::pipelines::ella::{Ella, EllaBase, EllaFiles, EllaOptions, EllaReading};
use super::pipelines::flux::Flux;
use super::pipelines::options::DiffusionOptions;
use super::pipelines::pixart::{PixArt, PixArtModel};
use super::pipelines::sd3::Sd3;
use super::pipelines::sd15::{Sd15, SdModel};
use super::pipelines::sdxl::{Sdxl, SdxlModel};
use crate::checkpoint::folder::DiffusersPipeline;
use crate::checkpoint::needed_file::NeededFile;
use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use crate::checkpoint::shipped::{DEMO_ELLA, DEMO_SD, ShippedFolder};
use crate::checkpoint::small_files::read_component;
use crate::compute::device::Place;
use crate::near_names::did_you_mean;

/// A model that `generate --model NAME` knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CatalogModel {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// What makes its pictures.
    pub pipeline: Pipeline,
    /// Where its files are.
    pub source: Source,
    /// Settings where the user says nothing.
    pub defaults: Defaults,
}

/// What makes a model's pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipeline {
    /// Stable Diffusion 1.x and 2.x, and latent consistency models.
    Sd(SdModel),
    /// Stable Diffusion XL, and models of its layout.
    Sdxl(SdxlModel),
    /// PixArt-alpha and PixArt-Sigma.
    PixArt(PixArtModel),
    /// Stable Diffusion 3 and 3.5.
    Sd3,
    /// FLUX.1 dev and schnell.
    Flux,
    /// ELLA over one of them.
    Ella(EllaBase),
}

/// What a pipeline is loaded from, and where to.
pub struct PipelineParts<'a> {
    /// The checkpoint's folder in the diffusers layout.
    pub checkpoint: &'a Path,
    /// The files of an ELLA.
    pub ella: Option<EllaFiles>,
    /// How an ELLA reads texts.
    pub reading: EllaReading,
    /// Whether an ELLA frees its text encoders before the UNet is loaded.
    pub low_memory: bool,
    /// How images are made.
    pub options: DiffusionOptions,
    /// Where, and in which number format.
    pub place: Place,
}

impl Pipeline {
    /// Loads it.
    ///
    /// # Errors
    /// A file is missing or broken, the parts do not go together, or a setting is impossible.
    pub fn load(self, parts: PipelineParts<'_>) -> anyhow::Result<Box<dyn ImageGenerator>> {
        let PipelineParts { checkpoint, ella, reading, low_memory, options, place } = parts;
        let Place { dtype, device } = place;
        ensure!(
            options.control.is_none() || self.takes_controlnet(),
            "this pipeline takes no ControlNet"
        );
        Ok(match self {
            Self::Sd(model) => {
                Box::new(Sd15::load_model(model, checkpoint, dtype, &device, options)?)
            }
            Self::Sdxl(model) => {
                Box::new(Sdxl::load_model(model, checkpoint, dtype, &device, options)?)
            }
            Self::PixArt(model) => {
                Box::new(PixArt::load(model, checkpoint, dtype, &device, options)?)
            }
            Self::Sd3 => Box::new(Sd3::load(checkpoint, dtype, &device, options)?),
            Self::Flux => Box::new(Flux::load(checkpoint, dtype, &device, options)?),
            Self::Ella(base) => {
                let files = ella.context("an ELLA needs its connector and text encoder")?;
                let options = EllaOptions { reading, low_memory, pictures: options };
                Box::new(Ella::load(base, files, dtype, &device, options)?)
            }
        })
    }

    /// Whether it can be run under a ControlNet.
    pub(crate) fn takes_controlnet(self) -> bool {
        match self {
            Self::Sd(model) => model != SdModel::Lcm,
            Self::Sdxl(model) => model != SdxlModel::PlaygroundV25,
            Self::Ella(_) => true,
            Self::PixArt(_) | Self::Sd3 | Self::Flux => false,
        }
    }

    /// Whether it is an ELLA.
    pub(crate) fn is_ella(self) -> bool {
        matches!(self, Self::Ella(_))
    }
}

/// Where a model's files are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source {
    /// In a folder of the user's, with a checkpoint of this pipeline.
    Folder(DiffusersPipeline),
    /// Inside the program.
    Shipped {
        /// The checkpoint.
        checkpoint: &'static ShippedFolder,
        /// The connector and text encoder of an ELLA.
        ella: Option<&'static ShippedFolder>,
    },
}

/// How a model makes pictures where the user says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Denoising steps.
    pub steps: usize,
    /// Strength of classifier-free guidance.
    pub guidance: f64,
    /// Scheduler; `None` takes the checkpoint's own.
    pub scheduler: Option<SchedulerClass>,
}

/// Those of diffusers' `StableDiffusionPipeline`.
const DIFFUSERS: Defaults = Defaults { steps: 50, guidance: 7.5, scheduler: None };

/// Those of diffusers' `StableDiffusionXLPipeline`.
const DIFFUSERS_XL: Defaults = Defaults { guidance: 5.0, ..DIFFUSERS };

/// Those of diffusers' `LatentConsistencyModelPipeline`.
const DIFFUSERS_LCM: Defaults = Defaults { steps: 4, guidance: 8.5, scheduler: None };

/// Those of Playground v2's page.
const PLAYGROUND_V2: Defaults = Defaults { guidance: 3.0, ..DIFFUSERS };

/// Those of Playground v2.5's page.
const PLAYGROUND_V25: Defaults = Defaults { guidance: 3.0, ..DIFFUSERS };

/// Those of diffusers' `PixArtAlphaPipeline` and `PixArtSigmaPipeline`.
const DIFFUSERS_PIXART: Defaults = Defaults { steps: 20, guidance: 4.5, scheduler: None };

/// Those of diffusers' `StableDiffusion3Pipeline`.
const DIFFUSERS_SD3: Defaults = Defaults { steps: 28, guidance: 7.0, scheduler: None };

/// Those of diffusers' `FluxPipeline`, which are for FLUX.1 dev.
const DIFFUSERS_FLUX: Defaults = Defaults { steps: 28, guidance: 3.5, scheduler: None };

/// Those of FLUX.1 schnell's page.
const FLUX_SCHNELL: Defaults = Defaults { steps: 4, guidance: 0.0, scheduler: None };

/// Those of ELLA's released test code.
const ELLA: Defaults =
    Defaults { steps: 50, guidance: 12.0, scheduler: Some(SchedulerClass::DpmSolverMultistep) };

/// Those that the scores in the models' card were measured with.
const DEMO: Defaults =
    Defaults { steps: 20, guidance: 4.0, scheduler: Some(SchedulerClass::DpmSolverMultistep) };

impl CatalogModel {
    /// What its folder must hold; nothing where it is inside the program.
    pub fn files(&self) -> &'static [NeededFile] {
        match self.source {
            Source::Folder(pipeline) => pipeline.files(),
            Source::Shipped { .. } => &[],
        }
    }

    /// Settings where the user says nothing, for the checkpoint in `folder`, where there is one: one model runs FLUX.1 dev and
    /// schnell, and what a transformer is told tells them apart.
    pub fn defaults_for(&self, folder: Option<&Path>) -> Defaults {
        let transformer = folder
            .filter(|_| self.pipeline == Pipeline::Flux)
            .and_then(|folder| read_component(&folder.join("transformer/config.json")).ok());
        match transformer {
            Some(config) if config["guidance_embeds"].as_bool() != Some(true) => FLUX_SCHNELL,
            _ => self.defaults,
        }
    }

    /// The pixels to whose multiples it rounds a stated side down; 1 where it makes what is stated or refuses it.
    pub(crate) fn size_step(&self) -> usize {
        if self.pipeline == Pipeline::Flux { 16 } else { 1 }
    }

    /// Whether it is inside the program.
    pub(crate) fn is_shipped(&self) -> bool {
        matches!(self.source, Source::Shipped { .. })
    }

    /// The files that `folder` lacks, in the table's order.
    pub fn missing(&self, folder: &Path) -> Vec<NeededFile> {
        self.files().iter().filter(|file| !file.is_in(folder)).copied().collect()
    }
}

/// The model where the user names none.
pub(crate) const DEFAULT: &str = "demo-ella";

/// In place of a name: the model that the checkpoint is of.
pub(crate) const AUTO: &str = "auto";

/// Every model that works.
pub const MODELS: &[CatalogModel] = &[
    CatalogModel {
        name: "demo-sd",
        description: "inside the program: Stable Diffusion 1.x at small size, trained on drawn shapes of \
                      64 x 64 pixels, with a text encoder that reads 24 tokens",
        pipeline: Pipeline::Sd(SdModel::Sd15),
        source: Source::Shipped { checkpoint: &DEMO_SD, ella: None },
        defaults: DEMO,
    },
    CatalogModel {
        name: DEFAULT,
        description: "inside the program: ELLA over demo-sd, which reads the whole prompt",
        pipeline: Pipeline::Ella(EllaBase::Sd15),
        source: Source::Shipped { checkpoint: &DEMO_SD, ella: Some(&DEMO_ELLA) },
        defaults: DEMO,
    },
    CatalogModel {
        name: "sd15",
        description: "Stable Diffusion 1.x (StableDiffusionPipeline in the diffusers layout), 512 x 512",
        pipeline: Pipeline::Sd(SdModel::Sd15),
        source: Source::Folder(DiffusersPipeline::Sd1),
        defaults: DIFFUSERS,
    },
    CatalogModel {
        name: "sd2",
        description: "Stable Diffusion 2.0 and 2.1 (StableDiffusionPipeline in the diffusers layout), 768 x 768, \
                      the base models 512 x 512",
        pipeline: Pipeline::Sd(SdModel::Sd2),
        source: Source::Folder(DiffusersPipeline::Sd2),
        defaults: DIFFUSERS,
    },
    CatalogModel {
        name: "sdxl",
        description: "Stable Diffusion XL base (StableDiffusionXLPipeline in the diffusers layout), \
                      1024 x 1024, without the refiner",
        pipeline: Pipeline::Sdxl(SdxlModel::Sdxl),
        source: Source::Folder(DiffusersPipeline::Sdxl),
        defaults: DIFFUSERS_XL,
    },
    CatalogModel {
        name: "playground-v2",
        description: "Playground v2 (StableDiffusionXLPipeline in the diffusers layout), 1024 x 1024",
        pipeline: Pipeline::Sdxl(SdxlModel::PlaygroundV2),
        source: Source::Folder(DiffusersPipeline::Sdxl),
        defaults: PLAYGROUND_V2,
    },
    CatalogModel {
        name: "playground-v25",
        description: "Playground v2.5 (StableDiffusionXLPipeline with a scheduler of EDM in the diffusers layout), \
                      1024 x 1024",
        pipeline: Pipeline::Sdxl(SdxlModel::PlaygroundV25),
        source: Source::Folder(DiffusersPipeline::SdxlEdm),
        defaults: PLAYGROUND_V25,
    },
    CatalogModel {
        name: "lcm",
        description: "latent consistency models of Stable Diffusion 1.x (LatentConsistencyModelPipeline in the \
                      diffusers layout): 4 steps, told the guidance",
        pipeline: Pipeline::Sd(SdModel::Lcm),
        source: Source::Folder(DiffusersPipeline::Lcm),
        defaults: DIFFUSERS_LCM,
    },
    CatalogModel {
        name: "pixart-alpha",
        description: "PixArt-alpha (PixArtAlphaPipeline in the diffusers layout), 1024 x 1024, or what its \
                      transformer was trained on",
        pipeline: Pipeline::PixArt(PixArtModel::Alpha),
        source: Source::Folder(DiffusersPipeline::PixArtAlpha),
        defaults: DIFFUSERS_PIXART,
    },
    CatalogModel {
        name: "pixart-sigma",
        description: "PixArt-Sigma (PixArtSigmaPipeline in the diffusers layout), 1024 x 1024, or what its \
                      transformer was trained on",
        pipeline: Pipeline::PixArt(PixArtModel::Sigma),
        source: Source::Folder(DiffusersPipeline::PixArtSigma),
        defaults: DIFFUSERS_PIXART,
    },
    CatalogModel {
        name: "sd3",
        description: "Stable Diffusion 3 and 3.5, medium and large (StableDiffusion3Pipeline in the diffusers \
                      layout), 1024 x 1024, with T5 or without",
        pipeline: Pipeline::Sd3,
        source: Source::Folder(DiffusersPipeline::Sd3),
        defaults: DIFFUSERS_SD3,
    },
    CatalogModel {
        name: "flux",
        description: "FLUX.1 dev and schnell (FluxPipeline in the diffusers layout), 1024 x 1024; schnell is known \
                      by its transformer, and makes images in 4 steps without guidance",
        pipeline: Pipeline::Flux,
        source: Source::Folder(DiffusersPipeline::Flux),
        defaults: DIFFUSERS_FLUX,
    },
    CatalogModel {
        name: "ella-sd15",
        description: "ELLA over Stable Diffusion 1.x: its checkpoint, and with --ella the connector and \
                      with --text-encoder the folder of flan-t5-xl or a language model",
        pipeline: Pipeline::Ella(EllaBase::Sd15),
        source: Source::Folder(DiffusersPipeline::Sd1),
        defaults: ELLA,
    },
    CatalogModel {
        name: "ella-sdxl",
        description: "ELLA over Stable Diffusion XL base, for a connector of your own (ELLA's authors \
                      published none) or an adapter that pools, with --ella and --text-encoder as for ella-sd15",
        pipeline: Pipeline::Ella(EllaBase::Sdxl),
        source: Source::Folder(DiffusersPipeline::Sdxl),
        defaults: DIFFUSERS_XL,
    },
];

/// A model that makes images outside of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideModel {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// What the user names for it.
    pub needs: &'static str,
}

/// A program of the user's.
pub(crate) const PROGRAM: &str = "program";

/// An image server.
pub(crate) const SERVER: &str = "server";

/// Every model that works outside.
pub const OUTSIDE: &[OutsideModel] = &[
    OutsideModel {
        name: PROGRAM,
        description: "a program of your own, started once for each device, which makes images for JSON lines: a \
                      Python script of some 40 lines over diffusers or any other library (docs/programs.md)",
        needs: "--program COMMAND",
    },
    OutsideModel {
        name: SERVER,
        description: "an image server, asked over HTTP: whatever speaks OpenAI's images API, vLLM-Omni, SGLang, LocalAI, \
                      the web UIs' sdapi, stable-diffusion.cpp, ComfyUI, xDiT, Hugging Face (docs/image-servers.md)",
        needs: "--server-url URL",
    },
];

/// Finds a model by its name.
///
/// # Errors
/// There is none; the sentence lists those there are.
pub fn find(name: &str) -> Result<&'static CatalogModel, UnknownModel> {
    MODELS.iter().find(|model| model.name == name).ok_or_else(|| UnknownModel(name.to_owned()))
}

/// The models that a ControlNet may be given for; nobody trained one for the demo's.
pub(crate) fn controlled_models() -> Vec<&'static str> {
    let takes = |model: &&CatalogModel| model.pipeline.takes_controlnet() && !model.is_shipped();
    MODELS.iter().filter(takes).map(|model| model.name).collect()
}

/// Makes sure that there is a model of that name, inside or outside.
///
/// # Errors
/// There is none; the sentence lists those there are.
pub(crate) fn check_name(name: &str) -> Result<(), UnknownModel> {
    match names().any(|known| known == name) {
        true => Ok(()),
        false => Err(UnknownModel(name.to_owned())),
    }
}

/// Every model's name.
fn names() -> impl Iterator<Item = &'static str> {
    let inside = MODELS.iter().map(|model| model.name);
    inside.chain(OUTSIDE.iter().map(|model| model.name)).chain([AUTO])
}

/// No model of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "model `{0}` is unknown{near}; there are {names}",
    near = did_you_mean(.0, names()),
    names = names().collect::<Vec<_>>().join(", ")
)]
pub struct UnknownModel(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_listed_is_known() {
        for name in names() {
            assert_eq!(check_name(name), Ok(()));
        }
        assert_eq!(check_name("sd51"), Err(UnknownModel("sd51".into())));
    }

    #[test]
    fn missing_files_are_told_and_variants_count() {
        let folder = tempfile::tempdir().unwrap();
        let model = find("sd15").unwrap();
        assert_eq!(model.missing(folder.path()).len(), model.files().len());
        for file in [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "tokenizer/tokenizer.json",
            "text_encoder/config.json",
            "text_encoder/pytorch_model.fp16.bin",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "vae/config.json",
            // The other library's name.
            "vae/pytorch_model.bin",
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let missing: Vec<String> =
            model.missing(folder.path()).iter().map(|f| f.to_string()).collect();
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].starts_with("vae/diffusion_pytorch_model.safetensors"));
        assert!(find("sd4").unwrap_err().to_string().contains("sd15"));
    }
}
