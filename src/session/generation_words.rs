//! In: how a generation ended. Out: the lines that say so.

use crate::generate::generate_run::GenerationSummary;
use crate::generate::served_counts::ServedCounts;
use crate::results::RunDirectory;
use crate::wording::counted;

/// How many images there are, in one line.
pub(super) fn outcome(summary: &GenerationSummary, items: usize, run: &RunDirectory) -> String {
    let mut text = format!(
        "{}/{} in {} ({} made now, {} failed)",
        summary.already_done + summary.done,
        counted(summary.images, "image"),
        run.path().display(),
        summary.done,
        summary.failed,
    );
    if summary.filtered > 0 {
        text += &format!("; {} refused by a content filter", summary.filtered);
    }
    if summary.truncated_prompts > 0 {
        text += &format!(
            "; {}/{items} prompts are longer than the text encoder takes and were truncated",
            summary.truncated_prompts,
        );
    }
    text
}

/// What a server did to images that a score should be read with.
pub(super) fn served_warnings(summary: &GenerationSummary) -> Vec<String> {
    let ServedCounts { revised, other_size, lossy, other_seed } = summary.served;
    [
        (revised, "made of another prompt than the benchmark's, by the server's own word (revised_prompt)"),
        (other_size, "of another size than was asked for"),
        (lossy, "that came as JPEG or WebP, whose artefacts a judge sees; have the server send PNG"),
        (other_seed, "made of another seed than was sent, by the server's own word"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("the run holds {} {what}", counted(count, "image")))
    .collect()
}
