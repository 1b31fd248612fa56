//! In: any bytes. Out: whether the program takes them; never a panic, whatever they are. One function for
//! each door through which foreign data come in: the fuzz targets of `fuzz/` and `fuzz_corpus` share them.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{DType, Device};
use dpg_bench::audit::request::read_request;
use dpg_bench::audit::{AuditSample, LabelCheck, LabelFile, LabelRecord, Labels};
use dpg_bench::benchmark::{Benchmark, Item, Strictness};
use dpg_bench::checkpoint::StateDictLayout;
use dpg_bench::checkpoint::recipe::Recipe;
use dpg_bench::checkpoint::scheduler_config::SchedulerConfig;
use dpg_bench::checkpoint::weights::Weights;
use dpg_bench::forensics::read_tables;
use dpg_bench::generate::model_file::ModelFile;
use dpg_bench::models::{
    BlipVqaConfig, ClipTextModel, MplugConfig, Qwen3Vl, T5EncoderModel, UNet, VaeDecoder,
};
use dpg_bench::results::image_store::{image_header, read_image, read_upright_image};
use dpg_bench::results::{
    AnswerRecord, ImageRecord, Journal, JournalRecord, NewestAnswers, RunDirectory,
};
use dpg_bench::score::reference_log::read_log;
use dpg_bench::score::reference_results::read_results;
use dpg_bench::score::{AnswerState, Protocol, score_item};
use dpg_bench::text::clip::ClipTokenizer;
use dpg_bench::text::t5::T5Tokenizer;
use dpg_bench::text::word_piece::WordPiece;

/// Name of a door and what goes in.
pub type Door = (&'static str, fn(&[u8]) -> bool);

/// Every door, by the name of its fuzz target and of its folder in `fuzz/corpus`.
pub const DOORS: &[Door] = &[
    ("questions", questions),
    ("detail_log", detail_log),
    ("images_journal", images_journal),
    ("answers_journal", answers_journal),
    ("manifest", manifest),
    ("tokenizers", tokenizers),
    ("configs", configs),
    ("safetensors", safetensors),
    ("pickle", pickle),
    ("checkpoint_archive", checkpoint_archive),
    ("pictures", pictures),
    ("audit_files", audit_files),
    ("audit_requests", audit_requests),
];

/// Texts that every tokenizer is given.
const TEXTS: [&str; 3] =
    ["", "a red cube", "É\u{301} ﬁ \u{200d}漢字 \u{1f9d1}\u{200d}\u{1f680} 's 42"];

/// A folder of this process for the doors that read files, emptied for each use.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static FOLDER: OnceLock<PathBuf> = OnceLock::new();
        // Memory where there is such a folder: a fuzzer writes thousands of files a second.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let name = format!("dpg-bench-doors-{}", std::process::id());
        let folder = FOLDER.get_or_init(|| parent.join(name));
        let thread = format!("{:?}", std::thread::current().id());
        let own = folder.join(thread.replace(['(', ')'], ""));
        let _ = std::fs::remove_dir_all(&own);
        std::fs::create_dir_all(&own).expect("no folder for the doors' files");
        Self(own)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a door's file cannot be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

/// The first byte chooses one of `count` kinds.
fn choice(bytes: &[u8], count: u8) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (first % count, rest))
}

/// A question file, strict and lenient; what is taken can be scored.
pub fn questions(bytes: &[u8]) -> bool {
    let strict = Benchmark::from_csv(bytes, "questions.csv");
    let scratch = Scratch::new();
    let lenient = Benchmark::load(&scratch.put("questions.csv", bytes), Strictness::Lenient);
    for benchmark in [&strict, &lenient].into_iter().flatten() {
        for item in &benchmark.items {
            assert!(!item.id.contains(['/', '\\', '\0']) && item.id != ".." && item.id != ".");
            let answer = AnswerState::Answered { text: "yes", yes_probability: Some(0.75) };
            let answers = vec![vec![answer; item.graph.len()]; 2];
            for protocol in Protocol::ALL.into_iter().chain(Protocol::SOFT) {
                let _ = score_item(&item.graph, &answers, protocol);
            }
        }
    }
    if let Err(error) = &strict {
        assert!(!error.to_string().is_empty());
    }
    assert!(strict.is_err() || lenient.is_ok(), "lenient refuses what strict takes");
    strict.is_ok()
}

/// Items with questions that repeat, begin alike or hold commas, and whose graphs have faults.
fn odd_items() -> &'static Benchmark {
    static ODD: OnceLock<Benchmark> = OnceLock::new();
    ODD.get_or_init(|| {
        let scratch = Scratch::new();
        let csv = include_bytes!("../fixtures/scoring/odd_questions.csv");
        let path = scratch.put("odd_questions.csv", csv);
        Benchmark::load(&path, Strictness::Lenient).expect("the fixture is sound")
    })
}

/// The reference script's `_detail.txt`, its result file, and a pasted table.
pub fn detail_log(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes, 3);
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    match kind {
        0 => {
            let items: Vec<&Item> = odd_items().items.iter().collect();
            let log = read_log(text, &items);
            let lines = log.lines;
            assert!(
                log.notes
                    .iter()
                    .flat_map(|note| &note.lines)
                    .all(|&line| (1..=lines).contains(&line))
            );
            !log.passes_that_count().is_empty()
        }
        1 => !read_results(text, 4).items.is_empty(),
        _ => read_tables(text).is_ok(),
    }
}

/// Reads a journal, opens it, and appends what it held last: nothing may be lost.
fn journal<R: JournalRecord>(bytes: &[u8]) -> Option<Vec<R>> {
    let scratch = Scratch::new();
    let path = scratch.put("journal.jsonl", bytes);
    let read = Journal::<R>::read(&path);
    let opened = Journal::<R>::open(&path);
    assert_eq!(read.is_ok(), opened.is_ok());
    let (mut journal, records) = opened.ok()?;
    if let Some(last) = records.last() {
        journal.append(last).expect("a sound journal takes a record");
        let again = Journal::<R>::read(&path).expect("a journal is read again");
        assert_eq!(again.len(), records.len() + 1);
    }
    Some(records)
}

/// `images.jsonl`.
pub fn images_journal(bytes: &[u8]) -> bool {
    journal::<ImageRecord>(bytes).is_some_and(|records| !records.is_empty())
}

/// `answers/<judge>.jsonl`.
pub fn answers_journal(bytes: &[u8]) -> bool {
    let Some(records) = journal::<AnswerRecord>(bytes) else { return false };
    let Ok(newest) = NewestAnswers::merge(&records) else { return false };
    for (item, image) in newest.images() {
        let _ = newest.outcome(item, image, 1);
    }
    !records.is_empty()
}

/// `manifest.json`.
pub fn manifest(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    scratch.put("manifest.json", bytes);
    match RunDirectory::open(&scratch.0) {
        Ok(run) => {
            for judge in run.judges() {
                let summary = run.summary_path(&judge);
                assert!(summary.is_err() || summary.is_ok_and(|path| path.starts_with(&scratch.0)));
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// Vocabularies and merges of every tokenizer; what is taken can be used.
pub fn tokenizers(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes, 6);
    let scratch = Scratch::new();
    let clip = || {
        let Ok(tokenizer) = ClipTokenizer::load(&scratch.0) else { return false };
        for prompt in TEXTS.iter().filter_map(|text| tokenizer.encode(text).ok()) {
            assert_eq!(prompt.ids.len(), tokenizer.max_length());
        }
        true
    };
    let t5 = || {
        let Ok(tokenizer) = T5Tokenizer::load(&scratch.0) else { return false };
        for prompt in TEXTS.iter().filter_map(|text| tokenizer.encode_to(text, 8).ok()) {
            assert_eq!(prompt.ids.len(), 8);
        }
        true
    };
    let split = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    match kind {
        0 => {
            scratch.put("vocab.json", &rest[..split]);
            scratch.put("merges.txt", rest.get(split + 1..).unwrap_or_default());
            clip()
        }
        1 => {
            scratch.put("tokenizer.json", rest);
            clip()
        }
        2 => {
            scratch.put("vocab.json", include_bytes!("../fixtures/sd15-tiny/tokenizer/vocab.json"));
            scratch.put("merges.txt", include_bytes!("../fixtures/sd15-tiny/tokenizer/merges.txt"));
            scratch.put("tokenizer_config.json", &rest[..split]);
            scratch.put("special_tokens_map.json", rest.get(split + 1..).unwrap_or_default());
            clip()
        }
        3 => {
            scratch.put("tokenizer.json", rest);
            t5()
        }
        4 => {
            scratch.put("spiece.model", rest);
            t5()
        }
        _ => {
            scratch.put("vocab.txt", rest);
            let Ok(tokenizer) = WordPiece::load(&scratch.0) else { return false };
            for ids in TEXTS.iter().filter_map(|text| tokenizer.encode(text, Some(8)).ok()) {
                assert!(ids.ids.len() <= 8);
            }
            true
        }
    }
}

/// Configuration files. A network without weights is refused whatever its configuration; that is read first.
pub fn configs(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes, 11);
    let scratch = Scratch::new();
    let (folder, dtype, device) = (scratch.0.as_path(), DType::F32, Device::Cpu);
    let as_config = || scratch.put("config.json", rest);
    match kind {
        0 => {
            let Ok(text) = std::str::from_utf8(rest) else { return false };
            let Ok(config) = SchedulerConfig::from_json(text, None) else { return false };
            config.scheduler(5).is_ok()
        }
        1 => {
            as_config();
            UNet::load(folder, dtype, &device).is_ok()
        }
        2 => {
            as_config();
            VaeDecoder::load(folder, dtype, &device).is_ok()
        }
        3 => {
            as_config();
            ClipTextModel::load(folder, dtype, &device).is_ok()
        }
        4 => {
            as_config();
            T5EncoderModel::load(folder, dtype, &device).is_ok()
        }
        5 => {
            as_config();
            BlipVqaConfig::read(folder).is_ok()
        }
        6 => {
            let split = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
            scratch.put("config.yaml", &rest[..split]);
            scratch.put("config_bert.json", rest.get(split + 1..).unwrap_or_default());
            MplugConfig::read(folder).is_ok_and(|config| !config.numbers().is_empty())
        }
        7 => {
            as_config();
            Qwen3Vl::load(folder, dtype, &device).is_ok()
        }
        8 => ModelFile::read(&scratch.put("model.toml", rest)).is_ok(),
        9 => {
            scratch.put("model.safetensors.recipe.json", rest);
            Recipe::read(folder, "model").is_ok()
        }
        _ => {
            scratch.put("model.safetensors.index.json", rest);
            Weights::open(folder, "model", dtype, &device).is_ok()
        }
    }
}

/// A safetensors file: every tensor that it lists is read.
pub fn safetensors(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    let path = scratch.put("model.safetensors", bytes);
    let Ok(weights) = Weights::open_file(&path, DType::F32, &Device::Cpu) else { return false };
    let Ok((_, metadata)) = ::safetensors::SafeTensors::read_metadata(bytes) else { return true };
    for (name, info) in metadata.tensors() {
        let _ = weights.root().tensor(&name, &info.shape);
    }
    true
}

/// Names that a fuzzer finds soonest, and those of the fixtures.
const NAMES: [&str; 6] = ["w", "plain", "transposed", "half", "scalar", "empty"];

fn open_archive(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    let path = scratch.put("pytorch_model.bin", bytes);
    let unwrapping = StateDictLayout { keys: &["model", "module"], removed: "model." };
    let Ok(weights) = Weights::open_pickle(&path, unwrapping, DType::F32, &Device::Cpu) else {
        return false;
    };
    for name in NAMES {
        if let Some(shape) = weights.root().shape(name).map(<[usize]>::to_vec) {
            let _ = weights.root().tensor(name, &shape);
        }
    }
    true
}

/// A checkpoint of PyTorch's as a whole: archive, pickle and elements.
pub fn checkpoint_archive(bytes: &[u8]) -> bool {
    open_archive(bytes)
}

/// The pickle alone, put into a sound archive with storages `0` to `31` of 1,024 bytes.
pub fn pickle(bytes: &[u8]) -> bool {
    let mut archive = StoredArchive::default();
    archive.add("a/data.pkl", bytes);
    archive.add("a/byteorder", b"little");
    for storage in 0..32 {
        archive.add(&format!("a/data/{storage}"), &[0x3c; 1024]);
    }
    open_archive(&archive.finish())
}

/// A zip archive of stored entries, whose checksums nobody reads.
#[derive(Default)]
struct StoredArchive {
    entries: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl StoredArchive {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        let place = self.entries.len() as u32;
        let mut common = Vec::new();
        for number in [20_u16, 0, 0, 0, 0x21] {
            common.extend(number.to_le_bytes());
        }
        for number in [0, bytes.len() as u32, bytes.len() as u32] {
            common.extend(number.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        self.entries.extend(b"PK\x03\x04");
        self.entries.extend(&common);
        self.entries.extend(name.as_bytes());
        self.entries.extend(bytes);
        self.directory.extend(b"PK\x01\x02\x14\0");
        self.directory.extend(&common);
        self.directory.extend([0; 10]);
        self.directory.extend(place.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let (place, size) = (self.entries.len() as u32, self.directory.len() as u32);
        self.entries.append(&mut self.directory);
        self.entries.extend(b"PK\x05\x06\0\0\0\0");
        self.entries.extend(self.count.to_le_bytes());
        self.entries.extend(self.count.to_le_bytes());
        self.entries.extend(size.to_le_bytes());
        self.entries.extend(place.to_le_bytes());
        self.entries.extend([0, 0]);
        self.entries
    }
}

/// A picture file. What is taken has the size that its header says.
pub fn pictures(bytes: &[u8]) -> bool {
    let header = image_header(Cursor::new(bytes));
    let Ok(picture) = read_image(Cursor::new(bytes)) else { return false };
    assert_eq!(header.map(|it| (it.width, it.height)), Some(picture.dimensions()));
    // As a control image.
    if let Ok(upright) = read_upright_image(Cursor::new(bytes)) {
        let (width, height) = picture.dimensions();
        assert!([(width, height), (height, width)].contains(&upright.dimensions()));
    }
    true
}

/// A sample of an audit, and a file of labels: read, opened, appended to.
pub fn audit_files(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes, 2);
    if kind == 0 {
        return AuditSample::parse(Path::new("sample.json"), rest).is_ok();
    }
    let own = include_bytes!("../fixtures/audit/sample.json");
    let sample = AuditSample::parse(Path::new("sample.json"), own).expect("the fixture is sound");
    let scratch = Scratch::new();
    let path = scratch.put("labels.jsonl", rest);
    let Ok(before) = Labels::read(&sample, std::slice::from_ref(&path)) else { return false };
    assert!(before.labels.iter().all(|label| label.question < sample.questions.len()));
    let check = LabelCheck::of(&sample);
    let mut file = LabelFile::open(&path, &check).expect("what can be read can be opened");
    let asked = &sample.questions[0];
    let record = LabelRecord {
        item: asked.item.clone(),
        image: asked.image,
        question: asked.question,
        text: asked.text.clone(),
        pixels_sha256: asked.pixels_sha256.clone(),
        annotator: "door".to_owned(),
        time: "2026-01-31T09:30:00Z".to_owned(),
        label: "no".to_owned(),
    };
    check.check(&record).expect("it is of the sample");
    file.append(&record).expect("a label is appended");
    let after = Labels::read(&sample, &[path]).expect("what was appended to can be read");
    assert_eq!(after.of("door").filter(|(place, _)| *place == 0).count(), 1);
    assert!(after.labels.len() >= before.labels.len() && after.warnings.is_empty());
    true
}

/// What comes in at the server of an audit.
pub fn audit_requests(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    match read_request(&mut rest) {
        Ok(Some(request)) => {
            assert!(request.body.len() <= bytes.len());
            true
        }
        Ok(None) => false,
        Err(reply) => {
            assert!(reply.bytes().starts_with(b"HTTP/1.1 4"));
            false
        }
    }
}
