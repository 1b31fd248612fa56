//! In: `generate --model M`. Out: the images of a run. The work is in `generate::generate_run`; this
//! file turns flags into a loaded model.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::checkpoint_args::{self, CheckpointArgs};
use super::ella_args::EllaArgs;
use super::exit_status::ExitStatus;
use super::fetched;
use super::live::Live;
use super::output::{print, print_json, say, warn};
use super::progress::StageProgress;
use super::sampling_args::{Sampling, SamplingArgs};
use super::shard_choice::ShardArgs;
use super::shared_args::{
    BenchmarkArgs, DeviceArgs, OutputArgs, SelectionArgs, one_kind_of_device, open_benchmark,
};
use super::watch;
use super::work::{Subject, dealt, open_work};
use crate::benchmark::Item;
use crate::checkpoint::assembled::Assembled;
use crate::checkpoint::shipped::ShippedFolder;
use crate::checkpoint::understood::Understood;
use crate::compute::device::{Device, describe_device, parse_device, parse_dtype};
use crate::fetch::Role;
use crate::generate::catalog::{self, CatalogModel, Pipeline, Source};
use crate::generate::generate_run::{Generation, GenerationPlan, GenerationSummary};
use crate::generate::model_file::ModelFile;
use crate::generate::noise::seeds::SeedMode;
use crate::generate::pipelines::ella::{Ella, EllaOptions};
use crate::generate::pipelines::sd15::Sd15;
use crate::generate::pipelines::sdxl::Sdxl;
use crate::generate::sampling_choice::SamplingChoice;
use crate::generate::{ImageGenerator, PictureTimes};
use crate::results::RunDirectory;

/// How images are generated; `run` has the same flags.
#[derive(Debug, Clone, clap::Args)]
pub struct GenerateOptions {
    /// Model, as `dpg-bench list` names it
    #[arg(long, default_value = catalog::DEFAULT, value_name = "MODEL")]
    pub model: String,
    /// TOML file that names a checkpoint with its parts and settings; flags stand above it
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub model_file: Option<PathBuf>,
    /// The checkpoint and its parts.
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    /// Images per prompt
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub images: u32,
    /// How pictures are sampled.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Images of a prompt made at a time [default: 1 on the processor, 4 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub batch: Option<u32>,
    /// Parts and settings of ELLA.
    #[command(flatten)]
    pub ella: EllaArgs,
    /// Where the networks run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Name of the model file's model.
    #[arg(skip)]
    pub name: Option<String>,
    /// Settings of the model file.
    #[arg(skip)]
    pub file_settings: SamplingChoice,
}

impl GenerateOptions {
    /// Whether the model is one of the demo's, which draw nothing but the demo's prompts.
    pub fn is_shipped(&self) -> bool {
        let model = catalog::find(&self.model);
        self.model_file.is_none() && model.is_ok_and(CatalogModel::is_shipped)
    }

    /// Where the run goes when the user does not say.
    pub fn default_out(&self) -> PathBuf {
        PathBuf::from("results").join(self.name.as_ref().unwrap_or(&self.model))
    }

    /// The same options with those of the model file, where one is named, below them.
    ///
    /// # Errors
    /// The model file cannot be read or says something unknown.
    pub fn with_model_file(&self) -> anyhow::Result<Self> {
        let mut options = self.clone();
        let Some(path) = &self.model_file else { return Ok(options) };
        let file = ModelFile::read(path)?;
        options.model = file.model;
        options.name = Some(file.name);
        let parts = &mut options.checkpoint;
        parts.weights.get_or_insert(file.checkpoint);
        parts.base = parts.base.take().or(file.base);
        parts.tokenizer = parts.tokenizer.take().or(file.tokenizer);
        parts.vae = parts.vae.take().or(file.vae);
        parts.lora.splice(0..0, file.loras);
        parts.embedding.splice(0..0, file.embeddings);
        options.ella.ella = options.ella.ella.take().or(file.ella);
        options.ella.text_encoder = options.ella.text_encoder.take().or(file.text_encoder);
        options.file_settings = file.settings;
        Ok(options)
    }
}

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench generate --model sd15 --weights stable-diffusion-v1-5 --limit 10
  dpg-bench generate --model sd15 --weights stable-diffusion-v1-5 --preset paper \\
      --out results/sd15-as-ella
  dpg-bench generate --model ella-sd15 --weights stable-diffusion-v1-5 \\
      --ella ella-sd1.5-tsc-t5xl.safetensors --text-encoder flan-t5-xl --seed 1001 --seed-mode sequential

  dpg-bench generate --model sd15 --weights dreamshaper_8.safetensors --base stable-diffusion-v1-5 \\
      --lora detail.safetensors:0.7 --embedding badhands.safetensors
  dpg-bench generate --model-file models/dreamshaper-ella.toml
  dpg-bench generate --model-file models/dreamshaper-ella.toml --dry-run
  dpg-bench generate --model sd15 --weights stable-diffusion-v1-5 --shard 0/4
  dpg-bench generate --model sd15 --weights stable-diffusion-v1-5 --devices cuda:0,cuda:1

A run that was interrupted goes on where it stopped when the same command is given again.")]
pub struct Args {
    /// How.
    #[command(flatten)]
    pub options: GenerateOptions,
    /// Of which benchmark.
    #[command(flatten)]
    pub benchmark: BenchmarkArgs,
    /// Of which items.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Run directory [default: results/MODEL]
    #[arg(long, value_name = "RUN")]
    pub out: Option<PathBuf>,
    /// Which part of them.
    #[command(flatten)]
    pub shard: ShardArgs,
    /// Load everything, print what was understood of it, and make nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs `generate`.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let shard = args.shard.choose()?;
    let benchmark = open_benchmark(&args.benchmark, args.options.is_shipped())?;
    let selection = args.selection.selection();
    let Some(items) = dealt(benchmark.select(&selection)?, shard) else {
        return Ok(ExitStatus::Done);
    };
    let options = args.options.with_model_file()?;
    if args.dry_run {
        let understood = load_in_silence(&options)?.understood;
        if args.output.json {
            print_json(&understood)?;
        } else {
            print(understood.to_string().trim_end())?;
        }
        return Ok(ExitStatus::Done);
    }
    let mut loaded = load(&options)?;
    let out = args.out.clone().unwrap_or_else(|| options.default_out());
    let subject = Subject::new(&benchmark, &selection, options.images)?;
    let mut work = open_work(&out, &subject, items, shard, "generate")?;
    let summary = make_images(&mut work.run, &work.items, &mut loaded, &options, None)?;
    work.stage_is_over()?;
    if shard.is_some() {
        work.say_next();
    }
    if args.output.json {
        print_json(&summary)?;
    }
    Ok(status(&summary))
}

/// How it ended, for the shell.
pub fn status(summary: &GenerationSummary) -> ExitStatus {
    let complete = summary.failed == 0 && !summary.stopped;
    if complete { ExitStatus::Done } else { ExitStatus::Incomplete }
}

/// Where the model's checkpoint lies: where the user says, else where `fetch` put it.
///
/// # Errors
/// A variable of the environment holds what it cannot hold.
pub fn weights_of(options: &GenerateOptions, model: &str) -> anyhow::Result<Option<PathBuf>> {
    match &options.checkpoint.weights {
        Some(weights) => Ok(Some(weights.clone())),
        None => fetched::part(model, Role::Checkpoint),
    }
}

/// A model ready to generate, and where it runs.
pub struct Loaded {
    /// One per device.
    generators: Vec<Box<dyn ImageGenerator>>,
    /// Where each of them computes.
    devices: Vec<String>,
    seed: u64,
    seed_mode: SeedMode,
    /// Images made at a time where the user does not say.
    batch: u32,
    /// What was understood of its files.
    understood: Understood,
    /// What the checkpoint was put together to, where it was.
    assembled: Option<Assembled>,
    negative_prompt: Option<String>,
    /// Removed when dropped; a pipeline may load parts of them late.
    _folders: Vec<TempDir>,
}

impl Loaded {
    /// How long the parts of a picture take (see [`ImageGenerator::measure`]).
    ///
    /// # Errors
    /// The model failed.
    pub fn measure(&mut self, prompt: &str, calls: usize) -> anyhow::Result<Option<PictureTimes>> {
        // Devices that share the work are of one kind, so the first speaks for all.
        match self.generators.first_mut() {
            Some(generator) => generator.measure(prompt, calls),
            None => Ok(None),
        }
    }
}

/// Loads the model that the options name. A wrong flag or file shows here, before a run directory is
/// made.
///
/// # Errors
/// There is no such model, its files are missing or damaged, or a setting does not fit it.
pub fn load(options: &GenerateOptions) -> anyhow::Result<Loaded> {
    let loaded = load_in_silence(options)?;
    for warning in &loaded.understood.warnings {
        warn(warning);
    }
    Ok(loaded)
}

/// As [`load`]; the warnings are the caller's to tell.
fn load_in_silence(options: &GenerateOptions) -> anyhow::Result<Loaded> {
    let model = catalog::find(&options.model)?;
    let mut ella = options.ella.clone();
    let unpacked = unpack(model, options, &mut ella)?;
    let weights = weights_of(options, model.name)?;
    let checkpoint = match (unpacked.first(), &weights) {
        (Some(folder), _) => folder.path(),
        (None, Some(weights)) => weights.as_path(),
        (None, None) => {
            let files: String = model.files().iter().map(|file| format!("\n  {file}")).collect();
            let advice = fetched::advice(model.name, Role::Checkpoint);
            let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
            bail!("model {} needs --weights DIR{advice}; the folder holds:{files}", model.name);
        }
    };
    if unpacked.is_empty() && options.checkpoint.weights.is_none() {
        say(&format!("weights of {}: {}", model.name, checkpoint.display()));
    }
    let devices: Vec<Device> =
        options.device.named().into_iter().map(parse_device).collect::<Result<_, _>>()?;
    let described: Vec<String> = devices.iter().map(describe_device).collect();
    one_kind_of_device(&described)?;
    let Sampling { options: mut settings, seed, seed_mode } =
        options.sampling.resolve(model, options.file_settings.clone())?;
    let mut parts = options.checkpoint.parts(checkpoint);
    parts.prediction = settings.overrides.prediction;
    settings.record.extend(checkpoint_args::record(&parts));
    // The pipelines record what they run; a name of its own stands beside that.
    let name = options.name.as_deref().or(model.is_shipped().then_some(model.name));
    if let Some(name) = name {
        settings.record.insert("name".to_owned(), name.into());
    }
    if let Pipeline::Ella(_) = model.pipeline {
        ella.refuse_idle_tokenizer(&parts)?;
    }
    let assembled = if parts.is_plain() { None } else { Some(parts.assemble()?) };
    let weights = assembled.as_ref().map_or(checkpoint, |folder| folder.path());
    let negative_prompt = settings.negative_prompt.clone();
    let pipeline = |device: &Device| -> anyhow::Result<Box<dyn ImageGenerator>> {
        let (settings, dtype) = (settings.clone(), parse_dtype(&options.device.dtype, device)?);
        if let Pipeline::Ella(base) = model.pipeline {
            let files = ella.files(model.name, weights)?;
            let (tokens, low_memory) = (ella.tokens(), ella.low_memory);
            let settings = EllaOptions { tokens, low_memory, pictures: settings };
            return Ok(Box::new(Ella::load(base, files, dtype, device, settings)?));
        }
        ella.refuse_for(model.name)?;
        Ok(match model.pipeline {
            Pipeline::Sdxl => Box::new(Sdxl::load(weights, dtype, device, settings)?),
            _ => Box::new(Sd15::load(weights, dtype, device, settings)?),
        })
    };
    let generators = devices
        .iter()
        .map(pipeline)
        .collect::<anyhow::Result<Vec<_>>>()
        .map_err(|error| match &assembled {
            Some(assembled) => assembled.told(error),
            None => error,
        })
        .with_context(|| format!("model {} cannot be loaded", model.name))?;
    let mut understood = Understood::default();
    understood.line("model", model.name);
    understood.line("checkpoint", checkpoint.display().to_string());
    understood.line("device", described.join("; "));
    if let Some(parts) = &assembled {
        understood.extend(parts.understood.clone());
    }
    // Devices that share the work have the same model.
    understood.extend(generators.first().map(|one| one.understood()).unwrap_or_default());
    Ok(Loaded {
        generators,
        understood,
        seed,
        seed_mode,
        batch: if devices.iter().all(Device::is_cpu) { 1 } else { 4 },
        devices: described,
        assembled,
        negative_prompt,
        _folders: unpacked,
    })
}

/// The folders of a model that is inside the program, the checkpoint's first; its parts are entered into
/// `ella`. None for other models.
fn unpack(
    model: &CatalogModel,
    options: &GenerateOptions,
    ella: &mut EllaArgs,
) -> anyhow::Result<Vec<TempDir>> {
    let Source::Shipped { checkpoint, ella: connector } = model.source else {
        return Ok(Vec::new());
    };
    let given = [
        ("--weights", options.checkpoint.weights.is_some()),
        ("--ella", ella.ella.is_some()),
        ("--text-encoder", ella.text_encoder.is_some()),
    ];
    for (flag, given) in given {
        ensure!(!given, "model {} has its weights inside; leave out {flag}", model.name);
    }
    let write = |folder: ShippedFolder| {
        folder.unpack().with_context(|| format!("{} cannot be unpacked", folder.name))
    };
    let mut folders = vec![write(checkpoint)?];
    if let Some(connector) = connector {
        let folder = write(connector)?;
        ella.ella = Some(folder.path().join("ella.safetensors"));
        ella.text_encoder = Some(folder.path().join("text_encoder"));
        folders.push(folder);
    }
    Ok(folders)
}

impl Loaded {
    /// Where each of its networks computes, as [`describe_device`] tells.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// Notes in the manifest that it begins.
    ///
    /// # Errors
    /// As [`Generation::begin`].
    pub fn begin(
        &mut self,
        run: &mut RunDirectory,
        options: &GenerateOptions,
    ) -> anyhow::Result<Generation> {
        let plan = GenerationPlan {
            seed: self.seed,
            seed_mode: self.seed_mode,
            batch: options.batch.unwrap_or(self.batch),
        };
        let device = self.devices.join("; ");
        Generation::begin(run, &self.generators(), plan, &device)
    }

    /// Makes the images that are not there yet, and says how many there are.
    ///
    /// # Errors
    /// As [`Generation::make`].
    pub fn make(
        &mut self,
        generation: &mut Generation,
        run: &RunDirectory,
        items: &[&Item],
        progress: &StageProgress<'_>,
    ) -> anyhow::Result<GenerationSummary> {
        self.say_idle_words(items)?;
        let summary = generation.make(run, items, self.generators(), progress)?;
        say(&describe(&summary, items.len(), run));
        Ok(summary)
    }

    /// Tells of words of embeddings that no prompt holds.
    fn say_idle_words(&self, items: &[&Item]) -> anyhow::Result<()> {
        let Some(assembled) = &self.assembled else { return Ok(()) };
        let prompts = items.iter().map(|item| item.prompt.as_str());
        let prompts = prompts.chain(self.negative_prompt.as_deref());
        for word in assembled.words_in_none(prompts)? {
            warn(&format!(
                "the embedding's word `{word}` is in none of the {} prompts here nor in the negative \
                 prompt, so it changes no picture; --embedding FILE:TOKEN gives it another word",
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

fn make_images(
    run: &mut RunDirectory,
    items: &[&Item],
    loaded: &mut Loaded,
    options: &GenerateOptions,
    live: Option<&Live<'_>>,
) -> anyhow::Result<GenerationSummary> {
    let progress = progress(live);
    let mut generation = loaded.begin(run, options)?;
    let summary = loaded.make(&mut generation, run, items, &progress)?;
    generation.finish(run, &summary)?;
    Ok(summary)
}

/// The bar of this stage.
pub fn progress<'a>(live: Option<&Live<'a>>) -> StageProgress<'a> {
    StageProgress::new("generating", live.map(|live| live.part(watch::IMAGES)))
}

fn describe(summary: &GenerationSummary, items: usize, run: &RunDirectory) -> String {
    let mut text = format!(
        "{}/{} images in {} ({} made now, {} failed)",
        summary.already_done + summary.done,
        summary.images,
        run.path().display(),
        summary.done,
        summary.failed,
    );
    if summary.truncated_prompts > 0 {
        text += &format!(
            "; {}/{items} prompts are longer than the text encoder takes and were truncated",
            summary.truncated_prompts,
        );
    }
    text
}
