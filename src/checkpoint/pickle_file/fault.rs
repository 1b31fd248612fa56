//! In: what is wrong with a PyTorch checkpoint. Out: that as data; the sentence goes on after the file's name. What a
//! file calls its things is shortened in it, for it may be of any length.

use std::io;

/// Why a PyTorch checkpoint cannot be read. Nothing in it was called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickleFault {
    /// The system said no.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// A format before that of zip archives.
    #[error(
        "is in the format of PyTorch before 1.6 or a bare pickle; load it and save it again with a \
         current PyTorch, or get a newer file"
    )]
    OldFormat,
    /// Something else.
    #[error("is no checkpoint that torch.save wrote (no zip archive); download it again")]
    NoArchive,
    /// An archive without a directory that can be read.
    #[error("is truncated or damaged: its zip archive cannot be read ({0}); download it again")]
    Damaged(io::Error),
    /// An archive of something else; how many pickles it holds.
    #[error("is no checkpoint that torch.save wrote: its archive holds {0} data.pkl")]
    Pickles(usize),
    /// An entry of the archive that cannot be used.
    #[error("{0}")]
    Entry(#[from] EntryFault),
    /// Numbers in another byte order.
    #[error("was saved on a machine with the other byte order; save it again on a common one")]
    ByteOrder,
    /// A pickle of so many bytes.
    #[error("has a data.pkl of {0} bytes, which no checkpoint has")]
    TooLarge(u64),
    /// Bytes of the pickle that are no operation.
    #[error("{0}")]
    Bytes(#[from] BytesFault),
    /// An operation of the pickle that cannot be done.
    #[error("{fault} (byte {at} of its data.pkl)")]
    Operation {
        /// Why.
        fault: OperationFault,
        /// Where it stands.
        at: usize,
    },
    /// An object instead of a state dict.
    #[error("holds a {module}.{name} instead of a state dict; save the model's state_dict()")]
    HoldsObject {
        /// Module of its class.
        module: String,
        /// Its class.
        name: String,
    },
    /// A tensor instead of a state dict.
    #[error("holds one tensor instead of a state dict")]
    HoldsTensor,
    /// Something else instead of a state dict.
    #[error("holds no state dict")]
    NoStateDict,
    /// A dictionary of other things; some of its keys, shortened.
    #[error("holds no tensors where a state dict should be; its keys: {0:?}")]
    NoTensors(Vec<String>),
    /// Two tensors that get one name here.
    #[error("holds both `{}` and `{}`, which are one", cut(one), cut(other))]
    SameName {
        /// The one's name in the file.
        one: String,
        /// The other's.
        other: String,
    },
    /// A tensor that cannot be read.
    #[error("tensor `{}` {fault}", cut(name))]
    Tensor {
        /// Its name.
        name: String,
        /// Why.
        fault: TensorFault,
    },
}

/// Why an entry of an archive cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// There is none of that name.
    #[error("its archive lacks `{}`", cut(.0))]
    Missing(String),
    /// It is damaged, or not as `torch.save` writes it.
    #[error("its archive's `{}` cannot be read: {damage}; download it again", cut(name))]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong with it.
        damage: EntryDamage,
    },
    /// Its bytes cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It has fewer bytes than its archive says.
    #[error("cannot be read: it ends early")]
    EndsEarly,
}

/// What is wrong with an entry of an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryDamage {
    /// The archive's words on it make no sense.
    #[error("{0}")]
    Zip(io::Error),
    /// It is not stored as it is.
    #[error("it is compressed or encrypted, as torch.save never does")]
    NotStored,
    /// It cannot be told where it begins.
    #[error("it has no place")]
    NoPlace,
    /// It does not end within the file.
    #[error("it reaches beyond the end of the file")]
    BeyondEnd,
}

/// Why a tensor cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFault {
    /// It is a view of nothing.
    #[error("has no storage")]
    NoStorage,
    /// Its storage is of a class that is not read.
    #[error("is stored as {}, which is not read here", cut(.0))]
    Class(String),
    /// Its storage's entry cannot be used.
    #[error("cannot be found: {0}")]
    NotFound(#[from] EntryFault),
    /// Its storage is too small for it.
    #[error(
        "of shape {shape:?} needs more elements than its storage `{}` of {size} bytes has",
        cut(storage)
    )]
    TooLarge {
        /// Its shape.
        shape: Vec<u64>,
        /// Name of the storage in the archive's `data` folder.
        storage: String,
        /// Bytes of the storage.
        size: u64,
    },
}

/// Why bytes of a pickle are no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BytesFault {
    /// A code that is not known.
    #[error("its data.pkl is no pickle that PyTorch writes (code {code:#04x} at byte {at})")]
    Code {
        /// The code.
        code: u8,
        /// Where it stands.
        at: usize,
    },
    /// The pickle ends within an operation, at this byte.
    #[error("its data.pkl ends early, at byte {0}")]
    EndsEarly(usize),
    /// Text at this byte that is not UTF-8.
    #[error("its data.pkl has broken text at byte {0}")]
    Text(usize),
    /// Something else at this byte where a number is due.
    #[error("its data.pkl has no number at byte {0}")]
    Number(usize),
}

/// Why an operation of a pickle cannot be done. `tensor` is the name of the one that is being made, where it is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationFault {
    /// It takes more values than there are.
    #[error("its pickle takes values that are not there")]
    NoValues,
    /// It names a value that was never kept.
    #[error("its pickle asks for a value {0} that it never kept")]
    NeverKept(u32),
    /// There are more values than this in it.
    #[error("its pickle has more than {0} values, which no checkpoint has")]
    TooManyValues(usize),
    /// A key stands alone.
    #[error("its pickle sets a key without a value")]
    KeyWithoutValue,
    /// The target is no list.
    #[error("its pickle appends to something that is no list")]
    NoList,
    /// The target is no dictionary.
    #[error("its pickle sets items of something that is no dict")]
    NoDict,
    /// A dictionary is made of something else than pairs.
    #[error("an OrderedDict of its pickle is made of no pairs")]
    NoPairs,
    /// A class has no name.
    #[error("its pickle names a class by something that is no text")]
    ClassName,
    /// A call of something without a name.
    #[error("its pickle would call something that is no named function")]
    CallsUnnamed,
    /// A call without a tuple of arguments.
    #[error("its pickle would call {module}.{name} without arguments")]
    NoArguments {
        /// Module of the function.
        module: String,
        /// Its name.
        name: String,
    },
    /// A call that may do harm.
    #[error(
        "its pickle would call {module}.{name}, which is not known as harmless in a \
         checkpoint; nothing was called; get the file from its makers"
    )]
    Call {
        /// Module of the function.
        module: String,
        /// Its name.
        name: String,
    },
    /// A storage that is described otherwise.
    #[error("{} has no storage that could be read", named(tensor))]
    Storage {
        /// The tensor.
        tensor: Option<String>,
    },
    /// A storage of a class that is not PyTorch's.
    #[error("{} would be made by {module}.{name}", named(tensor))]
    StorageClass {
        /// The tensor.
        tensor: Option<String>,
        /// Module of the class.
        module: String,
        /// Its name.
        name: String,
    },
    /// A view that is described otherwise.
    #[error("{} is described in a way that cannot be read", named(tensor))]
    View {
        /// The tensor.
        tensor: Option<String>,
    },
    /// A view of an object.
    #[error("{} would be made of {module}.{name}", named(tensor))]
    ViewOfObject {
        /// The tensor.
        tensor: Option<String>,
        /// Module of the object's class.
        module: String,
        /// Its name.
        name: String,
    },
}

fn named(tensor: &Option<String>) -> String {
    tensor.as_ref().map_or_else(|| "a tensor".to_owned(), |name| format!("tensor `{}`", cut(name)))
}

/// The beginning of a text that may be of any length, fit for one line.
pub(super) fn cut(text: &str) -> String {
    let short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 { format!("{short}...") } else { short }
}
