//! In: a run that is open, a loaded model and judges. Out: pictures and answers, the answers while the next
//! pictures are made; and which of several judges may work beside the model. What the stages do is theirs.

use super::exit_status::ExitStatus;
use super::generate::{self, GenerateOptions, Loaded};
use super::handover::Handover;
use super::judge::{JudgeOptions, LoadedJudge};
use super::judge_options::Chosen;
use super::live::Live;
use super::output::warn;
use super::progress::StageProgress;
use crate::benchmark::Item;
use crate::checkpoint::error_words::sentence;
use crate::judge::judge_run::judge_as_made;
use crate::judge::{Judge, catalog};
use crate::results::RunDirectory;

/// When a judge works beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum WhileGenerating {
    /// Where the model is on no device of the judge: an endpoint, `scripted`, `--judge-device` beside `--device`
    #[default]
    Auto,
    /// Also on a device that they share, whose memory must hold both
    On,
    /// Not before all pictures are made
    Off,
}

/// The judges that work beside the model and those whose turn comes afterwards, both in the order given. Of those
/// that compute here one works beside it at most, so that no two of them are in memory at a time.
///
/// # Errors
/// A device of a judge means nothing, or is not there.
pub fn dealt(
    judges: Vec<Chosen>,
    when: WhileGenerating,
    options: &JudgeOptions,
    devices: &[String],
) -> anyhow::Result<(Vec<Chosen>, Vec<Chosen>)> {
    let (mut beside, mut after) = (Vec::new(), Vec::new());
    let mut one_is_here = false;
    for judge in judges {
        let is_here = catalog::LOCAL.contains(&judge.row.kind);
        let is_free = match when {
            WhileGenerating::Off => false,
            _ if is_here && one_is_here => false,
            WhileGenerating::Auto if is_here => {
                options.local.devices()?.iter().all(|device| !devices.contains(device))
            }
            _ => true,
        };
        one_is_here |= is_here && is_free;
        if is_free { beside.push(judge) } else { after.push(judge) }
    }
    Ok((beside, after))
}

/// Makes the images of `items` and has the `judges` answer about each item as soon as its images are there. An
/// error of one stage stops the others after what they have in hand. Returns how it ended.
///
/// # Errors
/// What stopped one of them first; what is finished is kept.
pub fn execute(
    run: &mut RunDirectory,
    items: &[&Item],
    mut loaded: Loaded,
    options: &GenerateOptions,
    judges: Vec<LoadedJudge>,
    live: Option<&Live<'_>>,
) -> anyhow::Result<ExitStatus> {
    let mut generation = loaded.begin(run, options)?;
    let mut judges =
        judges.into_iter().map(|judge| judge.begin(run)).collect::<anyhow::Result<Vec<_>>>()?;
    let handover = Handover::default();
    let is_alone = judges.len() == 1;
    let generating = generate::progress(live).beside(&handover);
    let (made, asked) = std::thread::scope(|scope| {
        let (run, handover) = (&*run, &handover);
        let mut threads = Vec::new();
        for judge in &mut judges {
            // As wide as the other, so that the bars stand below each other.
            let verb =
                if is_alone { "judging   ".to_owned() } else { format!("judging, {}", judge.name) };
            let live = live.map(|live| live.part(&judge.name));
            let progress = StageProgress::new(&verb, live).beside(handover);
            let ask = move |name: &str, judge: &dyn Judge| {
                judge_as_made(run, name, items, judge, handover, &progress)
            };
            let work = move || told(handover, judge.ask(ask));
            threads.push(scope.spawn(move || handover.beside(work)));
        }
        let made = handover.making(|| {
            let made = loaded.make(&mut generation, run, items, &generating);
            told(handover, made)
        });
        // The judges may need the memory.
        drop(loaded);
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        (made, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    let note = || {
        let mut status = ExitStatus::Done;
        if let Some(summary) = &made {
            generation.finish(run, summary)?;
            status = generate::status(summary);
        }
        for (judge, counts) in judges.into_iter().zip(&asked) {
            if let Some(counts) = counts {
                status = status.max(judge.finish(run, counts)?);
            }
        }
        anyhow::Ok(status)
    };
    let status = note();
    handover.error().map_or(status, Err)
}

/// The outcome of a stage; an error stops the others. One that comes after another is only mentioned: it may well
/// be the same disk.
fn told<T>(handover: &Handover, outcome: anyhow::Result<T>) -> Option<T> {
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(error) => {
            if let Some(later) = handover.halt(error) {
                warn(&sentence(&later));
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::judge_options::tests::parse;
    use crate::compute::device::{Device, describe_device};

    /// Names of the judges that work beside a model on `devices`, and of those afterwards.
    fn deal(when: WhileGenerating, flags: &[&str], devices: &[&str]) -> (String, String) {
        let options = parse(flags);
        let devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
        let judges = options.chosen().unwrap();
        let (beside, after) = dealt(judges, when, &options, &devices).unwrap();
        let names = |judges: Vec<Chosen>| {
            judges.into_iter().map(|judge| judge.name).collect::<Vec<_>>().join(" ")
        };
        (names(beside), names(after))
    }

    #[test]
    fn a_judge_works_beside_the_model_where_they_share_no_device() {
        use WhileGenerating::{Auto, Off, On};
        let cpu = describe_device(&Device::Cpu);
        let cpu = cpu.as_str();
        let gpus = ["cuda:0", "cuda:1"];
        let all = ["--judge", "mplug,endpoint,blip-vqa,scripted"];
        for (when, devices, expected) in [
            (Auto, &[cpu][..], ("endpoint scripted", "mplug blip-vqa")),
            // Of those that compute here one at a time.
            (Auto, &gpus, ("mplug endpoint scripted", "blip-vqa")),
            (On, &[cpu], ("mplug endpoint scripted", "blip-vqa")),
            (Off, &gpus, ("", "mplug endpoint blip-vqa scripted")),
            (Auto, &["cuda:0", cpu], ("endpoint scripted", "mplug blip-vqa")),
        ] {
            let found = deal(when, &all, devices);
            assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{when:?} {devices:?}");
        }
        // Several devices, of which one is the model's.
        let flags = ["--judge", "demo-judge", "--judge-device", "cpu,cpu"];
        assert_eq!(deal(Auto, &flags, &[cpu]).1, "demo-judge");
        assert_eq!(deal(Auto, &flags, &gpus).0, "demo-judge");
    }
}
