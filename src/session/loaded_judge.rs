//! In: options that name a judge, or a judge of the caller's own. Out: it in memory, its sitting in a run's
//! manifest, and what it did in one line. Asking is left to `judge::judge_run`.

use anyhow::Context;

use super::devices::one_kind_of_device;
use super::judge_options::JudgeOptions;
use super::listener::Listener;
use crate::compute::device::describe_device;
use crate::judge::Judge;
use crate::judge::blip_vqa::BlipVqaJudge;
use crate::judge::catalog::JudgeKind;
use crate::judge::judge_counts::JudgeCounts;
use crate::judge::mplug::{MplugJudge, MplugOptions};
use crate::judge::pool::JudgePool;
use crate::judge::qwen3_vl::Qwen3VlJudge;
use crate::results::{RunDirectory, RunError, Sitting};

/// A judge in memory.
pub struct LoadedJudge {
    name: String,
    judge: Box<dyn Judge>,
    device: String,
    is_local: bool,
}

impl LoadedJudge {
    /// A judge of the caller's own; its answers are filed under `name`, and `device` is recorded with each sitting.
    pub fn own(name: &str, judge: impl Judge + 'static, device: &str) -> Self {
        let (name, device) = (name.to_owned(), device.to_owned());
        Self { name, judge: Box::new(judge), device, is_local: false }
    }

    /// Loads the judge that the options name, on each device named for it; nothing is asked or written.
    ///
    /// # Errors
    /// As [`JudgeOptions::check`]; its files are damaged; the devices are of several kinds.
    pub fn load(options: &JudgeOptions, listener: &dyn Listener) -> anyhow::Result<Self> {
        options.check()?;
        let is_local = options.is_local();
        let names = options.local.device_names();
        let names = if is_local { names.as_slice() } else { &names[..1] };
        let loaded = names.iter().map(|name| load_on(options, name, listener));
        let mut loaded = loaded.collect::<anyhow::Result<Vec<_>>>()?;
        let (judge, device) = match (loaded.pop(), loaded.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                loaded.extend(last);
                let (judges, devices): (Vec<_>, Vec<_>) = loaded.into_iter().unzip();
                one_kind_of_device(&devices)?;
                (Box::new(JudgePool::new(judges)?) as Box<dyn Judge>, devices.join("; "))
            }
        };
        Ok(Self { name: options.filed_as().to_owned(), judge, device, is_local })
    }

    /// Name that its answers are filed under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The judge itself.
    pub fn judge(&self) -> &dyn Judge {
        self.judge.as_ref()
    }

    /// Where it computes.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether it computes here, from weights of its own.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Notes in the manifest that it begins.
    ///
    /// # Errors
    /// The run has its answers under other settings, or the disk said no.
    pub(super) fn begin(&self, run: &mut RunDirectory) -> anyhow::Result<JudgeSitting<'_>> {
        let name = &self.name;
        let sitting = run.begin_judge(name, self.judge.settings(), &self.device).map_err(|error| {
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
        })?;
        Ok(JudgeSitting { loaded: self, sitting })
    }
}

/// A judge on one device, and what the device is.
fn load_on(
    options: &JudgeOptions,
    device: &str,
    listener: &dyn Listener,
) -> anyhow::Result<(Box<dyn Judge>, String)> {
    let (row, local) = (options.row()?, &options.local);
    Ok(match row.kind {
        JudgeKind::Scripted => (Box::new(options.scripted()?), "none".to_owned()),
        JudgeKind::Endpoint => (Box::new(options.endpoint()?), "remote".to_owned()),
        JudgeKind::Qwen3Vl => {
            let judge = Qwen3VlJudge::load(options.qwen3_vl(device)?)?;
            let device = describe_device(judge.device());
            (Box::new(judge), device)
        }
        JudgeKind::Mplug => {
            let unpacked = row.shipped.map(|folder| folder.unpack()).transpose();
            let unpacked = unpacked.with_context(|| format!("{} cannot be unpacked", row.name))?;
            let weights = match &unpacked {
                Some(folder) => folder.path().to_owned(),
                None => options.mplug_weights()?,
            };
            let place = local.place_on(device, "f32")?;
            let device = describe_device(&place.device);
            let judge = MplugJudge::load(
                &weights,
                MplugOptions {
                    together: local.batch.unwrap_or(1) as usize,
                    revision: local.revision.clone(),
                    ..MplugOptions::new(place)
                },
            )?;
            if let Some(warning) = judge.warning() {
                listener.warning(&format!("{}: {warning}", weights.display()));
            }
            (Box::new(judge), device)
        }
        JudgeKind::BlipVqa => {
            let judge =
                BlipVqaJudge::load(&options.blip_weights()?, local.place_on(device, "f32")?)?
                    .with_revision(local.revision.as_deref());
            let device = describe_device(judge.device());
            (Box::new(judge), device)
        }
    })
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
        "{} of {all} images judged, {} answers ({} unparsable)",
        counts.images_done, counts.answers, counts.unparsable
    );
    if counts.failed_questions > 0 {
        text.push_str(&format!(
            ", {} questions failed (the same command asks them again)",
            counts.failed_questions
        ));
    }
    if counts.replies_cut > 0 {
        text.push_str(&format!(
            ", {} replies cut by the limit on tokens (--judge-max-tokens)",
            counts.replies_cut
        ));
    }
    if counts.questions_cut > 0 {
        text.push_str(&format!(
            ", {} questions are longer than the judge reads",
            counts.questions_cut
        ));
    }
    if counts.images_left > 0 {
        text.push_str(&format!(", {} images left", counts.images_left));
    }
    if counts.images_missing > 0 {
        text.push_str(&format!(", {} images missing", counts.images_missing));
    }
    text
}
