//! In: an image's place in the benchmark, its seed, its control image and the settings. Out: the texts that its PNG carries.

use crate::benchmark::Item;
use crate::results::{FORMAT_VERSION, Settings};

/// Everything that the picture can be made again from, as PNG text: prompt, seed, place in the
/// benchmark and each setting. No time, so that the same picture is the same file.
pub(super) fn texts(
    settings: &Settings,
    item: &Item,
    image: u32,
    seed: Option<u64>,
    control: Option<&String>,
) -> Vec<(String, String)> {
    let mut texts = vec![
        ("Software".to_owned(), "dpg-bench".to_owned()),
        ("format_version".to_owned(), FORMAT_VERSION.to_string()),
        ("item".to_owned(), item.id.clone()),
        ("image".to_owned(), image.to_string()),
        ("prompt".to_owned(), item.prompt.clone()),
    ];
    texts.extend(seed.map(|seed| ("seed".to_owned(), seed.to_string())));
    texts.extend(control.map(|digest| ("control_sha256".to_owned(), digest.clone())));
    // What is null is not set: a text would read as the word. What a server says of itself, and a workflow, may be
    // larger than the image.
    let is_kept = |name: &str, value: &serde_json::Value| {
        !value.is_null() && !matches!(name, "server_says" | "workflow")
    };
    for (name, value) in settings.iter().filter(|(name, value)| is_kept(name, value)) {
        let name = match name.as_str() {
            "seed" => "base_seed",
            "negative_prompt" => "negative prompt",
            "scheduler" => "sampler",
            other => other,
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        texts.push((name.to_owned(), text));
    }
    texts
}
