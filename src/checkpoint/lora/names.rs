//! In: names of tensors in an adapter file, as kohya's scripts, diffusers and PEFT spell them. Out: the tensor of
//! the checkpoint that each changes, and its role. Reading files is left to `lora`.

use std::collections::BTreeMap;

use super::flux_layers::{Part, flux_layers, is_xlabs};
use super::notes::PEFT_START;
use crate::checkpoint::ldm_names::unet_module;

/// The tensor names of one component that an adapter may change.
#[derive(Debug)]
pub(crate) struct Target {
    /// Folder of the component: `unet`, `text_encoder` ...
    pub component: String,
    /// Names of its tensors.
    pub tensors: Vec<String>,
}

/// Role of a tensor in an adapter file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Up,
    Down,
    Alpha,
}

/// How names end, the longer of two before the shorter.
const ENDINGS: [(&str, Role); 9] = [
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    (".alpha", Role::Alpha),
];

/// PEFT's names of the factors; the adapter's own name may follow.
const FACTORS: [(&str, Role); 2] = [(".lora_B.", Role::Up), (".lora_A.", Role::Down)];

/// A name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelled<'n> {
    /// The module, as it is written.
    pub(super) module: &'n str,
    pub(super) role: Role,
    /// Name of the adapter, where it is written.
    pub(super) adapter: Option<&'n str>,
}

/// Takes a name apart; `None` for one of another kind of adapter.
pub(super) fn split_name(name: &str) -> Option<Spelled<'_>> {
    for (ending, role) in [(".up.weight", Role::Up), (".down.weight", Role::Down)] {
        if let Some(module) = name.strip_suffix(ending).filter(|module| is_xlabs(module)) {
            return Some(Spelled { module, role, adapter: None });
        }
    }
    for (ending, role) in ENDINGS {
        if let Some(module) = name.strip_suffix(ending) {
            return Some(Spelled { module, role, adapter: None });
        }
    }
    FACTORS.iter().find_map(|&(factor, role)| {
        let (module, rest) = name.split_once(factor)?;
        let adapter = match rest {
            "weight" => None,
            rest => Some(rest.strip_suffix(".weight").filter(|name| !name.contains('.'))?),
        };
        Some(Spelled { module, role, adapter })
    })
}

/// Where a module lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'t> {
    /// There.
    One(Place<'t>),
    /// In none of the networks.
    Nowhere,
    /// In each of these.
    Several(Vec<&'t str>),
    /// Named in a way that diffusers does not read for this model.
    NotRead,
}

/// The tensors that a module changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'t> {
    pub(super) component: &'t str,
    /// With the rows of each: several where a layer of the adapter is more than one here.
    pub(super) parts: Vec<Part<'t>>,
    /// Whether the name says which network it is of.
    pub(super) is_named: bool,
    /// The module's name within its network.
    pub(super) module: String,
}

/// How names of a network's modules begin.
const STARTS: [(&str, &str); 8] = [
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("transformer.", "transformer"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
];

/// The same for FLUX.1, before the others.
const FLUX_STARTS: [(&str, &str); 6] = [
    ("lora_unet_", "transformer"),
    ("lora_transformer_", "transformer"),
    ("diffusion_model.", "transformer"),
    ("lora_te3_", "text_encoder_2"),
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.t5xxl.transformer.", "text_encoder_2"),
];

/// Starts of kohya's names and of the publisher's, of which diffusers reads none for Stable Diffusion 3.
const NOT_OF_SD3: [&str; 4] = ["lora_", "diffusion_model.", "text_encoders.", "joint_blocks."];

/// The networks that names depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Flux,
    Sd3,
    Other,
}

impl Family {
    fn of(targets: &[Target]) -> Self {
        let has = |tensor: &str| {
            let transformers = targets.iter().filter(|target| target.component == "transformer");
            transformers.flat_map(|target| &target.tensors).any(|own| own == tensor)
        };
        if has("single_transformer_blocks.0.attn.to_q.weight") {
            Self::Flux
        } else if has("transformer_blocks.0.attn.add_q_proj.weight") {
            Self::Sd3
        } else {
            Self::Other
        }
    }
}

/// Finds the tensors that an adapter's module changes.
pub(super) struct Index<'t> {
    /// By component and module, with and without dots.
    by_spelling: BTreeMap<(&'t str, String), Vec<Part<'t>>>,
    components: Vec<&'t str>,
    family: Family,
    /// The UNet's `layers_per_block`.
    layers: usize,
}

impl<'t> Index<'t> {
    pub(super) fn new(targets: &'t [Target], layers: usize) -> Self {
        let family = Family::of(targets);
        let mut by_spelling = BTreeMap::new();
        for target in targets {
            let component = target.component.as_str();
            let mut insert = |module: &str, parts: Vec<Part<'t>>| {
                by_spelling.insert((component, module.replace('.', "_")), parts.clone());
                by_spelling.insert((component, module.to_owned()), parts);
            };
            if family == Family::Flux && component == "transformer" {
                for (layer, parts) in flux_layers(&target.tensors) {
                    insert(&layer, parts);
                }
            }
            for tensor in &target.tensors {
                let Some(module) = tensor.strip_suffix(".weight") else { continue };
                let module = module.strip_prefix("text_model.").unwrap_or(module);
                insert(module, vec![Part { tensor, rows: None }]);
            }
        }
        let components = targets.iter().map(|target| target.component.as_str()).collect();
        Self { by_spelling, components, family, layers }
    }

    /// Whether the checkpoint is FLUX.1, for which diffusers reads other names as well.
    pub(super) fn is_flux(&self) -> bool {
        self.family == Family::Flux
    }

    /// The tensors of a module as it is written, in `component` where that is known.
    pub(super) fn find(&self, written: &str, component: Option<&str>) -> Found<'t> {
        let module = written.strip_prefix(PEFT_START).unwrap_or(written);
        if self.family == Family::Sd3 && NOT_OF_SD3.iter().any(|start| module.starts_with(start)) {
            return Found::NotRead;
        }
        let own: &[(&str, &str)] = if self.is_flux() { &FLUX_STARTS } else { &[] };
        let start = own.iter().chain(&STARTS).find(|(start, _)| module.starts_with(start));
        if let Some((start, named)) = start {
            let found = self.find_in(named, &module[start.len()..]);
            return found
                .map_or(Found::Nowhere, |place| Found::One(Place { is_named: true, ..place }));
        }
        let candidates = self.components.iter().filter(|own| component.is_none_or(|c| c == **own));
        let mut places: Vec<Place> =
            candidates.filter_map(|own| self.find_in(own, module)).collect();
        match (places.pop(), places.is_empty()) {
            (None, _) => Found::Nowhere,
            (Some(place), true) => Found::One(place),
            (Some(last), false) => {
                places.push(last);
                Found::Several(places.iter().map(|place| place.component).collect())
            }
        }
    }

    fn find_in(&self, component: &str, module: &str) -> Option<Place<'t>> {
        let component = *self.components.iter().find(|own| **own == component)?;
        // Attention processors of older versions of diffusers held the factors themselves.
        let mut module =
            if is_xlabs(module) { module.to_owned() } else { module.replace(".processor.", ".") };
        if component == "unet" && module.ends_with(".to_out") {
            module += ".0";
        } else if component.starts_with("text_encoder") {
            module = module.replace("self_attn.to_", "self_attn.");
            for name in ["q", "k", "v", "out"] {
                if module.ends_with(&format!("self_attn.{name}")) {
                    module += "_proj";
                }
            }
        }
        for start in ["text_model.", "text_model_"] {
            if let Some(rest) = module.strip_prefix(start) {
                module = rest.to_owned();
            }
        }
        let spellings = [Some(module.clone()), unet_module(&module, self.layers)];
        let parts = spellings
            .into_iter()
            .flatten()
            .find_map(|spelling| self.by_spelling.get(&(component, spelling)))?;
        Some(Place { component, parts: parts.clone(), is_named: false, module })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let spelled = |name| split_name(name).map(|s: Spelled| (s.module, s.role, s.adapter));
        assert_eq!(spelled("a.b.lora_A.weight"), Some(("a.b", Role::Down, None)));
        assert_eq!(
            spelled("a.b.lora_B.default_0.weight"),
            Some(("a.b", Role::Up, Some("default_0")))
        );
        assert_eq!(spelled("a.to_q_lora.up.weight"), Some(("a.to_q", Role::Up, None)));
        assert_eq!(spelled("lora_te_a.alpha"), Some(("lora_te_a", Role::Alpha, None)));
        for other in ["a.lora_A.bias", "a.lora_A.x.y.weight", "a.hada_w1_a", "a.dora_scale"] {
            assert_eq!(spelled(other), None, "{other}");
        }
    }

    #[test]
    fn a_bare_name_must_be_of_one_network() {
        let target = |component: &str, tensor: &str| Target {
            component: component.into(),
            tensors: vec![tensor.into()],
        };
        let targets = [
            target("unet", "mid_block.attentions.0.proj_in.weight"),
            target("text_encoder", "text_model.encoder.layers.0.mlp.fc1.weight"),
            target("text_encoder_2", "text_model.encoder.layers.0.mlp.fc1.weight"),
        ];
        let index = Index::new(&targets, 2);
        let found = |module, component| match index.find(module, component) {
            Found::One(place) => vec![place.component],
            Found::Nowhere => Vec::new(),
            Found::Several(components) => components,
            Found::NotRead => panic!("{module}"),
        };
        assert_eq!(found("mid_block.attentions.0.proj_in", None), ["unet"]);
        assert_eq!(found("base_model.model.mid_block.attentions.0.proj_in", None), ["unet"]);
        let both = ["text_encoder", "text_encoder_2"];
        assert_eq!(found("encoder.layers.0.mlp.fc1", None), both);
        assert_eq!(found("encoder.layers.0.mlp.fc1", Some("text_encoder")), both[..1]);
        assert_eq!(found("text_encoder_2.encoder.layers.0.mlp.fc1", None), both[1..]);
        assert!(found("encoder.layers.0.mlp.fc1", Some("unet")).is_empty());
    }
}
