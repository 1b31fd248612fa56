//! In: a checkpoint as a folder or a single file, other parts, adapters and embeddings. Out: a folder
//! in the diffusers layout that a pipeline loads like any other. No weights are copied: the folder
//! holds configurations, the vocabulary, and recipes that say where the tensors lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::DType;
use serde_json::Value;
use tempfile::TempDir;

use super::embeddings::{EmbeddingFile, TaughtWord, WORDS_FILE, read_embedding};
use super::known_configs;
use super::lora::{Additions, LoraFile, Target, absolute, read_lora};
use super::schedulers::config::Prediction;
use super::single_file::SingleFile;
use super::understood::Understood;
use crate::models::Recipe;
use crate::models::ldm_names::{self, vae_name};
use crate::models::recipe::Rows;
use crate::models::safetensors_file::contents;

/// Components with weights, and how their files begin.
const COMPONENTS: [(&str, &str); 4] = [
    ("unet", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
];
const TOKEN_TABLE: &str = "text_model.embeddings.token_embedding.weight";

/// What a checkpoint is put together from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CheckpointParts {
    /// A folder in the diffusers layout, or a single safetensors file in the latent-diffusion layout.
    pub checkpoint: PathBuf,
    /// For a single file: a folder in the diffusers layout whose configurations and vocabulary it
    /// uses. Where absent, those of Stable Diffusion 1.5 or of SDXL base are taken.
    pub base: Option<PathBuf>,
    /// Folder with another vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Another autoencoder: a folder with its `config.json`, or a file in either layout.
    pub vae: Option<PathBuf>,
    /// Low-rank adapters.
    pub loras: Vec<LoraFile>,
    /// Textual-inversion embeddings.
    pub embeddings: Vec<EmbeddingFile>,
    /// What the network predicts, where the user says so: that stands above a single file's marks.
    pub prediction: Option<Prediction>,
}

/// A checkpoint that was put together.
#[derive(Debug)]
pub struct Assembled {
    /// The folder, in the diffusers layout; it is removed when this is dropped.
    pub folder: TempDir,
    /// What was understood of the parts.
    pub understood: Understood,
}

impl Assembled {
    /// Where the folder lies.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl CheckpointParts {
    /// Whether it is a folder alone, which needs no putting together.
    pub fn is_plain(&self) -> bool {
        !self.checkpoint.is_file()
            && self.base.is_none()
            && self.tokenizer.is_none()
            && self.vae.is_none()
            && self.loras.is_empty()
            && self.embeddings.is_empty()
    }

    /// Puts the folder together.
    ///
    /// # Errors
    /// A part is missing, unreadable or of another model, or the folder cannot be written.
    pub fn assemble(&self) -> Result<Assembled> {
        let mut understood = Understood::default();
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let root = folder.path();
        let mut recipes = if self.checkpoint.is_file() {
            let single = SingleFile::open(&self.checkpoint)?;
            self.copy_configurations(root, single.sdxl)?;
            understood.extend(single.apply_marks(root, self.prediction)?);
            single.recipes(root)?
        } else {
            ensure!(
                self.checkpoint.is_dir(),
                "{} is neither a folder nor a file",
                self.checkpoint.display()
            );
            ensure!(
                self.base.is_none(),
                "--base is for a single file; {} is a folder with its own configurations",
                self.checkpoint.display()
            );
            copy_small_files(&self.checkpoint, root)?;
            folder_recipes(&self.checkpoint)?
        };
        if let Some(tokenizer) = &self.tokenizer {
            copy_folder(tokenizer, &root.join("tokenizer"))?;
            let second = root.join("tokenizer_2");
            if root.join("text_encoder_2").is_dir() && !second.is_dir() {
                copy_folder(tokenizer, &second)?;
                let config = second.join("tokenizer_config.json");
                write(&config, known_configs::SDXL_TOKENIZER_2)?;
            }
        }
        if let Some(vae) = &self.vae {
            recipes.insert("vae".to_owned(), other_vae(vae, root)?);
        }
        self.add_loras(root, &mut recipes)?;
        self.add_embeddings(root, &mut recipes)?;
        for (component, stem) in COMPONENTS {
            if let Some(recipe) = recipes.get(component) {
                write_json(&Recipe::path(&root.join(component), stem), recipe)?;
            }
        }
        Ok(Assembled { folder, understood })
    }

    /// Configurations and vocabulary for a single file.
    fn copy_configurations(&self, root: &Path, sdxl: bool) -> Result<()> {
        match &self.base {
            Some(base) => {
                ensure!(base.is_dir(), "--base {} is no folder", base.display());
                copy_small_files(base, root)
            }
            None => {
                ensure!(
                    self.tokenizer.is_some(),
                    "{} holds no vocabulary; add --tokenizer DIR with vocab.json and merges.txt, or \
                     --base DIR, a diffusers folder of the same architecture",
                    self.checkpoint.display()
                );
                let known = if sdxl { known_configs::SDXL } else { known_configs::SD15 };
                known.iter().try_for_each(|(path, text)| write(&root.join(path), text))
            }
        }
    }

    fn add_loras(&self, root: &Path, recipes: &mut BTreeMap<String, Recipe>) -> Result<()> {
        if self.loras.is_empty() {
            return Ok(());
        }
        let targets = recipes
            .iter()
            .map(|(component, recipe)| {
                Ok(Target {
                    component: component.clone(),
                    tensors: tensor_names(recipe, component)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let layers = number(&root.join("unet/config.json"), "layers_per_block").unwrap_or(2);
        let mut additions = Additions::new();
        for lora in &self.loras {
            read_lora(lora, &targets, layers, &mut additions)?;
        }
        for (component, of_component) in additions {
            if let Some(recipe) = recipes.get_mut(&component) {
                recipe.additions = of_component;
            }
        }
        Ok(())
    }

    fn add_embeddings(&self, root: &Path, recipes: &mut BTreeMap<String, Recipe>) -> Result<()> {
        if self.embeddings.is_empty() {
            return Ok(());
        }
        let encoders = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")];
        let encoders: Vec<_> =
            encoders.into_iter().filter(|(encoder, _)| recipes.contains_key(*encoder)).collect();
        let widths = encoders
            .iter()
            .map(|(encoder, _)| number(&root.join(encoder).join("config.json"), "hidden_size"))
            .collect::<Result<Vec<_>>>()?;
        let mut words: Vec<TaughtWord> = Vec::new();
        let mut rows: Vec<Vec<Rows>> = vec![Vec::new(); encoders.len()];
        for embedding in &self.embeddings {
            let (word, of_encoders) = read_embedding(embedding, &widths)?;
            words.push(word);
            for (rows, row) in rows.iter_mut().zip(of_encoders) {
                rows.push(row);
            }
        }
        let added: usize = words.iter().map(|word| word.vectors).sum();
        for ((encoder, tokenizer), rows) in encoders.into_iter().zip(rows) {
            let path = root.join(encoder).join("config.json");
            let mut config = read_json(&path)?;
            config["vocab_size"] = Value::from(number(&path, "vocab_size")? + added);
            write_json(&path, &config)?;
            write_json(&root.join(tokenizer).join(WORDS_FILE), &words)?;
            let recipe = recipes.get_mut(encoder).context("there is no text encoder")?;
            let table = tensor_names(recipe, encoder)?
                .into_iter()
                .find(|name| TOKEN_TABLE.ends_with(name.as_str()) && name.ends_with("weight"))
                .with_context(|| format!("{encoder} has no table of tokens"))?;
            recipe.rows.insert(table, rows);
        }
        Ok(())
    }
}

/// The network's names of a recipe's tensors.
fn tensor_names(recipe: &Recipe, component: &str) -> Result<Vec<String>> {
    if !recipe.names.is_empty() {
        return Ok(recipe.names.keys().cloned().collect());
    }
    let stem = COMPONENTS.iter().find(|(name, _)| *name == component).map_or("model", |(_, s)| s);
    let mut names = Vec::new();
    for file in recipe.tensor_files(stem, DType::F32)? {
        names.extend(contents(&file)?.shapes.into_keys());
    }
    Ok(names)
}

/// Recipes for the components of a folder in the diffusers layout.
fn folder_recipes(folder: &Path) -> Result<BTreeMap<String, Recipe>> {
    let mut recipes = BTreeMap::new();
    for (component, _) in COMPONENTS {
        let part = folder.join(component);
        if part.is_dir() {
            recipes.insert(component.to_owned(), of_folder(&part)?);
        }
    }
    Ok(recipes)
}

fn of_folder(folder: &Path) -> Result<Recipe> {
    Ok(Recipe { folder: Some(absolute(folder)?), ..Default::default() })
}

pub(super) fn of_files(files: Vec<PathBuf>) -> Result<Recipe> {
    let files = files.iter().map(|file| absolute(file)).collect::<Result<_>>()?;
    Ok(Recipe { files, ..Default::default() })
}

/// The network's names with the stored ones, of those that begin with `prefix`.
fn renamed<'n>(
    stored: impl Iterator<Item = &'n String>,
    prefix: &str,
    rename: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    stored.filter_map(|name| Some((rename(name.strip_prefix(prefix)?)?, name.clone()))).collect()
}

/// An autoencoder from elsewhere.
fn other_vae(path: &Path, root: &Path) -> Result<Recipe> {
    let config = root.join("vae/config.json");
    if path.is_dir() {
        let own = path.join("config.json");
        std::fs::copy(&own, &config)
            .with_context(|| format!("--vae: cannot read {}", own.display()))?;
        return of_folder(path);
    }
    ensure!(path.is_file(), "--vae {} is neither a folder nor a file", path.display());
    let stored = contents(path)?.shapes;
    let levels = level_count(&config)?;
    let recipe = of_files(vec![path.to_path_buf()])?;
    for prefix in [ldm_names::VAE, ""] {
        let names = renamed(stored.keys(), prefix, |name| vae_name(name, levels));
        // Names of diffusers would pass as far as they are the same: `decoder.conv_in` alone.
        if names.contains_key("decoder.mid_block.resnets.0.conv1.weight") {
            return Ok(Recipe { names, ..recipe });
        }
    }
    Ok(recipe)
}

/// Every file of a checkpoint but its weights.
fn copy_small_files(from: &Path, to: &Path) -> Result<()> {
    let index = from.join("model_index.json");
    if index.is_file() {
        copy(&index, &to.join("model_index.json"))?;
    }
    let parts = ["scheduler", "tokenizer", "tokenizer_2"].into_iter();
    for part in parts.chain(COMPONENTS.map(|(component, _)| component)) {
        if from.join(part).is_dir() {
            copy_folder(&from.join(part), &to.join(part))?;
        }
    }
    Ok(())
}

/// The JSON and text files of a folder.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let entries =
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", from.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let small = name.ends_with(".json") || name.ends_with(".txt");
        if path.is_file() && small && !name.contains(".safetensors") && !name.contains(".bin") {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let text = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, text)
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, content));
    written.with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write(path, serde_json::to_vec_pretty(value)?)
}

pub(super) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

pub(super) fn number(path: &Path, key: &str) -> Result<usize> {
    read_json(path)?[key]
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .with_context(|| format!("{}: `{key}` is no whole number", path.display()))
}

pub(super) fn level_count(path: &Path) -> Result<usize> {
    read_json(path)?["block_out_channels"]
        .as_array()
        .map(Vec::len)
        .with_context(|| format!("{}: `block_out_channels` is no list", path.display()))
}
