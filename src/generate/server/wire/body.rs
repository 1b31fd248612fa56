//! In: a request's body and the fields that a user adds to it. Out: both as one body; a sentence where a field would
//! change what this program sets for each image.

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

/// Names that decide which prompt, which seed or how many images, at any depth, in any of the APIs.
const RESERVED: &[(&str, &[&str])] = &[
    ("the prompt", &["prompt", "prompts", "inputs", "styles"]),
    ("the seed", &["seed", "seeds", "noise_seed", "subseed"]),
    (
        "the number of images",
        &[
            "n",
            "n_iter",
            "batch_size",
            "batch_count",
            "num_images",
            "num_images_per_prompt",
            "num_outputs",
            "num_outputs_per_prompt",
        ],
    ),
];

/// Names that change the form of the reply.
const REPLY_FORM: &[&str] = &["stream", "partial_images", "save_disk_path", "prompt_id"];

/// Puts `extra` over `body`: objects field by field, all else in place of what was there.
pub(super) fn merge(body: &mut Map<String, Value>, extra: &Map<String, Value>) {
    for (name, value) in extra {
        match (body.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(more)) => merge(inner, more),
            _ => {
                body.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Refuses the fields of `extra` that are this program's to set.
pub(super) fn check_reserved(extra: &Map<String, Value>) -> Result<()> {
    for (name, value) in extra {
        for (what, names) in RESERVED {
            if names.contains(&name.as_str()) {
                bail!(
                    "the field `{name}` of --server-body would change {what}, which is set for each image: leave it out"
                );
            }
        }
        ensure!(
            !REPLY_FORM.contains(&name.as_str()),
            "the field `{name}` of --server-body would change the form of the reply: leave it out"
        );
        if let Value::Object(inner) = value {
            check_reserved(inner)?;
        }
    }
    Ok(())
}

/// Refuses the fields of `extra` that a flag has set too: `with` is the body with the flags, `without` the one without.
pub(super) fn check_stated_once(
    with: &Value,
    without: &Value,
    extra: &Map<String, Value>,
) -> Result<()> {
    for (name, value) in extra {
        let (set, unset) = (&with[name], &without[name]);
        match value {
            Value::Object(inner) if set.is_object() => check_stated_once(set, unset, inner)?,
            _ => ensure!(
                set == unset,
                "the field `{name}` of --server-body is set by a flag as well: give one of the two"
            ),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn objects_are_merged_field_by_field() {
        let mut body = map(json!({"a": 1, "inner": {"b": 2, "c": 3}, "list": [1]}));
        merge(
            &mut body,
            &map(json!({"a": 9, "inner": {"c": null, "d": 4}, "list": [2], "new": {}})),
        );
        assert_eq!(
            Value::Object(body),
            json!({"a": 9, "inner": {"b": 2, "c": null, "d": 4}, "list": [2], "new": {}})
        );
    }

    #[test]
    fn prompt_seed_number_and_form_cannot_be_changed() {
        for (extra, what) in [
            (json!({"prompt": "x"}), "the prompt"),
            (json!({"seed": 1}), "the seed"),
            (json!({"parameters": {"seed": 1}}), "the seed"),
            (json!({"n": 2}), "the number of images"),
            (json!({"deep": {"deeper": {"batch_count": 2}}}), "the number of images"),
            (json!({"stream": true}), "the form of the reply"),
        ] {
            let error = check_reserved(&map(extra.clone())).unwrap_err().to_string();
            assert!(error.contains(what), "{extra}: {error}");
        }
        check_reserved(&map(json!({"quality": "high", "lora": {"scale": 1}}))).unwrap();
    }

    #[test]
    fn a_field_is_stated_once() {
        let with = json!({"steps": 20, "format": "png", "inner": {"cfg": 4}});
        let without = json!({"format": "png", "inner": {}});
        for extra in [json!({"steps": 20}), json!({"inner": {"cfg": 5}}), json!({"inner": 5})] {
            assert!(check_stated_once(&with, &without, &map(extra.clone())).is_err(), "{extra}");
        }
        for extra in [json!({"format": "jpeg"}), json!({"inner": {"eta": 1}}), json!({"new": 1})] {
            check_stated_once(&with, &without, &map(extra)).unwrap();
        }
    }
}
