//! In: the flags of a run and this machine. Out: one line for each thing that the run needs, with what to
//! do where it is not as it should be.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cost::Cost;
use super::published::published;
use crate::benchmark::{Benchmark, Item, Selection};
use crate::checkpoint::error_words::sentence;
use crate::checkpoint::weight_files::contents_of_weights;
use crate::cli::args::judge::JudgeArgs;
use crate::cli::args::shared::device_name;
use crate::cli::output::fetch_bars::megabytes;
use crate::cli::output::print::say;
use crate::compute::device::{Place, describe_device, gpus, knows_gpus, parse_device};
use crate::fetch::{Role, catalog, locate, verify};
use crate::generate::catalog::{self as models, CatalogModel, Pipeline};
use crate::judge::catalog::Runs;
use crate::machine;
use crate::measure::Measurements;
use crate::session::benchmarks::DEMO;
use crate::session::fetched;
use crate::session::generator::LoadedGenerator;
use crate::session::generator_options::GeneratorOptions;
use crate::session::judge_options::JudgeOptions;
use crate::session::listener::Quiet;
use crate::wording::counted;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Note,
    /// It stops a run.
    Problem,
}

/// One thing that a run needs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    /// What it is.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do.
    pub advice: Option<String>,
}

impl Check {
    /// As it should be.
    pub(super) fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Fine, found: found.into(), advice: None }
    }

    /// Worth knowing.
    pub(super) fn note(
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { name, state: State::Note, found: found.into(), advice: Some(advice.into()) }
    }

    /// It stops a run.
    pub(super) fn problem(
        name: &'static str,
        found: impl Into<String>,
        advice: Option<String>,
    ) -> Self {
        Self { name, state: State::Problem, found: found.into(), advice }
    }

    /// It stops a run; what to do is the rest of the error's sentence, or else `advice`.
    pub(super) fn problem_with(
        name: &'static str,
        error: &anyhow::Error,
        advice: impl FnOnce() -> String,
    ) -> Self {
        let whole = sentence(error);
        match whole.split_once("; ") {
            Some((found, rest)) => Self::problem(name, found, Some(rest.to_owned())),
            None => Self::problem(name, whole, Some(advice())),
        }
    }
}

/// Which judges there are.
const JUDGES: &str =
    "the judge of the published numbers is `--judge mplug`; `dpg-bench list` has all";

/// What to do about a judge whose error does not say it.
pub(super) fn judge_advice(name: &str) -> String {
    let fetched = fetched::advice(name, Role::Judge).map_or_else(String::new, |get| get + "; ");
    format!("{fetched}`dpg-bench list` says what each judge needs")
}

/// Device, processor and memory.
pub(super) fn machine(options: &GeneratorOptions, found: &mut Vec<Check>) {
    found.extend(options.device_names().into_iter().map(|name| match parse_device(name) {
        Ok(device) => {
            let gpus = match (knows_gpus(), gpus()) {
                (false, _) => " (this build knows no GPUs)".to_owned(),
                (true, 0) => " (there is no GPU)".to_owned(),
                (true, count) => format!(" (there are {count} GPUs)"),
            };
            Check::fine("device", format!("{}{gpus}", describe_device(&device)))
        }
        Err(_) if options.model == models::PROGRAM => {
            Check::fine("device", format!("{name}, which is up to the program"))
        }
        Err(error) => {
            let misspelled = device_name(name).err();
            let reason = misspelled.map(|reason| format!("device `{name}`: {reason}"));
            Check::problem("device", reason.unwrap_or_else(|| error.to_string()), None)
        }
    }));
    let (cores, vectors) = (machine::processors(), machine::vector_instructions());
    let processor = format!("{cores} threads, {vectors}");
    // Half a thread may be this very program's.
    let busy = machine::load().filter(|load| *load > 0.5 + 0.25 * cores as f64);
    found.push(match busy {
        Some(load) => Check::note(
            "processor",
            format!("{processor}; other programs keep it busy (load {load:.1})"),
            "what is measured now takes less time on a quiet machine",
        ),
        None => Check::fine("processor", processor),
    });
    products(options, found);
    if cfg!(debug_assertions) {
        found.push(Check::note(
            "build",
            "this is a debug build, which computes several times slower",
            "`cargo build --release` makes the one to run with",
        ));
    }
    match machine::memory() {
        Some(memory) => {
            let (available, total) = (megabytes(memory.available), megabytes(memory.total));
            found.push(Check::fine("memory", format!("{available} available of {total}")));
        }
        None => found.push(Check::note(
            "memory",
            "the system does not tell how much there is",
            "compare the size of the weights with what the machine has",
        )),
    }
}

/// The record of measurements, where one is named; else, in a build for GPUs, that there is none.
///
/// # Errors
/// It cannot be read, or is of tiny networks.
pub(super) fn record(
    path: Option<&Path>,
    found: &mut Vec<Check>,
) -> anyhow::Result<Option<Measurements>> {
    let Some(path) = path else {
        if knows_gpus() && gpus() == 0 {
            found.push(Check::note(
                "gpu times",
                "there is no GPU here, and no measurement of one was named: times are the processor's",
                "`dpg-bench measure --device cuda --out FILE` on a machine with one, then --measured FILE",
            ));
        }
        return Ok(None);
    };
    let record = Measurements::read(path)?;
    anyhow::ensure!(
        record.full_size,
        "{}: is of tiny networks, whose times mean nothing; measure without --tiny",
        path.display()
    );
    found.push(Check::fine("times", format!("measured on {}: {}", record.device, path.display())));
    Ok(Some(record))
}

/// The benchmark, and the selected items. The demo's models (`for_demo`) are for the demo alone: nothing else is advised.
pub(super) fn benchmark<'b>(
    benchmark: &'b anyhow::Result<Benchmark>,
    selection: &Selection,
    for_demo: bool,
    found: &mut Vec<Check>,
) -> Option<Vec<&'b Item>> {
    let advice = || format!("`dpg-bench fetch {}` gets the official one", catalog::BENCHMARK);
    let benchmark = match benchmark {
        Ok(benchmark) => benchmark,
        Err(error) => {
            found.push(Check::problem_with("benchmark", error, advice));
            return None;
        }
    };
    let what = format!(
        "{}: {}, {}",
        benchmark.source.question_file.display(),
        counted(benchmark.items.len(), "item"),
        counted(benchmark.question_count(), "question")
    );
    found.push(if benchmark.source.official {
        Check::fine("benchmark", format!("{what}; the official question file"))
    } else if for_demo && benchmark.source.path.as_os_str() == DEMO {
        Check::fine("benchmark", format!("{what}; inside the program"))
    } else {
        Check::note("benchmark", format!("{what}; not the official question file"), advice())
    });
    match benchmark.select(selection) {
        Ok(items) => Some(items),
        Err(error) => {
            found.push(Check::problem("items", error.to_string(), None));
            None
        }
    }
}

/// A model whose weights are there.
#[derive(Debug)]
pub(super) struct Model {
    /// Its row; `None` for a program of the user's and for a server.
    pub row: Option<&'static CatalogModel>,
    /// Whether all of its parts are there.
    pub ready: bool,
}

/// The model's weights, and whether they fit into the memory.
pub(super) fn model(
    options: &GeneratorOptions,
    read_all: bool,
    found: &mut Vec<Check>,
) -> Option<Model> {
    if options.model == models::PROGRAM {
        let ready = LoadedGenerator::check(options);
        found.push(match &ready {
            Ok(()) => {
                let command = options.program.command.as_deref().unwrap_or_default();
                Check::fine("model", format!("the program `{command}`"))
            }
            Err(error) => Check::problem("model", sentence(error), None),
        });
        return Some(Model { row: None, ready: ready.is_ok() });
    }
    if options.model == models::SERVER {
        let ready = LoadedGenerator::load(options, &Quiet);
        let is_ready = ready.is_ok();
        found.push(match ready {
            Ok(loaded) => {
                let lines = &loaded.understood().lines;
                let lines = lines.iter().map(|line| format!("{} {}", line.subject, line.text));
                Check::fine("model", lines.collect::<Vec<_>>().join(", "))
            }
            Err(error) => Check::problem("model", sentence(&error), None),
        });
        return Some(Model { row: None, ready: is_ready });
    }
    let row = match models::find(&options.model) {
        Ok(row) => row,
        Err(error) => {
            found.push(Check::problem("model", error.to_string(), None));
            return None;
        }
    };
    if row.is_shipped() {
        found.push(Check::fine("model", format!("{}: inside the program", row.name)));
        return Some(Model { row: Some(row), ready: true });
    }
    let before = found.iter().filter(|check| check.state == State::Problem).count();
    let mut paths: Vec<PathBuf> = Vec::new();
    let advice = fetched::advice(row.name, Role::Checkpoint);
    match options.find_weights(row.name) {
        Err(error) => found.push(Check::problem("model", sentence(&error), None)),
        Ok(None) => {
            let reason = format!("{}: no weights are here and none were named", row.name);
            found.push(Check::problem("model", reason, advice));
        }
        Ok(Some(path)) => {
            let missing = if path.is_file() { Vec::new() } else { row.missing(&path) };
            if missing.is_empty() {
                match put_together(options, row, &path) {
                    Ok(beside) => paths.extend(beside),
                    Err(error) => found.push(Check::problem("model", sentence(&error), None)),
                }
                paths.push(path);
            } else {
                let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
                let reason = format!("{} lacks {}", path.display(), names.join(", "));
                found.push(Check::problem("model", reason, advice));
            }
        }
    }
    if matches!(row.pipeline, Pipeline::Ella(_)) {
        match options.ella.files(row.name, Path::new("")) {
            Ok(files) => paths.extend([files.connector, files.text_encoder]),
            Err(error) => found.push(Check::problem("model", sentence(&error), None)),
        }
    }
    let refused = options.control.refuse_for(row.name);
    match refused.and_then(|()| options.control.resolve()) {
        Ok(control) => paths.extend(control.map(|control| control.network)),
        Err(error) => found.push(Check::problem("model", sentence(&error), None)),
    }
    let are_all_named =
        found.iter().filter(|check| check.state == State::Problem).count() == before;
    let mut elements = 0;
    for path in &paths {
        found.push(match headers(path) {
            Ok((files, count)) => {
                elements += count;
                let words = format!("{}: {files} weight files, whole by their headers", path.display());
                Check::fine("model", words)
            }
            Err(reason) => {
                let advice = format!(
                    "`dpg-bench fetch {} --verify` mends what was fetched; another folder is to be copied \
                     again",
                    row.name
                );
                Check::problem("model", reason, Some(advice))
            }
        });
    }
    if read_all {
        digests(row.name, found);
    }
    match (are_all_named, published(options)) {
        (false, Some(row)) => {
            let what = format!("the published weights of {}", row.title);
            room(options, (what, row.parameters.all()), found);
        }
        _ => room(options, ("the weights".to_owned(), elements), found),
    }
    let after = found.iter().filter(|check| check.state == State::Problem).count();
    Some(Model { row: Some(row), ready: after == before })
}

/// Whether each item has its control image, where there is a ControlNet.
pub(super) fn control_images(
    options: &GeneratorOptions,
    items: Option<&[&Item]>,
    found: &mut Vec<Check>,
) {
    let (Some(items), Some(folder)) = (items, &options.control.images) else { return };
    found.push(match options.control.check_items(items) {
        Ok(()) => {
            let count = counted(items.len(), "item");
            Check::fine(
                "control images",
                format!("one for each of {count} in {}", folder.display()),
            )
        }
        Err(error) => Check::problem("control images", sentence(&error), None),
    });
}

/// Whether the parts of a checkpoint that is more than a folder go together; no weights are read. Gives the folders of weights
/// that are used beside a single file.
fn put_together(
    options: &GeneratorOptions,
    row: &CatalogModel,
    path: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut parts = options.parts(path);
    if parts.is_plain() {
        return Ok(Vec::new());
    }
    parts.prediction = options.resolve_sampling(row)?.options.overrides.prediction;
    Ok(parts.assemble()?.beside)
}

/// How products are rounded, where the user asks for other than f32.
fn products(options: &GeneratorOptions, found: &mut Vec<Check>) {
    let Some((place, asked)) = place(options).zip(options.products) else { return };
    found.push(match asked.on(&place.device) {
        Ok(products) => match products.described() {
            None => return,
            Some(words) if products.is_fallback() => {
                Check::note("products", words, "it is slower, and nearer to what is exact")
            }
            Some(words) => Check::fine("products", words),
        },
        Err(error) => Check::problem("products", error.to_string(), None),
    });
}

/// Whether so many numbers, and whose they are, fit into the memory.
fn room(options: &GeneratorOptions, (whose, elements): (String, u64), found: &mut Vec<Check>) {
    let Some(Place { device, dtype }) = place(options) else { return };
    let needed = elements * dtype.size_in_bytes() as u64;
    let (true, Some(memory)) = (device.is_cpu() && needed > 0, machine::memory()) else { return };
    let what = format!("{whose} take {} as {}", megabytes(needed), dtype.as_str());
    let advice = "choose a smaller model, `--dtype bf16` or `f16`, or for ELLA `--low-memory`";
    found.push(if needed > memory.total {
        let reason = format!("{what}, the machine has {}", megabytes(memory.total));
        Check::problem("memory", reason, Some(advice.to_owned()))
    } else if needed > memory.available {
        let reason = format!("{what}, {} are available now", megabytes(memory.available));
        Check::note("memory", reason, "end other programs before the run")
    } else {
        Check::fine("memory", format!("{what}; the images being made take more"))
    });
}

/// Files and numbers of all weights at or below `path`, if their headers fit their lengths.
fn headers(path: &Path) -> Result<(usize, u64), String> {
    let mut files = Vec::new();
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((next, depth)) = folders.pop() {
        if !next.is_dir() {
            files.push(next);
        } else if depth < 3 {
            let entries = std::fs::read_dir(&next)
                .map_err(|error| format!("{}: cannot be read: {error}", next.display()))?;
            let (inner, mut here): (Vec<_>, Vec<_>) =
                entries.flatten().map(|entry| entry.path()).partition(|path| path.is_dir());
            folders.extend(inner.into_iter().map(|path| (path, depth + 1)));
            // Of pickles and safetensors a run reads the latter, of the two precisions one.
            let has = |files: &[PathBuf], ending: &str| {
                files.iter().any(|file| file.extension().is_some_and(|own| own == ending))
            };
            let ending = if has(&here, "safetensors") { "safetensors" } else { "bin" };
            here.retain(|file| {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let stems = ["diffusion_pytorch_model", "pytorch_model"];
                has(std::slice::from_ref(file), ending)
                    && (ending != "bin" || stems.iter().any(|stem| name.starts_with(stem)))
            });
            let halves = |file: &PathBuf| file.to_string_lossy().contains(".fp16.");
            if here.iter().any(|file| !halves(file)) {
                here.retain(|file| !halves(file));
            }
            files.extend(here);
        }
    }
    files.sort();
    let mut elements = 0;
    for file in &files {
        let contents = contents_of_weights(file).map_err(|error| error.to_string())?;
        let counts = contents.shapes.values().map(|shape| shape.iter().product::<usize>() as u64);
        elements += counts.sum::<u64>();
    }
    match files.len() {
        0 => Err(format!("{}: there are no weights", path.display())),
        count => Ok((count, elements)),
    }
}

/// What was fetched under `name`, byte by byte.
fn digests(name: &str, found: &mut Vec<Check>) {
    let Ok(row) = catalog::find(name) else { return };
    let Ok(places) = fetched::places() else { return };
    for (_, source) in row.sources.iter().chain(row.copies) {
        let Some(here) = locate(source, &places) else { continue };
        let outcome = verify(&here, &mut |path| say(&format!("reading {path}")));
        found.push(match outcome {
            Ok(wrong) if wrong.is_empty() => {
                Check::fine("digests", format!("{}: every byte is as published", source.repository))
            }
            Ok(wrong) => {
                let lines: Vec<String> =
                    wrong.iter().map(|(path, reason)| format!("{path} {reason}")).collect();
                let advice = format!("`dpg-bench fetch {name} --verify` gets these files again");
                let reason = format!("{}: {}", source.repository, lines.join("; "));
                Check::problem("digests", reason, Some(advice))
            }
            Err(error) => Check::problem("digests", error.to_string(), None),
        });
    }
}

/// The judges, and which of them can be made and were made for this benchmark and images of this size, where it is known.
pub(super) fn judges(
    args: &JudgeArgs,
    chosen: Result<&[JudgeOptions], &anyhow::Error>,
    (benchmark, size): (Option<&Benchmark>, Option<(u32, u32)>),
    read_all: bool,
    found: &mut Vec<Check>,
) -> Vec<JudgeOptions> {
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(error) => {
            found.push(match args.judge.is_empty() {
                true => Check::problem("judge", "no judge is named", Some(JUDGES.to_owned())),
                false => Check::problem_with("judge", error, || JUDGES.to_owned()),
            });
            return Vec::new();
        }
    };
    let ready = chosen.iter().filter(|one| {
        let Ok(row) = one.row() else { return false };
        let suits = |benchmark| one.check_made_for(benchmark, size);
        let check = one.check().and_then(|()| benchmark.map_or(Ok(()), suits));
        let name = row.name;
        let words = match row.runs {
            Runs::Server => {
                format!("{name}: its flags are in order; the server was not asked")
            }
            _ if row.shipped.is_some() => format!("{name}: inside the program"),
            Runs::Here { .. } => {
                format!("{name}: its weights are whole by their headers")
            }
            Runs::Nowhere => format!("{name}: it is ready"),
        };
        let is_ready = check.is_ok();
        found.push(match check {
            Ok(()) => Check::fine("judge", words),
            Err(error) => Check::problem_with("judge", &error, || judge_advice(name)),
        });
        if read_all && one.is_local() {
            digests(name, found);
        }
        is_ready
    });
    ready.cloned().collect()
}

/// Room for the run's files.
pub(super) fn disk(out: &Path, cost: Option<&Cost>, found: &mut Vec<Check>) {
    let free = match machine::free_space(out) {
        Ok(free) => free,
        Err(error) => {
            let reason = format!("{}: its free space is not known: {error}", out.display());
            found.push(Check::note("disk", reason, "see that there is room for the images"));
            return;
        }
    };
    let needed = cost.map_or(0, |cost| cost.disk_bytes);
    let what = format!("{} free for {}", megabytes(free), out.display());
    found.push(if needed > free {
        let reason = format!("{what}, about {} needed", megabytes(needed));
        let advice = "make room, or name another disk with --out".to_owned();
        Check::problem("disk", reason, Some(advice))
    } else {
        Check::fine("disk", what)
    });
    if !machine::may_write(out) {
        let advice = "name another folder with --out".to_owned();
        found.push(Check::problem(
            "disk",
            format!("{} cannot be written", out.display()),
            Some(advice),
        ));
    }
    let Ok(places) = fetched::places() else { return };
    if let Ok(free) = machine::free_space(&places.hub_cache) {
        let words = format!("{} free for {}", megabytes(free), places.hub_cache.display());
        found.push(Check::fine("cache", words));
    }
}

/// Device and number format of the model's networks, where they can be had; of several devices, which are
/// of one kind, the first.
pub(super) fn place(options: &GeneratorOptions) -> Option<Place> {
    Place::parse(options.device_names().first()?, &options.dtype).ok()
}
