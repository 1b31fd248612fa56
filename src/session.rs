//! In: a benchmark, a model, judges and a folder. Out: a run in that folder: its images, answers, scores and
//! report. The door of the library: the command line comes through it as any other program does.

pub mod audit_correction;
pub mod auditing;
mod baselines;
pub mod benchmarks;
pub mod compared;
pub mod control_options;
mod control_scores;
pub mod controls;
mod devices;
pub mod dropped;
pub mod ella_options;
pub mod fetched;
mod generation_words;
pub mod generator;
pub mod generator_options;
pub mod judge_options;
mod labelled_images;
pub mod listener;
pub mod loaded_judge;
mod made_for;
mod outside_flags;
mod outside_models;
mod program_command;
pub mod program_options;
pub mod reporting;
#[cfg(test)]
mod rounded_demo;
pub mod scoring;
mod server_command;
pub mod server_options;
mod shared_progress;
pub mod side_by_side;
mod watched;
pub mod work;

use std::path::Path;

use self::generator::LoadedGenerator;
use self::listener::{Listener, Stage};
use self::loaded_judge::LoadedJudge;
use self::scoring::score_judges;
use self::watched::Watched;
use self::work::{Subject, Work, open_shard_itself, open_work};
use crate::aggregate::Summary;
use crate::benchmark::{Benchmark, Item, Selection};
use crate::generate::generate_run::GenerationSummary;
use crate::generate::import::images::ImportSummary;
use crate::generate::import::pixels::{ItemImages, begin_import, take_pixels};
use crate::judge::judge_counts::JudgeCounts;
use crate::judge::judge_run::judge_images;
use crate::results::{RunDirectory, Shard};

/// What a run is about.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Which items.
    pub selection: Selection,
    /// Images of each item.
    pub images_per_item: u32,
    /// The part of it that is done here; `None` is all of it.
    pub shard: Option<Shard>,
    /// What others read who find the run at work.
    pub work: String,
}

impl Default for SessionOptions {
    /// Every item, four images each.
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            images_per_item: 4,
            shard: None,
            work: "session".to_owned(),
        }
    }
}

/// A run that this process alone works on, until it is dropped. Each stage goes on where an earlier session
/// stopped, and ends in the same bytes as one that was never stopped.
///
/// ```
/// use dpg_bench::{
///     GeneratorOptions, JudgeOptions, LoadedGenerator, LoadedJudge, Quiet, Selection, Session,
///     SessionOptions, Strictness, load_benchmark,
/// };
///
/// let benchmark = load_benchmark("demo".as_ref(), Strictness::Strict)?;
/// let folder = tempfile::tempdir()?;
/// let selection = Selection { limit: Some(1), ..Selection::default() };
/// let options = SessionOptions { selection, images_per_item: 1, ..SessionOptions::default() };
/// let mut session = Session::open(folder.path(), &benchmark, &options, &Quiet)?;
///
/// let mut model = GeneratorOptions::new("demo-sd");
/// model.sampling.steps = Some(2);
/// session.generate(&mut LoadedGenerator::load(&model, &Quiet)?, &Quiet)?;
/// session.judge(&LoadedJudge::load(&JudgeOptions::new("demo-judge"), &Quiet)?, &Quiet)?;
/// let summary = session.score("demo-judge", false)?;
/// assert_eq!(summary.coverage.images_present, 1);
/// # anyhow::Ok(())
/// ```
pub struct Session<'b> {
    benchmark: &'b Benchmark,
    work: Work<'b>,
}

impl<'b> Session<'b> {
    /// Opens the run at `folder`, or starts one. A run about a part of the items, or fewer images of each, grows with
    /// the next stage that begins.
    ///
    /// # Errors
    /// The selection names what the benchmark has not; somebody else works there; what is there is about something
    /// else or is damaged; or the disk said no.
    pub fn open(
        folder: &Path,
        benchmark: &'b Benchmark,
        options: &SessionOptions,
        listener: &dyn Listener,
    ) -> anyhow::Result<Self> {
        let SessionOptions { selection, images_per_item, shard, work } = options;
        let items = benchmarks::part_of(benchmark.select(selection)?, *shard);
        let subject = Subject::or_growing(benchmark, selection, *images_per_item)?;
        let work = open_work(folder, &subject, items, *shard, work, listener)?;
        Ok(Self { benchmark, work })
    }

    /// Opens a run that is there, or the part `shard` of it; `benchmark` is the run's (see
    /// [`benchmarks::benchmark_of_run`]) and `work` is what others read who find the run at work.
    ///
    /// # Errors
    /// It is no run, or as [`Session::open`].
    pub fn of_run(
        folder: &Path,
        benchmark: &'b Benchmark,
        shard: Option<Shard>,
        work: &str,
        listener: &dyn Listener,
    ) -> anyhow::Result<Self> {
        let run = RunDirectory::open(folder)?;
        let items = benchmarks::selected(benchmark, &run)?;
        let work = if run.shard().is_some() {
            // A shard named by itself is the whole of the work.
            open_shard_itself(folder, items, work)?
        } else {
            let items = benchmarks::part_of(items, shard);
            open_work(folder, &Subject::of(&run), items, shard, work, listener)?
        };
        Ok(Self { benchmark, work })
    }

    /// Lets its stages go on although the products of the processor were rounded otherwise before
    /// (see [`RunDirectory::allow_other_products`]).
    pub fn allow_other_products(&mut self, allowed: bool) {
        self.work.run.allow_other_products(allowed);
    }

    /// The run, or the shard of it.
    pub fn run(&self) -> &RunDirectory {
        &self.work.run
    }

    /// The items to work on, in file order.
    pub fn items(&self) -> &[&'b Item] {
        &self.work.items
    }

    /// Makes the images that are not there yet.
    ///
    /// # Errors
    /// The run was started with other settings, its journal is damaged, or the disk said no. An image that cannot be
    /// made is no error but a record.
    pub fn generate(
        &mut self,
        generator: &mut LoadedGenerator,
        listener: &dyn Listener,
    ) -> anyhow::Result<GenerationSummary> {
        let Work { run, items, .. } = &mut self.work;
        let mut generation = generator.begin(run, items, listener)?;
        let observer = Watched::new(listener, Stage::Generate, None);
        let summary = generator.make(&mut generation, run, items, listener, &observer)?;
        generation.finish(run, &summary)?;
        self.work.stage_is_over()?;
        Ok(summary)
    }

    /// Makes the images, and has each judge answer about an item as soon as its images are there. The journals are
    /// those of [`Session::generate`] and then [`Session::judge`].
    ///
    /// # Errors
    /// As there: what stopped one of the stages first; what is finished is kept.
    pub fn generate_and_judge(
        &mut self,
        generator: LoadedGenerator,
        judges: &[LoadedJudge],
        listener: &dyn Listener,
    ) -> anyhow::Result<(GenerationSummary, Vec<JudgeCounts>)> {
        let Work { run, items, .. } = &mut self.work;
        let done = side_by_side::generate_and_judge(run, items, generator, judges, listener)?;
        self.work.stage_is_over()?;
        Ok(done)
    }

    /// Takes in images that the caller has in memory, one item after the other as `images` gives them. `model` is the name
    /// of the model that made them, for tables.
    ///
    /// # Errors
    /// An item or an image does not fit the run (see [`PixelsFault`](crate::PixelsFault)); `images` ends with an error; the run
    /// was started with other settings; or the disk said no. What came before is kept, and the same images again go on there.
    pub fn import(
        &mut self,
        model: Option<&str>,
        images: impl IntoIterator<Item = anyhow::Result<ItemImages>>,
        listener: &dyn Listener,
    ) -> anyhow::Result<ImportSummary> {
        let Work { run, items, .. } = &mut self.work;
        let observer = Watched::new(listener, Stage::Generate, None);
        let sitting = begin_import(run, model)?;
        let mut summary = ImportSummary::default();
        let taken = take_pixels(run, items, images, &observer, &mut summary);
        run.finish(&sitting, summary.done, summary.failed)?;
        taken?;
        self.work.import_is_over()?;
        Ok(summary)
    }

    /// As [`Session::import`], and has the judge answer about an item as soon as its images are there. What is in the run then
    /// is what [`Session::import`] and [`Session::judge`] leave there, where images of all items came.
    ///
    /// # Errors
    /// As there: what stopped one of the two first; what is finished is kept.
    pub fn import_and_judge(
        &mut self,
        model: Option<&str>,
        images: impl IntoIterator<Item = anyhow::Result<ItemImages>>,
        judge: &LoadedJudge,
        listener: &dyn Listener,
    ) -> anyhow::Result<(ImportSummary, JudgeCounts)> {
        let Work { run, items, .. } = &mut self.work;
        let done = side_by_side::import_and_judge(run, items, model, images, judge, listener)?;
        self.work.import_is_over()?;
        Ok(done)
    }

    /// Puts every question to the judge that it has not answered yet.
    ///
    /// # Errors
    /// There is no image; the run has the judge's answers under other settings or about other images; a journal
    /// cannot be read or written; or the judge gave up altogether. What was written before stands.
    pub fn judge(
        &mut self,
        judge: &LoadedJudge,
        listener: &dyn Listener,
    ) -> anyhow::Result<JudgeCounts> {
        let Work { run, items, .. } = &mut self.work;
        let mut sitting = judge.begin(run)?;
        let stage = Stage::Judge { name: sitting.name(), at_once: 1 };
        let observer = Watched::new(listener, stage, None);
        let counts = sitting.ask(|name, judge| judge_images(run, name, items, judge, &observer))?;
        sitting.finish(run, &counts, listener)?;
        self.work.stage_is_over()?;
        Ok(counts)
    }

    /// Scores the answers of a judge under each protocol, and writes its summary, tables and chart into the run
    /// directory. With `allow_incomplete` there is a benchmark score even where images or answers are missing.
    ///
    /// # Errors
    /// The judge has not answered, a journal is damaged, or the disk said no.
    pub fn score(&self, judge: &str, allow_incomplete: bool) -> anyhow::Result<Summary> {
        scoring::check_has_answered(self.run(), judge)?;
        let judges = [judge.to_owned()];
        let Work { run, items, .. } = &self.work;
        let mut summaries = score_judges(run, self.benchmark, items, &judges, allow_incomplete)?;
        Ok(summaries.remove(0))
    }
}
