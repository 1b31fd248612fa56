//! In: a checkpoint as a folder or a single file, other parts, adapters and embeddings. Out: a folder
//! in the diffusers layout that a pipeline loads like any other. No weights are copied: the folder
//! holds configurations, the vocabulary, and recipes that say where the tensors lie. It is a temporary one, so
//! complaints about its files are told with the names of those that they were made of (`origins`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::DType;
use serde_json::Value;
use tempfile::TempDir;

use super::embeddings::{EmbeddingFile, read_embedding};
use super::layout::Layout;
use super::ldm_names::vae_name;
use super::load_report::LoadReport;
use super::lora::{Additions, LoraFile, Target, read_lora};
use super::origins::Origins;
use super::recipe::{Recipe, Rows, Table, absolute, of_files};
use super::scheduler_config::PredictionType;
use super::single_file::{SingleFile, left_out};
use super::small_files::{pad_with_exclamation_mark, write};
use super::weight_files::contents_of_weights;
use super::{known_configs, ldm_names};
use crate::text::clip::ClipTokenizer;
use crate::text::clip::embedding_words::{EmbeddingWord, WORDS_FILE};

pub(crate) use super::small_files::{level_count, number, read_json, write_json};

/// Components with weights, and how their files begin.
const COMPONENTS: [(&str, &str); 6] = [
    ("unet", "diffusion_pytorch_model"),
    ("transformer", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
    ("text_encoder_3", "model"),
];
const TOKEN_TABLE: &str = "text_model.embeddings.token_embedding.weight";

/// What a checkpoint is put together from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CheckpointParts {
    /// A folder in the diffusers layout, or a single safetensors file in the latent-diffusion layout or, of FLUX.1 and Stable
    /// Diffusion 3, in their publishers'.
    pub checkpoint: PathBuf,
    /// For a single file: a folder in the diffusers layout whose configurations and vocabulary it
    /// uses. Where absent, those of Stable Diffusion 1.5, of 2.1 or of SDXL base are taken. For one of FLUX.1 or Stable
    /// Diffusion 3, which is needed, also the weights of the parts that the file lacks.
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
    pub prediction: Option<PredictionType>,
}

/// A checkpoint that was put together.
#[derive(Debug)]
pub struct Assembled {
    /// The folder, in the diffusers layout; it is removed when this is dropped.
    pub folder: TempDir,
    /// What was understood of the parts.
    pub understood: LoadReport,
    /// Words that embeddings teach.
    pub words: Vec<EmbeddingWord>,
    /// Folders of weights beside a single file's.
    pub beside: Vec<PathBuf>,
    origins: Origins,
}

impl Assembled {
    /// Where the folder lies.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `error`, with the user's files named in place of those in the temporary folder.
    pub fn with_user_paths(&self, error: anyhow::Error) -> anyhow::Error {
        self.origins.with_user_paths(error)
    }

    /// Words of embeddings that none of `prompts` holds within what the text encoder reads.
    ///
    /// # Errors
    /// The vocabulary is broken.
    pub fn words_in_none<'p>(
        &self,
        prompts: impl IntoIterator<Item = &'p str>,
    ) -> Result<Vec<String>> {
        if self.words.is_empty() {
            return Ok(Vec::new());
        }
        let tokenizer = ClipTokenizer::load(&self.path().join("tokenizer"));
        tokenizer
            .and_then(|tokenizer| tokenizer.words_in_none(prompts))
            .map_err(|e| self.with_user_paths(e))
    }
}

impl CheckpointParts {
    /// Whether it is a folder alone, which needs no putting together.
    pub(crate) fn is_plain(&self) -> bool {
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
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mut assembly = Assembly {
            parts: self,
            root: folder.path(),
            origins: Origins::new(folder.path(), &self.checkpoint),
            recipes: BTreeMap::new(),
            understood: LoadReport::default(),
            beside: Vec::new(),
        };
        let made = assembly.make();
        let Assembly { origins, understood, beside, .. } = assembly;
        match made {
            Ok(words) => Ok(Assembled { folder, understood, words, beside, origins }),
            Err(error) => Err(origins.with_user_paths(error)),
        }
    }
}

/// A checkpoint that is being put together in `root`.
struct Assembly<'p> {
    parts: &'p CheckpointParts,
    root: &'p Path,
    origins: Origins,
    recipes: BTreeMap<String, Recipe>,
    understood: LoadReport,
    beside: Vec<PathBuf>,
}

impl Assembly<'_> {
    /// Puts it together; returns the words that embeddings teach.
    fn make(&mut self) -> Result<Vec<EmbeddingWord>> {
        let (parts, root) = (self.parts, self.root);
        // Whose known configurations are taken.
        let mut known = None;
        if parts.checkpoint.is_file() {
            let single = SingleFile::open(&parts.checkpoint)?;
            self.copy_configurations(single.layout)?;
            known = parts.base.is_none().then_some(single.layout);
            let has_base = parts.base.is_some();
            self.understood.extend(single.apply_marks(root, parts.prediction, has_base)?);
            let held = single.recipes(root, parts.vae.is_some(), &mut self.understood)?;
            for component in held.keys() {
                self.origins.note(&root.join(component), &parts.checkpoint);
            }
            if let Some(base) = parts.base.as_ref().filter(|_| single.layout.has_transformer()) {
                self.recipes = folder_recipes(base)?;
                self.tell_sources(base, held.keys());
            }
            self.recipes.extend(held);
        } else {
            ensure!(
                parts.checkpoint.is_dir(),
                "{} is neither a folder nor a file",
                parts.checkpoint.display()
            );
            ensure!(
                parts.base.is_none(),
                "--base is for a single file; {} is a folder with its own configurations",
                parts.checkpoint.display()
            );
            copy_checkpoint(&mut self.origins, &parts.checkpoint)?;
            self.recipes = folder_recipes(&parts.checkpoint)?;
        }
        if let Some(tokenizer) = &parts.tokenizer {
            self.origins.copy_folder(tokenizer, &root.join("tokenizer"))?;
            if known == Some(Layout::Sd2) {
                pad_with_exclamation_mark(&root.join("tokenizer"))?;
            }
            let second = root.join("tokenizer_2");
            if root.join("text_encoder_2").is_dir() && !second.is_dir() {
                self.origins.copy_folder(tokenizer, &second)?;
                pad_with_exclamation_mark(&second)?;
            }
        }
        if let Some(vae) = &parts.vae {
            let recipe = self.other_vae(vae)?;
            self.recipes.insert("vae".to_owned(), recipe);
        }
        self.add_loras()?;
        let words = self.add_embeddings()?;
        for (component, stem) in COMPONENTS {
            if let Some(recipe) = self.recipes.get(component) {
                write_json(&Recipe::path(&root.join(component), stem), recipe)?;
            }
        }
        Ok(words)
    }

    /// Configurations and vocabulary for a single file.
    fn copy_configurations(&mut self, layout: Layout) -> Result<()> {
        let parts = self.parts;
        if let Some(base) = &parts.base {
            ensure!(base.is_dir(), "--base {} is no folder", base.display());
            return copy_checkpoint(&mut self.origins, base);
        }
        let (known, name) = match layout {
            Layout::Sdxl => (known_configs::SDXL, "SDXL base"),
            Layout::Sd2 => (known_configs::SD2, "Stable Diffusion 2.1"),
            Layout::Sd1 => (known_configs::SD15, "Stable Diffusion 1.5"),
            Layout::Sd3 | Layout::Flux => bail!(
                "{} is a single file of {}, which holds neither configurations nor vocabularies: add --base DIR, a folder of that \
                 model in the diffusers layout (the weights of its transformer are not needed)",
                parts.checkpoint.display(),
                layout.described()
            ),
        };
        ensure!(
            parts.tokenizer.is_some(),
            "{} holds no vocabulary; add --tokenizer DIR with vocab.json and merges.txt, or \
             --base DIR, a diffusers folder of the same architecture",
            parts.checkpoint.display()
        );
        for (path, text) in known {
            write(&self.root.join(path), text)?;
            let origin = format!("{path} as {name} has it (--base DIR names another)");
            self.origins.note(&self.root.join(path), Path::new(&origin));
        }
        Ok(())
    }

    /// Says which parts are the file's `held`, and which the folder's.
    fn tell_sources<'n>(&mut self, base: &Path, held: impl Iterator<Item = &'n String>) {
        let mut held: Vec<&str> = held.map(String::as_str).collect();
        // Another one takes its place.
        let is_replaced = |name: &str| name == "vae" && self.parts.vae.is_some();
        held.retain(|name| !is_replaced(name));
        let is_other = |name: &&str| !held.contains(name) && !is_replaced(name);
        let others: Vec<&str> = self.recipes.keys().map(String::as_str).filter(is_other).collect();
        self.beside = others.iter().map(|component| base.join(component)).collect();
        let (file, base) = (self.parts.checkpoint.display(), base.display());
        self.understood.line("weights", format!("{} of {file}", held.join(", ")));
        if !others.is_empty() {
            self.understood.line("weights", format!("{} of {base}", others.join(", ")));
        }
    }

    fn add_loras(&mut self) -> Result<()> {
        if self.parts.loras.is_empty() {
            return Ok(());
        }
        let targets = self
            .recipes
            .iter()
            .filter(|(component, _)| *component != "vae")
            .map(|(component, recipe)| {
                Ok(Target {
                    component: component.clone(),
                    tensors: tensor_names(recipe, component)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let layers = number(&self.root.join("unet/config.json"), "layers_per_block").unwrap_or(2);
        let mut additions = Additions::new();
        for lora in &self.parts.loras {
            let applied = read_lora(lora, &targets, layers, &mut additions)?;
            self.understood.line("adapter", applied.described());
            for warning in applied.remark().into_iter().chain(applied.warnings) {
                self.understood.warn(warning);
            }
        }
        for (component, of_component) in additions {
            if let Some(recipe) = self.recipes.get_mut(&component) {
                recipe.additions = of_component;
            }
        }
        Ok(())
    }

    fn add_embeddings(&mut self) -> Result<Vec<EmbeddingWord>> {
        let Some(embedding) = self.parts.embeddings.first() else { return Ok(Vec::new()) };
        ensure!(
            !self.recipes.contains_key("transformer"),
            "embedding {} cannot be added: {} has a transformer, and diffusers' pipelines of these learn no words; leave --embedding out",
            embedding.file.display(),
            self.parts.checkpoint.display()
        );
        let (root, recipes) = (self.root, &mut self.recipes);
        let encoders = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")];
        let encoders: Vec<_> =
            encoders.into_iter().filter(|(encoder, _)| recipes.contains_key(*encoder)).collect();
        let widths = encoders
            .iter()
            .map(|(encoder, _)| number(&root.join(encoder).join("config.json"), "hidden_size"))
            .collect::<Result<Vec<_>>>()?;
        let mut words: Vec<EmbeddingWord> = Vec::new();
        let mut rows: Vec<Vec<Rows>> = vec![Vec::new(); encoders.len()];
        for embedding in &self.parts.embeddings {
            let (word, of_encoders) = read_embedding(embedding, &widths)?;
            let (file, vectors) = (embedding.file.display(), word.vectors);
            self.understood.line("word", format!("`{}` of {file}, vectors: {vectors}", word.token));
            words.push(word);
            for (rows, row) in rows.iter_mut().zip(of_encoders) {
                rows.push(row);
            }
        }
        let added: usize = words.iter().map(|word| word.vectors).sum();
        for ((encoder, tokenizer), rows) in encoders.into_iter().zip(rows) {
            // A new word gets the id behind the vocabulary, so its row stands there, whatever the table holds.
            let tokenizer = root.join(tokenizer);
            let kept = ClipTokenizer::load(&tokenizer)?.size();
            write_json(&tokenizer.join(WORDS_FILE), &words)?;
            let path = root.join(encoder).join("config.json");
            let mut config = read_json(&path)?;
            config["vocab_size"] = Value::from(kept + added);
            write_json(&path, &config)?;
            let recipe = recipes.get_mut(encoder).context("there is no text encoder")?;
            let table = tensor_names(recipe, encoder)?
                .into_iter()
                .find(|name| TOKEN_TABLE.ends_with(name.as_str()) && name.ends_with("weight"))
                .with_context(|| format!("{encoder} has no table of tokens"))?;
            recipe.tables.insert(table, Table { kept, rows });
        }
        Ok(words)
    }

    /// An autoencoder from elsewhere.
    fn other_vae(&mut self, path: &Path) -> Result<Recipe> {
        let config = self.root.join("vae/config.json");
        if path.is_dir() {
            let own = path.join("config.json");
            let copied = config.parent().map_or(Ok(()), std::fs::create_dir_all);
            copied
                .and_then(|()| std::fs::copy(&own, &config))
                .with_context(|| format!("--vae: cannot read {}", own.display()))?;
            self.origins.note(&config, &own);
            self.origins.note(&self.root.join("vae"), path);
            return of_folder(path);
        }
        ensure!(path.is_file(), "--vae {} is neither a folder nor a file", path.display());
        self.origins.note(&self.root.join("vae"), path);
        let stored = contents_of_weights(path)?.shapes;
        let levels = level_count(&config)?;
        let recipe = of_files(vec![path.to_path_buf()])?;
        for prefix in [ldm_names::VAE, ""] {
            let mut names = renamed(stored.keys(), prefix, |name| vae_name(name, levels));
            // Names of diffusers would pass as far as they are the same: `decoder.conv_in` alone.
            if names.contains_key("decoder.mid_block.resnets.0.conv1.weight") {
                // What has no other name keeps its own, so that it is told of if the decoder does not take it.
                for name in stored.keys().filter_map(|name| name.strip_prefix(prefix)) {
                    let left_out = left_out("vae").iter().any(|start| name.starts_with(start));
                    if !left_out && vae_name(name, levels).is_none() {
                        names.entry(name.to_owned()).or_insert(format!("{prefix}{name}"));
                    }
                }
                return Ok(Recipe { names, ..recipe });
            }
        }
        Ok(recipe)
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
        names.extend(contents_of_weights(&file)?.shapes.into_keys());
    }
    Ok(names)
}

/// Copies every file of a checkpoint but its weights.
fn copy_checkpoint(origins: &mut Origins, from: &Path) -> Result<()> {
    let root = origins.root().to_path_buf();
    let index = from.join("model_index.json");
    if index.is_file() {
        origins.copy(&index, &root.join("model_index.json"))?;
    }
    let parts = ["scheduler", "tokenizer", "tokenizer_2", "tokenizer_3"].into_iter();
    for part in parts.chain(COMPONENTS.map(|(component, _)| component)) {
        if from.join(part).is_dir() {
            origins.copy_folder(&from.join(part), &root.join(part))?;
        }
    }
    Ok(())
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

/// The network's names with the stored ones, of those that begin with `prefix`.
fn renamed<'n>(
    stored: impl Iterator<Item = &'n String>,
    prefix: &str,
    rename: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    stored.filter_map(|name| Some((rename(name.strip_prefix(prefix)?)?, name.clone()))).collect()
}
