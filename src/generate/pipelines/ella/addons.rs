//! In: the recipes of a checkpoint that ELLA runs over, and which of its text encoders ELLA reads. Out: a refusal of
//! embeddings and adapters that would do nothing, and a warning of those that do so in part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::parts::{EllaBase, EllaTokens};
use crate::checkpoint::recipe::Recipe;

/// The checkpoint's text encoders whose output reaches the UNet. SDXL's second one is asked for its pooled output
/// in every mode, unless the connector makes that.
fn read_encoders(base: EllaBase, tokens: EllaTokens, pools: bool) -> &'static [&'static str] {
    match (base, tokens) {
        (EllaBase::Sdxl, EllaTokens::Fixed | EllaTokens::Flexible) if pools => &[],
        (EllaBase::Sd15, EllaTokens::ClipAndElla) => &["text_encoder"],
        (EllaBase::Sd15, EllaTokens::Fixed | EllaTokens::Flexible) => &[],
        (EllaBase::Sdxl, EllaTokens::ClipAndElla) => &["text_encoder", "text_encoder_2"],
        (EllaBase::Sdxl, EllaTokens::Fixed | EllaTokens::Flexible) => &["text_encoder_2"],
    }
}

/// Looks for embeddings and adapters in vain; returns what to tell.
///
/// # Errors
/// An embedding or adapter changes nothing that is read, or a recipe is broken.
pub(crate) fn check_addons(
    folder: &Path,
    base: EllaBase,
    tokens: EllaTokens,
    pools: bool,
) -> Result<Vec<String>> {
    let read = read_encoders(base, tokens, pools);
    let mode = match tokens {
        EllaTokens::Fixed => "fixed",
        EllaTokens::Flexible => "flexible",
        EllaTokens::ClipAndElla => "clip+ella",
    };
    let mut adapters: BTreeMap<PathBuf, Counts> = BTreeMap::new();
    let (mut taught, mut heard) = (BTreeSet::new(), false);
    for (component, stem) in [
        ("unet", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
        ("text_encoder_2", "model"),
    ] {
        let Some(recipe) = Recipe::read(&folder.join(component), stem)? else { continue };
        let is_read = component == "unet" || read.contains(&component);
        for addition in recipe.additions.into_values().flatten() {
            let counts = adapters.entry(addition.adapter).or_default();
            let count = if is_read { &mut counts.read } else { &mut counts.unread };
            *count += 1;
        }
        for rows in recipe.tables.into_values().flat_map(|table| table.rows) {
            heard |= is_read;
            taught.insert(rows.file);
        }
    }
    let why = format!(
        "with --ella-tokens {mode} it is ELLA's own text encoder that reads the prompt; --ella-tokens clip+ella reads CLIP as well"
    );
    if let (Some(file), false) = (taught.first(), heard) {
        bail!("embedding {} would do nothing: {why}; use that, or leave it out", file.display());
    }
    let mut warnings = Vec::new();
    for (file, Counts { read, unread }) in adapters {
        let file = file.display();
        if read == 0 {
            bail!(
                "adapter {file} would do nothing, because it changes the text encoder alone: {why}; use that, \
                 or leave it out"
            );
        }
        if unread > 0 {
            warnings.push(format!(
                "adapter {file}: {unread} of its {} tensors are the text encoder's and do nothing: {why}",
                read + unread
            ));
        }
    }
    Ok(warnings)
}

/// Tensors that an adapter changes.
#[derive(Default)]
struct Counts {
    read: usize,
    unread: usize,
}
