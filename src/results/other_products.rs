//! In: how a stage was set, and how it is to go on. Out: whether nothing differs but how products are rounded on the processor
//! (`--products`), and the record of a stage with several kinds of them: its settings name all, each sitting its own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::manifest::{Difference, Settings, SittingProducts, StageEntry, differences};

/// The setting of what was asked for, and that of what ran. Products in f32 have neither.
const ASKED: &str = "products";
const RAN: &str = "products_run";
const UNROUNDED: &str = "f32";
/// Between several kinds in one setting.
const BETWEEN: &str = ", ";

/// Whether there are differences, all of them in products.
pub(super) fn are_all(differences: &[Difference]) -> bool {
    let in_products = |difference: &Difference| [ASKED, RAN].contains(&difference.setting.as_str());
    !differences.is_empty() && differences.iter().all(in_products)
}

/// What can be done about differences between a run and a command.
pub(super) fn advice(differences: &[Difference]) -> &'static str {
    if are_all(differences) {
        "Ask for the same products on a machine that runs them alike, give another --out, or delete the folder; with \
         --allow-other-products it goes on all the same, and manifest.json names the products of each sitting"
    } else {
        "Use the same, give another --out, or delete the folder"
    }
}

/// What can be done about differences between the parts of a run.
pub(super) fn advice_on_merging(differences: &[Difference]) -> &'static str {
    if are_all(differences) {
        "\n--allow-other-products merges them all the same, and manifest.json names the products of each sitting"
    } else {
        ""
    }
}

/// Enters what a stage goes on with. Where nothing but products differs, its settings name both kinds from now on, and the
/// sittings up to now say which was theirs.
pub(super) fn go_on_with(entry: &mut StageEntry, settings: &Settings) {
    let is_new = entry.settings.is_empty();
    if is_new || !are_all(&differences(&entry.settings, settings)) {
        entry.settings.clone_from(settings);
        return;
    }
    let own = of(&entry.settings);
    for sitting in &mut entry.sittings {
        sitting.products.get_or_insert_with(|| own.clone());
    }
    let joined = |key: &str| {
        let kinds: BTreeSet<&str> = [&entry.settings, settings]
            .into_iter()
            .flat_map(|settings| kinds(settings, key).split(BETWEEN))
            .collect();
        Value::from(kinds.into_iter().collect::<Vec<_>>().join(BETWEEN))
    };
    let (asked, ran) = (joined(ASKED), joined(RAN));
    entry.settings.extend([(ASKED.to_owned(), asked), (RAN.to_owned(), ran)]);
}

/// What a sitting of the stage that is set so has to say of its products; nothing where they are the stage's.
pub(super) fn of_sitting(entry: &StageEntry, settings: &Settings) -> Option<SittingProducts> {
    let own = of(settings);
    (of(&entry.settings) != own).then_some(own)
}

fn of(settings: &Settings) -> SittingProducts {
    let kinds = |key| kinds(settings, key).to_owned();
    SittingProducts { asked: kinds(ASKED), ran: kinds(RAN) }
}

fn kinds<'s>(settings: &'s Settings, key: &str) -> &'s str {
    settings.get(key).and_then(Value::as_str).unwrap_or(UNROUNDED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(value: Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_stage_names_every_kind_once_and_takes_over_all_else() {
        let mut entry = StageEntry::default();
        let f32 = settings(json!({"steps": 5}));
        let amx = settings(json!({"steps": 5, "products": "bf16", "products_run": "amx"}));
        let fallback = settings(json!({"steps": 5, "products": "bf16", "products_run": "f32"}));
        go_on_with(&mut entry, &amx);
        assert_eq!((&entry.settings, of_sitting(&entry, &amx)), (&amx, None));
        go_on_with(&mut entry, &fallback);
        go_on_with(&mut entry, &amx);
        let both = settings(json!({"steps": 5, "products": "bf16", "products_run": "amx, f32"}));
        assert_eq!(entry.settings, both);
        let products = of_sitting(&entry, &fallback).unwrap();
        assert_eq!((products.asked.as_str(), products.ran.as_str()), ("bf16", "f32"));
        go_on_with(&mut entry, &f32);
        let all = json!({"steps": 5, "products": "bf16, f32", "products_run": "amx, f32"});
        assert_eq!(entry.settings, settings(all));
        // Where more differs, as with a judge that has not answered yet.
        let other = settings(json!({"steps": 6}));
        go_on_with(&mut entry, &other);
        assert_eq!((&entry.settings, of_sitting(&entry, &other)), (&other, None));
    }

    #[test]
    fn the_flag_is_named_where_it_helps() {
        let of = |recorded: Value, requested: Value| {
            let found = differences(&settings(recorded), &settings(requested));
            advice(&found).contains("--allow-other-products")
        };
        assert!(of(json!({}), json!({"products": "bf16", "products_run": "amx"})));
        assert!(of(json!({"products_run": "f32"}), json!({"products_run": "amx"})));
        assert!(!of(
            json!({"a": 1, "products_run": "f32"}),
            json!({"a": 2, "products_run": "amx"})
        ));
        assert!(!of(json!({"a": 1}), json!({"a": 2})));
    }
}
