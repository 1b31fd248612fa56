//! In: how the user wants the factors of products rounded, and the device. Out: whether this machine has the matrix
//! tiles for it, what the record says of that, and the tiles for the layers that are loaded meanwhile.
//!
//! Tensors stay as they are; only the factors of a product are rounded, as its operands are packed. A layer packs its
//! weights as it is loaded and keeps no other copy. What to pack for is a matter of the thread that loads, for it concerns
//! every layer of every network and nothing else of them.

use std::cell::Cell;

use candle_core::Device;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use super::cpu::tile_packing::Packing;
use super::cpu::tile_packing::Parts;
use super::cpu::tiles::TileKernel;
use super::cpu::tiles::support::NoTiles;
use crate::checkpoint::model_error::ModelError;

/// How the factors of products are rounded on the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// Not at all.
    #[default]
    F32,
    /// To two parts in bf16 each, of whose products the three largest are summed: about 17 bits.
    Bf16x3,
    /// To bf16: 8 bits.
    Bf16,
}

impl Products {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16x3, Self::Bf16];

    /// As flags and records spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16x3 => "bf16x3",
            Self::Bf16 => "bf16",
        }
    }

    /// What runs on `device` where this is asked for: in f32 where the processor has no matrix tiles.
    ///
    /// # Errors
    /// Rounded products on another device than the processor.
    pub fn on(self, device: &Device) -> Result<ProductsHere, ModelError> {
        #[cfg(test)]
        if BY_THE_MODEL.get() {
            return self.with(|| Ok(TileKernel::Model), device);
        }
        self.with(TileKernel::of_processor, device)
    }

    fn with(
        self,
        tiles: impl FnOnce() -> Result<TileKernel, NoTiles>,
        device: &Device,
    ) -> Result<ProductsHere, ModelError> {
        let parts = match self {
            Self::F32 => return Ok(ProductsHere::default()),
            Self::Bf16x3 => Parts::Two,
            Self::Bf16 => Parts::One,
        };
        if !device.is_cpu() {
            return Err(ModelError::NoRoundedProducts { products: self.name() });
        }
        Ok(match tiles() {
            Ok(kernel) => ProductsHere {
                asked: self,
                packing: Some(Packing { kernel, parts }),
                missing: None,
            },
            Err(reason) => ProductsHere { asked: self, packing: None, missing: Some(reason) },
        })
    }
}

impl std::str::FromStr for Products {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|products| products.name() == name).ok_or(())
    }
}

/// What products were asked for, and what runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProductsHere {
    asked: Products,
    packing: Option<Packing>,
    missing: Option<NoTiles>,
}

impl ProductsHere {
    /// Entries of a record: what was asked for, and what ran, `amx` or `f32`. None for products in f32.
    pub(crate) fn record(self) -> Vec<(String, Value)> {
        if self.asked == Products::F32 {
            return Vec::new();
        }
        let ran = if self.packing.is_some() { "amx" } else { "f32" };
        let entries = [("products", self.asked.name()), ("products_run", ran)];
        entries.map(|(key, value)| (key.to_owned(), value.into())).into()
    }

    /// Whether products run in f32 although others were asked for.
    pub fn is_fallback(self) -> bool {
        self.missing.is_some()
    }

    /// What was asked for and what runs, for the user; `None` for products in f32.
    pub fn described(self) -> Option<String> {
        let asked = self.asked.name();
        match (self.asked, self.missing) {
            (Products::F32, _) => None,
            (_, None) => Some(format!("{asked}, by the processor's matrix tiles (AMX)")),
            (_, Some(reason)) => Some(format!("f32, not {asked}: {reason}")),
        }
    }

    /// Runs `load`, and layers that it loads on this thread pack their weights for these products.
    pub(crate) fn while_loading<T>(self, load: impl FnOnce() -> T) -> T {
        while_packing(self.packing, load)
    }
}

/// Runs `load`, and layers that it loads on this thread pack their weights so.
pub(crate) fn while_packing<T>(packing: Option<Packing>, load: impl FnOnce() -> T) -> T {
    let _restored = Restored(PACKING.replace(packing));
    load()
}

thread_local! {
    /// For the layers that this thread is loading.
    static PACKING: Cell<Option<Packing>> = const { Cell::new(None) };
}

/// How a layer that is being loaded is to pack its weights; `None` where it is to keep them.
pub(crate) fn packing() -> Option<Packing> {
    PACKING.get()
}

/// What to pack for before, and again afterwards, whatever happens meanwhile.
struct Restored(Option<Packing>);

impl Drop for Restored {
    fn drop(&mut self) {
        PACKING.set(self.0);
    }
}

#[cfg(test)]
thread_local! {
    /// Whether what this thread loads is computed by the model of the tile instruction, not by the processor's tiles.
    static BY_THE_MODEL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `load`, for which the model of the tile instruction stands for the processor's tiles.
#[cfg(test)]
pub(crate) fn with_the_model_of_tiles<T>(load: impl FnOnce() -> T) -> T {
    BY_THE_MODEL.set(true);
    let loaded = load();
    BY_THE_MODEL.set(false);
    loaded
}

#[cfg(test)]
impl Products {
    /// What runs where the model of the tile instruction stands for the processor's tiles.
    pub(crate) fn by_the_model(self) -> ProductsHere {
        self.with(|| Ok(TileKernel::Model), &Device::Cpu).unwrap_or_default()
    }

    /// The same without one of the three products of two parts: low times high, high times high, high times low.
    pub(crate) fn by_a_model_lacking(self, product: usize) -> ProductsHere {
        self.with(|| Ok(TileKernel::Lacking(product)), &Device::Cpu).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_and_what_ran_are_recorded() {
        let cpu = Device::Cpu;
        let f32 = Products::F32.with(|| panic!("not asked"), &cpu).unwrap();
        assert_eq!((f32.record(), f32.described(), f32.is_fallback()), (Vec::new(), None, false));
        let ran = Products::Bf16x3.by_the_model();
        let entries = |products: ProductsHere| -> Vec<String> {
            products.record().iter().map(|(key, value)| format!("{key} {value}")).collect()
        };
        assert_eq!(entries(ran), ["products \"bf16x3\"", "products_run \"amx\""]);
        assert!(ran.described().unwrap().starts_with("bf16x3, by") && !ran.is_fallback());
        for reason in [NoTiles::Refused(28), NoTiles::NotInProcessor] {
            let refused = Products::Bf16.with(|| Err(reason), &cpu).unwrap();
            assert_eq!(entries(refused), ["products \"bf16\"", "products_run \"f32\""]);
            let told = refused.described().unwrap();
            assert!(told.starts_with("f32, not bf16: ") && told.ends_with(&reason.to_string()));
            assert!(refused.is_fallback());
            assert_eq!(refused.while_loading(packing), None);
        }
    }

    #[test]
    fn packing_lasts_for_one_loading() {
        let products = Products::Bf16.by_the_model();
        let due = Some(Packing { kernel: TileKernel::Model, parts: Parts::One });
        products.while_loading(|| {
            assert_eq!(packing(), due);
            assert_eq!(ProductsHere::default().while_loading(packing), None);
            assert_eq!(packing(), due);
        });
        assert_eq!(packing(), None);
    }

    #[test]
    fn names_go_both_ways() {
        for products in Products::ALL {
            assert_eq!(products.name().parse(), Ok(products));
        }
        assert_eq!("int8".parse::<Products>(), Err(()));
    }
}
