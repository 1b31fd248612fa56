//! In: a TOML model file. Out: a model under its own name: what it is put together from, and its
//! settings. Loading it is left to the pipelines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::catalog;
use super::pipelines::ella::EllaTokens;
use super::sampling_choice::SamplingChoice;
use crate::checkpoint::embeddings::EmbeddingFile;
use crate::checkpoint::lora::LoraFile;
use crate::compute::products::Products;

/// A model file. Paths are relative to the file's own folder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// The model's own name, as the folder of its run.
    pub name: String,
    /// Model of the catalog that runs it.
    #[serde(default = "default_model")]
    pub model: String,
    /// Folder in the diffusers layout, or single file in the latent-diffusion layout.
    /// Every model but `program` and `server` needs one.
    pub checkpoint: Option<PathBuf>,
    /// For the model `program`: the command that starts it, run where dpg-bench is.
    pub program: Option<String>,
    /// For the model `server`: where it is and what it is told.
    pub server: Option<ServerFile>,
    /// For a single file: folder with configurations and vocabulary.
    pub base: Option<PathBuf>,
    /// Folder with another vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Another autoencoder.
    pub vae: Option<PathBuf>,
    /// ELLA's connector.
    pub ella: Option<PathBuf>,
    /// ELLA's text encoder.
    pub text_encoder: Option<PathBuf>,
    /// A ControlNet's folder.
    pub controlnet: Option<PathBuf>,
    /// Folder with the control image of each item.
    pub control_images: Option<PathBuf>,
    /// What the ControlNet's maps are multiplied by.
    pub controlnet_scale: Option<f64>,
    /// Share of the steps after which the ControlNet begins.
    pub control_guidance_start: Option<f64>,
    /// Share of the steps after which it ends.
    pub control_guidance_end: Option<f64>,
    /// What of a text ELLA's connector and the UNet get.
    pub ella_tokens: Option<EllaTokens>,
    /// What a decoder-only text encoder is told, with `{prompt}` in it.
    pub text_template: Option<String>,
    /// How many of its first tokens' states are dropped.
    #[serde(default)]
    pub text_skip: usize,
    /// Low-rank adapters.
    #[serde(default)]
    pub loras: Vec<LoraFile>,
    /// Textual-inversion embeddings.
    #[serde(default)]
    pub embeddings: Vec<EmbeddingFile>,
    /// How the factors of products are rounded on the processor.
    pub products: Option<Products>,
    /// Settings, above the model's own.
    #[serde(default)]
    pub settings: SamplingChoice,
}

/// The table `[server]` of a model file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerFile {
    /// The server's URL.
    pub url: Option<String>,
    /// Which API it speaks.
    pub api: Option<String>,
    /// The model's name on that server.
    pub model: Option<String>,
    /// Environment variable that holds the key.
    pub key_env: Option<String>,
    /// Further fields of each request.
    pub body: Option<Map<String, Value>>,
    /// ComfyUI's workflow; relative to the file's own folder.
    pub workflow: Option<PathBuf>,
    /// ComfyUI's `ROLE=NODE.INPUT`.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Largest number of images asked for at a time.
    pub concurrency: Option<usize>,
    /// Seconds that one image may take.
    pub timeout: Option<f64>,
    /// Further tries after errors that may pass.
    pub retries: Option<u32>,
}

fn default_model() -> String {
    "sd15".to_owned()
}

impl ModelFile {
    /// Reads a model file.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, has a key that is unknown here, or its name is no plain name.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read model file {}", path.display()))?;
        let mut file: Self =
            toml::from_str(&text).with_context(|| format!("model file {}", path.display()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        ensure!(
            file.name.chars().all(plain)
                && file.name.starts_with(|c: char| c.is_ascii_alphanumeric()),
            "model file {}: name `{}` must be made of letters, digits, `-`, `_` and `.`",
            path.display(),
            file.name
        );
        let is_program = file.model == catalog::PROGRAM;
        let is_server = file.model == catalog::SERVER;
        let (wanted, given) = match file.model.as_str() {
            catalog::PROGRAM => ("program", file.program.is_some()),
            catalog::SERVER => ("server", file.server.is_some()),
            _ => ("checkpoint", file.checkpoint.is_some()),
        };
        ensure!(
            given,
            "model file {}: model `{}` needs the key `{wanted}`",
            path.display(),
            file.model
        );
        ensure!(
            is_program || file.program.is_none(),
            "model file {}: the key `program` goes with model = \"program\"",
            path.display()
        );
        ensure!(
            is_server || file.server.is_none(),
            "model file {}: the key `server` goes with model = \"server\"",
            path.display()
        );
        let folder = path.parent().unwrap_or(Path::new(""));
        let optional = [
            &mut file.base,
            &mut file.tokenizer,
            &mut file.vae,
            &mut file.ella,
            &mut file.text_encoder,
            &mut file.controlnet,
            &mut file.control_images,
            &mut file.checkpoint,
        ];
        let listed = file.loras.iter_mut().map(|lora| &mut lora.file);
        let taught = file.embeddings.iter_mut().map(|embedding| &mut embedding.file);
        let workflow = file.server.as_mut().and_then(|server| server.workflow.as_mut());
        for path in optional.into_iter().flatten().chain(listed).chain(taught).chain(workflow) {
            *path = folder.join(&*path);
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
    use crate::generate::noise::NoiseSource;

    fn read(text: &str) -> Result<ModelFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        std::fs::write(&path, text).unwrap();
        let file = ModelFile::read(&path)?;
        assert_eq!(file.checkpoint, Some(folder.path().join("c.safetensors")));
        Ok(file)
    }

    #[test]
    fn every_key_is_read() {
        let file = read(
            "name = 'dream-8'\nmodel = 'ella-sd15'\ncheckpoint = 'c.safetensors'\nbase = 'sd'\n\
             ella = 'e.safetensors'\ntext_encoder = '/t5'\ncontrolnet = '/net'\ncontrol_images = '/edges'\n\
             controlnet_scale = 0.5\ncontrol_guidance_start = 0.1\ncontrol_guidance_end = 0.9\n\
             ella_tokens = 'clip+ella'\ntext_template = '<s>{prompt}'\ntext_skip = 2\n\
             [[loras]]\nfile = 'l.safetensors'\nweight = 0.5\n[[loras]]\nfile = 'k.safetensors'\n\
             [[embeddings]]\nfile = 'n.safetensors'\ntoken = '<n>'\n\
             [settings]\nsteps = 25\nscheduler = 'unipc'\nkarras = true\nspacing = 'trailing'\n\
             prediction = 'v_prediction'\nrng = 'cuda'\nseed_mode = 'sequential'\n",
        )
        .unwrap();
        assert_eq!((file.name.as_str(), file.model.as_str()), ("dream-8", "ella-sd15"));
        assert_eq!(file.text_encoder, Some(PathBuf::from("/t5")));
        assert_eq!(file.controlnet, Some(PathBuf::from("/net")));
        assert_eq!(file.control_images, Some(PathBuf::from("/edges")));
        let shares = (file.control_guidance_start, file.control_guidance_end);
        assert_eq!((file.controlnet_scale, shares), (Some(0.5), (Some(0.1), Some(0.9))));
        assert_eq!(file.ella_tokens, Some(EllaTokens::ClipAndElla));
        assert_eq!((file.text_template.as_deref(), file.text_skip), (Some("<s>{prompt}"), 2));
        assert_eq!((file.loras[0].weight, file.loras[1].weight), (0.5, 1.0));
        assert_eq!(file.settings.scheduler, Some(SchedulerClass::UniPc));
        assert_eq!(file.settings.rng, Some(NoiseSource::Cuda { threads: None }));
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused() {
        let start = "name = 'a'\ncheckpoint = 'c.safetensors'\n";
        for (more, word) in [
            ("lora = 'x'\n", "lora"),
            ("[settings]\nstep = 5\n", "step"),
            ("[[loras]]\nfile = 'l'\nstrength = 1.0\n", "strength"),
            ("[settings]\nscheduler = 'heun'\n", "heun"),
            ("[settings]\nrng = 'gpu'\n", "gpu"),
        ] {
            let message = format!("{:#}", read(&format!("{start}{more}")).unwrap_err());
            assert!(message.contains(word) && message.contains("m.toml"), "{message}");
        }
        for name in ["", "../up", "a b", ".hidden"] {
            let text = format!("name = '{name}'\ncheckpoint = 'c.safetensors'\n");
            assert!(read(&text).unwrap_err().to_string().contains("name"));
        }
    }
}
