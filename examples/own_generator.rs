//! A generator of one's own: it paints what the seed says and pays no heed to the prompt.
//!
//! `cargo run --release --example own_generator` has the demo's judge look at its images.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::path::Path;

use dpg_bench::{
    GeneratedImage, ImageGenerator, JudgeOptions, LoadedGenerator, LoadedJudge, Quiet, Rgb,
    RgbImage, SeedMode, Selection, Session, SessionOptions, Settings, Strictness, Summary,
    load_benchmark,
};

struct Stripes {
    side: u32,
}

impl ImageGenerator for Stripes {
    /// Whatever can change a pixel: a run refuses to go on with other settings.
    fn settings(&self) -> Settings {
        [("model".to_owned(), "stripes".into()), ("side".to_owned(), self.side.into())].into()
    }

    fn generate(&mut self, _prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
        let images = seeds.iter().map(|&seed| {
            let [red, green, blue, width, ..] = seed.to_le_bytes();
            let pixels = RgbImage::from_fn(self.side, self.side, |x, _| {
                let is_on = x / (2 + u32::from(width % 8)) % 2 == 0;
                Rgb(if is_on { [red, green, blue] } else { [255; 3] })
            });
            GeneratedImage { pixels, seed, prompt_tokens: None, truncated: None, served: None }
        });
        Ok(images.collect())
    }
}

/// Makes and judges the images in `folder`.
pub fn run(folder: &Path) -> anyhow::Result<Summary> {
    let benchmark = load_benchmark("demo".as_ref(), Strictness::Strict)?;
    let selection = Selection { limit: Some(2), ..Selection::default() };
    let options = SessionOptions { selection, images_per_item: 2, ..SessionOptions::default() };
    let mut session = Session::open(folder, &benchmark, &options, &Quiet)?;
    let mut model = LoadedGenerator::own(Stripes { side: 64 }, 7, SeedMode::Hashed, "cpu");
    session.generate(&mut model, &Quiet)?;
    session.judge(&LoadedJudge::load(&JudgeOptions::new("demo-judge"), &Quiet)?, &Quiet)?;
    session.score("demo-judge", false)
}

fn main() -> anyhow::Result<()> {
    println!("score: {:?}", run("results/own-generator".as_ref())?.corrected.overall);
    Ok(())
}
