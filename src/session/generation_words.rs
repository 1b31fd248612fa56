//! In: how a generation ended. Out: the lines that say so.

use std::time::Duration;

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
            "; prompts longer than the text encoder reads, their end cut off: {} of {items}",
            summary.truncated_prompts,
        );
    }
    text
}

/// How long a server or a program took for an image, by the clock; `None` where no image was made there. No record holds
/// it.
pub(super) fn times_told(mut times: Vec<Duration>) -> Option<String> {
    times.sort_unstable();
    let (first, last) = (times.first()?, times.last()?);
    let seconds = |time: &Duration| {
        let seconds = time.as_secs_f64();
        if seconds < 9.95 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
    };
    Some(format!(
        "time per image: median {}, {} to {} ({})",
        seconds(&times[times.len() / 2]),
        seconds(first),
        seconds(last),
        counted(times.len(), "image")
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_image_is_told_where_there_is_one() {
        assert_eq!(times_told(Vec::new()), None);
        let times = [1500, 250, 64_000].map(Duration::from_millis).to_vec();
        let told = times_told(times).unwrap();
        assert_eq!(told, "time per image: median 1.50 s, 0.25 s to 64.0 s (3 images)");
    }
}
