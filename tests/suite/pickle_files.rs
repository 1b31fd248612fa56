//! In: checkpoints as `torch.save` writes them, and such as it never does. Checks: the same tensors as
//! PyTorch's, whatever the wrapping, the number format and the strides; one sentence for everything else.
//! The checkpoints are made by `tests/fixtures/make_pickles.py`, those that mean harm here.

use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::StateDictLayout;
use dpg_bench::checkpoint::needed_tensors::NeededTensors;
use dpg_bench::checkpoint::weights::Weights;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::tiny_checkpoint::fixture;

const UNWRAPPING: StateDictLayout =
    StateDictLayout { keys: &["model", "module"], removed: "model." };

fn open(path: &Path) -> Result<Weights, String> {
    Weights::open_pickle(path, UNWRAPPING, DType::F64, &Device::Cpu).map_err(|e| e.to_string())
}

fn expected() -> Vec<(String, Tensor)> {
    let path = fixture("pickle/expected.safetensors");
    let mut tensors: Vec<_> =
        candle_core::safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Names of tensors that come out otherwise than PyTorch wrote them.
fn disagreements(weights: &Weights, expected: &[(String, Tensor)]) -> Vec<String> {
    let differs = |(name, tensor): &&(String, Tensor)| {
        let ours = weights.root().tensor(name, tensor.dims()).unwrap();
        values(&ours) != values(tensor)
    };
    expected.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

fn floats() -> Vec<(String, Tensor)> {
    expected().into_iter().filter(|(_, tensor)| tensor.dtype().is_float()).collect()
}

#[test]
fn tensors_equal_those_that_pytorch_saved() {
    let floats = floats();
    assert_eq!(floats.len(), 13);
    for name in ["bare", "model", "module", "model_module", "prefixed", "protocol4", "protocol5"] {
        let weights = open(&fixture(&format!("pickle/{name}.bin"))).unwrap();
        assert_eq!(disagreements(&weights, &floats), Vec::<String>::new(), "{name}");
        let (root, ids) = (weights.root(), ["ids", "flags"]);
        assert!(ids.iter().all(|name| root.has(name)) && !root.has("epoch"), "{name}");
        let error = root.tensor("ids", &[6]).unwrap_err().to_string();
        assert!(error.contains("`ids` is stored as I64, which is no float"), "{error}");
        let error = root.tensor("half", &[2, 4]).unwrap_err().to_string();
        assert!(error.contains("`half`") && error.contains("[4, 2]"), "{error}");
    }
    // Had the strides been passed over, the check would have seen it.
    let mut wrong = floats;
    for (name, tensor) in &mut wrong {
        if name == "transposed" {
            *tensor = tensor.t().unwrap().contiguous().unwrap().reshape((5, 3)).unwrap();
        }
    }
    let weights = open(&fixture("pickle/bare.bin")).unwrap();
    assert_eq!(disagreements(&weights, &wrong), ["transposed"]);
}

#[test]
fn without_unwrapping_a_wrapped_file_says_what_it_holds() {
    let path = fixture("pickle/module.bin");
    let plain = StateDictLayout::default();
    let error = Weights::open_pickle(&path, plain, DType::F32, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("[\"epoch\", \"module\"]"), "{error}");
}

#[test]
fn the_needed_tensors_have_one_digest_in_both_formats() {
    let needed: Vec<(String, Vec<usize>)> =
        floats().iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
    let open = |path: &Path| NeededTensors::open(path, UNWRAPPING, &needed);
    let folder = tempfile::tempdir().unwrap();
    let converted = folder.path().join("x.safetensors");
    let notes = [("source", "a \"quoted\" note".to_owned())];
    let original = open(&fixture("pickle/model_module.bin")).unwrap();
    assert_eq!(original.left_out(), 2);
    original.write(&converted, &notes).unwrap();
    let digest = original.digest().unwrap();
    for name in ["bare", "prefixed", "protocol5"] {
        let other = open(&fixture(&format!("pickle/{name}.bin"))).unwrap();
        assert_eq!(other.digest().unwrap(), digest);
    }
    let converted = open(&converted).unwrap();
    assert_eq!((converted.digest().unwrap(), converted.left_out()), (digest.clone(), 0));
    let fewer = NeededTensors::open(&fixture("pickle/bare.bin"), UNWRAPPING, &needed[1..]).unwrap();
    assert_ne!(fewer.digest().unwrap(), digest);
    let weights = converted.weights(DType::F64, &Device::Cpu).unwrap();
    assert_eq!(weights.sha256(), digest);
    assert_eq!(disagreements(&weights, &floats()), Vec::<String>::new());

    let refused = |name: &str, shape: &[usize]| {
        let needed = [needed.clone(), vec![(name.to_owned(), shape.to_vec())]].concat();
        let error = NeededTensors::open(&fixture("pickle/bare.bin"), UNWRAPPING, &needed);
        error.unwrap_err().to_string()
    };
    for (name, shape, parts) in [
        ("absent", &[1][..], ["`absent` is missing (1 of 14", "pickle/bare.bin"]),
        ("half", &[8], ["`half`", "[4, 2]"]),
        ("ids", &[6], ["`ids` is stored as I64", "no float"]),
    ] {
        let error = refused(name, shape);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

/// A device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let needed = [("half".to_owned(), vec![4, 2])];
    let open = NeededTensors::open(&fixture("pickle/bare.bin"), UNWRAPPING, &needed).unwrap();
    let error = open.write(Path::new("/dev/full"), &[]).unwrap_err().to_string();
    assert!(error.contains("/dev/full: cannot be written: No space left"), "{error}");
}

/// A checkpoint with this pickle and these storages.
fn archive(pickle: &[u8], storages: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    for (name, bytes) in storages {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn put(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("pytorch_model.bin");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// What is said about a checkpoint with this pickle and a storage of 24 bytes.
fn said_of(pickle: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive(pickle, &[("data/0", &[0; 24])], CompressionMethod::Stored);
    let path = put(folder.path(), &bytes);
    let error = open(&path).unwrap_err();
    assert!(error.contains("pytorch_model.bin") && !error.contains('\n'), "{error}");
    assert!(error.len() < 600, "{error}");
    error
}

/// `{"w": tensor}` with the given storage, offset, shape and strides, in protocol 2.
fn tensor_pickle(
    class: &str,
    elements: i32,
    offset: i32,
    shape: [i32; 2],
    strides: [i32; 2],
) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\0\0\0w".to_vec();
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage");
    pickle.extend(format!("c{class}\n").bytes());
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpu");
    let number = |pickle: &mut Vec<u8>, value: i32| {
        pickle.push(b'J');
        pickle.extend(value.to_le_bytes());
    };
    number(&mut pickle, elements);
    pickle.extend(b"tQ");
    number(&mut pickle, offset);
    for row in [shape, strides] {
        row.into_iter().for_each(|value| number(&mut pickle, value));
        pickle.push(0x86);
    }
    pickle.extend(b"\x89c_codecs\nencode\n)RtRs.");
    pickle
}

#[test]
fn a_sound_pickle_made_here_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let pickle = tensor_pickle("torch\nFloatStorage", 6, 1, [2, 2], [2, 1]);
    let bytes = archive(&pickle, &[("data/0", &[0; 24])], CompressionMethod::Stored);
    let weights = open(&put(folder.path(), &bytes)).unwrap();
    assert_eq!(weights.root().shape("w"), Some(&[2, 2][..]));
}

#[test]
fn a_pickle_that_would_call_something_is_refused_by_name() {
    for (pickle, name) in [
        (&b"\x80\x02cos\nsystem\nX\x06\0\0\0rm -rf\x85R."[..], "os.system"),
        (b"cposix\nsystem\n(S'true'\ntR.", "posix.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"(cbuiltins\neval\nX\x03\0\0\x001+1o.", "builtins.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "os.system"),
        (b"\x80\x02csubprocess\nPopen\n)\x81.", "subprocess.Popen"),
        (b"\x80\x04cbuiltins\ngetattr\n)}\x92.", "builtins.getattr"),
        (b"ctorch.hub\nload\n)R.", "torch.hub.load"),
        (b"\x80\x04\x8c\x08argparse\x8c\x0a_os.system\x93)R.", "argparse._os.system"),
        // Beside a sound state dict, and as the state of a harmless object.
        (b"}(X\x05\0\0\0model}X\x01\0\0\0xcos\nsystem\n)Ru.", "os.system"),
        (b"cargparse\nNamespace\n)Rcos\nsystem\n)Rb.", "os.system"),
    ] {
        let error = said_of(pickle);
        assert!(error.contains(&format!("would call {name},")), "{error}");
        assert!(error.contains("nothing was called"), "{error}");
    }
    // Called values that are no names.
    assert!(said_of(b"K\x01)R.").contains("no named function"));
}

#[test]
fn a_tensor_made_of_something_else_is_refused_by_name() {
    for (class, part) in [
        ("os\nsystem", "tensor `w` would be made by os.system"),
        ("torch\nQInt8Storage", "tensor `w` is stored as QInt8Storage"),
        ("torch.hub\nload", "tensor `w` has no storage"),
    ] {
        let error = said_of(&tensor_pickle(class, 6, 0, [2, 3], [3, 1]));
        assert!(error.contains(part), "{error}");
    }
    for (elements, offset, shape, strides) in [
        (6, 1, [2, 3], [3, 1]),
        (600, 0, [20, 30], [30, 1]),
        (6, i32::MAX, [1, 1], [1, 1]),
        (i32::MAX, 0, [i32::MAX, i32::MAX], [i32::MAX, i32::MAX]),
        (6, 0, [i32::MAX, i32::MAX], [0, 3]),
        (0, 0, [2, 3], [3, 1]),
    ] {
        let error =
            said_of(&tensor_pickle("torch\nFloatStorage", elements, offset, shape, strides));
        assert!(error.contains("tensor `w` of shape"), "{error}");
    }
    for negative in [(-1, 0, [2, 3]), (6, -1, [2, 3]), (6, 0, [-2, 3])] {
        let (elements, offset, shape) = negative;
        let error = said_of(&tensor_pickle("torch\nFloatStorage", elements, offset, shape, [3, 1]));
        assert!(error.contains("tensor `w`"), "{error}");
    }
}

#[test]
fn pickles_that_end_early_or_never_end_are_refused() {
    let deep = [vec![b'('; 3_000_000], vec![b't'; 3_000_000], vec![b'.']].concat();
    let nested = [vec![b']'], b"\x85".repeat(2_000_000), vec![b'.']].concat();
    // Doubles a list 40 times over by naming it: as values 2^40 entries, as names a few.
    let laughs = [b"](K\x01K\x01e".to_vec(), b"2\x86".repeat(40), vec![b'.']].concat();
    let copies = [
        b"](".to_vec(),
        b"K\x01K\x01\x86".repeat(1000),
        b"eq\0".to_vec(),
        b"ccollections\nOrderedDict\nh\0\x85R0".repeat(50_000),
        vec![b'.'],
    ]
    .concat();
    let many = [b"N".repeat(5_000_000), vec![b'.']].concat();
    let itself = b"]q\0h\0a.".to_vec();
    for (pickle, part) in [
        (deep, "no state dict"),
        (nested, "no state dict"),
        (laughs, "no state dict"),
        (itself, "no state dict"),
        (copies, "more than 4000000 values"),
        (many, "more than 4000000 values"),
        (b"N".repeat((32 << 20) + 1), "data.pkl of 33554433 bytes"),
        (b"".to_vec(), "ends early"),
        (b"\x80\x02}".to_vec(), "ends early"),
        (b"X\xff\xff\xff\xff".to_vec(), "ends early"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "ends early"),
        (b"\x8b\xff\xff\xff\x7f".to_vec(), "ends early"),
        (b"cos\n".to_vec(), "ends early"),
        (b".".to_vec(), "values that are not there"),
        (b"R.".to_vec(), "values that are not there"),
        (b"t.".to_vec(), "values that are not there"),
        (b"(0.".to_vec(), "values that are not there"),
        (b"K\x01(a.".to_vec(), "values that are not there"),
        (b"h\x09.".to_vec(), "asks for a value 9"),
        (b"}(K\x01u.".to_vec(), "a key without a value"),
        (b"K\x01K\x02a.".to_vec(), "no list"),
        (b"\xee.".to_vec(), "code 0xee at byte 0"),
        (b"}.".to_vec(), "holds no tensors"),
        (b"K\x01Q.".to_vec(), "no storage"),
        (b"X\x02\0\0\0\xff\xfe.".to_vec(), "broken text"),
    ] {
        let error = said_of(&pickle);
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn files_that_are_no_such_archive_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = |bytes: &[u8]| open(&put(folder.path(), bytes)).unwrap_err();
    let whole = std::fs::read(fixture("pickle/bare.bin")).unwrap();
    for cut in (0..whole.len()).step_by(61).chain([whole.len() - 1]) {
        let error = said(&whole[..cut]);
        assert!(error.contains("download it again"), "{cut}: {error}");
    }
    let sound = tensor_pickle("torch\nFloatStorage", 6, 0, [2, 3], [3, 1]);
    let stored = CompressionMethod::Stored;
    for (bytes, part) in [
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "Git LFS pointer"),
        (std::fs::read(fixture("pickle/legacy.bin")).unwrap(), "before 1.6"),
        (
            std::fs::read(fixture("pickle/whole_module.bin")).unwrap(),
            "Linear instead of a state dict",
        ),
        (
            archive(&sound, &[], stored),
            "tensor `w` cannot be found: its archive lacks `archive/data/0`",
        ),
        (archive(&sound, &[("data/0", &[0; 23])], stored), "tensor `w` of shape [2, 3]"),
        (archive(&sound, &[("byteorder", b"big")], stored), "the other byte order"),
        (archive(&sound, &[("code/data.pkl", b".")], stored), "holds 2 data.pkl"),
    ] {
        let error = said(&bytes);
        assert!(error.contains(part), "{error}");
    }
    // A large file whose end, with the directory, is missing: it is not searched from end to end.
    let path = put(folder.path(), &whole[..whole.len() - 30]);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 << 30).unwrap();
    let started = std::time::Instant::now();
    let error = open(&path).unwrap_err();
    assert!(error.contains("download it again"), "{error}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    // An entry whose directory claims more than the file has.
    let mut bytes = archive(&sound, &[("data/0", &[0; 24])], stored);
    let at = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    bytes[at + 20..at + 28].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]);
    let error = said(&bytes);
    assert!(error.contains("tensor `w` cannot be found") && error.contains("download"), "{error}");
    let missing = open(Path::new("no/such.bin")).unwrap_err();
    assert!(missing.contains("no/such.bin: cannot be read"), "{missing}");
}

/// Bytes changed at random end in an error or in tensors, never in a panic.
#[test]
fn damaged_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("pickle/model_module.bin")).unwrap();
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..600 {
        let mut bytes = whole.clone();
        for _ in 0..1 + draw(3) {
            let at = draw(bytes.len());
            bytes[at] = draw(256) as u8;
        }
        match open(&put(folder.path(), &bytes)) {
            Err(error) => {
                assert!(error.contains("pytorch_model.bin"), "{error}");
                refused += 1;
            }
            Ok(weights) => {
                for (name, tensor) in floats() {
                    let _ = weights.root().tensor(&name, tensor.dims());
                }
                read += 1;
            }
        }
    }
    assert!(read > 50 && refused > 50, "{read} read, {refused} refused");
}
