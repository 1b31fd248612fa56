//! In: one file of an adapter, and where its modules lie. Out: its products, and what is to be told of them. Names are
//! left to `names`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};

use super::applied::{Additions, AppliedLora};
use super::diffusers_reads::DiffusersReader;
use super::flux_layers::{Part, is_publishers, is_xlabs};
use super::names::{Found, Index, Place, Role, split_name};
use super::notes::{Notes, PEFT_START};
use crate::checkpoint::recipe::{ADDON, LowRank, absolute};
use crate::checkpoint::safetensors_file::{FileContents, contents_of_any};
use crate::checkpoint::weights::Weights;

/// One file of an adapter.
pub(super) struct AdapterFile<'a> {
    pub(super) path: &'a Path,
    /// The network that all of it is for, where that is known.
    pub(super) component: Option<String>,
    pub(super) weight: f64,
}

/// The tensors of each module, by their roles.
type Modules<'f> = BTreeMap<&'f str, BTreeMap<Role, &'f str>>;

impl AdapterFile<'_> {
    /// Adds the file's products to `additions`, and what it does to `applied`.
    pub(super) fn read(
        &self,
        index: &Index<'_>,
        additions: &mut Additions,
        applied: &mut AppliedLora,
    ) -> Result<()> {
        let path = self.path;
        let found = contents_of_any(path, ADDON)?;
        let reader =
            index.is_flux().then(|| DiffusersReader::of(found.shapes.keys().map(String::as_str)));
        ensure!(
            reader.is_none() || !found.shapes.keys().any(|name| name.contains("query_norm.scale")),
            "{} is a control adapter (FLUX.1 Depth or Canny), which reads a picture beside the prompt; \
             here only prompts are read",
            path.display()
        );
        let leaves_out = |name: &str| reader.is_some_and(|reader| reader.leaves_out(name));
        let (left_out, names): (Vec<&str>, Vec<&str>) =
            found.shapes.keys().map(String::as_str).partition(|name| leaves_out(name));
        let modules = modules(&names, path)?;
        let values = Weights::open_any(path, ADDON, DType::F32, &Device::Cpu)?;
        let notes = self.notes(&found, &modules, index)?;
        let told = Told { path, reader, modules: &modules };
        told.left_out(&left_out, &values, &found, &mut applied.warnings)?;
        let mut changed_by: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut scales = Vec::new();
        let mut spellings = Spellings::default();
        for (&module, roles) in &modules {
            let place = self.place(index, module)?;
            let (Some(up), Some(down)) = (roles.get(&Role::Up), roles.get(&Role::Down)) else {
                bail!("{}: `{module}` lacks one of its two factors", path.display());
            };
            spellings.note(place.component, module, down);
            let rank = found.shapes[*down].first().copied().unwrap_or(0);
            ensure!(rank > 0, "{}: `{down}` is empty", path.display());
            let own = match (roles.get(&Role::Alpha), &notes) {
                (Some(name), _) => scalar(&values, name, &found.shapes[*name])? / rank as f64,
                (None, Some(notes)) => {
                    let named = place.is_named.then_some(place.component);
                    notes.scale(named, &place.module, rank)?
                }
                (None, None) => 1.0,
            };
            scales.push((module, own));
            let scale = self.weight * own;
            let factor = |name: &str| values.root().tensor(name, &found.shapes[name]);
            let (left, is_zero) = (factor(up)?, scale == 0.0 || all_zero(&factor(down)?)?);
            for Part { tensor, rows } in place.parts {
                if let Some(other) = changed_by.insert((place.component, tensor), module) {
                    bail!(
                        "{}: `{other}` and `{module}` both change {tensor}; keep one of the two in the file",
                        path.display()
                    );
                }
                let part = rows.map_or(Ok(left.clone()), |rows| rows.apply(&left));
                let part = part.with_context(|| {
                    format!(
                        "{}: the rows of `{up}` are not those of this checkpoint's layers; was the adapter \
                         made for another base model?",
                        path.display()
                    )
                })?;
                if is_zero || all_zero(&part)? {
                    applied.unchanged += 1;
                } else {
                    *applied.changed.entry(place.component.to_owned()).or_default() += 1;
                }
                let product = LowRank {
                    adapter: applied.file.clone(),
                    file: absolute(path)?,
                    up: (*up).to_owned(),
                    rows,
                    down: (*down).to_owned(),
                    scale,
                };
                let of_component = additions.entry(place.component.to_owned()).or_default();
                of_component.entry(tensor.to_owned()).or_default().push(product);
            }
        }
        told.not_read(&scales, &mut applied.warnings);
        applied.warnings.extend(spellings.remark(path));
        Ok(())
    }

    /// What is said of the adapter outside its tensors. PEFT's own files need it; without it, diffusers takes those
    /// with the publisher's names as they are.
    fn notes(
        &self,
        found: &FileContents,
        modules: &Modules<'_>,
        index: &Index<'_>,
    ) -> Result<Option<Notes>> {
        let path = self.path;
        let mut of_peft = modules.keys().filter(|module| module.starts_with(PEFT_START)).peekable();
        if of_peft.peek().is_none() {
            Notes::of_header(found, path)
        } else if index.is_flux() && of_peft.all(|module| is_publishers(module)) {
            Notes::of_adapter_config_if_there(path)
        } else {
            Notes::of_adapter_config(path).map(Some)
        }
    }

    fn place<'t>(&self, index: &Index<'t>, module: &str) -> Result<Place<'t>> {
        let path = self.path.display();
        match index.find(module, self.component.as_deref()) {
            Found::One(place) => Ok(place),
            Found::Nowhere => bail!(
                "{path}: `{module}` names nothing in this checkpoint; was the adapter made for another base \
                 model?"
            ),
            Found::Several(components) => bail!(
                "{path}: `{module}` may be of {}; put the file into a folder of that name and give the folder \
                 around it as --lora",
                components.join(" or ")
            ),
            Found::NotRead => bail!(
                "{path}: `{module}` is a name of kohya's scripts or of the publisher's code, of which diffusers \
                 reads none for Stable Diffusion 3; give the adapter with the names of diffusers"
            ),
        }
    }
}

/// How the factors of networks that paint are spelled: as PEFT spells them, and the modules that are otherwise.
#[derive(Default)]
struct Spellings<'f> {
    of_peft: BTreeSet<&'f str>,
    others: Vec<(&'f str, &'f str)>,
}

impl<'f> Spellings<'f> {
    /// Notes the factor `down` of a module of `component`.
    fn note(&mut self, component: &'f str, module: &'f str, down: &str) {
        if down.contains(".lora_A.") {
            self.of_peft.insert(component);
        } else if down.contains("lora.down.") && !component.starts_with("text_encoder") {
            self.others.push((component, module));
        }
    }

    /// Where a network has both, its loader in diffusers (`load_lora_adapter`) takes all names for PEFT's, and passes over
    /// the others.
    fn remark(&self, path: &Path) -> Option<String> {
        let is_mixed = |(component, _): &&(&str, &str)| self.of_peft.contains(component);
        let passed_over: Vec<_> = self.others.iter().filter(is_mixed).collect();
        let (_, first) = passed_over.first()?;
        Some(format!(
            "adapter {}: diffusers 0.42.1 passes over {} of its layers, whose factors are not called lora_A and lora_B as \
             those of others are (`{first}`, ...); here all are added",
            path.display(),
            passed_over.len()
        ))
    }
}

/// What is told of a file.
struct Told<'a> {
    path: &'a Path,
    reader: Option<DiffusersReader>,
    modules: &'a Modules<'a>,
}

impl Told<'_> {
    /// Tells of tensors that are left out here and in diffusers.
    fn left_out(
        &self,
        names: &[&str],
        values: &Weights,
        found: &FileContents,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let Some(first) = names.first() else { return Ok(()) };
        let mut zeros = true;
        for name in
            names.iter().filter(|name| !name.ends_with(".alpha") && !name.contains("lora_down"))
        {
            zeros &= all_zero(&values.root().tensor(name, &found.shapes[*name])?)?;
        }
        let what = if zeros { "they are all zero" } else { "they are not zero" };
        warnings.push(format!(
            "adapter {}: {} tensors beside its products are left out, as diffusers does (`{first}`, ...); {what}",
            self.path.display(),
            names.len()
        ));
        Ok(())
    }

    /// Tells what diffusers reads otherwise.
    fn not_read(&self, scales: &[(&str, f64)], warnings: &mut Vec<String>) {
        let Some(reader) = self.reader else { return };
        let path = self.path.display();
        let others: Vec<&str> =
            self.modules.keys().copied().filter(|module| !reader.reads(module)).collect();
        if let Some(first) = others.first() {
            warnings.push(format!(
                "adapter {path}: diffusers 0.42.1 does not read {} of its {} layers (`{first}`, ...); here all are \
                 added",
                others.len(),
                self.modules.len()
            ));
        }
        let scaled =
            scales.iter().find(|(module, scale)| *scale != 1.0 && !reader.takes_alpha(module));
        if let Some((module, scale)) = scaled {
            warnings.push(format!(
                "adapter {path}: diffusers 0.42.1 takes no alpha of files with such names; here products count \
                 as alpha says (`{module}`: {scale})"
            ));
        }
    }
}

/// The tensors of each module, by their roles.
fn modules<'f>(names: &[&'f str], path: &Path) -> Result<Modules<'f>> {
    let mut modules: Modules<'f> = BTreeMap::new();
    let mut adapters: BTreeSet<&str> = BTreeSet::new();
    for &name in names {
        let spelled = split_name(name).with_context(|| {
            format!(
                "{}: tensor `{name}` belongs to a kind of adapter that is not supported; LoRA with linear \
                 layers and convolutions is",
                path.display()
            )
        })?;
        ensure!(
            spelled.role != Role::Alpha || !is_xlabs(spelled.module),
            "{}: `{name}` is the alpha of an attention processor, which diffusers does not read; leave it out \
             where it equals the rank",
            path.display()
        );
        adapters.extend(spelled.adapter);
        modules.entry(spelled.module).or_default().insert(spelled.role, name);
    }
    ensure!(!modules.is_empty(), "{} holds no adapter", path.display());
    ensure!(
        adapters.len() < 2,
        "{} holds several adapters ({}); save each to a file of its own",
        path.display(),
        adapters.into_iter().collect::<Vec<_>>().join(", ")
    );
    Ok(modules)
}

fn scalar(values: &Weights, name: &str, shape: &[usize]) -> Result<f64> {
    let tensor = values.root().tensor(name, shape)?.flatten_all()?;
    let numbers = tensor.to_vec1::<f32>()?;
    ensure!(numbers.len() == 1, "`{name}` is no single number");
    Ok(f64::from(numbers[0]))
}

fn all_zero(tensor: &Tensor) -> Result<bool> {
    let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(numbers.iter().all(|number| *number == 0.0))
}
