//! In: an audit of a run, and files of labels. Out: what they say of the judge and of the run's figures, in the audit's folder too.
//! Nothing is judged.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::auditing::{Audit, open_audit, with_population};
use super::scoring::check_pictures;
use crate::aggregate::Protocol;
use crate::audit::correction::{CorrectedComparison, Correction, ScoredRun, compare_corrected};
use crate::audit::{AuditFolder, AuditSample, Labels};
use crate::reports::{correction_csv, correction_markdown};
use crate::results::atomic_write::atomic_write;
use crate::results::{NewestAnswers, RunDirectory};
use crate::score::{RunScore, score_run};

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
/// There is no such audit, a label does not belong to it, too few answers are labelled, or the run's answers are others by now.
pub fn correct_audit(
    run: &RunDirectory,
    name: &str,
    files: &[PathBuf],
    benchmark: Option<&Path>,
) -> anyhow::Result<CorrectedAudit> {
    let audit = open_audit(run, name)?;
    let labels = read_labels(&audit, files)?;
    let correction = with_scored(run, &audit.sample, benchmark, |scored| {
        Ok(Correction::of(scored, &audit.sample, &labels)?)
    })?;
    let mut json = serde_json::to_vec_pretty(&correction)?;
    json.push(b'\n');
    atomic_write(&audit.folder.result("csv")?, &correction_csv(&correction)?)?;
    atomic_write(&audit.folder.result("md")?, correction_markdown(&correction).as_bytes())?;
    atomic_write(&audit.folder.result("json")?, &json)?;
    Ok(CorrectedAudit { audit, correction, warnings: labels.warnings })
}

/// The corrected figures of the audit `name` of both runs, the other less the base, by the labels in each audit's folder.
///
/// # Errors
/// As [`correct_audit`]; the runs have other items.
pub fn compare_audits(
    [base, other]: [&RunDirectory; 2],
    name: &str,
    benchmark: Option<&Path>,
) -> anyhow::Result<Vec<CorrectedComparison>> {
    let (base_audit, other_audit) = (open_audit(base, name)?, open_audit(other, name)?);
    let base_labels = read_labels(&base_audit, &[])?;
    let other_labels = read_labels(&other_audit, &[])?;
    with_scored(base, &base_audit.sample, benchmark, |base_scored| {
        with_scored(other, &other_audit.sample, benchmark, |other_scored| {
            let base = (base_scored, &base_audit.sample, &base_labels);
            Ok(compare_corrected(base, (other_scored, &other_audit.sample, &other_labels))?)
        })
    })
}

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

/// What `look` makes of the run, scored by the judge of `sample` and by its other judges.
fn with_scored<T>(
    run: &RunDirectory,
    sample: &AuditSample,
    benchmark: Option<&Path>,
    look: impl FnOnce(&ScoredRun<'_, '_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    with_population(run, benchmark, Some(&sample.judge), sample.unit, |judged, _| {
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
        look(&ScoredRun {
            run: *judged,
            corrected: &corrected,
            soft: soft.as_ref(),
            others: &others,
        })
    })
}
