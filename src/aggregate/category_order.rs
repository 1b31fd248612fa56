//! In: names of categories. Out: their order in tables.

use std::cmp::Ordering;

use crate::benchmark::category::l1_of;

/// The broad categories in the order of the reference's table.
pub(crate) const L1_ORDER: [&str; 5] = ["global", "entity", "attribute", "relation", "other"];

/// Order of two category names of either level in a table.
pub(crate) fn table_order(a: &str, b: &str) -> Ordering {
    let rank =
        |name: &str| L1_ORDER.iter().position(|&l1| l1 == l1_of(name)).unwrap_or(L1_ORDER.len());
    rank(a).cmp(&rank(b)).then_with(|| l1_of(a).cmp(l1_of(b))).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_categories_come_first_and_in_the_reference_order() {
        let mut names = [
            "zebra - x",
            "other",
            "global -",
            "other - count",
            "entity",
            "aardvark",
            "attribute - size",
        ];
        names.sort_by(|a, b| table_order(a, b));
        assert_eq!(
            names,
            [
                "global -",
                "entity",
                "attribute - size",
                "other",
                "other - count",
                "aardvark",
                "zebra - x"
            ]
        );
    }
}
