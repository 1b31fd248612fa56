//! In: the flags of a run, and a short measurement or a record of one. Out: what each of its stages takes: measured
//! here, measured elsewhere, or estimated from the published networks and the speed of this machine.

use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use image::{ImageFormat, Rgb, RgbImage};

use super::checks::{Check, Model, judge_advice, place};
use super::cost::{Basis, Measured, Stage, duration};
use super::published::{like, published, scaled};
use crate::benchmark::Item;
use crate::checkpoint::error_words::sentence;
use crate::checkpoint::shipped::DEMO_SIDE;
use crate::cli::commands::generate;
use crate::cli::output::console::Console;
use crate::cli::output::print::say;
use crate::compute::device::{Place, describe_device};
use crate::compute::speed::{Speed, measure_speed};
use crate::generate::{ImageTimes, catalog as models};
use crate::judge::catalog::Runs;
use crate::judge::{Judge, JudgeRequest, JudgedImage};
use crate::measure::Measurements;
use crate::measure::published_flops::JUDGES;
use crate::session::generator_options::GeneratorOptions;
use crate::session::judge_options::JudgeOptions;
use crate::session::loaded_judge::LoadedJudge;
use crate::session::side_by_side::{WhileGenerating, split_judges};
use crate::wording::counted;

/// A measurement that took less is taken again, longer.
const SHORT: Duration = Duration::from_secs(3);
/// How long each operation is measured for an estimate.
const SPEED_TIME: Duration = Duration::from_millis(700);
/// A network does more than its convolutions and products.
const OVERHEAD: f64 = 1.2;

/// The names of the judges that work while the pictures are made. On a device that they share with the model they
/// would take their time from it, so that they do not count here even where they are asked to.
pub(super) fn beside(
    when: WhileGenerating,
    options: &GeneratorOptions,
    judges: &[JudgeOptions],
) -> Vec<String> {
    let counted = match when {
        WhileGenerating::Off => WhileGenerating::Off,
        WhileGenerating::Auto | WhileGenerating::On => WhileGenerating::Auto,
    };
    let described = |name: &&str| {
        let place = Place::parse(name, &options.dtype).ok();
        place.map(|place| describe_device(&place.device))
    };
    let devices: Vec<String> = match options.model.as_str() {
        // It computes elsewhere.
        models::SERVER => Vec::new(),
        _ => options.device_names().iter().filter_map(described).collect(),
    };
    // A device that is not here is a problem of its own.
    let (beside, _) = split_judges(judges.to_vec(), counted, &devices).unwrap_or_default();
    beside.iter().map(|judge| judge.filed_as().to_owned()).collect()
}

/// What the stage of the judge `name` is called.
pub(super) fn judging(name: &str) -> String {
    format!("judging ({name})")
}

/// Measures what is here, and estimates the rest.
pub(super) fn measure(
    options: &GeneratorOptions,
    judges: &[JudgeOptions],
    model: Option<Model>,
    ready: Vec<JudgeOptions>,
    item: Option<&Item>,
    quick: bool,
    found: &mut Vec<Check>,
) -> Measured {
    let mut speed = None;
    let is_shipped = model.as_ref().and_then(|model| model.row).is_some_and(|row| row.is_shipped());
    let own_side = match published(options) {
        _ if is_shipped => DEMO_SIDE,
        Some(work) => work.side as u32,
        None => 512,
    };
    let (width, height) = options.stated_size().unwrap_or((own_side, own_side));
    let mut side = (f64::from(height), f64::from(width));
    let what = "generating".to_owned();
    let times = match (&model, item) {
        (Some(model), Some(item)) if model.ready && !quick => pictures(options, item, found),
        _ => None,
    };
    let mut stages = Vec::new();
    stages.push(match times {
        Some((times, at_once)) => {
            side = (times.size.0 as f64, times.size.1 as f64);
            measured_pictures(what, times).shared_by(at_once)
        }
        None => estimated_pictures(what, options, model.as_ref(), &mut speed)
            .shared_by(options.device_names().len()),
    });
    for judge in judges {
        let what = judging(judge.filed_as());
        let is_ready = ready.iter().any(|ready| ready.filed_as() == judge.filed_as());
        let runs = judge.row().map(|row| row.runs).ok();
        stages.push(match (runs, item) {
            (Some(Runs::Server), _) => {
                Stage::unknown(what, "that is up to the server, which was not asked")
            }
            (_, Some(item)) if is_ready && !(quick && judge.is_local()) => {
                let (height, width) = (side.0 as u32, side.1 as u32);
                measured_judge(what.clone(), judge, item, (width, height)).unwrap_or_else(|error| {
                    found.push(Check::problem_with("judge", &error, || judge_advice(&judge.judge)));
                    Stage::unknown(what, "it failed")
                })
            }
            _ => estimated_judge(what, &judge.judge, options, &mut speed),
        });
    }
    Measured { stages, pixels: side.0 * side.1, judges: judges.len() as u64 }
}

/// What `record` says of this run's stages. What it does not have stays unknown: the speed of this machine
/// says nothing of that one.
pub(super) fn recorded(
    record: &Measurements,
    options: &GeneratorOptions,
    judges: &[JudgeOptions],
    model: Option<&Model>,
) -> Measured {
    let device = &record.device;
    let missing = |what: String| Stage::unknown(what, format!("the record of {device} has none"));
    let what = "generating".to_owned();
    let products = options.products.unwrap_or_default();
    let picture = record
        .picture(&options.model, products)
        .or_else(|| record.picture(like(&options.model)?, products));
    let generating = match (picture, model.and_then(|model| model.row)) {
        (Some(speed), Some(row)) => {
            let settings = options.resolve_sampling(row);
            let settings = settings.ok().map(|settings| settings.options);
            let steps = settings.as_ref().map_or(speed.steps, |settings| settings.steps);
            let of_batch = speed.text / speed.batch as f64;
            let calls = (speed.per_picture - speed.decode - of_batch).max(0.0);
            match scaled(speed, options, settings.as_ref()) {
                None => Stage::unknown(what, "nothing is known of this model's networks"),
                Some(scaled) => Stage {
                    what,
                    basis: Basis::Recorded,
                    how: format!(
                        "{0} x {0}, {1} at a time in {2} on {device}: {3:.3} s each with {4} steps{5}",
                        speed.side,
                        speed.batch,
                        speed.dtype,
                        speed.per_picture,
                        speed.steps,
                        scaled.how
                    ),
                    per_item: scaled.text * speed.text,
                    per_image: scaled.decode * speed.decode
                        + scaled.call * calls * steps as f64 / speed.steps.max(1) as f64,
                    per_answer: 0.0,
                    beside: false,
                },
            }
        }
        _ => missing(what),
    };
    let mut stages = vec![generating.shared_by(options.device_names().len())];
    for judge in judges {
        let what = judging(judge.filed_as());
        stages.push(match record.judge(&judge.judge, judge.local.products.unwrap_or_default()) {
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
                    beside: false,
                }
            }
            None => missing(what),
        });
    }
    let pixels = match options.stated_size() {
        Some((width, height)) => f64::from(width) * f64::from(height),
        None => {
            let own = published(options).map(|row| row.side);
            own.or(picture.map(|speed| speed.side)).map_or(512.0, |side| side as f64).powi(2)
        }
    };
    Measured { stages, pixels, judges: judges.len() as u64 }
}

/// Loads the model and times the parts of a picture; a failure is a problem of the run. Returns also how many pictures the
/// model makes at a time.
fn pictures(
    options: &GeneratorOptions,
    item: &Item,
    found: &mut Vec<Check>,
) -> Option<(ImageTimes, usize)> {
    say(&format!("measuring {}: loading it and making a part of one image", options.model));
    let start = Instant::now();
    let attempt = || -> anyhow::Result<Option<(ImageTimes, usize)>> {
        let mut loaded = generate::load(options)?;
        let loading = start.elapsed();
        say(&format!("loaded in {}", duration(loading.as_secs_f64())));
        let first = loaded.measure(&item.prompt, 1)?;
        let Some(times) = first else { return Ok(None) };
        let at_once = loaded.at_once();
        // The first call also warms up; where that is cheap, a second measurement counts.
        if times.text + times.call + times.decode > SHORT {
            return Ok(Some((times, at_once)));
        }
        let calls = SHORT.as_secs_f64() / times.call.as_secs_f64().max(1e-6);
        let times = loaded.measure(&item.prompt, (calls as usize).clamp(1, 20))?;
        Ok(times.map(|times| (times, at_once)))
    };
    attempt().unwrap_or_else(|error| {
        found.push(Check::problem("model", sentence(&error), None));
        None
    })
}

fn measured_pictures(what: String, times: ImageTimes) -> Stage {
    let ImageTimes { text, call, calls, decode, size: (height, width) } = times;
    Stage {
        what,
        basis: Basis::Measured,
        how: if text.is_zero() && decode.is_zero() {
            format!("{width} x {height}, {:.3} s an image", call.as_secs_f64() * calls as f64)
        } else {
            format!(
                "{width} x {height}, {calls} calls of {:.3} s, decoding {:.3} s, a prompt {:.3} s",
                call.as_secs_f64(),
                decode.as_secs_f64(),
                text.as_secs_f64()
            )
        },
        per_item: text.as_secs_f64(),
        per_image: call.as_secs_f64() * calls as f64 + decode.as_secs_f64(),
        per_answer: 0.0,
        beside: false,
    }
}

fn estimated_pictures(
    what: String,
    options: &GeneratorOptions,
    model: Option<&Model>,
    speed: &mut Option<Speed>,
) -> Stage {
    let (Some(work), Some(row)) = (published(options), model.and_then(|model| model.row)) else {
        return Stage::unknown(what, "nothing is known of this model's networks");
    };
    let Some(speed) = speed_of(options, speed) else {
        return Stage::unknown(what, "the device cannot be had");
    };
    let settings = options.resolve_sampling(row).ok().map(|settings| settings.options);
    let steps = settings.as_ref().map_or(row.defaults.steps, |settings| settings.steps) as f64;
    let texts = settings.map_or(work.usual_texts(), |settings| work.texts(&settings));
    let (width, height) = options.stated_size().unwrap_or((work.side as u32, work.side as u32));
    // By pixels: attention takes more of large images than that, and less of small ones.
    let pixels = f64::from(width) * f64::from(height) / (work.side as f64).powi(2);
    let share = work.convolution / speed.convolution + (1.0 - work.convolution) / speed.product;
    let operations = texts * work.call * pixels;
    let call = OVERHEAD * 1e12 * operations * share;
    let decode = OVERHEAD * 1e12 * work.decode * pixels / speed.convolution;
    Stage {
        what,
        basis: Basis::Estimate,
        how: format!(
            "the published networks of {}, {width} x {height}, {} of {operations:.2} TFLOP and {:.2} for decoding, at \
             {:.1} GFLOP/s in convolutions and {:.1} in products, which were measured",
            work.title,
            counted(steps as u64, "step"),
            work.decode * pixels,
            speed.convolution / 1e9,
            speed.product / 1e9,
        ),
        per_item: OVERHEAD * 1e12 * work.text / speed.product,
        per_image: steps * call + decode,
        per_answer: 0.0,
        beside: false,
    }
}

fn estimated_judge(
    what: String,
    judge: &str,
    options: &GeneratorOptions,
    speed: &mut Option<Speed>,
) -> Stage {
    let Some(work) = JUDGES.iter().find(|work| work.judge == judge) else {
        return Stage::unknown(what, "nothing is known of this judge's networks");
    };
    let Some(speed) = speed_of(options, speed) else {
        return Stage::unknown(what, "the device cannot be had");
    };
    let seconds = |work: f64| OVERHEAD * 1e12 * work / speed.product;
    Stage {
        what,
        basis: Basis::Estimate,
        how: format!(
            "{:.2} TFLOP an image and {:.3} a question, at {:.0} GFLOP/s in products, which were measured",
            work.picture,
            work.question,
            speed.product / 1e9
        ),
        per_item: 0.0,
        per_image: seconds(work.picture),
        per_answer: seconds(work.question),
        beside: false,
    }
}

/// The speed of the model's device, measured once.
fn speed_of(options: &GeneratorOptions, known: &mut Option<Speed>) -> Option<Speed> {
    if known.is_none() {
        let place = place(options)?;
        say("measuring how fast this device computes");
        *known = measure_speed(&place.device, place.dtype, SPEED_TIME).ok();
    }
    *known
}

/// Lets the judge answer about one made-up picture: one question, then all of the item's.
fn measured_judge(
    what: String,
    options: &JudgeOptions,
    item: &Item,
    (width, height): (u32, u32),
) -> anyhow::Result<Stage> {
    if options.is_local() {
        say(&format!("measuring {}: loading it and asking about one image", options.judge));
    }
    let loaded = LoadedJudge::load(options, &Console::default())?;
    let image = made_up(width.max(1), height.max(1))?;
    let questions: Vec<_> = item.graph.questions().iter().collect();
    let ask = |judge: &dyn Judge, count: usize| -> anyhow::Result<f64> {
        let questions = &questions[..count.min(questions.len())];
        let request = JudgeRequest { item, image_index: 0, image: &image, questions };
        let start = Instant::now();
        judge.answer(&request)?;
        Ok(start.elapsed().as_secs_f64())
    };
    let (judge, device) = (loaded.judge(), loaded.device());
    let mut one = ask(judge, 1)?;
    if one < SHORT.as_secs_f64() {
        // The first answer also warms up.
        one = ask(judge, 1)?;
    }
    let all = questions.len();
    let whole = if all > 1 { ask(judge, all)? } else { one };
    let per_answer = ((whole - one) / (all as f64 - 1.0).max(1.0)).max(0.0);
    let place = if options.is_local() { format!(", on {device}") } else { String::new() };
    Ok(Stage {
        what,
        basis: Basis::Measured,
        how: format!(
            "{width} x {height}{place}: {one:.3} s with one question, {whole:.3} s with {all}"
        ),
        per_item: 0.0,
        per_image: (one - per_answer).max(0.0),
        per_answer,
        beside: false,
    }
    .shared_by(judge.images_in_flight()))
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
    Ok(JudgedImage::stored(PathBuf::from("a made-up image"), png.into_inner()))
}
