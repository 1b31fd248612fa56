//! In: the products that a measurement was made with. Out: what its record says of them, as runs have it.

use serde::{Deserialize, Serialize};

use crate::compute::products::{Products, ProductsHere};

/// How the factors of products were rounded on the processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rounding {
    /// What was asked for; absent for f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub products: Option<String>,
    /// What ran, `amx` or `f32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub products_run: Option<String>,
}

impl Rounding {
    /// That of these products.
    pub(crate) fn of(products: ProductsHere) -> Self {
        let record = products.record();
        let entry = |name: &str| {
            let found = record.iter().find(|(key, _)| key == name);
            found.and_then(|(_, value)| value.as_str()).map(str::to_owned)
        };
        Self { products: entry("products"), products_run: entry("products_run") }
    }

    /// Whether `products` were asked for.
    pub(crate) fn is_asked(&self, products: Products) -> bool {
        self.products.as_deref().unwrap_or_else(|| Products::F32.name()) == products.name()
    }

    /// In words: `products bf16`.
    pub(crate) fn in_words(&self) -> String {
        let unrounded = Products::F32.name();
        let asked = self.products.as_deref().unwrap_or(unrounded);
        match self.products_run.as_deref() {
            Some(ran) if ran == unrounded => format!("products {asked}, which ran in {unrounded}"),
            _ => format!("products {asked}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_told_apart_from_what_was_asked_for() {
        let f32 = Rounding::of(ProductsHere::default());
        assert_eq!(serde_json::to_string(&f32).unwrap(), "{}");
        assert!(f32.is_asked(Products::F32) && !f32.is_asked(Products::Bf16));
        let tiles = Rounding::of(Products::Bf16.by_the_model());
        assert!(tiles.is_asked(Products::Bf16) && !tiles.is_asked(Products::F32));
        assert_eq!(
            (f32.in_words(), tiles.in_words()),
            ("products f32".into(), "products bf16".into())
        );
        let fallback = Rounding { products_run: Some("f32".to_owned()), ..tiles };
        assert_eq!(fallback.in_words(), "products bf16, which ran in f32");
    }
}
