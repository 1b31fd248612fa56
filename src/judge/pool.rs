//! In: the same judge, loaded on several devices. Out: one judge that has as many images in hand as there
//! are devices. Which device answers does not show: answers are written in order all the same.

use anyhow::{Result, ensure};

use super::{Answer, Judge, JudgeRequest, QuestionCut};
use crate::benchmark::Question;
use crate::ordered_work::Pool;
use crate::results::Settings;

/// Several copies of a judge as one.
pub struct JudgePool {
    judges: Vec<Box<dyn Judge>>,
    idle: Pool<usize>,
}

impl JudgePool {
    /// One judge made of `judges`, which have the same settings.
    ///
    /// # Errors
    /// There is none, or their settings differ, so that their answers might.
    pub fn new(judges: Vec<Box<dyn Judge>>) -> Result<Self> {
        let mut all = judges.iter().map(|judge| judge.settings());
        let first = all.next();
        ensure!(first.is_some(), "no device is named for the judge");
        ensure!(
            all.all(|settings| Some(settings) == first),
            "the judge is set differently on the devices named; name devices of one kind"
        );
        let idle = Pool::new((0..judges.len()).rev().collect());
        Ok(Self { judges, idle })
    }
}

impl Judge for JudgePool {
    fn settings(&self) -> Settings {
        self.judges[0].settings()
    }

    fn images_in_flight(&self) -> usize {
        self.judges.iter().map(|judge| judge.images_in_flight().max(1)).sum()
    }

    fn image_batch_size(&self) -> usize {
        self.judges[0].image_batch_size()
    }

    fn question_cut(&self, question: &Question) -> Option<QuestionCut> {
        self.judges[0].question_cut(question)
    }

    fn on_sitting_start(&self, has_answers: bool) {
        self.judges.iter().for_each(|judge| judge.on_sitting_start(has_answers));
    }

    fn max_unparsable(&self) -> f64 {
        self.judges[0].max_unparsable()
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> =
            self.judges.iter().flat_map(|judge| judge.remarks()).collect();
        remarks.sort();
        remarks.dedup();
        remarks
    }

    fn answer(
        &self,
        request: &JudgeRequest<'_>,
    ) -> Result<Vec<std::result::Result<Answer, String>>> {
        self.idle.with(|place| self.judges[*place].answer(request))
    }

    fn answer_batch(
        &self,
        requests: &[JudgeRequest<'_>],
    ) -> Result<Vec<Vec<std::result::Result<Answer, String>>>> {
        self.idle.with(|place| self.judges[*place].answer_batch(requests))
    }
}
