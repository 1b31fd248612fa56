//! In: an audit of a run, and files of labels. Out: what they say of the judge and of the run's figures, in the audit's folder too.
//! Nothing is judged.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;

use super::auditing::{Audit, open_audit, with_population};
use super::labelled_images::ensure_labelled_images;
use super::scoring::{check_pictures, judge_identity};
use crate::aggregate::Protocol;
use crate::audit::{
    AuditComparison, AuditFolder, AuditSample, Correction, Labels, ScoredRun, compare_corrected,
};
use crate::compare::{Allowed, CompareError, Facts, differing_facts, tolerated};
use crate::reports::{correction_csv, correction_markdown};
use crate::results::atomic_write::atomic_write;
use crate::results::{NewestAnswers, RunDirectory};
use crate::score::{RunScore, score_run};
use crate::wording::counted;

/// An audit with what its labels say.
#[derive(Debug, Clone, PartialEq)]
pub struct CorrectedAudit {
    /// The audit.
    pub audit: Audit,
    /// What the labels say.
    pub correction: Correction,
    /// What was left out of the files of labels, one sentence each.
    pub warnings: Vec<String>,
}

/// Corrects the figures of `run` by the labels of its audit `name` in `files` (none: those that the audit's server has kept), and
/// writes `corrected.json`, `.csv` and `.md` into the audit's folder.
///
/// # Errors
/// There is no such audit, a label does not belong to it, too few answers are labelled, the run's answers are others by now, or an
/// image that was labelled.
pub fn correct_audit(
    run: &RunDirectory,
    name: &str,
    files: &[PathBuf],
    benchmark: Option<&Path>,
) -> anyhow::Result<CorrectedAudit> {
    let audit = open_audit(run, name)?;
    let labels = read_labels(&audit, files)?;
    let (correction, lacks) =
        with_scored(run, (&audit.sample, &labels), benchmark, |scored, lacks| {
            Ok((Correction::of(scored, &audit.sample, &labels)?, lacks))
        })?;
    let mut json = serde_json::to_vec_pretty(&correction)?;
    json.push(b'\n');
    atomic_write(&audit.folder.result("csv")?, &correction_csv(&correction)?)?;
    atomic_write(&audit.folder.result("md")?, correction_markdown(&correction).as_bytes())?;
    atomic_write(&audit.folder.result("json")?, &json)?;
    let warnings = labels.warnings.into_iter().chain(lacks.images).collect();
    Ok(CorrectedAudit { audit, correction, warnings })
}

/// Two audited runs that were compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedAudits {
    /// The run that stands for zero.
    pub base: String,
    /// The run compared with it.
    pub other: String,
    /// What makes the runs differ beside what is compared, what was left out of the files of labels, and what the runs lack.
    pub warnings: Vec<String>,
    /// Whether every selected question of both has an answer about a stored image.
    pub complete: bool,
    /// The figures.
    #[serde(flatten)]
    pub found: AuditComparison,
}

/// The corrected figures of the audit `name` of both runs, the other less the base, by the labels in each audit's folder. Judges may
/// differ, since labels correct each towards what people say; in `allowed` is in what else they may.
///
/// # Errors
/// As [`correct_audit`]; the runs differ in what is not allowed, or have no item in common.
pub fn compare_audits(
    runs: [&RunDirectory; 2],
    name: &str,
    benchmark: Option<&Path>,
    allowed: &[Allowed],
) -> anyhow::Result<ComparedAudits> {
    let audits = [open_audit(runs[0], name)?, open_audit(runs[1], name)?];
    let mut warnings = ensure_alike(runs, &audits, allowed)?;
    let labels = [read_labels(&audits[0], &[])?, read_labels(&audits[1], &[])?];
    let given = [0, 1].map(|side| (&audits[side].sample, &labels[side]));
    let (found, lacks) = with_scored(runs[0], given[0], benchmark, |base, of_base| {
        with_scored(runs[1], given[1], benchmark, |other, of_other| {
            let base = (base, given[0].0, given[0].1);
            let found = compare_corrected(base, (other, given[1].0, given[1].1))?;
            Ok((found, [of_base, of_other]))
        })
    })?;
    let [base, other] = runs.map(|run| run.path().display().to_string());
    let complete = lacks.iter().all(|lacks| lacks.units == 0);
    for (side, (lacks, run)) in lacks.into_iter().zip([&base, &other]).enumerate() {
        warnings.extend(labels[side].warnings.iter().map(|warning| format!("{run}: {warning}")));
        warnings.extend(lacks.images.map(|warning| format!("{run}: {warning}")));
        if lacks.units > 0 {
            let units = counted(lacks.units, audits[side].sample.unit.noun());
            warnings
                .push(format!("{run} is incomplete: {units} without a stored image or an answer"));
        }
    }
    for (count, run) in [(found.only_base, &base), (found.only_other, &other)] {
        if count > 0 {
            warnings.push(format!("{run} has {} that the other has not", counted(count, "item")));
        }
    }
    Ok(ComparedAudits { base, other, warnings, complete, found })
}

/// In what the runs differ, as far as that is allowed.
fn ensure_alike(
    runs: [&RunDirectory; 2],
    audits: &[Audit; 2],
    allowed: &[Allowed],
) -> Result<Vec<String>, CompareError> {
    let labels = runs.map(|run| run.path().display().to_string());
    let judges = [0, 1].map(|side| judge_identity(runs[side], &audits[side].sample.judge));
    let facts = [0, 1].map(|side| Facts {
        label: &labels[side],
        benchmark: &runs[side].manifest().benchmark,
        judge: &judges[side],
        images_per_item: runs[side].manifest().images_per_item,
    });
    let (judges, others): (Vec<_>, Vec<_>) =
        differing_facts(facts).into_iter().partition(|(what, _)| *what == Allowed::Judge);
    let mut warnings = tolerated(others, allowed)?;
    let judges = judges.into_iter().map(|(_, sentence)| sentence);
    warnings.extend(
        judges.map(|sentence| format!("{sentence}; labels correct both towards what people say")),
    );
    Ok(warnings)
}

/// The labels in `files` (none: those that the audit's server has kept).
fn read_labels(audit: &Audit, files: &[PathBuf]) -> anyhow::Result<Labels> {
    let kept = if files.is_empty() { audit.folder.label_files()? } else { Vec::new() };
    let files = if files.is_empty() { kept.as_slice() } else { files };
    ensure!(
        !files.is_empty(),
        "{} has no labels yet; name files that its page has saved with --labels FILE,.., or let people label with --serve",
        labels_folder(&audit.folder)
    );
    Ok(Labels::read(&audit.sample, files)?)
}

fn labels_folder(folder: &AuditFolder) -> String {
    folder.path().map(|path| path.join("labels").display().to_string()).unwrap_or_default()
}

/// What a run lacks.
struct Lacks {
    /// Units that could not be drawn.
    units: u64,
    /// Labelled images that are not on the disk, told in a sentence.
    images: Option<String>,
}

/// What `look` makes of the run, scored by the judge of `sample` and by its other judges. The run's answers are those that the sample was
/// drawn from, and its images those that the labels are about.
fn with_scored<T>(
    run: &RunDirectory,
    (sample, labels): (&AuditSample, &Labels),
    benchmark: Option<&Path>,
    look: impl FnOnce(&ScoredRun<'_, '_>, Lacks) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    with_population(run, benchmark, Some(&sample.judge), sample.unit, |judged, population| {
        sample.strata_of(population).with_context(|| run.path().display().to_string())?;
        let images = ensure_labelled_images(run, sample, labels)?;
        let per_item = judged.images_per_item;
        let under = |protocol| score_run(judged.items, judged.answers, per_item, protocol);
        let corrected = under(Protocol::Corrected);
        let soft = Some(under(Protocol::Soft)).filter(RunScore::states_probability);
        let mut others = Vec::new();
        for name in run.judges_with_answers()? {
            if name != sample.judge {
                let records = run.read_answers(&name)?;
                let answers = NewestAnswers::merge(&records)?;
                check_pictures(judged.images, &answers)?;
                let score = score_run(judged.items, &answers, per_item, Protocol::Corrected);
                others.push((name, score));
            }
        }
        let scored =
            ScoredRun { run: *judged, corrected: &corrected, soft: soft.as_ref(), others: &others };
        look(&scored, Lacks { units: population.left_out, images })
    })
}
