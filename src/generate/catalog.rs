//! In: nothing. Out: the table of models that can generate, with the files that each needs. Loading
//! them is left to one file per pipeline.

use std::path::Path;

use super::schedulers::SchedulerClass;

/// A model that `generate --model NAME` knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CatalogModel {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// What its folder must hold; nothing where the checkpoint is inside the program.
    pub files: &'static [NeededFile],
    /// Settings where the user says nothing.
    pub defaults: Defaults,
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

/// Those of ELLA's released test code.
const ELLA: Defaults =
    Defaults { steps: 50, guidance: 12.0, scheduler: Some(SchedulerClass::DpmSolverMultistep) };

/// A Stable Diffusion 1.x checkpoint in the diffusers layout.
const SD15_FILES: &[NeededFile] = &[
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

/// A file of a model's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeededFile {
    /// A file of that name, with `/` between folder and file.
    Exactly(&'static str),
    /// Any one of several sets of files, each set whole.
    OneOf(&'static [&'static [&'static str]]),
    /// Safetensors weights in a folder: `<stem>.safetensors`, a variant such as
    /// `<stem>.fp16.safetensors`, or the index of a set of shards.
    Weights {
        /// Folder in the model's folder.
        folder: &'static str,
        /// How the file names begin.
        stem: &'static str,
    },
}

impl NeededFile {
    /// Whether `root` holds it.
    pub fn is_in(&self, root: &Path) -> bool {
        match self {
            Self::Exactly(name) => root.join(name).is_file(),
            Self::OneOf(sets) => {
                sets.iter().any(|set| set.iter().all(|name| root.join(name).is_file()))
            }
            Self::Weights { folder, stem } => {
                let Ok(entries) = std::fs::read_dir(root.join(folder)) else { return false };
                entries.flatten().any(|entry| {
                    let name = entry.file_name();
                    let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(stem)) else {
                        return false;
                    };
                    rest.starts_with('.') && rest.contains(".safetensors")
                })
            }
        }
    }
}

impl std::fmt::Display for NeededFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::OneOf(sets) => {
                let sets: Vec<String> = sets.iter().map(|set| set.join(" + ")).collect();
                f.write_str(&sets.join(" or "))
            }
            Self::Weights { folder, stem } => {
                write!(f, "{folder}/{stem}.safetensors (or {stem}.fp16.safetensors, or shards)")
            }
        }
    }
}

impl CatalogModel {
    /// The files that `folder` lacks, in the table's order.
    pub fn missing(&self, folder: &Path) -> Vec<NeededFile> {
        self.files.iter().filter(|file| !file.is_in(folder)).copied().collect()
    }
}

/// The model whose checkpoint is inside the program.
pub const SHIPPED: &str = "tiny-sd15";

/// Every model that works.
pub const MODELS: &[CatalogModel] = &[
    CatalogModel {
        name: SHIPPED,
        description: "the checkpoint inside the program: Stable Diffusion 1.x at toy size with random \
                      weights, whose pictures are noise; to try everything out",
        files: &[],
        defaults: DIFFUSERS,
    },
    CatalogModel {
        name: "sd15",
        description: "Stable Diffusion 1.x (StableDiffusionPipeline in the diffusers layout), 512 x 512",
        files: SD15_FILES,
        defaults: DIFFUSERS,
    },
    CatalogModel {
        name: "sdxl",
        description: "Stable Diffusion XL base (StableDiffusionXLPipeline in the diffusers layout), \
                      1024 x 1024, without the refiner",
        files: SDXL_FILES,
        defaults: DIFFUSERS_XL,
    },
    CatalogModel {
        name: "ella-sd15",
        description: "ELLA over Stable Diffusion 1.x: its checkpoint, and with --ella the connector and \
                      with --text-encoder the folder of flan-t5-xl",
        files: SD15_FILES,
        defaults: ELLA,
    },
];

/// Finds a model by its name.
///
/// # Errors
/// There is none; the sentence lists those there are.
pub fn find(name: &str) -> Result<&'static CatalogModel, UnknownModel> {
    MODELS.iter().find(|model| model.name == name).ok_or_else(|| UnknownModel(name.to_owned()))
}

/// No model of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model `{0}` is unknown; there is {names}", names = MODELS.iter().map(|model| model.name).collect::<Vec<_>>().join(", "))]
pub struct UnknownModel(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_are_told_and_variants_count() {
        let folder = tempfile::tempdir().unwrap();
        let model = find("sd15").unwrap();
        assert_eq!(model.missing(folder.path()).len(), model.files.len());
        for file in [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "tokenizer/tokenizer.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "vae/config.json",
            "vae/diffusion_pytorch_model.bin",
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let missing: Vec<String> =
            model.missing(folder.path()).iter().map(|f| f.to_string()).collect();
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].starts_with("vae/diffusion_pytorch_model.safetensors"));
        assert!(find("sd3").unwrap_err().to_string().contains("sd15"));
    }
}
