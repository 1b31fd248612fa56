//! In: options that name a judge, or a judge of the caller's own. Out: it in memory, its sitting in a run's
//! manifest, and what it did in one line. Asking is left to `judge::judge_run`.

use std::path::Path;

use anyhow::{Context, anyhow};
use image::RgbImage;
use tempfile::TempDir;

use super::devices::one_kind_of_device;
use super::judge_options::JudgeOptions;
use super::listener::Listener;
use super::made_for::MadeFor;
use crate::benchmark::{Item, Question};
use crate::checkpoint::origins::Origins;
use crate::compute::products::ProductsHere;
use crate::judge::judge_counts::JudgeCounts;
use crate::judge::pool::JudgePool;
use crate::judge::{Answer, Judge, JudgeRequest, JudgedImage};
use crate::results::{RunDirectory, RunError, Settings, Sitting};
use crate::wording::counted;

/// A judge in memory.
pub struct LoadedJudge {
    name: String,
    judge: Box<dyn Judge>,
    device: String,
    products: ProductsHere,
    made_for: Option<MadeFor>,
}

impl LoadedJudge {
    /// A judge of the caller's own; its answers are filed under `name`, and `device` is recorded with each sitting.
    pub fn own(name: &str, judge: impl Judge + 'static, device: &str) -> Self {
        let (name, device) = (name.to_owned(), device.to_owned());
        let products = ProductsHere::default();
        Self { name, judge: Box::new(judge), device, products, made_for: None }
    }

    /// Loads the judge that the options name, on each device named for it; nothing is asked or written.
    ///
    /// # Errors
    /// As [`JudgeOptions::check`]; its files are damaged; the devices are of several kinds.
    pub fn load(options: &JudgeOptions, listener: &dyn Listener) -> anyhow::Result<Self> {
        let row = options.row()?;
        options.refuse_idle(row)?;
        // Kept until the weights are in memory.
        let unpacked = row.shipped.map(|folder| folder.unpack()).transpose();
        let unpacked = unpacked.with_context(|| format!("{} cannot be unpacked", row.name))?;
        let mut resolved = options.clone();
        match &unpacked {
            Some(folder) => resolved.local.weights = Some(folder.path().to_owned()),
            None => resolved = options.with_weights(row)?,
        }
        let places = row.places(options)?;
        let devices: Vec<String> = places.iter().map(|place| row.describe(place)).collect();
        if row.is_local() {
            log::debug!("judge {}: {}", row.name, devices.join("; "));
        }
        one_kind_of_device(&devices)?;
        // Devices that share the work are of one kind.
        let on_cpu = places.iter().all(|place| place.device.is_cpu());
        let products = options.local.products.unwrap_or_default();
        let products = places.first().map(|place| products.on(&place.device)).transpose()?;
        let products = products.unwrap_or_default();
        if let Some(told) = products.described().filter(|_| products.is_fallback()) {
            listener.warning(&format!("{}: products run in {told}", row.name));
        }
        let load = |place| products.while_loading(|| (row.load)(&resolved, place));
        let loaded = places.into_iter().map(load);
        let mut judges = loaded.collect::<anyhow::Result<Vec<_>>>().map_err(|error| {
            // A folder that the user never saw: the judge's name stands for it.
            let origin = |folder: &TempDir| Origins::new(folder.path(), Path::new(row.name));
            match unpacked.as_ref().map(origin) {
                Some(origin) => origin.with_user_paths(error),
                None => error,
            }
        })?;
        let weights = resolved.local.weights.iter().find(|_| unpacked.is_none());
        let of = weights.map_or_else(|| row.name.to_owned(), |path| path.display().to_string());
        for warning in judges.iter().flat_map(|judge| judge.warnings()) {
            listener.warning(&format!("{of}: {warning}"));
        }
        let judge: Box<dyn Judge> = match judges.len() {
            // A shipped one is so small that one thread answers as soon as several do.
            1 if on_cpu && unpacked.is_some() => {
                Box::new(JudgePool::one_thread_each(judges.remove(0))?)
            }
            1 => judges.remove(0),
            _ => Box::new(JudgePool::new(judges)?),
        };
        let name = options.filed_as().to_owned();
        let made_for = MadeFor::of(row, options);
        Ok(Self { name, judge, device: devices.join("; "), products, made_for })
    }

    /// Name that its answers are filed under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The judge itself.
    pub fn judge(&self) -> &dyn Judge {
        self.judge.as_ref()
    }

    /// What a run records of it.
    fn settings(&self) -> Settings {
        let mut settings = self.judge.settings();
        settings.extend(self.products.record());
        settings
    }

    /// What it says to `questions` about an image that is in no run, in the same order; a question that it fails at has the
    /// reason instead. Of a judge that was made for a benchmark only the size of the image is looked at.
    ///
    /// # Errors
    /// It was made for images of another size, or gave up altogether.
    pub fn answer(
        &self,
        image: &RgbImage,
        questions: &[&str],
    ) -> anyhow::Result<Vec<Result<Answer, String>>> {
        self.check_size(image.dimensions())?;
        let item = Item::of_questions(questions);
        let questions: Vec<&Question> = item.graph.questions().iter().collect();
        let image = JudgedImage::of(image)?;
        self.judge.answer(&JudgeRequest {
            item: &item,
            image_index: 0,
            image: &image,
            questions: &questions,
        })
    }

    /// Whether it was made for images of `size`: width and height in pixels.
    ///
    /// # Errors
    /// It was made for others.
    pub(super) fn check_size(&self, size: (u32, u32)) -> anyhow::Result<()> {
        self.made_for.map_or(Ok(()), |made_for| made_for.check_size(size))
    }

    /// Where it computes.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Notes in the manifest that it begins.
    ///
    /// # Errors
    /// It was made for other images, the run has its answers under other settings, or the disk said no.
    pub(super) fn begin(&self, run: &mut RunDirectory) -> anyhow::Result<JudgeSitting<'_>> {
        self.made_for.map_or(Ok(()), |made_for| made_for.check_run(run))?;
        let sitting = run
            .begin_judge(&self.name, self.settings(), &self.device)
            .map_err(|error| self.explained(error))?;
        Ok(JudgeSitting { loaded: self, sitting })
    }

    /// Whether [`Self::begin`] would be refused.
    ///
    /// # Errors
    /// As there.
    pub(super) fn check_run(&self, run: &RunDirectory) -> anyhow::Result<()> {
        self.made_for.map_or(Ok(()), |made_for| made_for.check_run(run))?;
        run.check_judge(&self.name, &self.settings()).map_err(|error| self.explained(error))
    }

    /// Whether it is set as when it answered in the run.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check_set_as_in(&self, run: &RunDirectory) -> anyhow::Result<()> {
        run.check_judge(&self.name, &self.settings()).map_err(|error| match error.changed_settings() {
            Some(others) => anyhow!(
                "give the judge `{}` the flags that it had in `dpg-bench judge`; what differs:{others}",
                self.name
            ),
            None => error.into(),
        })
    }

    fn explained(&self, error: RunError) -> anyhow::Error {
        let name = &self.name;
        let other_settings = matches!(error, RunError::SettingsChanged { .. });
        let error = anyhow::Error::from(error);
        if other_settings {
            error.context(format!(
                "`{name}` has answered in this run under other settings; --judge-name files these \
                 answers under another name"
            ))
        } else {
            error
        }
    }
}

/// A judge at work in a run.
pub(super) struct JudgeSitting<'j> {
    loaded: &'j LoadedJudge,
    sitting: Sitting,
}

impl JudgeSitting<'_> {
    pub(super) fn name(&self) -> &str {
        &self.loaded.name
    }

    /// Has it asked; what `ask` takes is its name and itself.
    pub(super) fn ask<T>(&mut self, ask: impl FnOnce(&str, &dyn Judge) -> T) -> T {
        let answers = ask(&self.loaded.name, self.loaded.judge.as_ref());
        self.sitting.stop();
        answers
    }

    /// Notes in the manifest how it ended, and says so.
    ///
    /// # Errors
    /// The disk said no.
    pub(super) fn finish(
        self,
        run: &mut RunDirectory,
        counts: &JudgeCounts,
        listener: &dyn Listener,
    ) -> anyhow::Result<()> {
        run.finish(&self.sitting, counts.finished_now, counts.failed_now)?;
        let name = &self.loaded.name;
        let journal = run.path().join("answers").join(format!("{name}.jsonl"));
        listener.note(&format!("{}: {}", journal.display(), described(counts)));
        for remark in self.loaded.judge.remarks() {
            listener.note(&format!("{name}: {remark}"));
        }
        Ok(())
    }
}
/// `13 of 16 images judged, 52 answers (1 unparsable), 3 questions failed, 2 images missing`.
fn described(counts: &JudgeCounts) -> String {
    let all =
        counts.images_done + counts.images_failed + counts.images_missing + counts.images_left;
    let mut text = format!(
        "{} of {} judged, {} ({} unparsable)",
        counts.images_done,
        counted(all, "image"),
        counted(counts.answers, "answer"),
        counts.unparsable
    );
    if counts.failed_questions > 0 {
        text.push_str(&format!(
            ", {} failed (the same command asks again)",
            counted(counts.failed_questions, "question")
        ));
    }
    if counts.replies_cut > 0 {
        text.push_str(&format!(
            ", replies cut by the limit on tokens (--judge-max-tokens): {}",
            counts.replies_cut
        ));
    }
    if counts.questions_cut > 0 {
        text.push_str(&format!(
            ", questions longer than the judge reads: {}",
            counts.questions_cut
        ));
    }
    if counts.images_left > 0 {
        text.push_str(&format!(", {} left", counted(counts.images_left, "image")));
    }
    if counts.images_missing > 0 {
        text.push_str(&format!(", {} missing", counted(counts.images_missing, "image")));
    }
    text
}
