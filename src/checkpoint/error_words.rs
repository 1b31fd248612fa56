//! In: what errors and their causes say. Out: one text for people and journals. The tensor library says some
//! things twice, some in its own code's words, and puts backtraces behind others.

/// The texts of an error and its causes, joined by colons: without backtraces, which name another place each time
/// and folders of this machine, without a cause that the text before it ends with, and with a GPU's full memory in
/// words. Lists over several lines stay.
pub(crate) fn joined(causes: impl Iterator<Item = String>) -> String {
    let mut told = String::new();
    for cause in causes {
        let cause = without_backtrace(&cause);
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    in_words(told)
}

/// [`joined`] of an error.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    joined(error.chain().map(ToString::to_string))
}

fn without_backtrace(text: &str) -> String {
    let of_backtrace = |whole: &str| {
        let line = whole.trim_start();
        let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = number.len() < line.len() && number.starts_with(": ");
        line.len() < whole.len() && (numbered || line.starts_with("at "))
    };
    let mut kept = String::new();
    let mut cut = false;
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 && (of_backtrace(line) || (cut && line.is_empty())) {
            cut = true;
            continue;
        }
        // What follows the backtrace of a cause belongs to the cause's own line.
        if number > 0 && !cut {
            kept.push('\n');
        }
        kept.push_str(line);
        cut = false;
    }
    kept
}

/// candle's words for a GPU without memory, `DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")`, as a sentence.
fn in_words(text: String) -> String {
    const CODE: &str = "CUDA_ERROR_OUT_OF_MEMORY";
    let open = format!("DriverError({CODE}");
    let Some((before, rest)) = text.split_once(&open) else { return text };
    let after = rest.split_once(')').map_or("", |(_, after)| after);
    format!(
        "{before}the GPU's memory is full ({CODE}): use f16 (--dtype, --judge-dtype), make less at a time (--batch, \
         --judge-batch), or take another device{after}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(causes: &[&str]) -> String {
        joined(causes.iter().map(|cause| (*cause).to_owned()))
    }

    #[test]
    fn backtraces_and_repetitions_are_left_out_and_lists_stay() {
        let traced = "device: no memory\n   0: candle::alloc\n             at ./a.rs:1:2\n  12: <unknown>\n (are there libraries?); use cpu";
        let wanted = "made-up weights: device: no memory (are there libraries?); use cpu";
        assert_eq!(told(&["made-up weights", traced]), wanted);
        assert_eq!(told(&["file: broken", "broken"]), "file: broken");
        assert_eq!(told(&["file: broken", "at byte 3"]), "file: broken: at byte 3");
        let list = "the run differs:\n  seed: 1, not 2\n  at: 3\n\nuse --out";
        assert_eq!(told(&[list]), list);
        assert_eq!(told(&["404: not found"]), "404: not found");
    }

    #[test]
    fn a_full_gpu_is_told_in_words() {
        let code = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let sentence = told(&[&format!("tensor `a`: {code}"), code]);
        let wanted = "tensor `a`: the GPU's memory is full (CUDA_ERROR_OUT_OF_MEMORY): use f16 (";
        assert!(sentence.starts_with(wanted), "{sentence}");
        assert!(sentence.ends_with("another device"), "{sentence}");
    }
}
