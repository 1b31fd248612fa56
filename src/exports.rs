//! In: a summary, and where samples are listed its scored images. Out: the files that other tools read scores from
//! (TensorBoard, model cards on Hugging Face, logs of lm_eval and inspect_ai), and the run on an MLflow server. Reading runs
//! and writing files is left to the command.

pub(crate) mod event_file;
pub(crate) mod hugging_face;
pub(crate) mod inspect_log;
pub(crate) mod lm_eval;
pub(crate) mod mlflow;
mod protobuf;
pub(crate) mod run_facts;
pub(crate) mod samples;
pub(crate) mod scalars;
