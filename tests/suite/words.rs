//! In: command lines of the program. Out: what their user sees, held in `tests/snapshots/words`: exit code, stdout and
//! stderr, with all that differs from one machine or run to the next masked. CONTRIBUTING.md says how to take a change.

use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Where the snapshots are.
pub const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/words");

/// What differs between machines and runs: its name in the snapshots, and how it reads.
pub const MASKS: &[(&str, &str)] = &[
    ("[RANDOM]", r"\.tmp[A-Za-z0-9]{6}\b"),
    ("[DIGEST]", r"\b([0-9a-f]{64}|[0-9a-f]{40})\b"),
    ("[TIME]", r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    ("process [PID] on [HOST], since", r"process \d+ on \S+, since"),
    ("dpg-bench [VERSION]", concat!(r"dpg-bench ", env!("CARGO_PKG_VERSION"), r"\b")),
    ("cpu, [N] threads", r"cpu, \d+ threads"),
];

/// Of the commands that tell of the machine: what it has, and how fast it is.
pub const MACHINE: &[(&str, &str)] = &[
    ("[N] threads, [VECTORS]", r"\d+ threads, (AVX-512|AVX2|SSE2|of the compiler's choice)"),
    ("[SIZE]", r"\d+\.\d+ [MG]B\b"),
    (" [DURATION]", r" +\d+(\.\d+)? (ms|s|min|h|days)\b"),
    (" [NUMBER]", r" +\d+\.\d+(e-?\d+)?\b"),
    ("[NUMBER] GFLOP/s", r"\d+ GFLOP/s"),
    ("", r"; \d+ at a time"),
    ("convolutions and [NUMBER] in", r"convolutions and \d+ in"),
    ("([GPUS])", r"\((this build knows no GPUs|there is no GPU|there are \d+ GPUs)\)"),
    // Notes that only a busy machine has, a debug build, and a build for GPUs.
    ("ok       processor $1\n", r"note     processor ( .*); other programs keep .*\n *-> .*\n"),
    ("", r"note     (build|gpu times) .*\n *-> .*\n"),
];

/// Holds what the user sees of the command lines `lines` against the snapshot `name`. They are carried out one after the
/// other in the folder `place`.
macro_rules! words {
    ($name:expr, $place:expr, [$($line:expr),+ $(,)?]) => {
        words!($name, $place, masks: &[], [$($line),+])
    };
    ($name:expr, $place:expr, masks: $masks:expr, [$($line:expr),+ $(,)?]) => {{
        let transcript = $place.transcript(&[$($line.as_ref()),+]);
        words!($name, transcript: transcript, masks: $masks)
    }};
    ($name:expr, transcript: $transcript:expr, masks: $masks:expr) => {{
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path($crate::words::SNAPSHOTS);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let own: &[(&str, &str)] = $masks;
        for (name, pattern) in own.iter().chain($crate::words::MASKS) {
            settings.add_filter(pattern, *name);
        }
        settings.bind(|| insta::assert_snapshot!($name, $transcript));
    }};
}
pub(crate) use words;

/// A folder to work in, with its own home and place for temporary files.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for inner in ["home", "temporary"] {
            std::fs::create_dir(folder.path().join(inner)).unwrap();
        }
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    /// Replaces the first `from` of a file, which must be there, by `to`.
    pub fn replace(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`:\n{text}");
        self.write(name, text.replacen(from, to, 1));
    }

    /// A PNG of one colour.
    pub fn picture(&self, name: &str, width: u32, height: u32, shade: u8) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(width, height, image::Rgb([shade, 40, 7])).save(path).unwrap();
    }

    /// Copies a file or folder of `tests/fixtures`.
    pub fn fixture(&self, from: &str, to: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(from);
        copy(&from, &self.path(to));
    }

    /// Carries out a line whose words nobody looks at; it must end well.
    pub fn quietly(&self, line: &str) {
        let output = self.output(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {stderr}");
    }

    /// What the user sees of these lines.
    pub fn transcript(&self, lines: &[&str]) -> String {
        let mut text = String::new();
        for line in lines {
            let output = self.output(line);
            let code = output.status.code().map_or("none".to_owned(), |code| code.to_string());
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}$ {}\nexit code {code}", shown(line));
            for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
                if !bytes.is_empty() {
                    let _ = writeln!(text, "--- {name}\n{}", self.without_folder(bytes).trim_end());
                }
            }
        }
        text
    }

    pub fn output(&self, line: &str) -> Output {
        let Line { variables, words, input, .. } = read(line);
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.args(words).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("temporary"));
        // Where a build for GPUs finds CUDA's libraries.
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.envs(variables);
        let input = input.map(|name| File::open(self.path(&name)).unwrap());
        command.stdin(input.map_or_else(Stdio::null, Stdio::from)).output().unwrap()
    }

    fn without_folder(&self, bytes: Vec<u8>) -> String {
        let mut text = String::from_utf8(bytes).unwrap();
        for folder in [self.folder.path().canonicalize().unwrap(), self.folder.path().to_owned()] {
            text = text.replace(folder.to_str().unwrap(), "[TMP]");
        }
        text
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

/// `A=1 judge run --judge x < file`, as a shell reads it.
struct Line {
    variables: Vec<(String, String)>,
    words: Vec<String>,
    input: Option<String>,
    /// Where the variables end.
    start: usize,
}

fn read(line: &str) -> Line {
    let (words, input) = match line.split_once(" < ") {
        Some((words, input)) => (words, Some(input.to_owned())),
        None => (line, None),
    };
    let mut words = split(words);
    let is_variable = |(_, word): &&(usize, String)| {
        word.split_once('=').is_some_and(|(name, _)| {
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
    };
    let count = words.iter().take_while(is_variable).count();
    let start = words.get(count).map_or(line.len(), |(start, _)| *start);
    let variables = words.drain(..count).map(|(_, word)| {
        let (name, value) = word.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    let variables = variables.collect();
    Line { variables, words: words.into_iter().map(|(_, word)| word).collect(), input, start }
}

/// Words between blanks, with their places; single quotes hold blanks together.
fn split(line: &str) -> Vec<(usize, String)> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None, false);
    for (place, c) in line.char_indices() {
        if c == ' ' && !is_quoted {
            words.extend(word.take());
            continue;
        }
        let (_, text) = word.get_or_insert_with(|| (place, String::new()));
        match c {
            '\'' => is_quoted = !is_quoted,
            c => text.push(c),
        }
    }
    words.extend(word);
    words
}

/// The line with the program's name, behind the variables.
fn shown(line: &str) -> String {
    let (variables, rest) = line.split_at(read(line).start);
    format!("{variables}dpg-bench {rest}").trim_end().to_owned()
}

#[test]
fn lines_are_read_as_a_shell_reads_them() {
    let Line { variables, words, input, .. } = read("RANK=1 B='x y' judge '' 'a b'c --d=e < file");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(variables, [pair("RANK", "1"), pair("B", "x y")]);
    assert_eq!(words, ["judge", "", "a bc", "--d=e"]);
    assert_eq!(input.as_deref(), Some("file"));
    assert_eq!(shown("A='1 2' list --json"), "A='1 2' dpg-bench list --json");
    assert_eq!(shown(""), "dpg-bench");
}

/// A mask that fits nothing any more hides nothing, and is left over.
#[test]
fn every_mask_is_of_use() {
    let mut text = String::new();
    for entry in std::fs::read_dir(SNAPSHOTS).unwrap() {
        text += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    for (name, pattern) in MASKS.iter().chain(MACHINE) {
        let name = name.split('$').next().unwrap();
        assert!(text.contains(name), "nothing is masked as {name}, which {pattern} is to find");
    }
}
