//! In: images, or a function that makes them, a benchmark and a judge. Out: a run with images, answers and scores, and its summary.

use std::path::PathBuf;
use std::sync::Arc;

use dpg_bench::{LoadedGenerator, Protocol, SeedMode, Session, SessionOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::benchmark::Benchmark;
use crate::errors::DpgBenchError;
use crate::judge::Judge;
use crate::run::{Folder, Run};
use crate::sources::{PythonModel, Source, pairs};
use crate::summary::Summary;
use crate::work::carry_out;

/// The protocol of that name.
pub(crate) fn protocol_of(name: &str) -> PyResult<Protocol> {
    let mut all = Protocol::ALL.into_iter().chain(Protocol::SOFT);
    all.find(|protocol| protocol.name() == name).ok_or_else(|| {
        PyValueError::new_err(format!(
            "there is no protocol `{name}`; there are reference, corrected, soft and soft_tifa_gm"
        ))
    })
}

fn seed_mode_of(name: &str) -> PyResult<SeedMode> {
    match name {
        "hashed" => Ok(SeedMode::Hashed),
        "sequential" => Ok(SeedMode::Sequential),
        _ => Err(PyValueError::new_err(format!(
            "there is no seed mode `{name}`; there are hashed and sequential"
        ))),
    }
}

/// See the package's `evaluate`, which gives all of it.
#[pyfunction]
#[pyo3(signature = (images, benchmark, judge, *, out, protocol, images_per_item, model, seed, seed_mode, allow_incomplete))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn evaluate(
    py: Python<'_>,
    images: &Bound<'_, PyAny>,
    benchmark: &Benchmark,
    judge: &Judge,
    out: Option<PathBuf>,
    protocol: &str,
    images_per_item: Option<u32>,
    model: Option<String>,
    seed: u64,
    seed_mode: &str,
    allow_incomplete: bool,
) -> PyResult<Summary> {
    let protocol = protocol_of(protocol)?;
    let seed_mode = seed_mode_of(seed_mode)?;
    if images_per_item == Some(0) {
        return Err(PyValueError::new_err("images_per_item is 1 or more"));
    }
    let source = Source::of(images)?;
    let given = match &source {
        Source::Function(_) => None,
        Source::Pairs(first, _) => Some(first.images.len() as u32).filter(|count| *count > 0),
    };
    let defaults = SessionOptions::default();
    let options = SessionOptions {
        selection: benchmark.selection.clone(),
        images_per_item: images_per_item.or(given).unwrap_or(defaults.images_per_item),
        work: "evaluate".to_owned(),
        ..defaults
    };
    let folder = match out {
        Some(path) => Folder::Kept(path),
        None => {
            let folder = tempfile::tempdir();
            Folder::Temporary(Arc::new(folder.map_err(|error| {
                DpgBenchError::new_err(format!("no temporary folder for the run: {error}"))
            })?))
        }
    };
    let (whole, judge) = (Arc::clone(&benchmark.whole), Arc::clone(&judge.loaded));
    let path = folder.path().to_owned();
    let summary = carry_out(py, move |desk| {
        let mut session = Session::open(&path, &whole, &options, desk)?;
        match source {
            Source::Function(function) => {
                let model = PythonModel { desk: desk.clone(), function, name: model };
                let mut model = LoadedGenerator::own(model, seed, seed_mode, "python");
                session.generate(&mut model, desk)?;
            }
            Source::Pairs(first, others) => {
                let images = pairs(desk.clone(), first, others);
                let (_, counts) =
                    session.import_and_judge(model.as_deref(), images, &judge, desk)?;
                if counts.is_complete() {
                    return session.score(judge.name(), allow_incomplete);
                }
            }
        }
        session.judge(&judge, desk)?;
        session.score(judge.name(), allow_incomplete)
    })?;
    Summary::of(summary, protocol, Run { folder })
}
