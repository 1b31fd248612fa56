//! In: a checkpoint. Out: the catalog's model that runs it, and by what it was known. Loading it is left to the catalog.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::checkpoint::folder::DiffusersPipeline;
use crate::checkpoint::layout::Layout;
use crate::checkpoint::single_file::SingleFile;
use crate::checkpoint::small_files::read_component;

/// What stands in a name of Playground v2, whose networks are those of SDXL.
const PLAYGROUND: &str = "playground-v2";

/// Playground v2.5, which its scheduler tells from both.
const PLAYGROUND_25: &str = "playground-v25";

/// Whether a name, in small letters, is of Playground v2. Version 2.5 is sampled otherwise, which its scheduler says in a
/// folder and nothing in a file without its marks.
fn is_playground_2(name: &str) -> bool {
    name.contains(PLAYGROUND) && !is_playground_25(name)
}

fn is_playground_25(name: &str) -> bool {
    ["playground-v2.5", PLAYGROUND_25].iter().any(|own| name.contains(own))
}

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

/// Refuses a single file of which another model than `model` is the right one; `has_base` says whether a folder tells how it is
/// sampled.
///
/// # Errors
/// It is of another model, or no single files are read for this one.
pub fn check_single_file(file: &Path, model: &str, has_base: bool) -> Result<()> {
    let single = SingleFile::open(file)?;
    let runs: &[&str] = match single.layout {
        // Of neither a UNet nor a transformer: that is told where the file is read.
        _ if !single.has_network() => &[],
        // A UNet alone may be of any of them.
        Layout::Sd1 if !single.has_text_encoder() => &[],
        Layout::Sd1 => &["sd15", "lcm", "ella-sd15"],
        Layout::Sd2 => &["sd2"],
        Layout::Sdxl => &["sdxl", PLAYGROUND, PLAYGROUND_25, "ella-sdxl"],
        Layout::Sd3 => &["sd3"],
        Layout::Flux => &["flux"],
    };
    if let Some(right) = runs.first().filter(|_| !runs.contains(&model)) {
        let (file, of) = (file.display(), single.layout.described());
        bail!(
            "{file} is a single file of {of}, which model {model} does not run; try --model {right}"
        );
    }
    ensure!(
        !(runs.is_empty() && model.starts_with("pixart")) && (has_base || model != PLAYGROUND_25),
        "{} is a single file, of which none are read for {model}; --weights takes its folder in the diffusers layout",
        file.display()
    );
    Ok(())
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
    let Some(model) = DiffusersPipeline::model_of(&index, folder) else {
        bail!("model auto: {why}, which no model here runs; `dpg-bench list` names those there are")
    };
    let unet = folder.join("unet/config.json");
    let why = match model {
        "sd15" | "sdxl" => {
            let unet = read_component(&unet)?;
            return match model {
                "sdxl" => sdxl_or_playground(folder, &index, &unet, why),
                _ => Ok(Recognised { model, why }),
            };
        }
        "sd2" => format!("{why}, and {} has cross_attention_dim = 1024", unet.display()),
        "playground-v25" => {
            let scheduler = index["scheduler"][1].as_str().unwrap_or_default();
            format!("{why} with {scheduler}, Playground v2.5's")
        }
        _ => why,
    };
    Ok(Recognised { model, why })
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
    let name_of = |config: &Value| config["_name_or_path"].as_str().map(str::to_lowercase);
    let names = [name_of(index), name_of(unet), Some(folder.to_string_lossy().to_lowercase())];
    if names.iter().flatten().any(|name| is_playground_2(name)) {
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
    let name = path.to_string_lossy().to_lowercase();
    let model = match single.layout {
        Layout::Sd1 => "sd15",
        Layout::Sd2 => "sd2",
        Layout::Sdxl if is_playground_25(&name) => bail!(
            "model auto: {} is named after Playground v2.5, of which single files are not read: --model playground-v25 takes \
             the folder in the diffusers layout; if it is another model, say which with --model",
            path.display()
        ),
        Layout::Sdxl if is_playground_2(&name) => PLAYGROUND,
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
            assert_eq!(of(xl, edm, named).unwrap().model, "playground-v25");
        }
        let ancestral = "EulerAncestralDiscreteScheduler";
        let named = "{\"_name_or_path\": \"playgroundai/Playground-v2-1024px-aesthetic\"}";
        assert_eq!(of(xl, ancestral, named).unwrap().model, PLAYGROUND);
        // Fine-tuned for another sampling, as its scheduler says: no Playground v2.
        assert_eq!(
            of(xl, "EulerDiscreteScheduler", "{\"_name_or_path\": \"playground-v2.5\"}")
                .unwrap()
                .model,
            "sdxl"
        );
        let message = of(xl, ancestral, "{}").unwrap_err().to_string();
        assert!(message.contains("--model sdxl or --model playground-v2"), "{message}");
        let message = of("WuerstchenPipeline", ancestral, "{}").unwrap_err().to_string();
        assert!(message.contains("names a WuerstchenPipeline, which no model here runs"));
        assert!(recognise(&fixture("sd15-golden")).is_err());
    }

    #[test]
    fn single_files_are_known_by_their_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let saved = |name: &str, tensors: &[&str]| {
            let path = folder.path().join(name);
            let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            let tensors = tensors.iter().map(|name| ((*name).to_owned(), one.clone()));
            let tensors: std::collections::HashMap<String, Tensor> = tensors.collect();
            candle_core::safetensors::save(&tensors, &path).unwrap();
            path
        };
        let of = |name: &str, tensors: &[&str]| recognise(&saved(name, tensors));
        let unet = "model.diffusion_model.x";
        let model = |name: &str, tensors: &[&str]| of(name, tensors).unwrap().model;
        assert_eq!(model("a.safetensors", &[unet]), "sd15");
        assert_eq!(model("a.safetensors", &[unet, "cond_stage_model.model.x"]), "sd2");
        let second = "conditioner.embedders.1.model.x";
        assert_eq!(model("a.safetensors", &[unet, second]), "sdxl");
        assert_eq!(model("playground-v2.safetensors", &[unet, second]), PLAYGROUND);
        let message =
            of("playground-v2.5-fp16.safetensors", &[unet, second]).unwrap_err().to_string();
        assert!(message.contains("named after Playground v2.5"), "{message}");
        let told = "model.diffusion_model.time_embed.cond_proj.weight";
        let message = of("a.safetensors", &[unet, told]).unwrap_err().to_string();
        assert!(message.contains("--model lcm") && message.contains("--model sd15"), "{message}");
        let message = of("a.safetensors", &["blocks.0.x"]).unwrap_err().to_string();
        assert!(message.contains("holds no UNet"), "{message}");
        for (tensors, wrong, right) in [
            (&[unet, "cond_stage_model.transformer.x"][..], "sdxl", "sd15"),
            (&[unet, "cond_stage_model.model.x"], "sd15", "sd2"),
            (&[unet, second], "flux", "sdxl"),
            (&["joint_blocks.0.x"], "sd15", "sd3"),
            (&["double_blocks.0.x", "vector_in.x"], "pixart-sigma", "flux"),
        ] {
            let path = saved("b.safetensors", tensors);
            let message = check_single_file(&path, wrong, false).unwrap_err().to_string();
            assert!(
                message.ends_with(&format!("model {wrong} does not run; try --model {right}")),
                "{message}"
            );
            check_single_file(&path, right, false).unwrap();
        }
        let none = saved("c.safetensors", &["blocks.0.x"]);
        check_single_file(&none, "sd15", false).unwrap();
        let message = check_single_file(&none, "pixart-alpha", false).unwrap_err().to_string();
        assert!(message.contains("none are read for pixart-alpha"), "{message}");
        // A UNet alone is no word against a model, and nothing in a file says how Playground v2.5 is sampled.
        check_single_file(&saved("c.safetensors", &[unet]), "sdxl", false).unwrap();
        let xl = saved("c.safetensors", &[unet, second]);
        check_single_file(&xl, PLAYGROUND_25, true).unwrap();
        let message = check_single_file(&xl, PLAYGROUND_25, false).unwrap_err().to_string();
        assert!(message.contains("none are read for playground-v25"), "{message}");
        let joint = "joint_blocks.0.x";
        assert_eq!(model("a.safetensors", &["double_blocks.0.x", "vector_in.x"]), "flux");
        assert_eq!(model("a.safetensors", &[joint]), "sd3");
        assert_eq!(model("a.safetensors", &[&format!("model.diffusion_model.{joint}")]), "sd3");
        let message = format!("{:#}", of("a.safetensors", &["double_blocks.0.x"]).unwrap_err());
        assert!(message.contains("no FLUX.1") && message.contains("FLUX.2"), "{message}");
    }
}
