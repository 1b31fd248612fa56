//! The layer rule of docs/architecture.md, kept by reading every source file: which module may name
//! which other module of ours, and which external crate may appear where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Module -> the modules of ours that it may name besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("near_names", &[]),
    ("benchmark", &["near_names"]),
    ("text", &[]),
    ("checkpoint", &["benchmark", "near_names", "text"]),
    ("compute", &["checkpoint"]),
    ("models", &["checkpoint", "compute"]),
    ("statistics", &[]),
    ("stage_observer", &[]),
    ("wording", &[]),
    ("ordered_work", &[]),
    ("http", &[]),
    ("machine", &[]),
    ("fetch", &["benchmark", "http", "machine", "near_names", "results"]),
    ("results", &["benchmark"]),
    (
        "generate",
        &[
            "benchmark",
            "checkpoint",
            "compute",
            "http",
            "models",
            "near_names",
            "ordered_work",
            "results",
            "stage_observer",
            "text",
        ],
    ),
    (
        "judge",
        &[
            "benchmark",
            "checkpoint",
            "compute",
            "http",
            "models",
            "near_names",
            "ordered_work",
            "results",
            "stage_observer",
            "text",
        ],
    ),
    ("measure", &["checkpoint", "compute", "generate", "judge", "models", "near_names"]),
    ("score", &["benchmark", "results"]),
    ("aggregate", &["benchmark", "results", "score", "statistics"]),
    ("audit", &["aggregate", "benchmark", "near_names", "results", "score", "statistics"]),
    ("forensics", &["aggregate", "statistics", "benchmark"]),
    ("compare", &["aggregate", "benchmark", "results", "statistics"]),
    ("check", &["aggregate", "compare", "near_names", "statistics"]),
    (
        "reports",
        &[
            "aggregate",
            "audit",
            "results",
            "benchmark",
            "forensics",
            "score",
            "statistics",
            "compare",
            "check",
            "stage_observer",
        ],
    ),
    (
        "session",
        &[
            "aggregate",
            "audit",
            "benchmark",
            "check",
            "checkpoint",
            "compare",
            "compute",
            "fetch",
            "generate",
            "http",
            "judge",
            "near_names",
            "reports",
            "results",
            "score",
            "stage_observer",
        ],
    ),
    ("exports", &["aggregate", "benchmark", "http", "results", "score"]),
    (
        "cli",
        &[
            "aggregate",
            "audit",
            "benchmark",
            "check",
            "checkpoint",
            "compare",
            "compute",
            "exports",
            "fetch",
            "forensics",
            "generate",
            "judge",
            "machine",
            "measure",
            "near_names",
            "reports",
            "results",
            "score",
            "session",
            "stage_observer",
            "statistics",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Every module may name these: they are words, not work.
const EVERYWHERE: &[&str] = &["wording"];

/// External crate -> the only places that may name it.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("polars_arrow", &["aggregate/score_table.rs"]),
    ("polars_parquet", &["aggregate/score_table.rs"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli/output/"]),
    ("anstream", &["cli/output/"]),
    ("anstyle", &["cli/output/", "cli/commands/doctor.rs"]),
    ("plotters", &["reports/"]),
    ("tiny_skia", &["reports/drawing/"]),
    ("ttf_parser", &["reports/drawing/"]),
    ("httparse", &["audit/request.rs"]),
    ("getrandom", &["audit/server.rs"]),
    ("comfy_table", &["reports/"]),
    ("ureq", &["fetch/", "http", "judge/endpoint"]),
    (
        "candle_core",
        &[
            "checkpoint/",
            "compute",
            "models/",
            "generate/",
            "judge/",
            "measure/",
            "cli/commands/measure.rs",
        ],
    ),
    ("candle_nn", &["compute/", "models/"]),
    ("candle_flash_attn", &["compute/attention.rs"]),
    ("zip", &["checkpoint/pickle_file.rs"]),
    ("saphyr", &["models/mplug/"]),
    ("strsim", &["near_names.rs"]),
    ("tokenizers", &["text/", "judge/"]),
    ("mozjpeg_sys", &["results/jpeg.rs"]),
    ("jpeg_encoder", &["results/thumbnail.rs"]),
];

/// What decodes a picture, and the only file that may call it: every picture is read in one way.
const DECODERS: &[&str] =
    &["ImageReader", "image::open", "image::load_from_memory", "png::Decoder", "decode_jpeg"];
const DECODE_IN: &[&str] = &["results/image_store.rs", "results/jpeg.rs"];

/// The pipelines, which share files below them and know nothing of each other.
const PIPELINES: &[&str] = &["sd15", "sdxl", "ella"];

/// Crates that the pure modules must not name, whatever else: no disk, no network, no tensors.
const PURE: &[&str] =
    &["score/", "statistics/", "aggregate/", "compare", "check.rs", "generate/server/wire"];
const PURE_EXCEPT: &[&str] = &["aggregate/score_table.rs"];
const IMPURE: &[&str] = &["std::fs", "std::net", "std::env", "std::process"];

#[test]
fn every_source_file_keeps_the_layers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&source);
    assert!(files.len() > 20, "only {} files found under {}", files.len(), source.display());
    let mut found = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&source).unwrap().to_string_lossy().replace('\\', "/");
        found.extend(violations(&relative, &std::fs::read_to_string(&file).unwrap()));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_breach_of_each_kind_is_seen() {
    for (file, line) in [
        ("judge/endpoint.rs", "use crate::generate::ImageGenerator;"),
        ("score/verdict.rs", "    let x = crate::models::unet::UNet::load();"),
        ("models/unet.rs", "use crate::{benchmark::Item, results};"),
        ("aggregate/summary.rs", "use polars_parquet::write::FileWriter;"),
        ("results/journal.rs", "use clap::Args;"),
        ("score/item_score.rs", "let text = std::fs::read(path)?;"),
        ("generate/sd15.rs", "use super::super::judge::Judge;"),
        ("generate/pipelines/ella.rs", "use super::sdxl::Sdxl;"),
        ("generate/pipelines/ella/texts.rs", "use crate::generate::pipelines::sd15::ClipPrompts;"),
        ("unheard_of.rs", "use crate::benchmark::Item;"),
        ("reports/thumbnails.rs", "    let picture = image::open(path)?;"),
    ] {
        assert!(!violations(file, &format!("{line}\n")).is_empty(), "{file}: {line}");
    }
    for (file, line) in [
        ("judge/endpoint.rs", "// as crate::generate does"),
        ("judge/endpoint.rs", "use crate::results::Settings;"),
        ("score/verdict.rs", "#[cfg(test)]\nmod tests { use crate::cli::main; }"),
        ("cli/commands/run.rs", "use clap::Args;"),
        ("generate/pipelines/ella.rs", "use super::sdxl_prompts::SdxlPrompts;"),
    ] {
        assert_eq!(violations(file, &format!("{line}\n")), Vec::<String>::new(), "{file}: {line}");
    }
}

/// One sentence per breach in `text`, the content of `src/<file>`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let module = file.split('/').next().unwrap().trim_end_matches(".rs");
    let Some(allowed) = table.get(module) else {
        return vec![format!("{file}: module `{module}` is missing from the table in layers.rs")];
    };
    let mut found = Vec::new();
    // Unit tests may reach further; they stand at the end of a file.
    let code = text.split("#[cfg(test)]").next().unwrap();
    for (index, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap();
        let place = format!("{file}:{}", index + 1);
        for name in modules_named(line) {
            if name != module
                && table.contains_key(name.as_str())
                && !allowed.contains(&name.as_str())
                && !EVERYWHERE.contains(&name.as_str())
            {
                found.push(format!("{place}: `{module}` must not use `{name}`"));
            }
        }
        for (name, places) in ONLY_IN {
            if names_crate(line, name) && !places.iter().any(|place| file.starts_with(place)) {
                found.push(format!("{place}: crate `{name}` belongs to {places:?}"));
            }
        }
        let own = file.strip_prefix("generate/pipelines/").unwrap_or_default();
        for pipeline in PIPELINES.iter().filter(|name| !own.is_empty() && !own.starts_with(**name))
        {
            if ["super::", "pipelines::"]
                .iter()
                .any(|path| line.contains(&format!("use {path}{pipeline}::")))
                || line.contains(&format!("use crate::generate::pipelines::{pipeline}::"))
            {
                found.push(format!("{place}: a pipeline must not use the pipeline `{pipeline}`"));
            }
        }
        if !DECODE_IN.contains(&file) {
            found.extend(
                (DECODERS.iter().filter(|decoder| line.contains(**decoder))).map(|decoder| {
                    format!("{place}: `{decoder}`; pictures are read by `read_image`")
                }),
            );
        }
        let pure = PURE.iter().any(|place| file.starts_with(place)) && !PURE_EXCEPT.contains(&file);
        for path in IMPURE {
            if pure && line.contains(path) {
                found.push(format!("{place}: `{path}` in a pure module"));
            }
        }
    }
    found
}

/// The modules of ours that a line names through `crate::`, also inside braces, or `super::super::`.
fn modules_named(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for marker in ["crate::", "super::super::"] {
        for (at, _) in line.match_indices(marker) {
            let rest = &line[at + marker.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                names.extend(group.split(',').map(first_word));
            } else {
                names.push(first_word(rest));
            }
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        after.starts_with("::")
            && !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
