//! In: a run that is open, a loaded model or images of memory, and judges. Out: images and answers, the answers while the next
//! images are made; and which of several judges may work beside the model. What the stages do is theirs.

use super::generator::LoadedGenerator;
use super::judge_options::JudgeOptions;
use super::listener::{Listener, Stage};
use super::loaded_judge::{JudgeSitting, LoadedJudge};
use super::shared_progress::SharedProgress;
use super::watched::Watched;
use crate::benchmark::Item;
use crate::checkpoint::error_words::sentence;
use crate::generate::generate_run::GenerationSummary;
use crate::generate::import::images::ImportSummary;
use crate::generate::import::pixels::{ItemImages, begin_import, take_pixels};
use crate::judge::Judge;
use crate::judge::judge_counts::JudgeCounts;
use crate::judge::judge_run::judge_as_made;
use crate::results::RunDirectory;

/// When a judge works beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhileGenerating {
    /// Where the model is on no device of the judge.
    #[default]
    Auto,
    /// Also on a device that they share, whose memory must hold both.
    On,
    /// Not before all images are made.
    Off,
}

/// The judges that work beside the model and those whose turn comes afterwards, both in the order given. Of those
/// that compute here one works beside it at most, so that no two of them are in memory at a time. `devices` are
/// the model's.
///
/// # Errors
/// A device of a judge means nothing, or is not there.
pub fn split_judges(
    judges: Vec<JudgeOptions>,
    when: WhileGenerating,
    devices: &[String],
) -> anyhow::Result<(Vec<JudgeOptions>, Vec<JudgeOptions>)> {
    let (mut beside, mut after) = (Vec::new(), Vec::new());
    let mut one_is_here = false;
    for judge in judges {
        let is_here = judge.is_local();
        let is_free = match when {
            WhileGenerating::Off => false,
            _ if is_here && one_is_here => false,
            WhileGenerating::Auto if is_here => {
                judge.devices()?.iter().all(|device| !devices.contains(device))
            }
            _ => true,
        };
        one_is_here |= is_here && is_free;
        if is_free { beside.push(judge) } else { after.push(judge) }
    }
    Ok((beside, after))
}

/// Makes the images of `items` and has the `judges` answer about each item as soon as its images are there. An
/// error of one stage stops the others after what they have in hand. Returns what was made, and what each judge
/// did.
///
/// # Errors
/// What stopped one of them first; what is finished is kept.
pub fn generate_and_judge(
    run: &mut RunDirectory,
    items: &[&Item],
    mut generator: LoadedGenerator,
    judges: &[LoadedJudge],
    listener: &dyn Listener,
) -> anyhow::Result<(GenerationSummary, Vec<JudgeCounts>)> {
    // Before the run may grow, which cannot be taken back.
    judges.iter().try_for_each(|judge| judge.check_run(run))?;
    let mut generation = generator.begin(run, items, listener)?;
    let sittings =
        judges.iter().map(|judge| judge.begin(run)).collect::<anyhow::Result<Vec<_>>>()?;
    let make = |run: &RunDirectory, observer: &Watched<'_>| {
        let made = generator.make(&mut generation, run, items, listener, observer);
        // The judges may need the memory.
        drop(generator);
        made
    };
    let (made, ended) = beside(run, items, sittings, listener, make);
    let noted = made.as_ref().map_or(Ok(()), |summary| generation.finish(run, summary));
    let counts = ended.noted(run, listener)?;
    noted?;
    // Without an error every stage has come to its end.
    Ok((made.unwrap_or_default(), counts))
}

/// Takes in images that the caller has in memory, and has the `judge` answer about each item as soon as its images are there,
/// as [`generate_and_judge`]. The judge is asked about nothing after the last item that came.
///
/// # Errors
/// As there; an image is not of the size that the judge was made for.
pub fn import_and_judge(
    run: &mut RunDirectory,
    items: &[&Item],
    model: Option<&str>,
    given: impl IntoIterator<Item = anyhow::Result<ItemImages>>,
    judge: &LoadedJudge,
    listener: &dyn Listener,
) -> anyhow::Result<(ImportSummary, JudgeCounts)> {
    judge.check_run(run)?;
    let import = begin_import(run, model)?;
    let sittings = vec![judge.begin(run)?];
    let given = given.into_iter().map(|next| {
        let next = next?;
        next.images.iter().try_for_each(|image| judge.check_size(image.dimensions()))?;
        Ok(next)
    });
    let mut summary = ImportSummary::default();
    let make = |run: &RunDirectory, observer: &Watched<'_>| {
        take_pixels(run, items, given, observer, &mut summary)
    };
    let (_, ended) = beside(run, items, sittings, listener, make);
    let noted = run.finish(&import, summary.done, summary.failed);
    let mut counts = ended.noted(run, listener)?;
    noted?;
    Ok((summary, counts.pop().unwrap_or_default()))
}

/// Judges that worked beside a stage, and have come to their end.
struct Ended<'j> {
    sittings: Vec<JudgeSitting<'j>>,
    /// What each did; `None` where it was stopped by an error.
    counts: Vec<Option<JudgeCounts>>,
    /// What stopped one of the stages first.
    error: Option<anyhow::Error>,
}

impl Ended<'_> {
    /// Notes in the manifest what each judge did.
    ///
    /// # Errors
    /// What stopped one of the stages; else the disk said no.
    fn noted(
        self,
        run: &mut RunDirectory,
        listener: &dyn Listener,
    ) -> anyhow::Result<Vec<JudgeCounts>> {
        let mut noted = Ok(());
        for (sitting, counts) in self.sittings.into_iter().zip(&self.counts) {
            if let Some(counts) = counts {
                noted = noted.and_then(|()| sitting.finish(run, counts, listener));
            }
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        noted?;
        Ok(self.counts.into_iter().map(Option::unwrap_or_default).collect())
    }
}

/// Does `make`, and beside it the sittings of judges. An error of one stops the others after what they have in hand.
fn beside<'j, T>(
    run: &RunDirectory,
    items: &[&Item],
    mut sittings: Vec<JudgeSitting<'j>>,
    listener: &dyn Listener,
    make: impl FnOnce(&RunDirectory, &Watched<'_>) -> anyhow::Result<T>,
) -> (Option<T>, Ended<'j>) {
    let shared = SharedProgress::default();
    let at_once = 1 + sittings.len();
    let watch = |stage| Watched::new(listener, stage, Some(&shared));
    let making = watch(Stage::Generate);
    let judging: Vec<Watched<'_>> = sittings
        .iter()
        .map(|sitting| watch(Stage::Judge { name: sitting.name(), at_once }))
        .collect();
    let (made, counts) = std::thread::scope(|scope| {
        let shared = &shared;
        let mut threads = Vec::new();
        for (sitting, observer) in sittings.iter_mut().zip(&judging) {
            let ask = move |name: &str, judge: &dyn Judge| {
                judge_as_made(run, name, items, judge, shared, observer)
            };
            let work = move || outcome(shared, sitting.ask(ask), listener);
            threads.push(scope.spawn(move || shared.while_judging(work)));
        }
        let made = shared.while_making(|| outcome(shared, make(run, &making), listener));
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        (made, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    drop((making, judging));
    (made, Ended { sittings, counts, error: shared.error() })
}

/// The outcome of a stage; an error stops the others. One that comes after another is only mentioned: it may well
/// be the same disk.
fn outcome<T>(
    shared: &SharedProgress,
    outcome: anyhow::Result<T>,
    listener: &dyn Listener,
) -> Option<T> {
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(error) => {
            if let Some(later) = shared.halt(error) {
                listener.warning(&sentence(&later));
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::device::{Device, describe_device};

    /// Names of the judges that work beside a model on `devices`, and of those afterwards.
    fn split(when: WhileGenerating, judges: &[JudgeOptions], devices: &[&str]) -> (String, String) {
        let devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
        let (beside, after) = split_judges(judges.to_vec(), when, &devices).unwrap();
        let names = |judges: Vec<JudgeOptions>| {
            judges.into_iter().map(|judge| judge.judge).collect::<Vec<_>>().join(" ")
        };
        (names(beside), names(after))
    }

    #[test]
    fn a_judge_works_beside_the_model_where_they_share_no_device() {
        use WhileGenerating::{Auto, Off, On};
        let cpu = describe_device(&Device::Cpu);
        let cpu = cpu.as_str();
        let gpus = ["cuda:0", "cuda:1"];
        let all = ["mplug", "endpoint", "blip-vqa", "scripted"].map(JudgeOptions::new);
        for (when, devices, expected) in [
            (Auto, &[cpu][..], ("endpoint scripted", "mplug blip-vqa")),
            // Of those that compute here one at a time.
            (Auto, &gpus, ("mplug endpoint scripted", "blip-vqa")),
            (On, &[cpu], ("mplug endpoint scripted", "blip-vqa")),
            (Off, &gpus, ("", "mplug endpoint blip-vqa scripted")),
            (Auto, &["cuda:0", cpu], ("endpoint scripted", "mplug blip-vqa")),
        ] {
            let found = split(when, &all, devices);
            assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{when:?} {devices:?}");
        }
        // Several devices, of which one is the model's.
        let mut judge = JudgeOptions::new("demo-judge");
        judge.local.devices = vec!["cpu".to_owned(), "cpu".to_owned()];
        assert_eq!(split(Auto, &[judge.clone()], &[cpu]).1, "demo-judge");
        assert_eq!(split(Auto, &[judge], &gpus).0, "demo-judge");
    }
}
