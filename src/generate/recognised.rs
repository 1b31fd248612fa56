//! In: a checkpoint. Out: the catalog's model that runs it, and by what it was known. Loading it is left to the catalog.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::checkpoint::folder::DiffusersPipeline;
use crate::checkpoint::layout::Layout;
use crate::checkpoint::single_file::SingleFile;
use crate::checkpoint::small_files::read_component;

/// What stands in a name of Playground v2, whose networks are those of SDXL.
const PLAYGROUND: &str = "playground-v2";

/// Playground v2.5, which its scheduler tells from both.
const PLAYGROUND_25: &str = "playground-v25";

/// A model that was known by its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// Its name in the catalog.
    pub model: &'static str,
    /// By what it was known, a part of a sentence.
    pub why: String,
}

impl Recognised {
    /// The same with ELLA over it, where there is one.
    #[must_use]
    pub fn with_ella(self) -> Self {
        let model = match self.model {
            "sd15" => "ella-sd15",
            "sdxl" => "ella-sdxl",
            other => other,
        };
        Self { model, why: format!("{}, and an ELLA is given", self.why) }
    }
}

/// Knows the model of `checkpoint`, a folder in the diffusers layout or a single file.
///
/// # Errors
/// It is neither, no model here runs it, or two models could.
pub fn recognise(checkpoint: &Path) -> Result<Recognised> {
    if checkpoint.is_file() { of_file(checkpoint) } else { of_folder(checkpoint) }
}

fn of_folder(folder: &Path) -> Result<Recognised> {
    let path = folder.join("model_index.json");
    let index = read_component(&path).with_context(|| {
        format!(
            "model auto: {} is neither a single file nor a folder in the diffusers layout; name the model with --model",
            folder.display()
        )
    })?;
    let class = index["_class_name"].as_str().unwrap_or("nothing");
    let why = format!("{} names a {class}", path.display());
    let Some(model) = DiffusersPipeline::model_of_class(class) else {
        bail!("model auto: {why}, which no model here runs; `dpg-bench list` names those there are")
    };
    let unet = folder.join("unet/config.json");
    match model {
        "sd15" => {
            let width = read_component(&unet)?["cross_attention_dim"].as_u64();
            Ok(match width {
                // The width of Stable Diffusion 2's text.
                Some(1024) => Recognised {
                    model: "sd2",
                    why: format!("{why}, and {} has cross_attention_dim = 1024", unet.display()),
                },
                _ => Recognised { model, why },
            })
        }
        "sdxl" => sdxl_or_playground(folder, &index, &read_component(&unet)?, why),
        _ => Ok(Recognised { model, why }),
    }
}

/// SDXL and Playground v2 have the same class and networks: names tell them apart, and the scheduler says where they
/// should.
fn sdxl_or_playground(
    folder: &Path,
    index: &Value,
    unet: &Value,
    why: String,
) -> Result<Recognised> {
    let scheduler = index["scheduler"][1].as_str();
    if let Some(class) = scheduler.filter(|class| class.starts_with("EDM")) {
        let why = format!("{why} with {class}, Playground v2.5's");
        return Ok(Recognised { model: PLAYGROUND_25, why });
    }
    let name_of = |config: &Value| config["_name_or_path"].as_str().map(str::to_lowercase);
    let names = [name_of(index), name_of(unet), Some(folder.to_string_lossy().to_lowercase())];
    if names.iter().flatten().any(|name| name.contains(PLAYGROUND)) {
        let why = format!("{why}, and its name is of {PLAYGROUND}");
        return Ok(Recognised { model: PLAYGROUND, why });
    }
    match scheduler {
        Some(class @ "EulerAncestralDiscreteScheduler") => bail!(
            "model auto: {why} with {class}, as Playground v2 is published and as checkpoints of SDXL may be; say --model sdxl \
             or --model playground-v2"
        ),
        _ => Ok(Recognised { model: "sdxl", why }),
    }
}

fn of_file(path: &Path) -> Result<Recognised> {
    let single = SingleFile::open(path).context("model auto")?;
    if !single.layout.has_transformer() {
        check_unet(path, &single)?;
    }
    let model = match single.layout {
        Layout::Sd1 => "sd15",
        Layout::Sd2 => "sd2",
        Layout::Sdxl if path.to_string_lossy().to_lowercase().contains(PLAYGROUND) => PLAYGROUND,
        Layout::Sdxl => "sdxl",
        Layout::Sd3 => "sd3",
        Layout::Flux => "flux",
    };
    let name = if model == PLAYGROUND { ", and its name of Playground v2" } else { "" };
    let of = single.layout.described();
    Ok(Recognised { model, why: format!("the tensors of {} are of {of}{name}", path.display()) })
}

/// Refuses a file of which nothing says what runs it.
fn check_unet(path: &Path, single: &SingleFile) -> Result<()> {
    if !single.has_unet() {
        bail!(
            "model auto: {} holds no UNet in the layout of a single-file checkpoint (model.diffusion_model.); name the model \
             with --model",
            path.display()
        )
    }
    if single.is_told_guidance() {
        bail!(
            "model auto: {} holds a UNet that is told the guidance, of --model lcm or of another distilled one, which --model \
             sd15 runs; say which",
            path.display()
        )
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    /// A folder of a class, with the scheduler and the UNet's configuration.
    fn folder(class: &str, scheduler: &str, unet: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let index = format!(
            "{{\"_class_name\": \"{class}\", \"scheduler\": [\"diffusers\", \"{scheduler}\"]}}"
        );
        std::fs::write(folder.path().join("model_index.json"), index).unwrap();
        std::fs::create_dir(folder.path().join("unet")).unwrap();
        std::fs::write(folder.path().join("unet/config.json"), unet).unwrap();
        folder
    }

    #[test]
    fn folders_are_known_by_class_and_configuration() {
        for (name, model) in [
            ("sd15-tiny", "sd15"),
            ("sdxl-tiny", "sdxl"),
            ("lcm-tiny", "lcm"),
            ("pixart-alpha-tiny", "pixart-alpha"),
            ("pixart-plain-tiny", "pixart-alpha"),
            ("pixart-sigma-tiny", "pixart-sigma"),
        ] {
            assert_eq!(recognise(&fixture(name)).unwrap().model, model, "{name}");
        }
        let sd = "StableDiffusionPipeline";
        let of = |class: &str, scheduler: &str, unet: &str| {
            recognise(folder(class, scheduler, unet).path())
        };
        let found = of(sd, "DDIMScheduler", "{\"cross_attention_dim\": 1024}").unwrap();
        assert!(found.model == "sd2" && found.why.ends_with("cross_attention_dim = 1024"));
        let found = of(sd, "LCMScheduler", "{\"cross_attention_dim\": 768}").unwrap();
        assert_eq!((found.model, found.clone().with_ella().model), ("sd15", "ella-sd15"));
        let xl = "StableDiffusionXLPipeline";
        assert_eq!(of(xl, "EulerDiscreteScheduler", "{}").unwrap().model, "sdxl");
        let named = "{\"_name_or_path\": \"playgroundai/playground-v2.5-1024px-aesthetic\"}";
        for edm in ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"] {
            assert_eq!(of(xl, edm, named).unwrap().model, PLAYGROUND_25);
        }
        let ancestral = "EulerAncestralDiscreteScheduler";
        let named = "{\"_name_or_path\": \"playgroundai/Playground-v2-1024px-aesthetic\"}";
        assert_eq!(of(xl, ancestral, named).unwrap().model, PLAYGROUND);
        let message = of(xl, ancestral, "{}").unwrap_err().to_string();
        assert!(message.contains("--model sdxl or --model playground-v2"), "{message}");
        let message = of("WuerstchenPipeline", ancestral, "{}").unwrap_err().to_string();
        assert!(message.contains("names a WuerstchenPipeline, which no model here runs"));
        assert!(recognise(&fixture("sd15-golden")).is_err());
    }

    #[test]
    fn single_files_are_known_by_their_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, tensors: &[&str]| {
            let path = folder.path().join(name);
            let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            let tensors = tensors.iter().map(|name| ((*name).to_owned(), one.clone()));
            let tensors: std::collections::HashMap<String, Tensor> = tensors.collect();
            candle_core::safetensors::save(&tensors, &path).unwrap();
            recognise(&path)
        };
        let unet = "model.diffusion_model.x";
        let model = |name: &str, tensors: &[&str]| of(name, tensors).unwrap().model;
        assert_eq!(model("a.safetensors", &[unet]), "sd15");
        assert_eq!(model("a.safetensors", &[unet, "cond_stage_model.model.x"]), "sd2");
        let second = "conditioner.embedders.1.model.x";
        assert_eq!(model("a.safetensors", &[unet, second]), "sdxl");
        assert_eq!(model("playground-v2.safetensors", &[unet, second]), PLAYGROUND);
        let told = "model.diffusion_model.time_embed.cond_proj.weight";
        let message = of("a.safetensors", &[unet, told]).unwrap_err().to_string();
        assert!(message.contains("--model lcm") && message.contains("--model sd15"), "{message}");
        let message = of("a.safetensors", &["blocks.0.x"]).unwrap_err().to_string();
        assert!(message.contains("holds no UNet"), "{message}");
        let joint = "joint_blocks.0.x";
        assert_eq!(model("a.safetensors", &["double_blocks.0.x", "vector_in.x"]), "flux");
        assert_eq!(model("a.safetensors", &[joint]), "sd3");
        assert_eq!(model("a.safetensors", &[&format!("model.diffusion_model.{joint}")]), "sd3");
        let message = format!("{:#}", of("a.safetensors", &["double_blocks.0.x"]).unwrap_err());
        assert!(message.contains("no FLUX.1") && message.contains("FLUX.2"), "{message}");
    }
}
