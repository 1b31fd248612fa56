//! In: a checkpoint in one safetensors file, in the layout of the latent-diffusion code, and the
//! configurations for it. Out: recipes for its components. Files around it are left to
//! `assembled`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ldm_names;
use super::ldm_names::{open_clip_names, text_encoder_name, unet_name, vae_name};
use super::load_report::LoadReport;
use super::marks::apply_marks;
use super::recipe::{Form, Recipe, of_files};
use super::safetensors_file::{FileContents, contents};
use super::scheduler_config::PredictionType;
use super::small_files::{level_count, number, read_component};

/// What such a file holds besides behind a component's prefix, which no network here needs.
pub(super) fn left_out(component: &str) -> &'static [&'static str] {
    // `scaled_fp8` marks eight-bit weights with scales, which are found beside them.
    match component {
        "unet" => &["scaled_fp8"],
        "vae" => &["encoder.", "quant_conv.", "loss.", "model_ema.", "scaled_fp8"],
        _ => &["logit_scale", "attn_mask", "text_projection.weight", "scaled_fp8"],
    }
}

/// The network's names of a stored tensor, with the form in which it is stored.
type Names = Vec<(String, Option<Form>)>;

/// A component, where its tensors stand, and what they are called.
type Part<'r> = (&'static str, &'static str, Box<dyn Fn(&str) -> Names + 'r>);

/// Whose tensors a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Stable Diffusion 1.x.
    Sd1,
    /// Stable Diffusion 2.x.
    Sd2,
    /// Stable Diffusion XL.
    Sdxl,
}

/// How the transformers' tensors begin of models that are read as folders, under the names of their publishers.
const TRANSFORMERS: [(&str, &str); 2] = [
    ("double_blocks.", "FLUX.1 (--model flux)"),
    ("joint_blocks.", "Stable Diffusion 3 (--model sd3)"),
];

/// A single-file checkpoint of one of them.
#[derive(Debug)]
pub(crate) struct SingleFile {
    path: PathBuf,
    contents: FileContents,
    /// Which.
    pub(crate) layout: Layout,
}

impl SingleFile {
    /// Reads what is in the file.
    ///
    /// # Errors
    /// It is no safetensors file, or of a model that no network here runs.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let contents = contents(path)
            .with_context(|| "a single-file checkpoint must be a .safetensors file")?;
        let has = |prefix: &str| contents.shapes.keys().any(|name| name.starts_with(prefix));
        ensure!(
            !has("conditioner.embedders.0.model."),
            "{} is an SDXL refiner, which no model here runs",
            path.display()
        );
        for (block, model) in TRANSFORMERS {
            ensure!(
                !has(block) && !has(&format!("{}{block}", ldm_names::UNET)),
                "{} is a single file of {model} (`{block}`), which is read as a folder in the diffusers layout alone",
                path.display()
            );
        }
        let layout = if has("conditioner.") {
            Layout::Sdxl
        } else if has(ldm_names::SD2_TEXT_ENCODER) {
            Layout::Sd2
        } else {
            Layout::Sd1
        };
        Ok(Self { path: path.to_path_buf(), contents, layout })
    }

    /// Whether it holds a UNet, under the names of the layout.
    pub(crate) fn has_unet(&self) -> bool {
        self.contents.shapes.keys().any(|name| name.starts_with(ldm_names::UNET))
    }

    /// Whether that is told the guidance.
    pub(crate) fn is_told_guidance(&self) -> bool {
        let name = format!("{}time_embed.cond_proj.weight", ldm_names::UNET);
        self.contents.shapes.contains_key(&name)
    }

    /// Writes what the file says about its sampling into the scheduler's file in `root`; `prediction` is what
    /// the user says, and `has_base` whether the configurations are of a folder of theirs.
    ///
    /// # Errors
    /// It asks for sampling that is not built here.
    pub(crate) fn apply_marks(
        &self,
        root: &Path,
        prediction: Option<PredictionType>,
        has_base: bool,
    ) -> Result<LoadReport> {
        let is_open = self.layout == Layout::Sd2 && !has_base;
        apply_marks((&self.path, &self.contents), root, prediction, is_open)
    }

    /// Recipes for its components, with the configurations in `root`. Its autoencoder may be absent where the
    /// user names another (`has_other_vae`).
    ///
    /// # Errors
    /// The configurations are another model's, a component is missing, or a tensor is in no network that they
    /// describe.
    pub(crate) fn recipes(
        &self,
        root: &Path,
        has_other_vae: bool,
    ) -> Result<BTreeMap<String, Recipe>> {
        let path = self.path.display();
        if (self.layout == Layout::Sdxl) != root.join("text_encoder_2").is_dir() {
            let (own, other) = match self.layout {
                Layout::Sdxl => ("SDXL", "SD1.x"),
                Layout::Sd2 => ("SD2.x", "SDXL"),
                Layout::Sd1 => ("SD1.x or none", "SDXL"),
            };
            bail!("{path} is a checkpoint of {own}, and --base holds configurations of {other}");
        }
        let layers = number(&root.join("unet/config.json"), "layers_per_block")?;
        let levels = level_count(&root.join("vae/config.json"))?;
        let plain = |name: Option<String>| name.map(|name| (name, None)).into_iter().collect();
        let mut parts: Vec<Part<'_>> = vec![
            ("unet", ldm_names::UNET, Box::new(move |name| plain(unet_name(name, layers)))),
            ("vae", ldm_names::VAE, Box::new(move |name| plain(vae_name(name, levels)))),
        ];
        let clip = Box::new(move |name: &str| plain(text_encoder_name(name)));
        // Stable Diffusion 2 attends to the layer before the last, so its configuration ends there.
        let mut last_layer = None;
        match self.layout {
            Layout::Sdxl => {
                parts.push(("text_encoder", ldm_names::SDXL_TEXT_ENCODER, clip));
                let second = ldm_names::SDXL_TEXT_ENCODER_2;
                parts.push(("text_encoder_2", second, Box::new(open_clip_names)));
            }
            Layout::Sd2 => {
                let prefix = ldm_names::SD2_TEXT_ENCODER;
                parts.push(("text_encoder", prefix, Box::new(open_clip_names)));
                let depth = number(&root.join("text_encoder/config.json"), "num_hidden_layers")?;
                last_layer = Some(format!("transformer.resblocks.{depth}."));
            }
            Layout::Sd1 => parts.push(("text_encoder", ldm_names::TEXT_ENCODER, clip)),
        }
        let mut recipes = BTreeMap::new();
        for (component, prefix, rename) in parts {
            let known = Known::read(component, &root.join(component).join("config.json"))?;
            let mut unread = left_out(component).to_vec();
            if let (Some(layer), "text_encoder") = (&last_layer, component) {
                unread.extend([layer.as_str(), "text_projection"]);
            }
            let recipe = self.recipe(prefix, rename, &known, &unread)?;
            if recipe.names.is_empty() {
                match component {
                    "vae" if has_other_vae => continue,
                    "vae" => bail!(
                        "{path} holds no autoencoder (no `{prefix}decoder...`); add --vae DIR or FILE"
                    ),
                    "unet" => bail!(
                        "{path} holds no `{prefix}...`; it is no checkpoint of Stable Diffusion in the \
                         latent-diffusion layout"
                    ),
                    _ => bail!(
                        "{path} holds no text encoder (no `{prefix}...`); get the whole checkpoint"
                    ),
                }
            }
            recipes.insert(component.to_owned(), recipe);
        }
        Ok(recipes)
    }

    fn recipe(
        &self,
        prefix: &str,
        rename: impl Fn(&str) -> Names,
        known: &Known,
        left_out: &[&str],
    ) -> Result<Recipe> {
        let mut recipe = of_files(vec![self.path.clone()])?;
        let mut unknown = Vec::new();
        for stored in self.contents.shapes.keys() {
            let Some(name) = stored.strip_prefix(prefix) else { continue };
            if left_out.iter().any(|start| name.starts_with(start))
                || name.ends_with("position_ids")
            {
                continue;
            }
            let names = rename(name);
            if names.is_empty() || names.iter().any(|(own, _)| !known.has(own)) {
                unknown.push(stored);
            }
            for (own, form) in names {
                if let Some(form) = form {
                    recipe.forms.insert(own.clone(), form);
                }
                recipe.names.insert(own, stored.clone());
            }
        }
        if let Some(first) = unknown.first() {
            bail!(
                "{}: {} of the tensors are in no network of these configurations, `{first}` among \
                 them; does --base fit?",
                self.path.display(),
                unknown.len()
            );
        }
        Ok(recipe)
    }
}

/// How many blocks a configuration has, so that a deeper network's tensors are not passed over.
enum Known {
    /// Transformer blocks per level of the UNet, 0 where it has no attention there.
    Unet { down: Vec<usize>, up: Vec<usize>, middle: usize },
    /// Layers of a text encoder.
    TextEncoder(usize),
    /// Residual blocks of a level of the decoder.
    Decoder(usize),
}

impl Known {
    fn read(component: &str, path: &Path) -> Result<Self> {
        match component {
            "unet" => {
                let config = read_component(path)?;
                let levels = level_count(path)?;
                let depths = depths(&config["transformer_layers_per_block"], levels)
                    .with_context(|| format!("{}: transformer_layers_per_block", path.display()))?;
                let middle = depths.last().copied().unwrap_or(1);
                let with = |kinds: &Value, depths: Vec<usize>| -> Vec<usize> {
                    let attends = |level: usize| {
                        kinds[level].as_str().is_some_and(|kind| kind.contains("CrossAttn"))
                    };
                    let levels = depths.into_iter().enumerate();
                    levels.map(|(level, depth)| if attends(level) { depth } else { 0 }).collect()
                };
                let reversed = depths.iter().rev().copied().collect();
                Ok(Self::Unet {
                    down: with(&config["down_block_types"], depths),
                    up: with(&config["up_block_types"], reversed),
                    middle,
                })
            }
            "vae" => Ok(Self::Decoder(number(path, "layers_per_block")? + 1)),
            _ => Ok(Self::TextEncoder(number(path, "num_hidden_layers")?)),
        }
    }

    /// Whether the network can have a tensor of this name.
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Unet { down, up, middle } => {
                let of_level = |levels: &[usize], start| {
                    number_after(name, start).map(|level| levels.get(level).copied())
                };
                let depth = of_level(down, "down_blocks.").or_else(|| of_level(up, "up_blocks."));
                match depth.unwrap_or(Some(*middle)) {
                    Some(0) => !name.contains(".attentions."),
                    Some(depth) => {
                        number_after(name, ".transformer_blocks.").is_none_or(|at| at < depth)
                    }
                    None => false,
                }
            }
            Self::TextEncoder(layers) => match number_after(name, "encoder.layers.") {
                Some(layer) => layer < *layers,
                None => ["embeddings.", "final_layer_norm.", "text_projection."]
                    .iter()
                    .any(|start| name.trim_start_matches("text_model.").starts_with(start)),
            },
            Self::Decoder(blocks) => {
                number_after(name, ".resnets.").is_none_or(|block| block < *blocks)
            }
        }
    }
}

fn depths(value: &Value, levels: usize) -> Option<Vec<usize>> {
    let whole = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    match value {
        Value::Null => Some(vec![1; levels]),
        Value::Array(list) if list.len() == levels => list.iter().map(whole).collect(),
        one => whole(one).map(|depth| vec![depth; levels]),
    }
}

/// The number that stands behind `marker`.
fn number_after(name: &str, marker: &str) -> Option<usize> {
    let (_, rest) = name.split_once(marker)?;
    rest.split('.').next()?.parse().ok()
}
