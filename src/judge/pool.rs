//! In: the same judge, loaded on several devices, or a small one for several threads. Out: one judge that has as many images in hand
//! as there are devices or threads. Which of them answers does not show: answers are written in order all the same.

use anyhow::{Context, Result, ensure};

use super::{Answer, Judge, JudgeRequest, QuestionCut};
use crate::benchmark::Question;
use crate::compute::workplace::Workplace;
use crate::ordered_work::Pool;
use crate::results::Settings;

/// Several copies of a judge as one, or one judge at several images.
pub struct JudgePool {
    judges: Vec<Box<dyn Judge>>,
    /// Which of the judges answers, and where.
    idle: Pool<(usize, Workplace)>,
    /// Images that they have in hand.
    in_flight: usize,
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
        let places = (0..judges.len()).rev().map(|judge| (judge, Workplace::SHARED));
        let in_flight = judges.iter().map(|judge| judge.images_in_flight().max(1)).sum();
        Ok(Self { idle: Pool::new(places.collect()), judges, in_flight })
    }

    /// `judge` at as many images as there are threads, each image on a thread of its own: what pays for networks so small
    /// that several threads are in each other's way.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn one_thread_each(judge: Box<dyn Judge>) -> Result<Self> {
        let in_flight = Workplace::useful();
        let place = |_| Ok((0, Workplace::of_one_thread()?));
        let places = (0..in_flight).map(place).collect::<Result<_>>();
        let idle = Pool::new(places.context("no thread can be had for the judge")?);
        Ok(Self { judges: vec![judge], idle, in_flight })
    }

    /// Does `work` with a judge that is idle.
    fn with<T: Send>(&self, work: impl FnOnce(&dyn Judge) -> T + Send) -> T {
        self.idle.with(|(judge, place)| place.run(|| work(self.judges[*judge].as_ref())))
    }
}

impl Judge for JudgePool {
    fn settings(&self) -> Settings {
        self.judges[0].settings()
    }

    fn images_in_flight(&self) -> usize {
        self.in_flight
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
        self.with(|judge| judge.answer(request))
    }

    fn answer_batch(
        &self,
        requests: &[JudgeRequest<'_>],
    ) -> Result<Vec<Vec<std::result::Result<Answer, String>>>> {
        self.with(|judge| judge.answer_batch(requests))
    }
}
