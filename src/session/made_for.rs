//! In: a judge that was made for certain images and questions, and what it is to be asked about. Out: a refusal where that
//! is something else.

use anyhow::ensure;

use super::benchmarks::{DEMO, load_benchmark};
use super::judge_options::JudgeOptions;
use crate::benchmark::{Benchmark, Strictness};
use crate::judge::catalog::JudgeRow;
use crate::results::{ImageOutcome, RunDirectory};

/// What a judge was made for: the benchmark of the demo, and images of one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct MadeFor {
    judge: &'static str,
    side: u32,
}

impl MadeFor {
    /// What the judge was made for; `None` where it may be asked about anything, or the user says so.
    pub(super) fn of(row: &JudgeRow, options: &JudgeOptions) -> Option<Self> {
        let side = row.only_side.filter(|_| !options.force)?;
        Some(Self { judge: row.name, side })
    }

    /// Whether it was made for the benchmark of that digest, called `benchmark`, and for images of `size` (width and
    /// height in pixels; `None` where it is not known yet).
    ///
    /// # Errors
    /// It was not; the sentence says for what, and what to do.
    pub(super) fn check(
        self,
        digest: &str,
        benchmark: &str,
        size: Option<(u32, u32)>,
    ) -> anyhow::Result<()> {
        if load_benchmark(DEMO.as_ref(), Strictness::Strict)?.digest != digest {
            return self.refuse(Some(format!("the benchmark {benchmark}")));
        }
        size.map_or(Ok(()), |size| self.check_size(size))
    }

    /// Whether it was made for images of `size`: width and height in pixels.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn check_size(self, (width, height): (u32, u32)) -> anyhow::Result<()> {
        let is_other = (width, height) != (self.side, self.side);
        self.refuse(is_other.then(|| format!("images of {width} x {height} pixels")))
    }

    fn refuse(self, asked: Option<String>) -> anyhow::Result<()> {
        let Self { judge, side } = self;
        let what = asked.as_deref().unwrap_or_default();
        ensure!(
            asked.is_none(),
            "the judge `{judge}` was trained on the benchmark `{DEMO}` and its images of {side} x {side} pixels alone, \
             and what it says about {what} means nothing; choose another with --judge, such as mplug (`dpg-bench list` \
             has all), or say --judge-force to ask it all the same"
        );
        Ok(())
    }

    /// Whether it was made for what the run is about.
    ///
    /// # Errors
    /// As [`Self::check`]; the journal of images is damaged.
    pub(super) fn check_run(self, run: &RunDirectory) -> anyhow::Result<()> {
        let images = run.read_images()?;
        let mut sizes = images.into_iter().filter_map(|record| match record.outcome {
            ImageOutcome::Done { width, height, .. } => Some((width, height)),
            _ => None,
        });
        let odd = sizes.find(|size| *size != (self.side, self.side));
        let benchmark = &run.manifest().benchmark;
        self.check(&benchmark.digest, &benchmark.path, odd)
    }
}

impl JudgeOptions {
    /// Whether the judge was made for a benchmark and for images of `size` (width and height in pixels; `None` where
    /// that is not known).
    ///
    /// # Errors
    /// There is no such judge, or it was made for something else.
    pub fn check_made_for(
        &self,
        benchmark: &Benchmark,
        size: Option<(u32, u32)>,
    ) -> anyhow::Result<()> {
        let path = benchmark.source.path.display().to_string();
        match MadeFor::of(self.row()?, self) {
            Some(made_for) => made_for.check(&benchmark.digest, &path, size),
            None => Ok(()),
        }
    }

    /// Whether the judge was made for the benchmark and the images of a run.
    ///
    /// # Errors
    /// There is no such judge, it was made for something else, or the run's journal is damaged.
    pub fn check_made_for_run(&self, run: &RunDirectory) -> anyhow::Result<()> {
        match MadeFor::of(self.row()?, self) {
            Some(made_for) => made_for.check_run(run),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_judge_is_for_the_demos_benchmark_and_images() {
        let demo = load_benchmark(DEMO.as_ref(), Strictness::Strict).unwrap();
        let text = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,\
                    question_natural_language\na,A cat,,1,0,entity,whole,entity - whole (cat),Is there a cat?\n";
        let own = Benchmark::from_csv(text.as_bytes(), "mine.csv").unwrap();
        let judge = JudgeOptions::new("demo-judge");
        let told = |judge: &JudgeOptions, benchmark, size| {
            judge.check_made_for(benchmark, size).err().map(|error| error.to_string())
        };
        assert_eq!(told(&judge, &demo, None), None);
        assert_eq!(told(&judge, &demo, Some((64, 64))), None);
        for (benchmark, size, expected) in [
            (&own, None, "about the benchmark mine.csv means nothing"),
            (&own, Some((64, 64)), "about the benchmark mine.csv means nothing"),
            (&demo, Some((512, 512)), "about images of 512 x 512 pixels means nothing"),
            (&demo, Some((64, 65)), "about images of 64 x 65 pixels means nothing"),
        ] {
            let refused = told(&judge, benchmark, size).unwrap_or_default();
            assert!(refused.contains(expected) && refused.contains("--judge-force"), "{refused}");
            let forced = JudgeOptions { force: true, ..judge.clone() };
            assert_eq!(told(&forced, benchmark, size), None);
            assert_eq!(told(&JudgeOptions::new("mplug"), benchmark, size), None);
        }
    }
}
