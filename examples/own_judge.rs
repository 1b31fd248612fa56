//! A judge of one's own: it says yes where the image holds the colour that the question names.
//!
//! `cargo run --release --example own_judge` asks it about four images of the demo's model.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::path::Path;

use dpg_bench::{
    Answer, GeneratorOptions, Judge, JudgeRequest, LoadedGenerator, LoadedJudge, Quiet, Selection,
    Session, SessionOptions, Settings, Strictness, Summary, load_benchmark,
};

const COLORS: &[(&str, [u8; 3])] =
    &[("red", [220, 40, 40]), ("green", [40, 160, 60]), ("blue", [50, 80, 220])];

struct ColorJudge;

impl Judge for ColorJudge {
    /// Whatever can change an answer: a run refuses to go on with other settings.
    fn settings(&self) -> Settings {
        [("judge".to_owned(), "color".into()), ("tolerance".to_owned(), 60.into())].into()
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        let image = request.image.decode()?;
        let answers = request.questions.iter().map(|question| {
            let named = COLORS.iter().find(|(name, _)| question.text.contains(name));
            let holds = named.is_none_or(|(_, color)| {
                image
                    .pixels()
                    .any(|pixel| pixel.0.iter().zip(color).all(|(a, b)| a.abs_diff(*b) <= 60))
            });
            let text = if holds { "yes" } else { "no" };
            Ok(Answer { text: text.to_owned(), ..Answer::default() })
        });
        Ok(answers.collect())
    }
}

/// Makes and judges the images in `folder`.
pub fn run(folder: &Path) -> anyhow::Result<Summary> {
    let benchmark = load_benchmark("demo".as_ref(), Strictness::Strict)?;
    let selection = Selection { limit: Some(2), ..Selection::default() };
    let options = SessionOptions { selection, images_per_item: 2, ..SessionOptions::default() };
    let mut session = Session::open(folder, &benchmark, &options, &Quiet)?;
    let mut model = GeneratorOptions::new("demo-sd");
    model.sampling.steps = Some(8);
    session.generate(&mut LoadedGenerator::load(&model, &Quiet)?, &Quiet)?;
    session.judge(&LoadedJudge::own("color", ColorJudge, "cpu"), &Quiet)?;
    session.score("color", false)
}

fn main() -> anyhow::Result<()> {
    println!("score: {:?}", run("results/own-judge".as_ref())?.corrected.overall);
    Ok(())
}
