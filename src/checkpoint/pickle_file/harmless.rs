//! In: the name of a class or function in a pickle. Out: whether training programs are known to leave
//! its like beside a state dict. Nothing is called in either case; the list only tells a checkpoint with
//! its settings in it from a file that was made to do harm.

/// Single classes and functions.
const NAMES: &[(&str, &[&str])] = &[
    ("argparse", &["Namespace"]),
    ("_codecs", &["encode"]),
    ("collections", &["Counter", "deque"]),
    ("copyreg", &["_reconstructor"]),
    ("copy_reg", &["_reconstructor"]),
    ("datetime", &["date", "datetime", "timedelta", "timezone"]),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("pathlib", &["Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]),
    ("types", &["SimpleNamespace"]),
    ("uuid", &["UUID"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.random", &["__RandomState_ctor"]),
    ("numpy.random._mt19937", &["MT19937"]),
    ("numpy.random._pickle", &["__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"]),
    ("torch", &["Size", "device", "Tensor", "dtype"]),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    (
        "torch._utils",
        &["_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_device_tensor_from_numpy"],
    ),
    ("torch.serialization", &["_get_layout"]),
];

/// Data classes of Python's own that hold values.
const PLAIN: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
];

/// Packages whose objects of settings and states are saved beside weights.
const PACKAGES: &[&str] = &[
    "addict",
    "apex",
    "deepspeed",
    "easydict",
    "fairscale",
    "fairseq",
    "megatron",
    "mmcv",
    "modelscope",
    "omegaconf",
    "pytorch_lightning",
    "ruamel",
    "transformers",
    "yacs",
];

/// Whether such an object may stand beside the tensors.
pub(super) fn is_harmless(module: &str, name: &str) -> bool {
    let package = module.split('.').next().unwrap_or_default();
    // In protocol 4 a name may have dots of its own, such as `os.system` of a module that imports `os`.
    if name.contains('.') {
        return false;
    }
    match module {
        "builtins" | "__builtin__" => PLAIN.contains(&name),
        _ if PACKAGES.contains(&package) => true,
        _ if module.starts_with("torch.optim.") || module.starts_with("torch.nn.") => true,
        _ => NAMES.iter().any(|(known, names)| *known == module && names.contains(&name)),
    }
}
