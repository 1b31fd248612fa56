//! In: the files that a model needs, as rules, and the names that a publisher or a folder has. Out: the
//! names to take, or the rules that nothing meets.

use std::collections::BTreeSet;

/// Which of a model's weights to take where there are two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// As trained, 32 bits where published so: what the processor computes in.
    #[default]
    Full,
    /// `.fp16.` files where there are any: half the size, for GPUs.
    Half,
}

/// What a model needs of a repository. Names have `/` between folder and file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRule {
    /// A file of that name.
    Needed(&'static str),
    /// A file of that name, where there is one.
    Optional(&'static str),
    /// The first of these that is there.
    FirstOf(&'static [&'static str]),
    /// Either all of the first set or all of the second.
    EitherOf(&'static [&'static str], &'static [&'static str]),
    /// Safetensors whose path begins so, e.g. `unet/diffusion_pytorch_model`: in one file, or an index
    /// with all of its parts.
    Weights(&'static str),
}

/// The names, out of `names`, that meet the rules; sorted.
///
/// # Errors
/// The rules that nothing meets, in words.
pub(super) fn select(
    rules: &[FileRule],
    names: &BTreeSet<&str>,
    precision: Precision,
) -> Result<BTreeSet<String>, Vec<String>> {
    let has = |name: &str| names.contains(name);
    let mut taken = BTreeSet::new();
    let mut missing = Vec::new();
    let mut take = |found: Option<Vec<String>>, what: String| match found {
        Some(found) => taken.extend(found),
        None => missing.push(what),
    };
    for rule in rules {
        match *rule {
            FileRule::Needed(name) => {
                take(has(name).then(|| vec![name.to_owned()]), name.to_owned());
            }
            FileRule::Optional(name) => {
                take(Some(has(name).then(|| name.to_owned()).into_iter().collect()), String::new());
            }
            FileRule::FirstOf(choices) => {
                let found = choices.iter().find(|name| has(name));
                take(found.map(|name| vec![(*name).to_owned()]), choices.join(" or "));
            }
            FileRule::EitherOf(first, second) => {
                let whole = |set: &[&str]| set.iter().all(|name| has(name));
                let found = [first, second].into_iter().find(|set| whole(set));
                let what = format!("{} or {}", first.join(" + "), second.join(" + "));
                take(found.map(|set| set.iter().map(|&name| name.to_owned()).collect()), what);
            }
            FileRule::Weights(stem) => {
                take(weights(stem, names, precision), format!("{stem}.safetensors"));
            }
        }
    }
    if missing.is_empty() { Ok(taken) } else { Err(missing) }
}

/// One file, or an index with its parts; of the kind that is preferred where both are there.
fn weights(stem: &str, names: &BTreeSet<&str>, precision: Precision) -> Option<Vec<String>> {
    let variants = match precision {
        Precision::Full => ["", ".fp16"],
        Precision::Half => [".fp16", ""],
    };
    variants.iter().find_map(|variant| {
        let single = format!("{stem}{variant}.safetensors");
        if names.contains(single.as_str()) {
            return Some(vec![single]);
        }
        let indexes = [
            format!("{stem}{variant}.safetensors.index.json"),
            format!("{stem}.safetensors.index{variant}.json"),
        ];
        let index = indexes.into_iter().find(|name| names.contains(name.as_str()))?;
        let parts: Vec<String> = names
            .iter()
            .filter(|name| part_count(name, stem, variant).is_some())
            .map(|&name| name.to_owned())
            .collect();
        let count = part_count(parts.first()?, stem, variant)?;
        (parts.len() == count).then(|| [vec![index], parts].concat())
    })
}

/// Of `stem-00001-of-00003.safetensors` (or `stem.fp16-00001-of-00003`, `stem-00001-of-00003.fp16`) the 3.
fn part_count(name: &str, stem: &str, variant: &str) -> Option<usize> {
    let middle = name.strip_prefix(stem)?.strip_suffix(".safetensors")?;
    let middle = match variant {
        "" => middle,
        _ => middle.strip_prefix(variant).or_else(|| middle.strip_suffix(variant))?,
    };
    let (number, count) = middle.strip_prefix('-')?.split_once("-of-")?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(count)).then(|| count.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rules: &[FileRule], names: &[&str], precision: Precision) -> String {
        match select(rules, &names.iter().copied().collect(), precision) {
            Ok(names) => names.into_iter().collect::<Vec<_>>().join(" "),
            Err(missing) => format!("missing: {}", missing.join(", ")),
        }
    }

    #[test]
    fn weights_are_taken_whole_and_once() {
        let rule = [FileRule::Weights("unet/model")];
        let both = ["unet/model.safetensors", "unet/model.fp16.safetensors", "unet/model.bin"];
        assert_eq!(chosen(&rule, &both, Precision::Full), "unet/model.safetensors");
        assert_eq!(chosen(&rule, &both, Precision::Half), "unet/model.fp16.safetensors");
        assert_eq!(chosen(&rule, &both[1..], Precision::Full), "unet/model.fp16.safetensors");
        assert_eq!(chosen(&rule, &both[2..], Precision::Full), "missing: unet/model.safetensors");
        let parts = [
            "unet/model.safetensors.index.json",
            "unet/model-00001-of-00002.safetensors",
            "unet/model-00002-of-00002.safetensors",
            "unet/model-00001-of-00002.fp16.safetensors",
            "unet/model_2-00001-of-00002.safetensors",
        ];
        assert_eq!(
            chosen(&rule, &parts, Precision::Half),
            "unet/model-00001-of-00002.safetensors unet/model-00002-of-00002.safetensors \
             unet/model.safetensors.index.json"
        );
        assert_eq!(chosen(&rule, &parts[..2], Precision::Full), "missing: unet/model.safetensors");
    }

    #[test]
    fn the_other_rules_take_what_they_say() {
        let rules = [
            FileRule::Needed("config.json"),
            FileRule::Optional("notes.json"),
            FileRule::FirstOf(&["a.safetensors", "a.bin"]),
            FileRule::EitherOf(&["vocab.json", "merges.txt"], &["tokenizer.json"]),
        ];
        let names = ["config.json", "a.bin", "vocab.json", "tokenizer.json", "README.md"];
        assert_eq!(chosen(&rules, &names, Precision::Full), "a.bin config.json tokenizer.json");
        assert_eq!(
            chosen(&rules, &["notes.json", "vocab.json"], Precision::Full),
            "missing: config.json, a.safetensors or a.bin, vocab.json + merges.txt or tokenizer.json"
        );
    }
}
