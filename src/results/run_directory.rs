//! In: a folder under `results/`. Out: its manifest, journals and paths, checked against what the
//! caller is about to do. What the stages do with them is theirs.

use std::path::{Path, PathBuf};

use super::FORMAT_VERSION;
use super::atomic_write::{atomic_write, name_path};
use super::control_kind::ControlKind;
use super::growth_error::GrowthError;
use super::inside::inside;
use super::journal::{Journal, JournalError};
use super::journal_tail::JournalTail;
use super::manifest::{BenchmarkIdentity, Difference, Manifest, Settings, StageEntry, differences};
use super::other_products;
use super::records::{AnswerRecord, ImageRecord};
use super::sitting::{Sitting, StageName};

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A journal is damaged or foreign.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no run here.
    #[error("{0} is no run directory: it has no manifest.json")]
    NoManifest(PathBuf),
    /// The manifest cannot be read.
    #[error("{path} cannot be read: {reason}; restore it or start a new run with --out")]
    BadManifest {
        /// The manifest file.
        path: PathBuf,
        /// What the parser said.
        reason: serde_json::Error,
    },
    /// Something that decides the results is not what the run was started with.
    #[error(
        "{path} was started with other settings:{}\n{}",
        differences.iter().map(|difference| format!("\n  {difference}")).collect::<String>(),
        other_products::advice(differences)
    )]
    SettingsChanged {
        /// The run directory.
        path: PathBuf,
        /// Each setting that differs.
        differences: Vec<Difference>,
    },
    /// It cannot take in more items or images.
    #[error(transparent)]
    Growth(#[from] GrowthError),
    /// A judge name that would leave the folder.
    #[error(
        "`{0}` cannot name a judge: use letters, digits, `-`, `_` and `.`, and begin with a letter or digit"
    )]
    BadJudgeName(String),
}

impl RunError {
    /// The settings that differ, a line each, where that is what is wrong.
    pub(crate) fn changed_settings(&self) -> Option<String> {
        match self {
            Self::SettingsChanged { differences, .. } => {
                Some(differences.iter().map(|difference| format!("\n  {difference}")).collect())
            }
            _ => None,
        }
    }
}

/// A run: `manifest.json`, `images/<item>/<k>.png`, `thumbnails/<item>/<k>.jpg`, `images.jsonl`, `answers/<judge>.jsonl`,
/// `scores/<judge>.parquet`, `summary/<judge>.json`.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    pub(super) manifest: Manifest,
    /// Whether the manifest here is about more than the one on the disk.
    pub(super) grows: bool,
    /// Whether stages may go on with other products of the processor.
    pub(super) allows_other_products: bool,
}

impl RunDirectory {
    /// Opens the run at `path`, or starts one there.
    ///
    /// # Errors
    /// The run there is about another benchmark, selection or number of images
    /// ([`RunError::SettingsChanged`]), is damaged, or the disk said no.
    pub fn open_or_create(
        path: &Path,
        benchmark: BenchmarkIdentity,
        selection: Settings,
        images_per_item: u32,
    ) -> Result<Self, RunError> {
        Self::open_or_start(path, || {
            Manifest::new(benchmark.clone(), selection.clone(), images_per_item)
        })
    }

    /// Opens the run at `path`, which must be about the same as `fresh`, or starts one there with that
    /// manifest.
    pub(super) fn open_or_start(
        path: &Path,
        fresh: impl Fn() -> Manifest,
    ) -> Result<Self, RunError> {
        match Self::open(path) {
            Ok(run) => {
                run.refuse_differences(&run.manifest.subject(), &fresh().subject())?;
                Ok(run)
            }
            Err(RunError::NoManifest(_)) => {
                let run = Self::with(path, fresh());
                run.save()?;
                Ok(run)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the run at `path`.
    ///
    /// # Errors
    /// There is none, it is damaged, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let file = path.join("manifest.json");
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RunError::NoManifest(path.to_owned()));
            }
            Err(error) => return Err(name_path(error, "read", &file).into()),
        };
        let bad = |reason| RunError::BadManifest { path: file.clone(), reason };
        // The version first: a newer manifest may have another shape.
        #[derive(serde::Deserialize)]
        struct Versioned {
            format_version: super::FormatVersion,
        }
        let versioned: Versioned = serde_json::from_slice(&bytes).map_err(bad)?;
        if !FORMAT_VERSION.can_read(versioned.format_version) {
            return Err(
                JournalError::NewerFormat { path: file, found: versioned.format_version }.into()
            );
        }
        let manifest = serde_json::from_slice(&bytes).map_err(bad)?;
        Ok(Self::with(path, manifest))
    }

    fn with(path: &Path, manifest: Manifest) -> Self {
        Self { path: path.to_owned(), manifest, grows: false, allows_other_products: false }
    }

    /// Lets stages go on, and parts be merged, where the products of the processor are rounded otherwise (`--products`, or a
    /// machine with other abilities). Settings then name all kinds, and each sitting its own.
    pub fn allow_other_products(&mut self, allowed: bool) {
        self.allows_other_products = allowed;
    }

    fn refuse_differences(
        &self,
        recorded: &Settings,
        requested: &Settings,
    ) -> Result<(), RunError> {
        let differences = differences(recorded, requested);
        let are_allowed = self.allows_other_products && other_products::are_all(&differences);
        if differences.is_empty() || are_allowed {
            return Ok(());
        }
        Err(RunError::SettingsChanged { path: self.path.clone(), differences })
    }

    /// Starts (or goes on with) the generation or import of the images: checks the settings against
    /// the recorded ones and notes the sitting in the manifest.
    ///
    /// # Errors
    /// [`RunError::SettingsChanged`], or the disk said no.
    pub fn begin_generation(
        &mut self,
        settings: Settings,
        device: &str,
    ) -> Result<Sitting, RunError> {
        if let Some(entry) = &self.manifest.generation {
            self.refuse_differences(&entry.settings, &settings)?;
        }
        for sibling in self.siblings()? {
            if let Some(entry) = &sibling.manifest.generation {
                sibling.refuse_differences(&entry.settings, &settings)?;
            }
        }
        self.drop_outgrown()?;
        let entry = self.manifest.generation.get_or_insert_with(StageEntry::default);
        let sitting = Sitting::begin(entry, &settings, device, StageName::Generation);
        self.save()?;
        Ok(sitting)
    }

    /// The settings that its images were begun with; of a shard, else those of another shard or of the whole run. `None`
    /// before that.
    ///
    /// # Errors
    /// A shard is damaged, or the disk said no.
    pub fn generation_settings(&self) -> Result<Option<Settings>, RunError> {
        let of = |run: &Self| Some(run.manifest.generation.as_ref()?.settings.clone());
        if let Some(settings) = of(self) {
            return Ok(Some(settings));
        }
        if let Some(settings) = self.siblings()?.iter().find_map(of) {
            return Ok(Some(settings));
        }
        let whole = self.path.parent().and_then(Path::parent).filter(|_| self.shard().is_some());
        match whole.map(Self::open) {
            None | Some(Err(RunError::NoManifest(_))) => Ok(None),
            Some(whole) => Ok(of(&whole?)),
        }
    }

    /// Starts (or goes on with) a judge, as [`Self::begin_generation`] does. The settings bind from
    /// the first answer on: a judge that never got one may be set otherwise.
    ///
    /// # Errors
    /// [`RunError::SettingsChanged`], a judge name that is no file name, or the disk said no.
    pub fn begin_judge(
        &mut self,
        judge: &str,
        settings: Settings,
        device: &str,
    ) -> Result<Sitting, RunError> {
        self.check_judge(judge, &settings)?;
        self.drop_outgrown()?;
        let is_other = self.manifest.judges.get(judge).is_some_and(|e| e.settings != settings);
        let is_free = is_other && !self.has_answers(judge)?;
        let entry = self.manifest.judges.entry(judge.to_owned()).or_default();
        if is_free {
            entry.settings.clone_from(&settings);
        }
        let sitting = Sitting::begin(entry, &settings, device, StageName::Judge(judge.to_owned()));
        self.save()?;
        Ok(sitting)
    }

    /// Whether [`Self::begin_judge`] would refuse.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn check_judge(&self, judge: &str, settings: &Settings) -> Result<(), RunError> {
        check_judge_name(judge)?;
        self.refuse_other_judge(judge, settings)?;
        for sibling in self.siblings()? {
            sibling.refuse_other_judge(judge, settings)?;
        }
        Ok(())
    }

    fn refuse_other_judge(&self, judge: &str, settings: &Settings) -> Result<(), RunError> {
        let Some(entry) = self.manifest.judges.get(judge) else { return Ok(()) };
        match self.refuse_differences(&entry.settings, settings) {
            Err(refused) if self.has_answers(judge)? => Err(refused),
            _ => Ok(()),
        }
    }

    pub(super) fn has_answers(&self, judge: &str) -> Result<bool, RunError> {
        let records = self.read_answers(judge)?;
        Ok(records.iter().flat_map(|record| &record.answers).any(|a| a.outcome.is_answered()))
    }

    /// Notes the end of a sitting in the manifest.
    ///
    /// # Errors
    /// The disk said no.
    pub fn finish(&mut self, sitting: &Sitting, done: u64, failed: u64) -> Result<(), RunError> {
        let entry = match sitting.stage() {
            StageName::Generation => self.manifest.generation.as_mut(),
            StageName::Judge(judge) => self.manifest.judges.get_mut(judge),
        };
        if let Some(entry) = entry.and_then(|entry| entry.sittings.get_mut(sitting.index())) {
            entry.seconds = Some(sitting.seconds());
            entry.images_done = Some(done);
            entry.images_failed = Some(failed);
        }
        self.save()
    }

    pub(super) fn save(&self) -> Result<(), RunError> {
        let mut text = serde_json::to_vec_pretty(&self.manifest).map_err(std::io::Error::from)?;
        text.push(b'\n');
        Ok(atomic_write(&self.path.join("manifest.json"), &text)?)
    }

    /// What the run is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `images.jsonl`.
    pub(super) fn images_journal(&self) -> PathBuf {
        self.path.join("images.jsonl")
    }

    /// `answers/<judge>.jsonl`.
    pub(super) fn answers_journal(&self, judge: &str) -> Result<PathBuf, RunError> {
        self.judge_file("answers", judge, "jsonl")
    }

    /// Opens `images.jsonl` for appending and returns what it holds.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open_images(&self) -> Result<(Journal<ImageRecord>, Vec<ImageRecord>), JournalError> {
        Journal::open(&inside(&self.path, &["images.jsonl"])?)
    }

    /// Reads `images.jsonl`.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn read_images(&self) -> Result<Vec<ImageRecord>, JournalError> {
        Journal::read(&self.images_journal())
    }

    /// `images.jsonl`, to be read while it grows.
    pub fn follow_images(&self) -> JournalTail<ImageRecord> {
        JournalTail::of(self.images_journal())
    }

    /// Opens `answers/<judge>.jsonl` for appending and returns what it holds.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn open_answers(
        &self,
        judge: &str,
    ) -> Result<(Journal<AnswerRecord>, Vec<AnswerRecord>), RunError> {
        Ok(Journal::open(&self.answers_journal(judge)?)?)
    }

    /// Reads `answers/<judge>.jsonl`.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn read_answers(&self, judge: &str) -> Result<Vec<AnswerRecord>, RunError> {
        Ok(Journal::read(&self.answers_journal(judge)?)?)
    }

    /// `scores/<judge>.parquet`, the long table of answers and verdicts.
    ///
    /// # Errors
    /// The judge name is no file name.
    pub fn scores_path(&self, judge: &str) -> Result<PathBuf, RunError> {
        self.judge_file("scores", judge, "parquet")
    }

    /// `summary/<judge>.json`.
    ///
    /// # Errors
    /// The judge name is no file name.
    pub fn summary_path(&self, judge: &str) -> Result<PathBuf, RunError> {
        self.judge_file("summary", judge, "json")
    }

    /// `agreement.json`, how far its judges agree.
    pub fn agreement_path(&self) -> PathBuf {
        self.path.join("agreement.json")
    }

    /// `agreement-ensembles.csv`, what its judges score together.
    pub fn ensembles_path(&self) -> PathBuf {
        self.path.join("agreement-ensembles.csv")
    }

    /// Names of the judges whose answers are there, in order.
    pub fn judges(&self) -> Vec<String> {
        self.manifest.judges.keys().cloned().collect()
    }

    /// Names of the judges that have answered something, or failed at it, in order. A judge that was interrupted
    /// before its first answer has an entry in the manifest and a journal without records.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn judges_with_answers(&self) -> Result<Vec<String>, RunError> {
        let mut judges = Vec::new();
        for judge in self.judges() {
            if Journal::<AnswerRecord>::has_records(&self.answers_journal(&judge)?)? {
                judges.push(judge);
            }
        }
        Ok(judges)
    }

    /// Takes a judge's answers, scores and summary away, in this run, its shards and its controls, and its entry in the manifest
    /// last: what a kill leaves is taken away when it is called again. Returns whether something was there.
    ///
    /// # Errors
    /// The judge name is no file name, a shard is damaged, or the disk said no.
    pub fn remove_judge(&mut self, judge: &str) -> Result<bool, RunError> {
        let mut removed = false;
        for mut shard in self.shards()? {
            removed |= shard.remove_judge(judge)?;
        }
        for kind in ControlKind::ALL {
            if let Some(mut control) = self.control(kind)? {
                removed |= control.remove_judge(judge)?;
            }
        }
        removed |= self.remove_computed(judge)?;
        removed |= remove_if_there(&self.answers_journal(judge)?)?;
        if self.manifest.judges.remove(judge).is_some() {
            self.save()?;
            removed = true;
        }
        Ok(removed)
    }

    /// Takes away what was computed of a judge's answers: its scores and summary, what its controls told, and how far judges agree. Returns
    /// whether something was there.
    pub(super) fn remove_computed(&self, judge: &str) -> Result<bool, RunError> {
        let mut files = vec![self.scores_path(judge)?];
        for ending in ["json", "csv", "md", "tex", "svg"] {
            files.push(self.judge_file("summary", judge, ending)?);
        }
        files.extend([self.agreement_path(), self.agreement_path().with_extension("csv")]);
        files.push(self.ensembles_path());
        files.extend(self.control_files(judge)?);
        let mut removed = false;
        for path in files {
            removed |= remove_if_there(&path)?;
        }
        Ok(removed)
    }

    fn judge_file(&self, folder: &str, judge: &str, extension: &str) -> Result<PathBuf, RunError> {
        check_judge_name(judge)?;
        Ok(inside(&self.path, &[folder, &format!("{judge}.{extension}")])?)
    }
}

/// Removes a file. Returns whether it was there.
fn remove_if_there(path: &Path) -> Result<bool, RunError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(name_path(error, "remove", path).into()),
    }
}

pub(super) fn check_judge_name(judge: &str) -> Result<(), RunError> {
    let good = judge.starts_with(|c: char| c.is_ascii_alphanumeric())
        && judge.len() <= 100
        && judge.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if good { Ok(()) } else { Err(RunError::BadJudgeName(judge.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn identity(digest: &str) -> BenchmarkIdentity {
        BenchmarkIdentity {
            path: "benchmark/demo".into(),
            digest: digest.into(),
            official: false,
            items: 3,
            questions: 30,
            lenient: false,
        }
    }

    fn settings(value: serde_json::Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_run_is_found_again_and_changed_settings_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut run =
            RunDirectory::open_or_create(&path, identity("d1"), Settings::new(), 4).unwrap();
        let sitting = run.begin_generation(settings(json!({"steps": 50})), "cpu").unwrap();
        run.finish(&sitting, 12, 0).unwrap();

        let mut again =
            RunDirectory::open_or_create(&path, identity("d1"), Settings::new(), 4).unwrap();
        assert_eq!(again.manifest(), run.manifest());
        let error = again.begin_generation(settings(json!({"steps": 25})), "cpu").unwrap_err();
        assert!(error.to_string().contains("steps: 50 in the run, 25 now"), "{error}");
        again.begin_generation(settings(json!({"steps": 50})), "cuda:0").unwrap();
        assert_eq!(again.manifest().generation.as_ref().unwrap().sittings.len(), 2);

        let error =
            RunDirectory::open_or_create(&path, identity("d2"), Settings::new(), 1).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("benchmark digest") && text.contains("images per item: 4"), "{text}");
    }

    #[test]
    fn a_judge_name_cannot_leave_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut run =
            RunDirectory::open_or_create(folder.path(), identity("d"), Settings::new(), 4).unwrap();
        for bad in ["", "../x", "a/b", ".hidden", "a b"] {
            assert!(run.begin_judge(bad, Settings::new(), "cpu").is_err(), "{bad}");
            assert!(run.summary_path(bad).is_err(), "{bad}");
        }
        run.begin_judge("endpoint-Qwen2.5-VL", Settings::new(), "cpu").unwrap();
    }

    #[test]
    fn the_settings_of_a_judge_bind_from_its_first_answer_on() {
        use super::super::{AnswerOutcome, QuestionAnswer};
        let folder = tempfile::tempdir().unwrap();
        let mut run =
            RunDirectory::open_or_create(folder.path(), identity("d"), Settings::new(), 4).unwrap();
        let put = |run: &RunDirectory, outcome| {
            let answers = vec![QuestionAnswer::new(1, outcome)];
            let (item, image, pixels_sha256) = ("a".to_owned(), 0, None);
            let record = AnswerRecord { item, image, pixels_sha256, answers };
            run.open_answers("j").unwrap().0.append(&record).unwrap();
        };
        run.begin_judge("j", settings(json!({"url": "typo"})), "cpu").unwrap();
        put(&run, AnswerOutcome::Failed { reason: "404".into() });
        run.begin_judge("j", settings(json!({"url": "right"})), "cpu").unwrap();
        let (raw, yes_probability) = (None, None);
        put(&run, AnswerOutcome::Answered { text: "yes".into(), raw, yes_probability });
        run.begin_judge("j", settings(json!({"url": "right"})), "cpu").unwrap();
        let error = run.begin_judge("j", settings(json!({"url": "other"})), "cpu").unwrap_err();
        assert!(error.to_string().contains("url: \"right\" in the run"), "{error}");
        assert_eq!(run.manifest().judges["j"].settings["url"], "right");
    }

    #[test]
    fn a_newer_or_broken_manifest_is_refused_in_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manifest.json");
        std::fs::write(&file, r#"{"format_version":"7.0","anything":1}"#).unwrap();
        let error = RunDirectory::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format version 7.0"), "{error}");
        std::fs::write(&file, "{").unwrap();
        let error = RunDirectory::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json cannot be read"), "{error}");
    }
}
