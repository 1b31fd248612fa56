//! In: what a run is made of and what its stages take. Out: its time and space, each with the word on which it
//! stands. How long a stage takes is found out beside this file.

use serde::Serialize;

use crate::benchmark::Item;
use crate::cli::output::fetch_bars::megabytes;
use crate::wording::counted;

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
pub(super) struct Counts {
    /// Prompts.
    pub items: u64,
    /// Pictures.
    pub images: u64,
    /// Answers of one judge.
    pub answers: u64,
}

impl Counts {
    /// Of `items` with `images` each.
    pub(super) fn of(items: &[&Item], images: u32) -> Self {
        let questions: usize = items.iter().map(|item| item.graph.len()).sum();
        Self::new((items.len() as u64, questions as u64), images)
    }

    /// Of all of DPG-Bench.
    pub(crate) fn of_dpg_bench(images: u32) -> Self {
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
pub(crate) enum Basis {
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
pub(super) struct Stage {
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
    /// Whether it goes on while the pictures are made, on devices that the model leaves alone.
    pub beside: bool,
}

impl Stage {
    /// One that there is nothing to go by.
    pub(super) fn unknown(what: String, how: impl Into<String>) -> Self {
        let (how, basis) = (how.into(), Basis::Unknown);
        Self { what, basis, how, per_item: 0.0, per_image: 0.0, per_answer: 0.0, beside: false }
    }

    /// As it goes when so many devices or threads, one of which was measured, share the work.
    pub(crate) fn shared_by(mut self, count: usize) -> Self {
        if count > 1 {
            self.how.push_str(&format!("; {count} at a time"));
            for part in [&mut self.per_item, &mut self.per_image, &mut self.per_answer] {
                *part /= count as f64;
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
pub(crate) struct Measured {
    /// The generation, then each judge.
    pub stages: Vec<Stage>,
    /// Pixels of a picture.
    pub pixels: f64,
    /// How many there are.
    pub judges: u64,
}

/// What a run costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cost {
    counts: Counts,
    stages: Vec<StageCost>,
    /// Seconds from the first stage to the last; absent where one is unknown.
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
    pub(super) fn cost(&self, counts: Counts) -> Cost {
        let stages: Vec<StageCost> = self
            .stages
            .iter()
            .map(|stage| StageCost { stage: stage.clone(), seconds: stage.seconds(counts) })
            .collect();
        let images = counts.images as f64;
        let pictures = images * (self.pixels * BYTES_PER_PIXEL + BYTES_PER_IMAGE);
        let answers = (counts.answers * self.judges) as f64 * BYTES_PER_ANSWER;
        Cost { counts, seconds: together(&stages), stages, disk_bytes: (pictures + answers) as u64 }
    }
}

/// Seconds of stages of which some go on beside the first: as long as the longest of these, then the others.
fn together(stages: &[StageCost]) -> Option<f64> {
    let (mut at_once, mut in_turn) = (0.0_f64, 0.0);
    for (number, StageCost { stage, seconds }) in stages.iter().enumerate() {
        let seconds = (*seconds)?;
        if number == 0 || stage.beside {
            at_once = at_once.max(seconds);
        } else {
            in_turn += seconds;
        }
    }
    Some(at_once + in_turn)
}

impl Cost {
    /// A line for each stage and one for the disk.
    pub(crate) fn in_words(&self) -> String {
        let Counts { items, images, answers } = self.counts;
        let mut text = format!(
            "  {}, {}, {} of each judge\n",
            counted(items, "prompt"),
            counted(images, "image"),
            counted(answers, "answer")
        );
        for StageCost { stage, seconds } in &self.stages {
            let time = seconds.map_or_else(|| "unknown".to_owned(), duration);
            let basis = match stage.basis {
                Basis::Measured => "measured",
                Basis::Recorded => "RECORD",
                Basis::Estimate => "ESTIMATE",
                Basis::Unknown => "-",
            };
            let beside = if stage.beside { "; while images are made" } else { "" };
            let (what, how) = (&stage.what, &stage.how);
            text.push_str(&format!("  {what:<22} {time:>10}  {basis}: {how}{beside}\n"));
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
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.1} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// The item with the middle number of questions.
pub(crate) fn middle_item<'b>(items: &[&'b Item]) -> Option<&'b Item> {
    let mut sorted = items.to_vec();
    sorted.sort_by_key(|item| item.graph.len());
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(basis: Basis) -> Stage {
        let (what, how) = (String::new(), String::new());
        Stage { what, basis, how, per_item: 1.0, per_image: 10.0, per_answer: 0.5, beside: false }
    }

    #[test]
    fn what_goes_on_beside_the_generation_takes_no_time_of_its_own() {
        let counts = Counts { items: 1, images: 1, answers: 0 };
        let judge = |beside: bool, per_image: f64| {
            let slow = Stage { beside, per_image, ..stage(Basis::Measured) };
            Stage { per_item: 0.0, ..slow }
        };
        let seconds = |judges: &[Stage]| {
            let stages = [&[stage(Basis::Measured)], judges].concat();
            Measured { stages, pixels: 100.0, judges: 2 }.cost(counts)
        };
        // The generation takes 11 seconds.
        for (judges, together) in [
            (vec![judge(false, 7.0)], 18.0),
            (vec![judge(true, 7.0)], 11.0),
            (vec![judge(true, 20.0)], 20.0),
            (vec![judge(true, 7.0), judge(true, 8.0), judge(false, 1.0)], 12.0),
            (vec![judge(true, 20.0), judge(false, 7.0)], 27.0),
        ] {
            assert_eq!(seconds(&judges).seconds, Some(together));
        }
        let words = seconds(&[judge(true, 7.0)]).in_words();
        assert_eq!(words.matches("while images are made").count(), 1, "{words}");
        let unknown = Stage { beside: true, ..Stage::unknown(String::new(), "") };
        assert_eq!(seconds(&[unknown]).seconds, None);
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
