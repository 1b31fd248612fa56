//! In: the folder of a judge's model as published. Out: the same with safetensors for the pickle, and
//! without the parts that the judge does not need.

use std::path::PathBuf;

use crate::cli::args::shared::OutputArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, print_json};
use crate::judge::mplug;
use crate::results::manifest::Tool;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench convert mplug_visual-question-answering_coco_large_en \\
      --out mplug-large
  dpg-bench judge results/sd15 --judge mplug --judge-weights mplug-large

What comes out is 2.26 GB for mPLUG-large. It has the digest of the original and gives its answers.")]
pub(crate) struct Args {
    /// Folder of an mPLUG model, as published, or its pytorch_model.bin
    #[arg(value_name = "MODEL")]
    from: PathBuf,
    /// Folder to write; it must not be there or be empty
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let converted = mplug::convert(&args.from, &args.out, &Tool::current().version)?;
    if args.output.json {
        return print_json(&converted);
    }
    print(&format!(
        "{}: {} MB of tensors, {} tensors left out, digest {}",
        converted.folder.display(),
        converted.tensor_bytes / 1_000_000,
        converted.left_out,
        converted.tensors_sha256
    ))
}
