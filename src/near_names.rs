//! In: a name that means nothing, and the names that do. Out: those that the user may have meant, for the sentence that
//! refuses it.

/// The ones of `names` that differ from `typed` in few letters, upper and lower case alike, or begin with it; the nearest
/// first, and equally near ones in their order.
pub(crate) fn near<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let typed = typed.trim().to_lowercase();
    let length = typed.chars().count();
    // One letter of the name must stay.
    let limit = (length / 3).max(2).min(length.saturating_sub(1));
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let edits = strsim::damerau_levenshtein(&typed, &name);
        if length > 2 && name.starts_with(&typed) { edits.min(limit) } else { edits }
    };
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (distance(name), name))
        .filter(|(edits, _)| *edits <= limit)
        .collect();
    near.sort_by_key(|(edits, _)| *edits);
    near.into_iter().map(|(_, name)| name).collect()
}

/// `` (did you mean `sd15`?)`` with the nearest of `names`, to stand behind `typed` in a sentence; nothing where none is
/// near.
pub(crate) fn did_you_mean<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    // The very word is no advice: it is refused for another reason.
    match near(typed, names).iter().find(|name| **name != typed) {
        Some(name) => format!(" (did you mean `{name}`?)"),
        None => String::new(),
    }
}

/// The category among `known` that `name` names: in full, or an L2 by what stands behind its L1 where only one ends so.
pub(crate) fn category_named<'n>(
    name: &str,
    known: impl Iterator<Item = &'n str> + Clone,
) -> Option<&'n str> {
    let ends_so =
        |known: &&str| known.split_once(" - ").is_some_and(|(_, l2)| l2.eq_ignore_ascii_case(name));
    let mut meant = known.clone().filter(ends_so);
    known.clone().find(|known| *known == name).or(match (meant.next(), meant.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    })
}

/// As [`did_you_mean`] among categories, of which an L2 is also meant by what stands behind its L1.
pub(crate) fn did_you_mean_category(typed: &str, known: &[impl AsRef<str>]) -> String {
    let known = || known.iter().map(AsRef::as_ref);
    let tail = |name: &str| name.split_once(" - ").map(|(_, tail)| tail.to_owned());
    let tails: Vec<String> = known().filter_map(tail).collect();
    let near = near(typed, known().chain(tails.iter().map(String::as_str)));
    let whole = near.first().and_then(|near| {
        let is_tail = |name: &&str| tail(name).is_some_and(|tail| tail == *near);
        known().find(|name| name == near).or_else(|| known().find(is_tail))
    });
    whole.map_or_else(String::new, |whole| format!(" (did you mean `{whole}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 8] =
        ["demo-sd", "sd15", "sdxl", "ella-sd15", "mplug", "blip-vqa", "qwen3-vl", "cuda"];

    #[test]
    fn a_category_is_named_in_full_or_by_the_one_l2_that_ends_so() {
        let known =
            ["entity", "entity - whole", "attribute - color", "other - color", "other - count"];
        for (typed, expected) in [
            ("entity", Some("entity")),
            ("other - color", Some("other - color")),
            ("whole", Some("entity - whole")),
            ("Count", Some("other - count")),
            ("color", None),
            ("colour", None),
        ] {
            assert_eq!(category_named(typed, known.into_iter()), expected, "{typed}");
        }
    }

    #[test]
    fn the_nearest_name_is_asked_for() {
        for (typed, expected) in [
            ("SD15", Some("sd15")),
            ("sd1.5", Some("sd15")),
            ("sdxl ", Some("sdxl")),
            ("ela-sd15", Some("ella-sd15")),
            // Two letters that changed places are one edit.
            ("mpulg", Some("mplug")),
            ("blip", Some("blip-vqa")),
            ("qwen", Some("qwen3-vl")),
            ("CUDA0", Some("cuda")),
            ("flux", None),
            ("pixart", None),
            ("", None),
        ] {
            let found = near(typed, NAMES);
            assert_eq!(found.first().copied(), expected, "{typed}: {found:?}");
        }
    }

    #[test]
    fn the_question_stands_where_a_name_is_near() {
        assert_eq!(did_you_mean("SD15", NAMES), " (did you mean `sd15`?)");
        assert_eq!(did_you_mean("flux", NAMES), "");
    }

    #[test]
    fn a_category_is_asked_for_in_full() {
        let known = ["attribute", "attribute - color", "entity", "entity - state", "global -"];
        for (typed, expected) in [
            ("colour", " (did you mean `attribute - color`?)"),
            ("color", " (did you mean `attribute - color`?)"),
            ("attribute-color", " (did you mean `attribute - color`?)"),
            ("Entity", " (did you mean `entity`?)"),
            ("weather", ""),
        ] {
            assert_eq!(did_you_mean_category(typed, &known), expected, "{typed}");
        }
    }
}
