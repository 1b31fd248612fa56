//! In: a checkpoint in one safetensors file, in the layout of the latent-diffusion code or of the publishers of FLUX.1 and Stable
//! Diffusion 3, and the configurations for it. Out: recipes for its components. Files around it are left to `assembled`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::known_depth::Known;
use super::layout::Layout;
use super::ldm_names::{Names, clip_names, open_clip_names, plain, unet_name, vae_name};
use super::load_report::{LoadReport, tensors_in_nothing};
use super::marks::apply_marks;
use super::recipe::{Recipe, of_files};
use super::safetensors_file::{FileContents, contents};
use super::scheduler_config::PredictionType;
use super::small_files::{level_count, number, read_component};
use super::transformer_names::{clip_g_names, clip_l_names, flux_names, sd3_names};
use super::{ldm_names, transformer_names};

/// What such a file holds besides behind a component's prefix, which no network here needs.
pub(super) fn left_out(component: &str) -> &'static [&'static str] {
    // `scaled_fp8` marks eight-bit weights with scales, which are found beside them.
    match component {
        "unet" | "transformer" => &["scaled_fp8"],
        "vae" => &["encoder.", "quant_conv.", "loss.", "model_ema.", "scaled_fp8"],
        _ => &["logit_scale", "attn_mask", "text_projection.weight", "scaled_fp8"],
    }
}

/// A component, where its tensors stand, what they are called, and beginnings of names that it does not need.
struct Part<'r> {
    component: &'static str,
    prefix: &'static str,
    rename: Box<dyn Fn(&str) -> Names + 'r>,
    unread: Vec<String>,
}

impl<'r> Part<'r> {
    fn new(
        component: &'static str,
        prefix: &'static str,
        rename: impl Fn(&str) -> Names + 'r,
    ) -> Self {
        let unread = left_out(component).iter().map(|start| (*start).to_owned()).collect();
        Self { component, prefix, rename: Box::new(rename), unread }
    }
}

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
        let has_block = |block: &str| has(block) || has(&format!("{}{block}", ldm_names::UNET));
        let layout = if has_block("double_blocks.") {
            ensure!(
                has_block("vector_in."),
                "{} has FLUX's blocks and no `vector_in`: it is no FLUX.1, which --model flux runs, but perhaps FLUX.2 or Chroma, \
                 which no model here runs",
                path.display()
            );
            Layout::Flux
        } else if has_block("joint_blocks.") {
            Layout::Sd3
        } else if has("conditioner.") {
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
        self.has(ldm_names::UNET)
    }

    /// Whether it holds the text encoder of Stable Diffusion 1.
    pub(crate) fn has_text_encoder(&self) -> bool {
        self.has(ldm_names::TEXT_ENCODER)
    }

    /// Whether it holds a network that paints, under names that are known here.
    pub(crate) fn has_network(&self) -> bool {
        self.layout.has_transformer() || self.has_unet()
    }

    /// Whether that is told the guidance.
    pub(crate) fn is_told_guidance(&self) -> bool {
        let name = format!("{}time_embed.cond_proj.weight", ldm_names::UNET);
        self.contents.shapes.contains_key(&name)
    }

    /// Writes what the file says about its sampling into the scheduler's file in `root`; `prediction` is what
    /// the user says, and `has_base` whether the configurations are of a folder of theirs. Files of transformers say nothing.
    ///
    /// # Errors
    /// It asks for sampling that is not built here.
    pub(crate) fn apply_marks(
        &self,
        root: &Path,
        prediction: Option<PredictionType>,
        has_base: bool,
    ) -> Result<LoadReport> {
        if self.layout.has_transformer() {
            return Ok(self.strays());
        }
        let is_open = self.layout == Layout::Sd2 && !has_base;
        apply_marks((&self.path, &self.contents), root, prediction, is_open)
    }

    /// Warns of tensors that belong to no component.
    fn strays(&self) -> LoadReport {
        let mut understood = LoadReport::default();
        let network = self.network_prefix();
        let prefixes: Vec<&str> =
            TEXT_ENCODERS.iter().map(|(_, _, prefix)| *prefix).chain([self.vae_prefix()]).collect();
        let is_known = |name: &str| {
            name.starts_with(network)
                || prefixes.iter().any(|prefix| name.starts_with(prefix))
                || WITHOUT_EFFECT.iter().any(|end| name.ends_with(end))
        };
        let strays: Vec<&String> =
            self.contents.shapes.keys().filter(|name| !is_known(name)).collect();
        if let Some(sentence) = tensors_in_nothing(&strays) {
            understood.warn(format!("{}: {sentence}", self.path.display()));
        }
        understood
    }

    fn has(&self, prefix: &str) -> bool {
        self.contents.shapes.keys().any(|name| name.starts_with(prefix))
    }

    /// Where the network's tensors stand: publishers' files of a transformer alone have no prefix.
    fn network_prefix(&self) -> &'static str {
        if self.layout.has_transformer() && !self.has_unet() { "" } else { ldm_names::UNET }
    }

    fn vae_prefix(&self) -> &'static str {
        let is_comfys = self.layout.has_transformer() && !self.has(ldm_names::VAE);
        if is_comfys { transformer_names::COMFY_VAE } else { ldm_names::VAE }
    }

    /// Recipes for its components, with the configurations in `root`. Its autoencoder may be absent where the
    /// user names another (`has_other_vae`), and all but a transformer where the recipes of another folder stand beside these.
    ///
    /// # Errors
    /// The configurations are another model's, a component is missing, or a tensor is in no network that they
    /// describe.
    pub(crate) fn recipes(
        &self,
        root: &Path,
        has_other_vae: bool,
        understood: &mut LoadReport,
    ) -> Result<BTreeMap<String, Recipe>> {
        let path = self.path.display();
        self.check_base(root)?;
        let mut recipes = BTreeMap::new();
        for part in self.parts(root)? {
            let Part { component, prefix, .. } = part;
            let config = root.join(component).join("config.json");
            if self.layout.has_transformer() {
                if !self.has(prefix) {
                    continue;
                }
                if !config.is_file() {
                    understood.warn(format!(
                        "{path}: `{prefix}...` is left out: --base has no {component}"
                    ));
                    continue;
                }
            }
            let known = Known::read(self.layout, component, &config)?;
            let recipe = self.recipe(&part, &known)?;
            if recipe.names.is_empty() {
                match component {
                    "vae" if has_other_vae => continue,
                    "vae" => bail!(
                        "{path} holds no autoencoder (no `{prefix}decoder...`); add --vae DIR or FILE"
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

    /// Refuses configurations of another model, and files that hold none.
    fn check_base(&self, root: &Path) -> Result<()> {
        let (path, own) = (self.path.display(), self.layout.described());
        if let Some(class) = self.layout.transformer_class() {
            let config = root.join("transformer/config.json");
            ensure!(
                config.is_file(),
                "{path} is a checkpoint of {own}, and --base holds no transformer/config.json"
            );
            let found = read_component(&config)?;
            let found = found["_class_name"].as_str().unwrap_or("nothing");
            ensure!(
                found == class,
                "{path} is a checkpoint of {own}, and {} is of a {found}",
                config.display()
            );
            return Ok(());
        }
        let no_unet = || {
            format!(
                "{path} holds no `{}...`; it is no checkpoint of Stable Diffusion in the latent-diffusion layout{}",
                ldm_names::UNET,
                self.of_a_folder()
            )
        };
        // Without a UNet only text encoders tell whose it is.
        ensure!(self.has_unet() || self.layout != Layout::Sd1, no_unet());
        let is_xl = root.join("text_encoder_2").is_dir();
        if !root.join("unet/config.json").is_file() || is_xl != (self.layout == Layout::Sdxl) {
            let index = read_component(&root.join("model_index.json"))?;
            let class = index["_class_name"].as_str().unwrap_or("nothing");
            bail!("{path} is a checkpoint of {own}, and --base holds configurations of a {class}");
        }
        ensure!(self.has_unet(), no_unet());
        Ok(())
    }

    /// What to do with a file of a component in a folder, where this is one.
    fn of_a_folder(&self) -> String {
        let has = |start: &str| {
            let is_of =
                |name: &String| name.starts_with(start) || name.contains(&format!(".{start}"));
            self.contents.shapes.keys().any(is_of)
        };
        let component = match () {
            () if has("transformer_blocks.") && !has("down_blocks.") => "transformer",
            () if has("down_blocks.") => "unet",
            () => return String::new(),
        };
        format!(
            "; its tensors have the names of {component}/diffusion_pytorch_model.safetensors in a folder in the diffusers \
             layout: give that folder, with this file in it, as --weights"
        )
    }

    /// What it may hold.
    fn parts(&self, root: &Path) -> Result<Vec<Part<'static>>> {
        let levels = level_count(&root.join("vae/config.json"))?;
        let vae = Part::new("vae", self.vae_prefix(), move |name| plain(vae_name(name, levels)));
        let network = self.network_prefix();
        let unet = || {
            let layers = number(&root.join("unet/config.json"), "layers_per_block")?;
            Ok::<_, anyhow::Error>(Part::new("unet", network, move |name| {
                plain(unet_name(name, layers))
            }))
        };
        Ok(match self.layout {
            Layout::Sdxl => vec![
                unet()?,
                vae,
                Part::new("text_encoder", ldm_names::SDXL_TEXT_ENCODER, clip_names),
                Part::new("text_encoder_2", ldm_names::SDXL_TEXT_ENCODER_2, open_clip_names),
            ],
            Layout::Sd2 => {
                let prefix = ldm_names::SD2_TEXT_ENCODER;
                let mut encoder = Part::new("text_encoder", prefix, open_clip_names);
                // Stable Diffusion 2 attends to the layer before the last, so its configuration ends there.
                let depth = number(&root.join("text_encoder/config.json"), "num_hidden_layers")?;
                encoder.unread.push(format!("transformer.resblocks.{depth}."));
                encoder.unread.push("text_projection".to_owned());
                vec![unet()?, vae, encoder]
            }
            Layout::Sd1 => {
                vec![unet()?, vae, Part::new("text_encoder", ldm_names::TEXT_ENCODER, clip_names)]
            }
            Layout::Flux | Layout::Sd3 => {
                let mut parts = vec![self.transformer(root)?, vae];
                for (layout, component, prefix) in TEXT_ENCODERS {
                    if *layout == self.layout {
                        parts.push(text_encoder(*layout, component, prefix));
                    }
                }
                parts
            }
        })
    }

    fn transformer(&self, root: &Path) -> Result<Part<'static>> {
        let prefix = self.network_prefix();
        if self.layout == Layout::Flux {
            return Ok(Part::new("transformer", prefix, flux_names));
        }
        let layers = number(&root.join("transformer/config.json"), "num_layers")?;
        Ok(Part::new("transformer", prefix, move |name| sd3_names(name, layers)))
    }

    fn recipe(&self, part: &Part<'_>, known: &Known) -> Result<Recipe> {
        let mut recipe = of_files(vec![self.path.clone()])?;
        let mut unknown = Vec::new();
        for stored in self.contents.shapes.keys() {
            let Some(name) = stored.strip_prefix(part.prefix) else { continue };
            if part.unread.iter().any(|start| name.starts_with(start))
                || name.ends_with("position_ids")
            {
                continue;
            }
            let names = (part.rename)(name);
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

/// Text encoders of transformers: of which model, which, and where they stand.
const TEXT_ENCODERS: &[(Layout, &str, &str)] = &[
    (Layout::Flux, "text_encoder", transformer_names::CLIP_L),
    (Layout::Flux, "text_encoder_2", transformer_names::T5),
    (Layout::Sd3, "text_encoder", transformer_names::CLIP_L),
    (Layout::Sd3, "text_encoder_2", transformer_names::CLIP_G),
    (Layout::Sd3, "text_encoder_3", transformer_names::T5),
];

/// Ends of names beside those of text encoders: CLIP's temperature, and a vocabulary, which is the folder's here.
const WITHOUT_EFFECT: &[&str] = &[".logit_scale", ".spiece_model"];

fn text_encoder(layout: Layout, component: &'static str, prefix: &'static str) -> Part<'static> {
    match prefix {
        transformer_names::T5 => {
            let mut part = Part::new(component, prefix, |name| plain(Some(name.to_owned())));
            // The same table as `shared`.
            part.unread.push("encoder.embed_tokens.".to_owned());
            part
        }
        transformer_names::CLIP_G => {
            let mut part = Part::new(component, prefix, clip_g_names);
            part.unread.retain(|start| start != "text_projection.weight");
            part
        }
        _ if layout == Layout::Sd3 => Part::new(component, prefix, clip_l_names),
        _ => Part::new(component, prefix, clip_names),
    }
}
