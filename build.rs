//! Puts into the program the target that it is built for, and the commit that it is built from, where there is one;
//! with the feature `cuda`, turns the GPU kernels into PTX.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernels of `src/compute/cuda`.
const KERNELS: &str = "src/compute/cuda/kernels";
/// The images that the prompts of the demo describe.
const TRUE_RENDERINGS: &str = "benchmark/demo/true";
/// Files that are compiled once, and the head sizes for which `attention.cu` is.
const FILES: [&str; 5] =
    ["group_norm", "group_norm_last", "row_norm", "pointwise", "attention_f32"];
const HEADS: [usize; 6] = [40, 64, 80, 128, 160, 512];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=DPG_BENCH_TARGET={target}");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some()
        && let Err(problem) = compile_kernels()
    {
        println!("cargo::error=the GPU kernels cannot be compiled: {problem}");
    }
    if let Err(problem) = list_true_renderings() {
        println!("cargo::error=the images in {TRUE_RENDERINGS} cannot be listed: {problem}");
    }
    // A new commit moves HEAD or the branch that HEAD names; both are watched.
    let Some(head) = git(&["rev-parse", "--git-path", "HEAD"]) else { return };
    println!("cargo:rerun-if-changed={head}");
    if let Some(branch) = git(&["symbolic-ref", "-q", "HEAD"])
        && let Some(reference) = git(&["rev-parse", "--git-path", &branch])
    {
        println!("cargo:rerun-if-changed={reference}");
    }
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        println!("cargo:rustc-env=DPG_BENCH_GIT_COMMIT={commit}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Writes a list of item and PNG for `session/controls/pictures.rs`.
fn list_true_renderings() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed={TRUE_RENDERINGS}");
    let items = std::fs::read_dir(TRUE_RENDERINGS)?.map(|entry| Ok(entry?.file_name()));
    let mut items = items.collect::<std::io::Result<Vec<_>>>()?;
    items.sort();
    let mut list = String::from("&[\n");
    for item in items {
        let item = item.to_string_lossy();
        list.push_str(&format!(
            "({item:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{TRUE_RENDERINGS}/{item}/0.png\"))),\n"
        ));
    }
    list.push_str("]\n");
    let target = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    std::fs::write(target.join("true_renderings.rs"), list)
}

/// PTX for the architecture of `CUDA_COMPUTE_CAP`, which devices from that one on can translate.
fn compile_kernels() -> Result<(), String> {
    for name in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed={KERNELS}");
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let compiler = set("NVCC").map(PathBuf::from);
    let in_home = || set("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    let compiler = compiler.or_else(in_home).unwrap_or_else(|| "nvcc".into());
    let capability = set("CUDA_COMPUTE_CAP")
        .ok_or("CUDA_COMPUTE_CAP is not set; scripts/build-cuda sets all that is needed")?;
    let generation: u32 = capability
        .trim_end_matches(|letter: char| letter.is_ascii_alphabetic())
        .parse()
        .map_err(|_| format!("CUDA_COMPUTE_CAP={capability} is no number, as 90 is"))?;
    if generation < 80 {
        return Err(format!("they need GPUs of compute capability 80 or more, not {capability}"));
    }
    let target = PathBuf::from(set("OUT_DIR").ok_or("cargo names no OUT_DIR")?);
    let compile = |file: &str, name: &str, head: Option<usize>| {
        let mut command = Command::new(&compiler);
        command.args(["-O3", "-std=c++17", "-ptx", &format!("-arch=compute_{generation}")]);
        command.args(head.map(|head| format!("-DHEAD={head}")));
        command.arg("-o").arg(target.join(format!("{name}.ptx")));
        command.arg(format!("{KERNELS}/{file}.cu"));
        let output = command
            .output()
            .map_err(|error| format!("{} does not start: {error}", compiler.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{file}.cu: {}", String::from_utf8_lossy(&output.stderr).trim()))
    };
    for file in FILES {
        compile(file, file, None)?;
    }
    HEADS
        .iter()
        .try_for_each(|head| compile("attention", &format!("attention_{head}"), Some(*head)))
}
