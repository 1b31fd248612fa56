//! In: the `tuple` column of a question row. Out: its two category levels, cut exactly as the
//! reference scorer cuts them. Which names are known or odd is left to `validate`.

use std::sync::Arc;

/// The two category levels of a question.
///
/// `tuple` reads `L1 - L2 (arguments)`, e.g. `attribute - color (truck, red)`. The reference scorer
/// (ELLA, `compute_dpg_bench.py`) takes as L2 everything before the first `(`, trimmed, so that the
/// L2 name *includes* its L1 (`attribute - color`, or `global -` where no detail is given), and as
/// L1 everything of that before the first `-`, trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Category {
    /// Shared: thousands of questions have a handful of categories.
    l2: Arc<str>,
}

impl Category {
    /// Cuts the category out of a `tuple` cell.
    pub fn from_tuple(tuple: &str) -> Self {
        Self { l2: Self::name_in(tuple).into() }
    }

    /// The L2 name inside a `tuple` cell.
    pub fn name_in(tuple: &str) -> &str {
        tuple.split('(').next().unwrap_or_default().trim()
    }

    /// Broad level: `global`, `entity`, `attribute`, `relation` or `other` in the official file.
    pub fn l1(&self) -> &str {
        l1_of(&self.l2)
    }

    /// Detailed level with its L1 in front, e.g. `attribute - color`.
    pub fn l2(&self) -> &str {
        &self.l2
    }
}

/// The L1 name inside an L2 name.
pub fn l1_of(l2: &str) -> &str {
    l2.split('-').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_as_the_reference_scorer_does() {
        for (tuple, l1, l2) in [
            ("attribute - color (truck, red)", "attribute", "attribute - color"),
            ("global - (oil painting)", "global", "global -"),
            ("global - - (oil painting)", "global", "global - -"),
            ("relation - non-spatial (a, b, c)", "relation", "relation - non-spatial"),
            ("entity", "entity", "entity"),
            ("other - text (sign, \"a (b)\")", "other", "other - text"),
        ] {
            let category = Category::from_tuple(tuple);
            assert_eq!((category.l1(), category.l2()), (l1, l2), "{tuple}");
        }
    }
}
