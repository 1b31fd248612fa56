//! In: nothing. Out: what a pickle can hold, as far as checkpoints need it.

/// A value, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) enum Value<'p> {
    /// A whole number.
    Int(i64),
    /// Text.
    Text(&'p str),
    /// A tuple or list.
    Sequence(Vec<Id>),
    /// A dictionary in the order of insertion; a key may stand there twice, the last counts.
    Dict(Vec<(Id, Id)>),
    /// A class or function, by module and name.
    Global(&'p str, &'p str),
    /// What a known harmless class or function would have made: nothing but its name.
    Inert(&'p str, &'p str),
    /// Where the elements of tensors lie.
    Storage(Storage<'p>),
    /// A view of a storage.
    Tensor(View),
    /// None, a truth value, a number with a point, bytes, a set: nothing that is looked at.
    Other,
}

/// Number of a value in `Pickle::values`.
pub(crate) type Id = usize;

/// An entry of the archive that holds elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storage<'p> {
    /// Its class, such as `FloatStorage`.
    pub(super) class: &'p str,
    /// Its name in the archive's `data` folder.
    pub(super) key: &'p str,
    /// How many elements it has.
    pub(super) elements: u64,
}

/// A tensor as a view of a storage, in elements.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(super) storage: Id,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}
