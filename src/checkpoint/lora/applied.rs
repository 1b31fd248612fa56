//! In: nothing. Out: what adapters do to a checkpoint, as data and in words. Finding it out is left to `adapter_file`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::checkpoint::recipe::LowRank;

/// Products by component and tensor.
pub(crate) type Additions = BTreeMap<String, BTreeMap<String, Vec<LowRank>>>;

/// What an adapter does to a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AppliedLora {
    /// As the user named it.
    pub file: PathBuf,
    /// How strongly it counts.
    pub weight: f64,
    /// Tensors that it changes, by component.
    pub changed: BTreeMap<String, usize>,
    /// Tensors to which it adds nothing but zeros.
    pub unchanged: usize,
    /// Where diffusers would do otherwise, and what is left out, a sentence each.
    pub warnings: Vec<String>,
}

impl AppliedLora {
    /// The adapter, and how many tensors of what it changes.
    pub(crate) fn described(&self) -> String {
        let counts = self.changed.iter().map(|(component, count)| format!("{component} {count}"));
        let counts: Vec<String> = counts.collect();
        let total: usize = self.changed.values().sum();
        let (file, weight) = (self.file.display(), self.weight);
        format!("{file}, weight {weight}: changes {total} tensors ({})", counts.join(", "))
    }

    /// A sentence about an adapter that changes nothing at all.
    pub(crate) fn remark(&self) -> Option<String> {
        let changes = self.changed.values().any(|count| *count > 0);
        let why = if self.weight == 0.0 { "its weight is 0" } else { "its products are all zero" };
        (!changes).then(|| format!("adapter {} changes no tensor: {why}", self.file.display()))
    }
}
