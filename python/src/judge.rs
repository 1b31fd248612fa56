//! In: which judge, with its options. Out: it in memory, for as many calls and threads as ask it; and its answers about one image.

use std::path::PathBuf;
use std::sync::Arc;

use dpg_bench::{EndpointChoice, JudgeOptions, LoadedJudge, LocalJudgeOptions, ScriptedOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::{bad_input, failed};
use crate::pixels::image_of;
use crate::work::carry_out;

/// A judge in memory.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Judge {
    pub(crate) loaded: Arc<LoadedJudge>,
}

#[pymethods]
impl Judge {
    /// Loads the judge `name`; what is None is its own default.
    #[new]
    #[pyo3(signature = (name, *, weights=None, device=None, dtype=None, batch=None, label=None, force=false, url=None, model=None, key_env=None, rule=None, seed=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        py: Python<'_>,
        name: &str,
        weights: Option<PathBuf>,
        device: Option<Bound<'_, PyAny>>,
        dtype: Option<String>,
        batch: Option<u32>,
        label: Option<String>,
        force: bool,
        url: Option<String>,
        model: Option<String>,
        key_env: Option<String>,
        rule: Option<&str>,
        seed: Option<u64>,
    ) -> PyResult<Self> {
        let devices = match device {
            None => Vec::new(),
            Some(one) if one.is_instance_of::<PyString>() => vec![one.extract()?],
            Some(several) => several.extract()?,
        };
        let rule = rule.map(|rule| rule.parse().map_err(PyValueError::new_err)).transpose()?;
        let options = JudgeOptions {
            name: label,
            seed,
            force,
            scripted: ScriptedOptions { rule, answers: None },
            endpoint: EndpointChoice {
                url,
                model,
                key_variable: key_env,
                ..EndpointChoice::default()
            },
            local: LocalJudgeOptions {
                weights,
                devices,
                dtype,
                batch,
                ..LocalJudgeOptions::default()
            },
            ..JudgeOptions::new(name)
        };
        py.detach(|| options.check()).map_err(bad_input)?;
        let loaded = carry_out(py, move |desk| LoadedJudge::load(&options, desk))?;
        Ok(Self { loaded: Arc::new(loaded) })
    }

    /// What it says to each of `questions` (texts, or questions of an item) about `image`, in the same order.
    fn answer(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        questions: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Answer>> {
        let image = image_of(image, "the image")?;
        let text = |question: &Bound<'_, PyAny>| match question.is_instance_of::<PyString>() {
            true => question.extract::<String>(),
            false => question.getattr("text")?.extract(),
        };
        let questions = questions.iter().map(text).collect::<PyResult<Vec<String>>>()?;
        let texts: Vec<&str> = questions.iter().map(String::as_str).collect();
        let answers = py.detach(|| self.loaded.answer(&image, &texts)).map_err(failed)?;
        Ok(answers.into_iter().map(Answer::of).collect())
    }

    /// Name that its answers are filed under.
    #[getter]
    fn name(&self) -> &str {
        self.loaded.name()
    }

    /// Where it computes.
    #[getter]
    fn device(&self) -> &str {
        self.loaded.device()
    }

    fn __repr__(&self) -> String {
        format!("<Judge {} on {}>", self.loaded.name(), self.loaded.device())
    }
}

/// What a judge said to one question.
#[pyclass(frozen, get_all, module = "dpg_bench")]
pub(crate) struct Answer {
    /// The answer that is scored, `yes` or `no` mostly; None where the judge failed.
    text: Option<String>,
    /// The judge's own words where `text` is a reading of them.
    raw: Option<String>,
    /// Probability of yes, in 0..=1, where the judge states one.
    yes_probability: Option<f64>,
    /// Why there is no answer.
    failure: Option<String>,
}

impl Answer {
    fn of(answer: Result<dpg_bench::Answer, String>) -> Self {
        match answer {
            Ok(dpg_bench::Answer { text, raw, yes_probability, .. }) => {
                Self { text: Some(text), raw, yes_probability, failure: None }
            }
            Err(reason) => {
                Self { text: None, raw: None, yes_probability: None, failure: Some(reason) }
            }
        }
    }
}

#[pymethods]
impl Answer {
    fn __repr__(&self) -> String {
        match (&self.text, self.yes_probability) {
            (Some(text), Some(yes)) => format!("<Answer {text}, yes {yes:.3}>"),
            (Some(text), None) => format!("<Answer {text}>"),
            (None, _) => format!("<Answer missing: {}>", self.failure.as_deref().unwrap_or("")),
        }
    }
}
