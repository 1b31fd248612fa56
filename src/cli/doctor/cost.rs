//! In: what a run is made of and a short measurement. Out: its time and space, each with the word on which
//! it stands: measured here, or estimated from the published networks and the speed of this machine.

use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use image::{ImageFormat, Rgb, RgbImage};
use serde::Serialize;

use super::super::fetch_bars::megabytes;
use super::super::generate::{self, GenerateOptions};
use super::super::judge::JudgeOptions;
use super::super::judge_options::Chosen;
use super::super::say;
use super::checks::{Check, Model, place};
use crate::benchmark::Item;
use crate::generate::PictureTimes;
use crate::judge::catalog::{JudgeKind, LOCAL};
use crate::judge::{Judge, JudgeRequest, JudgedImage};
use crate::measure::Measurements;
use crate::measure::published_work::{JUDGES, PICTURES};
use crate::models::error_words::sentence;
use crate::models::speed::{Speed, measure_speed};

/// A measurement that took less is taken again, longer.
const SHORT: Duration = Duration::from_secs(3);
/// How long each operation is measured for an estimate.
const SPEED_TIME: Duration = Duration::from_millis(700);
/// A network does more than its convolutions and products.
const OVERHEAD: f64 = 1.2;
/// Bytes of a stored picture for each pixel: what photographs take as PNG.
const BYTES_PER_PIXEL: f64 = 1.6;
/// Bytes of an answer in the journal and in the score table.
const BYTES_PER_ANSWER: f64 = 130.0;
/// Bytes of an image's records.
const BYTES_PER_IMAGE: f64 = 500.0;
/// Items and questions of DPG-Bench.
const DPG_BENCH: (u64, u64) = (1065, 14_392);

/// How much a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Prompts.
    pub items: u64,
    /// Pictures.
    pub images: u64,
    /// Answers of one judge.
    pub answers: u64,
}

impl Counts {
    /// Of `items` with `images` each.
    pub fn of(items: &[&Item], images: u32) -> Self {
        let questions: usize = items.iter().map(|item| item.graph.len()).sum();
        Self::new((items.len() as u64, questions as u64), images)
    }

    /// Of all of DPG-Bench.
    pub fn of_dpg_bench(images: u32) -> Self {
        Self::new(DPG_BENCH, images)
    }

    fn new((items, questions): (u64, u64), images: u32) -> Self {
        let images = u64::from(images);
        Self { items, images: items * images, answers: questions * images }
    }
}

/// What a number stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The networks of this run ran here.
    Measured,
    /// Networks of the same size, with made-up weights, ran on the machine that a record names.
    Recorded,
    /// Published networks and the measured speed of convolutions and products.
    Estimate,
    /// There is nothing to go by.
    Unknown,
}

/// Seconds of one stage, as it depends on what a run is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// `generating`, or `judging (NAME)`.
    pub what: String,
    /// What the numbers stand on.
    pub basis: Basis,
    /// In words, what was measured or assumed.
    pub how: String,
    /// Seconds for each item.
    pub per_item: f64,
    /// Seconds for each image.
    pub per_image: f64,
    /// Seconds for each answer.
    pub per_answer: f64,
}

impl Stage {
    fn unknown(what: String, how: impl Into<String>) -> Self {
        let (how, basis) = (how.into(), Basis::Unknown);
        Self { what, basis, how, per_item: 0.0, per_image: 0.0, per_answer: 0.0 }
    }

    /// As it goes when so many devices, one of which was measured, share the work.
    fn shared_by(mut self, devices: usize) -> Self {
        if devices > 1 {
            self.how.push_str(&format!("; of one device, {devices} share the work"));
            for part in [&mut self.per_item, &mut self.per_image, &mut self.per_answer] {
                *part /= devices as f64;
            }
        }
        self
    }

    fn seconds(&self, counts: Counts) -> Option<f64> {
        let Counts { items, images, answers } = counts;
        let sum = self.per_item * items as f64
            + self.per_image * images as f64
            + self.per_answer * answers as f64;
        (self.basis != Basis::Unknown).then_some(sum)
    }
}

/// What is known of this run's stages.
#[derive(Debug)]
pub struct Measured {
    stages: Vec<Stage>,
    /// Pixels of a picture.
    pixels: f64,
    judges: u64,
}

/// What a run costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    counts: Counts,
    stages: Vec<StageCost>,
    /// Seconds of all stages; absent where one is unknown.
    seconds: Option<f64>,
    /// Bytes on the disk, estimated.
    pub disk_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct StageCost {
    #[serde(flatten)]
    stage: Stage,
    seconds: Option<f64>,
}

impl Measured {
    /// For a run of that many.
    pub fn cost(&self, counts: Counts) -> Cost {
        let stages: Vec<StageCost> = self
            .stages
            .iter()
            .map(|stage| StageCost { stage: stage.clone(), seconds: stage.seconds(counts) })
            .collect();
        let images = counts.images as f64;
        let pictures = images * (self.pixels * BYTES_PER_PIXEL + BYTES_PER_IMAGE);
        let answers = (counts.answers * self.judges) as f64 * BYTES_PER_ANSWER;
        Cost {
            counts,
            seconds: stages.iter().map(|stage| stage.seconds).sum(),
            stages,
            disk_bytes: (pictures + answers) as u64,
        }
    }
}

impl Cost {
    /// A line for each stage and one for the disk.
    pub fn in_words(&self) -> String {
        let Counts { items, images, answers } = self.counts;
        let mut text =
            format!("  {items} prompts, {images} pictures, {answers} answers of each judge\n");
        for StageCost { stage, seconds } in &self.stages {
            let time = seconds.map_or_else(|| "unknown".to_owned(), duration);
            let basis = match stage.basis {
                Basis::Measured => "measured",
                Basis::Recorded => "RECORD",
                Basis::Estimate => "ESTIMATE",
                Basis::Unknown => "-",
            };
            text.push_str(&format!("  {:<22} {time:>10}  {basis}: {}\n", stage.what, stage.how));
        }
        if let (Some(seconds), true) = (self.seconds, self.stages.len() > 1) {
            text.push_str(&format!("  {:<22} {:>10}\n", "together", duration(seconds)));
        }
        let size = megabytes(self.disk_bytes);
        text.push_str(&format!(
            "  {:<22} {size:>10}  ESTIMATE: {BYTES_PER_PIXEL} bytes a pixel as PNG, \
             {BYTES_PER_ANSWER} bytes an answer\n",
            "disk"
        ));
        text
    }
}

/// `8.2 s`, `41 min`, `12.5 h`, `3.1 days`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.1} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// The item with the middle number of questions.
pub fn middle_item<'b>(items: &[&'b Item]) -> Option<&'b Item> {
    let mut sorted = items.to_vec();
    sorted.sort_by_key(|item| item.graph.len());
    sorted.get(sorted.len() / 2).copied()
}

/// Measures what is here, and estimates the rest.
pub fn measure(
    options: &GenerateOptions,
    judge_options: &JudgeOptions,
    model: Option<Model>,
    judges: Vec<Chosen>,
    item: Option<&Item>,
    quick: bool,
    found: &mut Vec<Check>,
) -> Measured {
    let mut speed = None;
    let mut side = PICTURES
        .iter()
        .find(|work| work.model == options.model)
        .map_or((512.0, 512.0), |work| (work.side as f64, work.side as f64));
    let what = "generating".to_owned();
    let times = match (&model, item) {
        (Some(model), Some(item)) if model.ready && !quick => pictures(options, item, found),
        _ => None,
    };
    let mut stages = Vec::new();
    let generating = match times {
        Some(times) => {
            side = (times.size.0 as f64, times.size.1 as f64);
            measured_pictures(what, times)
        }
        None => estimated_pictures(what, options, model.as_ref(), &mut speed),
    };
    stages.push(generating.shared_by(options.device.named().len()));
    let named = judge_options.chosen().unwrap_or_default();
    for chosen in &named {
        let what = format!("judging ({})", chosen.name);
        let ready = judges.iter().any(|ready| ready.name == chosen.name);
        let is_local = LOCAL.contains(&chosen.row.kind);
        stages.push(match (chosen.row.kind, item) {
            (JudgeKind::Endpoint, _) => {
                Stage::unknown(what, "that is up to the server, which was not asked")
            }
            (_, Some(item)) if ready && !(quick && is_local) => {
                let (height, width) = (side.0 as u32, side.1 as u32);
                measured_judge(what.clone(), judge_options, chosen, item, (width, height))
                    .unwrap_or_else(|error| {
                        found.push(Check::problem("judge", sentence(&error), None));
                        Stage::unknown(what, "it failed")
                    })
            }
            _ => estimated_judge(what, chosen.row.name, options, &mut speed),
        });
    }
    Measured { stages, pixels: side.0 * side.1, judges: named.len() as u64 }
}

/// What `record` says of this run's stages. What it does not have stays unknown: the speed of this machine
/// says nothing of that one.
pub fn recorded(
    record: &Measurements,
    options: &GenerateOptions,
    judge_options: &JudgeOptions,
    model: Option<&Model>,
) -> Measured {
    let device = &record.device;
    let missing = |what: String| Stage::unknown(what, format!("the record of {device} has none"));
    let what = "generating".to_owned();
    let picture = record.picture(&options.model);
    let generating = match (picture, model) {
        (Some(speed), Some(model)) => {
            let settings = options.sampling.resolve(model.row, options.file_settings.clone());
            let steps = settings.map_or(speed.steps, |settings| settings.options.steps);
            let of_batch = speed.text / speed.batch as f64;
            let calls = (speed.per_picture - speed.decode - of_batch).max(0.0);
            Stage {
                what,
                basis: Basis::Recorded,
                how: format!(
                    "{0} x {0}, {1} at a time in {2} on {device}: {3:.3} s each with {4} steps",
                    speed.side, speed.batch, speed.dtype, speed.per_picture, speed.steps
                ),
                per_item: speed.text,
                per_image: speed.decode + calls * steps as f64 / speed.steps.max(1) as f64,
                per_answer: 0.0,
            }
        }
        _ => missing(what),
    };
    let mut stages = vec![generating.shared_by(options.device.named().len())];
    let named = judge_options.chosen().unwrap_or_default();
    for chosen in &named {
        let what = format!("judging ({})", chosen.name);
        stages.push(match record.judge(chosen.row.name) {
            Some(speed) => {
                let whole = speed.seconds / speed.pictures.max(1) as f64;
                let others = (speed.questions as f64 - 1.0).max(1.0);
                let per_answer = ((whole - speed.one_question) / others).max(0.0);
                Stage {
                    what,
                    basis: Basis::Recorded,
                    how: format!(
                        "{:.1} answers a second in {} on {device}",
                        speed.per_second, speed.dtype
                    ),
                    per_item: 0.0,
                    per_image: (speed.one_question - per_answer).max(0.0),
                    per_answer,
                }
            }
            None => missing(what),
        });
    }
    let side = picture.map_or(512.0, |speed| speed.side as f64);
    Measured { stages, pixels: side * side, judges: named.len() as u64 }
}

/// Loads the model and times the parts of a picture; a failure is a problem of the run.
fn pictures(
    options: &GenerateOptions,
    item: &Item,
    found: &mut Vec<Check>,
) -> Option<PictureTimes> {
    say(&format!("measuring {}: loading it and making a part of one picture", options.model));
    let start = Instant::now();
    let attempt = || -> anyhow::Result<Option<PictureTimes>> {
        let mut loaded = generate::load(options)?;
        let loading = start.elapsed();
        say(&format!("loaded in {}", duration(loading.as_secs_f64())));
        let first = loaded.measure(&item.prompt, 1)?;
        let Some(times) = first else { return Ok(None) };
        // The first call also warms up; where that is cheap, a second measurement counts.
        if times.text + times.call + times.decode > SHORT {
            return Ok(Some(times));
        }
        let calls = SHORT.as_secs_f64() / times.call.as_secs_f64().max(1e-6);
        loaded.measure(&item.prompt, (calls as usize).clamp(1, 20))
    };
    attempt().unwrap_or_else(|error| {
        found.push(Check::problem("model", sentence(&error), None));
        None
    })
}

fn measured_pictures(what: String, times: PictureTimes) -> Stage {
    let PictureTimes { text, call, calls, decode, size: (height, width) } = times;
    Stage {
        what,
        basis: Basis::Measured,
        how: format!(
            "{width} x {height}, {calls} calls of {:.3} s, decoding {:.3} s, a prompt {:.3} s",
            call.as_secs_f64(),
            decode.as_secs_f64(),
            text.as_secs_f64()
        ),
        per_item: text.as_secs_f64(),
        per_image: call.as_secs_f64() * calls as f64 + decode.as_secs_f64(),
        per_answer: 0.0,
    }
}

fn estimated_pictures(
    what: String,
    options: &GenerateOptions,
    model: Option<&Model>,
    speed: &mut Option<Speed>,
) -> Stage {
    let work = PICTURES.iter().find(|work| work.model == options.model);
    let (Some(work), Some(model)) = (work, model) else {
        return Stage::unknown(what, "nothing is known of this model's networks");
    };
    let Some(speed) = speed_of(options, speed) else {
        return Stage::unknown(what, "the device cannot be had");
    };
    let settings = options.sampling.resolve(model.row, options.file_settings.clone());
    let steps = settings.map_or(model.row.defaults.steps, |settings| settings.options.steps) as f64;
    let share = work.convolution / speed.convolution + (1.0 - work.convolution) / speed.product;
    let call = OVERHEAD * 1e12 * work.call * share;
    let decode = OVERHEAD * 1e12 * work.decode / speed.convolution;
    Stage {
        what,
        basis: Basis::Estimate,
        how: format!(
            "{side} x {side}, {steps} steps of {:.1} TFLOP and {:.1} for decoding, at {:.0} GFLOP/s in \
             convolutions and {:.0} in products, which were measured",
            work.call,
            work.decode,
            speed.convolution / 1e9,
            speed.product / 1e9,
            side = work.side,
        ),
        per_item: OVERHEAD * 1e12 * work.text / speed.product,
        per_image: steps * call + decode,
        per_answer: 0.0,
    }
}

fn estimated_judge(
    what: String,
    judge: &str,
    options: &GenerateOptions,
    speed: &mut Option<Speed>,
) -> Stage {
    let Some(work) = JUDGES.iter().find(|work| work.judge == judge) else {
        return Stage::unknown(what, "it could not be made");
    };
    let Some(speed) = speed_of(options, speed) else {
        return Stage::unknown(what, "the device cannot be had");
    };
    let seconds = |work: f64| OVERHEAD * 1e12 * work / speed.product;
    Stage {
        what,
        basis: Basis::Estimate,
        how: format!(
            "{:.2} TFLOP a picture and {:.3} a question, at {:.0} GFLOP/s in products, which were measured",
            work.picture,
            work.question,
            speed.product / 1e9
        ),
        per_item: 0.0,
        per_image: seconds(work.picture),
        per_answer: seconds(work.question),
    }
}

/// The speed of the model's device, measured once.
fn speed_of(options: &GenerateOptions, known: &mut Option<Speed>) -> Option<Speed> {
    if known.is_none() {
        let place = place(options)?;
        *known = measure_speed(&place.device, place.dtype, SPEED_TIME).ok();
    }
    *known
}

/// Lets the judge answer about one made-up picture: one question, then all of the item's.
fn measured_judge(
    what: String,
    options: &JudgeOptions,
    chosen: &Chosen,
    item: &Item,
    (width, height): (u32, u32),
) -> anyhow::Result<Stage> {
    if LOCAL.contains(&chosen.row.kind) {
        say(&format!("measuring {}: loading it and asking about one picture", chosen.row.name));
    }
    let (judge, device) = options.build(chosen)?;
    let image = made_up(width.max(1), height.max(1))?;
    let questions: Vec<_> = item.graph.questions().iter().collect();
    let ask = |judge: &dyn Judge, count: usize| -> anyhow::Result<f64> {
        let questions = &questions[..count.min(questions.len())];
        let request = JudgeRequest { item, image_index: 0, image: &image, questions };
        let start = Instant::now();
        judge.answer(&request)?;
        Ok(start.elapsed().as_secs_f64())
    };
    let judge = judge.as_ref();
    let mut one = ask(judge, 1)?;
    if one < SHORT.as_secs_f64() {
        // The first answer also warms up.
        one = ask(judge, 1)?;
    }
    let all = questions.len();
    let whole = if all > 1 { ask(judge, all)? } else { one };
    let per_answer = ((whole - one) / (all as f64 - 1.0).max(1.0)).max(0.0);
    Ok(Stage {
        what,
        basis: Basis::Measured,
        how: format!(
            "{width} x {height}, on {device}: {one:.3} s with one question, {whole:.3} s with {all}"
        ),
        per_item: 0.0,
        per_image: (one - per_answer).max(0.0),
        per_answer,
    })
}

/// Smooth colours with a grain, as PNG.
fn made_up(width: u32, height: u32) -> anyhow::Result<JudgedImage> {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let grain = (x.wrapping_mul(31) ^ y.wrapping_mul(17)) % 13;
        let shade = |at: u32, of: u32| (at * 230 / of.max(1) + grain) as u8;
        Rgb([shade(x, width), shade(y, height), shade(x + y, width + height)])
    });
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(JudgedImage { path: PathBuf::from("a made-up picture"), png: png.into_inner() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(basis: Basis) -> Stage {
        let (what, how) = (String::new(), String::new());
        Stage { what, basis, how, per_item: 1.0, per_image: 10.0, per_answer: 0.5 }
    }

    #[test]
    fn stages_are_scaled_by_what_a_run_is_and_an_unknown_one_hides_the_sum() {
        let whole = Counts::of_dpg_bench(4);
        assert_eq!((whole.items, whole.images, whole.answers), (1065, 4260, 57_568));
        let counts = Counts { items: 2, images: 8, answers: 40 };
        let mut measured =
            Measured { stages: vec![stage(Basis::Measured)], pixels: 100.0, judges: 2 };
        let cost = measured.cost(counts);
        assert_eq!(cost.seconds, Some(2.0 + 80.0 + 20.0));
        assert_eq!(cost.disk_bytes, 8 * (160 + 500) + 2 * 40 * 130);
        measured.stages[0] = stage(Basis::Measured).shared_by(4);
        assert_eq!(measured.cost(counts).seconds, Some(102.0 / 4.0));
        measured.stages.push(stage(Basis::Unknown));
        let cost = measured.cost(counts);
        assert_eq!(cost.seconds, None);
        assert!(cost.in_words().contains("unknown") && !cost.in_words().contains("together"));
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        for (seconds, expected) in
            [(8.24, "8.2 s"), (2460.0, "41 min"), (45_000.0, "12.5 h"), (267_840.0, "3.1 days")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }
}
