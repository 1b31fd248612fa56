//! In: a summary. Out: the files that other tools read scores from: TensorBoard, model cards on Hugging Face. Reading runs
//! and writing files is left to the command.

pub(crate) mod event_file;
pub(crate) mod hugging_face;
mod protobuf;
pub(crate) mod scalars;
