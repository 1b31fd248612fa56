//! In: options that name a model, or a generator of the caller's own. Out: it loaded, on each device, and what
//! was understood of its files. Making and keeping images is left to `generate::generate_run`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::devices::one_kind_of_device;
use super::ella_options::EllaPartOptions;
use super::fetched;
use super::generation_words::{outcome, served_warnings, times_told};
use super::generator_options::{GeneratorOptions, Sampling};
use super::listener::{Listener, Quiet};
use super::outside_models::OutsideModels;
use crate::benchmark::Item;
use crate::checkpoint::assembled::{Assembled, CheckpointParts};
use crate::checkpoint::folder::check_folder;
use crate::checkpoint::load_report::LoadReport;
use crate::checkpoint::origins::Origins;
use crate::checkpoint::shipped::ShippedFolder;
use crate::compute::device::{Device, Place, describe_device, parse_device, parse_dtype};
use crate::compute::workplace::Workplace;
use crate::fetch::Role;
use crate::generate::catalog::{self, CatalogModel, PipelineParts, Source};
use crate::generate::generate_run::{Generation, GenerationPlan, GenerationSummary};
use crate::generate::noise::seeds::SeedMode;
use crate::generate::recognised::check_single_file;
use crate::generate::server::PROMPTS;
use crate::generate::{ImageGenerator, ImageTimes};
use crate::results::{RunDirectory, Settings};
use crate::stage_observer::StageObserver;
use crate::wording::counted;

/// A model ready to generate, and where it computes.
pub struct LoadedGenerator {
    /// One per device; of a model that is small one per thread.
    generators: Vec<Box<dyn ImageGenerator>>,
    /// Where each of them computes.
    devices: Vec<String>,
    plan: GenerationPlan,
    understood: LoadReport,
    /// What the checkpoint was put together to, where it was.
    assembled: Option<Assembled>,
    negative_prompt: Option<String>,
    /// Removed when dropped; a pipeline may load parts of them late.
    _folders: Vec<TempDir>,
}

impl LoadedGenerator {
    /// A generator of the caller's own, asked for one image at a time. `device` is recorded with each sitting.
    pub fn own(
        generator: impl ImageGenerator + 'static,
        seed: u64,
        seed_mode: SeedMode,
        device: &str,
    ) -> Self {
        Self::of_one_at_a_time(vec![Box::new(generator)], vec![device.to_owned()], seed, seed_mode)
    }

    /// Generators of which each is asked for one image at a time, and where they compute.
    fn of_one_at_a_time(
        generators: Vec<Box<dyn ImageGenerator>>,
        devices: Vec<String>,
        seed: u64,
        seed_mode: SeedMode,
    ) -> Self {
        Self {
            understood: generators.first().map(|one| one.understood()).unwrap_or_default(),
            generators,
            devices,
            plan: GenerationPlan { seed, seed_mode, batch: 1, one_thread_each: false },
            assembled: None,
            negative_prompt: None,
            _folders: Vec::new(),
        }
    }

    /// Whether the model, its devices and its checkpoint are there; nothing is loaded.
    ///
    /// # Errors
    /// One is not.
    pub fn check(options: &GeneratorOptions) -> anyhow::Result<()> {
        let options = &options.clone().with_recognised_model()?;
        catalog::check_name(&options.model)?;
        options.control.refuse_for(&options.model)?;
        options.control.resolve()?;
        if OutsideModels::check(options)? {
            return Ok(());
        }
        let model = catalog::find(&options.model)?;
        options.program.refuse_for(&options.model)?;
        options.server.refuse_for(&options.model)?;
        options.device_names().into_iter().try_for_each(|name| parse_device(name).map(|_| ()))?;
        match model.source {
            Source::Shipped { .. } => Ok(()),
            Source::Folder(pipeline) => {
                let checkpoint = named_or_fetched(model, options, &Quiet)?;
                if checkpoint.is_file() {
                    check_single_file(&checkpoint, model.name, options.base.is_some())?;
                }
                // Of other parts too it is put together first, and then looked at.
                if options.parts(&checkpoint).is_plain() {
                    check_folder(&checkpoint, model.name, pipeline)
                        .with_context(|| format!("model {} cannot be loaded", model.name))?;
                }
                Ok(())
            }
        }
    }

    /// Loads the model that the options name. A wrong option or file shows here, before a run directory is made.
    ///
    /// # Errors
    /// There is no such model or device, the model's files are missing or damaged, or a setting does not fit it.
    pub fn load(options: &GeneratorOptions, listener: &dyn Listener) -> anyhow::Result<Self> {
        let options = &options.clone().with_recognised_model()?;
        options.recognised.iter().for_each(|sentence| listener.note(sentence));
        catalog::check_name(&options.model)?;
        options.control.refuse_for(&options.model)?;
        if let Some(outside) = OutsideModels::load(options, listener)? {
            let OutsideModels { generators, devices, seed, seed_mode } = outside;
            return Ok(Self::of_one_at_a_time(generators, devices, seed, seed_mode));
        }
        let model = catalog::find(&options.model)?;
        options.program.refuse_for(&options.model)?;
        options.server.refuse_for(&options.model)?;
        let devices: Vec<Device> =
            options.device_names().into_iter().map(parse_device).collect::<Result<_, _>>()?;
        one_kind_of_device(&devices.iter().map(describe_device).collect::<Vec<_>>())?;
        let mut ella = options.ella.clone();
        let unpacked = unpack(model, options, &mut ella)?;
        let checkpoint = match unpacked.first() {
            Some(folder) => folder.path().to_owned(),
            None => named_or_fetched(model, options, listener)?,
        };
        let loaded = Self::load_parts(model, options, &ella, &checkpoint, &devices, listener);
        // Folders that the user never saw: the model's name stands for them.
        let named = |error: anyhow::Error, folder: &TempDir| {
            Origins::new(folder.path(), Path::new(model.name)).with_user_paths(error)
        };
        let loaded = loaded.map_err(|error| unpacked.iter().fold(error, named))?;
        Ok(Self { _folders: unpacked, ..loaded })
    }

    /// As [`LoadedGenerator::load`], from the checkpoint and the parts of an ELLA; what it loads lies where they are.
    fn load_parts(
        model: &CatalogModel,
        options: &GeneratorOptions,
        ella: &EllaPartOptions,
        checkpoint: &Path,
        devices: &[Device],
        listener: &dyn Listener,
    ) -> anyhow::Result<Self> {
        let Sampling { options: mut settings, seed, seed_mode, note } =
            options.resolve_sampling(model)?;
        note.iter().for_each(|note| listener.note(note));
        let mut parts = options.parts(checkpoint);
        parts.prediction = settings.overrides.prediction;
        settings.record.extend(record(&parts));
        settings.control = options.control.resolve()?;
        if let Some(name) = options.control.controlnet.as_ref().and_then(|path| path.file_name()) {
            settings.record.insert("controlnet".to_owned(), json!(name.to_string_lossy()));
        }
        // Devices that share the work are of one kind.
        let products = options.products.unwrap_or_default();
        let products = devices.first().map(|device| products.on(device)).transpose()?;
        let products = products.unwrap_or_default();
        if let Some(told) = products.described().filter(|_| products.is_fallback()) {
            listener.warning(&format!("products run in {told}"));
        }
        settings.record.extend(products.record());
        // The pipelines record what they run; a name of its own stands beside that.
        let name = options.name.as_deref().or(model.is_shipped().then_some(model.name));
        if let Some(name) = name {
            settings.record.insert("name".to_owned(), name.into());
        }
        if model.pipeline.is_ella() {
            ella.refuse_idle_tokenizer(&parts)?;
        } else {
            ella.refuse_for(model.name)?;
        }
        if checkpoint.is_file() {
            check_single_file(checkpoint, model.name, options.base.is_some())?;
        }
        let assembled = if parts.is_plain() { None } else { Some(parts.assemble()?) };
        let weights = assembled.as_ref().map_or(checkpoint, Assembled::path);
        let negative_prompt = settings.negative_prompt.clone();
        let files =
            model.pipeline.is_ella().then(|| ella.files(model.name, weights)).transpose()?;
        let pipeline = |device: &Device| -> anyhow::Result<Box<dyn ImageGenerator>> {
            let dtype = parse_dtype(&options.dtype, device)?;
            log::debug!("model {}: {}, {}", model.name, describe_device(device), dtype.as_str());
            let parts = PipelineParts {
                checkpoint: weights,
                ella: files.clone(),
                reading: ella.reading.clone(),
                low_memory: ella.low_memory,
                options: settings.clone(),
                place: Place { device: device.clone(), dtype },
            };
            products.while_loading(|| model.pipeline.load(parts))
        };
        // The shipped models are so small that one thread makes a picture as soon as several do.
        let one_thread_each = model.is_shipped() && matches!(devices, [Device::Cpu]);
        let loaded: anyhow::Result<Vec<_>> = match one_thread_each {
            true => {
                (0..Workplace::useful()).into_par_iter().map(|_| pipeline(&Device::Cpu)).collect()
            }
            false => devices.iter().map(pipeline).collect(),
        };
        let generators = loaded
            .map_err(|error| match &assembled {
                Some(assembled) => assembled.with_user_paths(error),
                None => error,
            })
            .with_context(|| format!("model {} cannot be loaded", model.name))?;
        let mut understood = LoadReport::default();
        understood.line("model", model.name);
        understood.line("checkpoint", shown(checkpoint, model));
        let described: Vec<String> = devices.iter().map(describe_device).collect();
        understood.line("device", described.join("; "));
        if let Some(products) = products.described() {
            understood.line("products", products);
        }
        if let Some(parts) = &assembled {
            understood.extend(parts.understood.clone());
        }
        // Devices that share the work have the same model.
        understood.extend(generators.first().map(|one| one.understood()).unwrap_or_default());
        let default_batch = if devices.iter().all(Device::is_cpu) { 1 } else { 4 };
        Ok(Self {
            generators,
            understood,
            plan: GenerationPlan {
                seed,
                seed_mode,
                batch: options.batch.unwrap_or(default_batch),
                one_thread_each,
            },
            devices: described,
            assembled,
            negative_prompt,
            _folders: Vec::new(),
        })
    }

    /// Whether each of `items` has the files that the model takes beside its prompt: a control image, where there is a
    /// ControlNet. Nothing is loaded.
    ///
    /// # Errors
    /// One has not, in a sentence that names it.
    pub fn check_items(options: &GeneratorOptions, items: &[&Item]) -> anyhow::Result<()> {
        options.control.check_items(items)
    }

    /// What was understood of its files.
    pub fn understood(&self) -> &LoadReport {
        &self.understood
    }

    /// How many images, or groups of them, it makes at a time; of a server one, for nobody says how many it works at.
    pub fn at_once(&self) -> usize {
        let is_elsewhere = self.generators.iter().any(|one| one.asked_at_a_time().is_some());
        if is_elsewhere { 1 } else { self.generators.len() }
    }

    /// Where each of its networks computes, as `describe_device` tells.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// Width and height of its images in pixels; `None` where it does not say.
    pub fn image_size(&self) -> Option<(u32, u32)> {
        let settings = self.generators.first()?.settings();
        let side = |name| u32::try_from(settings.get(name)?.as_u64()?).ok();
        side("width").zip(side("height"))
    }

    /// How long the parts of an image take (see [`ImageGenerator::measure`]).
    ///
    /// # Errors
    /// The model failed.
    pub fn measure(&mut self, prompt: &str, calls: usize) -> anyhow::Result<Option<ImageTimes>> {
        // Devices that share the work are of one kind, so the first speaks for all.
        let Some(generator) = self.generators.first_mut() else { return Ok(None) };
        self.plan.workplace()?.run(|| generator.measure(prompt, calls))
    }

    /// Notes in the manifest that the images of `items` begin. A server is tried first with the first of them, unless
    /// the run or a shard beside it knows already what it makes of seeds.
    ///
    /// # Errors
    /// As [`Generation::begin`]; a server makes no image.
    pub fn begin(
        &mut self,
        run: &mut RunDirectory,
        items: &[&Item],
        listener: &dyn Listener,
    ) -> anyhow::Result<Generation> {
        let (plan, device) = (self.plan, self.devices.join("; "));
        let recorded = run.generation_settings()?;
        let seeds =
            |item: &Item| [0, 1].map(|image| plan.seed_mode.seed(plan.seed, &item.id, image));
        let prompts: Vec<(&str, [u64; 2])> =
            items.iter().take(PROMPTS).map(|item| (item.prompt.as_str(), seeds(item))).collect();
        if let Some(generator) = self.generators.first_mut()
            && let Some(note) = generator.begin(recorded.as_ref(), &prompts)?
        {
            listener.note(&note);
        }
        let grows = run.is_to_grow();
        let generation = Generation::begin(run, items, &self.generators(), plan, &device)?;
        if grows {
            listener.note(&format!(
                "{} grows to {} with {} each; what it has stays",
                run.path().display(),
                counted(items.len(), "item"),
                counted(run.manifest().images_per_item, "image")
            ));
        }
        Ok(generation)
    }

    /// Makes the images that are not there yet.
    ///
    /// # Errors
    /// As [`Generation::make`].
    pub fn make(
        &mut self,
        generation: &mut Generation,
        run: &RunDirectory,
        items: &[&Item],
        listener: &dyn Listener,
        observer: &dyn StageObserver,
    ) -> anyhow::Result<GenerationSummary> {
        self.warn_of_idle_words(items, listener)?;
        let summary = generation.make(run, items, self.generators(), observer)?;
        listener.note(&outcome(&summary, items.len(), run));
        let times = self.generators.iter_mut().flat_map(|generator| generator.take_times());
        times_told(times.collect()).iter().for_each(|line| listener.note(line));
        served_warnings(&summary).iter().for_each(|warning| listener.warning(warning));
        Ok(summary)
    }

    /// Tells of words of embeddings that no prompt holds.
    fn warn_of_idle_words(&self, items: &[&Item], listener: &dyn Listener) -> anyhow::Result<()> {
        let Some(assembled) = &self.assembled else { return Ok(()) };
        let prompts = items.iter().map(|item| item.prompt.as_str());
        let prompts = prompts.chain(self.negative_prompt.as_deref());
        for word in assembled.words_in_none(prompts)? {
            listener.warning(&format!(
                "the embedding's word `{word}` is in none of the {} prompts here nor in the negative \
                 prompt, so it changes no image; --embedding FILE:TOKEN gives it another word",
                items.len()
            ));
        }
        Ok(())
    }

    fn generators(&mut self) -> Vec<&mut dyn ImageGenerator> {
        let mut generators: Vec<&mut dyn ImageGenerator> = Vec::new();
        for generator in &mut self.generators {
            generators.push(generator.as_mut());
        }
        generators
    }
}

/// The checkpoint that the user named, else the one that was fetched.
fn named_or_fetched(
    model: &CatalogModel,
    options: &GeneratorOptions,
    listener: &dyn Listener,
) -> anyhow::Result<PathBuf> {
    let Some(weights) = options.find_weights(model.name)? else {
        let files: String = model.files().iter().map(|file| format!("\n  {file}")).collect();
        let advice = fetched::advice(model.name, Role::Checkpoint);
        let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
        bail!("model {} needs --weights DIR{advice}; the folder holds:{files}", model.name);
    };
    if options.weights.is_none() {
        listener.note(&format!("weights of {}: {}", model.name, weights.display()));
    }
    Ok(weights)
}

/// The folders of a model that is inside the program, the checkpoint's first; its parts are entered into
/// `ella`. None for other models.
fn unpack(
    model: &CatalogModel,
    options: &GeneratorOptions,
    ella: &mut EllaPartOptions,
) -> anyhow::Result<Vec<TempDir>> {
    let Source::Shipped { checkpoint, ella: connector } = model.source else {
        return Ok(Vec::new());
    };
    let given = [
        ("--weights", options.weights.is_some()),
        ("--ella", ella.connector.is_some()),
        ("--text-encoder", ella.text_encoder.is_some()),
    ];
    for (flag, given) in given {
        ensure!(!given, "model {} has its weights inside; leave out {flag}", model.name);
    }
    let write = |folder: &ShippedFolder| {
        folder.unpack().with_context(|| format!("{} cannot be unpacked", folder.name))
    };
    let mut folders = vec![write(checkpoint)?];
    if let Some(connector) = connector {
        let folder = write(connector)?;
        ella.connector = Some(folder.path().join("ella.safetensors"));
        ella.text_encoder = Some(folder.path().join("text_encoder"));
        folders.push(folder);
    }
    Ok(folders)
}

/// The checkpoint, for people.
fn shown(checkpoint: &Path, model: &CatalogModel) -> String {
    match model.source {
        Source::Shipped { .. } => "inside the program".to_owned(),
        Source::Folder(_) => checkpoint.display().to_string(),
    }
}

/// What a run's record says of the parts beside their digests: file names, not where they lie.
fn record(parts: &CheckpointParts) -> Settings {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut record = Settings::new();
    if parts.checkpoint.is_file() {
        record.insert("checkpoint_file".to_owned(), json!(name(&parts.checkpoint)));
    }
    let loras: Vec<_> = parts
        .loras
        .iter()
        .map(|lora| json!({"file": name(&lora.file), "weight": lora.weight}))
        .collect();
    let embeddings: Vec<_> = parts
        .embeddings
        .iter()
        .map(|embedding| json!({"file": name(&embedding.file), "token": embedding.token}))
        .collect();
    for (key, list) in [("loras", loras), ("embeddings", embeddings)] {
        if !list.is_empty() {
            record.insert(key.to_owned(), json!(list));
        }
    }
    record
}
