//! In: a run that a judge has answered, or an audit of it. Out: the sample that people label, with its page, in `RUN/audits/NAME`; and
//! what may be drawn of the run, to hold against it. Nothing is judged.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use super::benchmarks::{benchmark_of_run, selected};
use super::scoring::{check_pictures, choose_judge};
use super::work::ensure_merged;
use crate::aggregate::Protocol;
use crate::aggregate::readable::unparsable_gap;
use crate::audit::{AuditFolder, AuditSample, JudgedRun, Population, SampleError, UnitKind};
use crate::near_names::did_you_mean;
use crate::reports::audit_page::{AuditPage, OpenedFrom};
use crate::results::atomic_write::atomic_write;
use crate::results::{NewestAnswers, RunDirectory};
use crate::score::score_run;

/// How an audit is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// Its name.
    pub name: String,
    /// Answers that are to be labelled.
    pub labels_wanted: u64,
    /// What is drawn.
    pub unit: UnitKind,
    /// Whose answers; where it is `None`, those of the run's only judge.
    pub judge: Option<String>,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Where the benchmark is now, if it is not where the run was made with it.
    pub benchmark: Option<PathBuf>,
}

/// An audit that is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Its folder.
    pub folder: AuditFolder,
    /// What people are asked.
    pub sample: AuditSample,
}

/// An audit that was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawnAudit {
    /// The audit.
    pub audit: Audit,
    /// Whether the same one was there already.
    pub was_there: bool,
    /// Questions about images, or images, that could not be drawn: without a stored image or an answer.
    pub left_out: u64,
    /// Size of the page in bytes.
    pub page_bytes: u64,
    /// Why the judge's answers say little, where they do.
    pub unparsable: Option<String>,
}

/// What `look` makes of all that may be drawn of a run in units of `kind`, by the answers of `judge` (`None`: its only one).
///
/// # Errors
/// The run is not merged, the judge is not there or not the only one, or a journal is damaged.
pub fn with_population<T>(
    run: &RunDirectory,
    benchmark: Option<&Path>,
    judge: Option<&str>,
    kind: UnitKind,
    look: impl FnOnce(&JudgedRun<'_, '_>, &Population<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    ensure_merged(run)?;
    let benchmark = benchmark_of_run(run, benchmark)?;
    let items = selected(&benchmark, run)?;
    let judge = choose_judge(run, judge)?;
    let (records, images) = (run.read_answers(&judge)?, run.read_images()?);
    let answers = NewestAnswers::merge(&records)?;
    check_pictures(&images, &answers)?;
    let judged = JudgedRun {
        judge: &judge,
        benchmark: &benchmark.digest,
        items: &items,
        images_per_item: run.manifest().images_per_item,
        images: &images,
        answers: &answers,
    };
    look(&judged, &Population::of(kind, &judged))
}

/// Draws an audit and writes its page and its sample. The same one may be there already: then its page is made anew.
///
/// # Errors
/// Another audit of that name is there, there is nothing to draw, an image is not the one that was judged; as
/// [`with_population`]; or the disk said no.
pub fn draw_audit(run: &RunDirectory, options: &AuditOptions) -> anyhow::Result<DrawnAudit> {
    let AuditOptions { name, labels_wanted, unit, judge, seed, benchmark } = options;
    let folder = audit_folder(run, name)?;
    let judge = judge.as_deref();
    let drawn = with_population(run, benchmark.as_deref(), judge, *unit, |judged, population| {
        let identity = run.manifest().benchmark.clone();
        let sample = AuditSample::draw(population, identity, *labels_wanted, *seed)?;
        let images = judged.images_per_item;
        let scored = score_run(judged.items, judged.answers, images, Protocol::Corrected);
        Ok((sample, population.left_out, unparsable_gap(&scored)))
    });
    let (sample, left_out, unparsable) = drawn?;
    let was_there = folder.is_there();
    if was_there {
        refuse_another(&folder, &sample)?;
    }
    let page = AuditPage::of(run, &sample)?.html(OpenedFrom::File)?;
    atomic_write(&folder.page()?, page.as_bytes())?;
    // Last: with it the audit is there.
    if !was_there {
        sample.write(&folder.sample()?)?;
    }
    let page_bytes = page.len() as u64;
    Ok(DrawnAudit { audit: Audit { folder, sample }, was_there, left_out, page_bytes, unparsable })
}

/// Opens an audit of a run.
///
/// # Errors
/// There is none of that name, or its sample cannot be read.
pub fn open_audit(run: &RunDirectory, name: &str) -> anyhow::Result<Audit> {
    let folder = audit_folder(run, name)?;
    if !folder.is_there() {
        let there = AuditFolder::all_of(run);
        let near = did_you_mean(name, there.iter().map(String::as_str));
        let there = match there.as_slice() {
            [] => "it has none".to_owned(),
            there => format!("it has {}", there.join(", ")),
        };
        bail!(
            "{} has no audit `{name}`{near}; {there}; `--labels-wanted N` draws one",
            run.path().display()
        );
    }
    let sample = AuditSample::read(&folder.sample()?)?;
    Ok(Audit { folder, sample })
}

/// As [`open_audit`], of an audit that people are to go on labelling. Where its run cannot be read as it was drawn from (its
/// benchmark was moved, say), that is told in a sentence.
///
/// # Errors
/// As there; the run's answers are others than those that it was drawn from, so that the labels would be of no use.
pub fn open_current_audit(
    run: &RunDirectory,
    name: &str,
    benchmark: Option<&Path>,
) -> anyhow::Result<(Audit, Option<String>)> {
    let audit = open_audit(run, name)?;
    let AuditSample { judge, unit, .. } = &audit.sample;
    let held = with_population(run, benchmark, Some(judge), *unit, |_, population| {
        Ok(audit.sample.strata_of(population)?)
    });
    match held {
        Ok(_) => Ok((audit, None)),
        Err(error) if error.is::<SampleError>() => Err(error),
        Err(error) => {
            let doubt = format!(
                "whether the run's answers are still those that the audit was drawn from cannot be seen: {error:#}"
            );
            Ok((audit, Some(doubt)))
        }
    }
}

/// The folder of the audit `name`, whether it is there or not.
///
/// # Errors
/// It cannot be the name of a folder.
pub fn audit_folder(run: &RunDirectory, name: &str) -> anyhow::Result<AuditFolder> {
    AuditFolder::of(run, name).ok_or_else(|| {
        anyhow!(
            "`{name}` cannot name an audit: use letters, digits, `-`, `_` and `.`, and begin with a letter or digit"
        )
    })
}

/// People may be labelling the audit that is there.
fn refuse_another(folder: &AuditFolder, sample: &AuditSample) -> anyhow::Result<()> {
    let path = folder.sample()?;
    let there = AuditSample::read(&path)?;
    if there.sha256 == sample.sha256 {
        return Ok(());
    }
    there.ensure_answers_of(sample)?;
    let AuditSample { judge, seed, labels_wanted, .. } = &there;
    bail!(
        "{} is another sample (of `{judge}`, {labels_wanted} labels wanted, seed {seed}, {} units to draw from); draw the new \
         one under another --name, or leave --labels-wanted away to go on with the one that is there",
        path.display(),
        there.population_units
    )
}
