//! In: a `spiece.model` file and a text. Out: the ids that SentencePiece gives for it. Special tokens
//! are left to the caller.
//!
//! Follows the unigram encoder of SentencePiece (arXiv 1808.06226, 1804.10959): its own normalisation
//! with the character map of the file, then the most probable segmentation. Written here because the
//! tokenizer library's equivalent takes texts apart by grapheme before it maps characters, and so
//! differs on some.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::protobuf::{Field, Fields};

/// How far below the least probable piece an unknown character stands.
const UNKNOWN_PENALTY: f32 = 10.0;
/// What a blank becomes inside pieces.
const BLANK: char = '\u{2581}';

/// A unigram SentencePiece model.
#[derive(Debug)]
pub struct SentencePiece {
    /// Pieces that can stand in a text, with id and logarithm of the probability.
    pieces: HashMap<Box<str>, (u32, f32)>,
    /// Bytes of the longest of them.
    longest: usize,
    /// Every piece of the file, control pieces included.
    all: Vec<Box<str>>,
    unknown: u32,
    unknown_score: f32,
    characters: Option<CharacterMap>,
    starts_with_blank: bool,
    merges_blanks: bool,
    escapes_blanks: bool,
}

impl SentencePiece {
    /// Reads a model file.
    ///
    /// # Errors
    /// The file is missing, damaged, or asks for something other than the unigram encoder.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        Self::parse(&bytes)
            .with_context(|| format!("{}: cannot be used as a SentencePiece model", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut model = Self {
            pieces: HashMap::new(),
            longest: 0,
            all: Vec::new(),
            unknown: 0,
            unknown_score: 0.0,
            characters: None,
            starts_with_blank: true,
            merges_blanks: true,
            escapes_blanks: true,
        };
        let mut least = f32::INFINITY;
        let mut unknown = None;
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => {
                    let piece = Piece::parse(piece)?;
                    let id = u32::try_from(model.all.len())?;
                    match piece.kind {
                        PieceKind::Normal => {
                            least = least.min(piece.score);
                            model.longest = model.longest.max(piece.text.len());
                            model.pieces.insert(piece.text.clone(), (id, piece.score));
                        }
                        PieceKind::Unknown => unknown = Some(id),
                        PieceKind::Silent => {}
                    }
                    model.all.push(piece.text);
                }
                (2, Field::Bytes(trainer)) => check_trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        ensure!(!model.pieces.is_empty(), "it holds no pieces");
        model.unknown = unknown.context("it has no piece for unknown characters")?;
        model.unknown_score = least - UNKNOWN_PENALTY;
        Ok(model)
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<()> {
        for field in Fields::of(bytes) {
            match field? {
                (2, Field::Bytes(map)) if !map.is_empty() => {
                    self.characters = Some(CharacterMap::parse(map)?);
                }
                (3, Field::Number(flag)) => self.starts_with_blank = flag != 0,
                (4, Field::Number(flag)) => self.merges_blanks = flag != 0,
                (5, Field::Number(flag)) => self.escapes_blanks = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// Id of a piece, control pieces such as `</s>` included.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.all.iter().position(|one| &**one == piece).and_then(|id| u32::try_from(id).ok())
    }

    /// Ids of `text`, without special tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.segment(&self.normalise(text))
    }

    /// The text as the pieces are written: mapped characters, blanks merged, trimmed and escaped.
    fn normalise(&self, text: &str) -> String {
        let mut rest = text;
        let mut out = String::with_capacity(text.len() + 3);
        let next = |rest: &str| match &self.characters {
            Some(map) => map.next(rest),
            None => None,
        };
        // The first characters of `rest` with what becomes of them.
        let step = |rest: &mut &str| -> String {
            let (length, mapped) = match next(rest) {
                Some((length, mapped)) => (length, mapped.to_owned()),
                None => {
                    let length = rest.chars().next().map_or(0, char::len_utf8);
                    (length, rest[..length].to_owned())
                }
            };
            *rest = &rest[length..];
            mapped
        };
        if self.merges_blanks {
            let mut ahead = rest;
            while !ahead.is_empty() && step(&mut ahead) == " " {
                rest = ahead;
            }
        }
        if rest.is_empty() {
            return out;
        }
        let blank = if self.escapes_blanks { BLANK } else { ' ' };
        if self.starts_with_blank {
            out.push(blank);
        }
        let mut after_blank = self.merges_blanks;
        while !rest.is_empty() {
            let mapped = step(&mut rest);
            let kept = if after_blank { mapped.trim_start_matches(' ') } else { &mapped };
            if !kept.is_empty() {
                out.extend(kept.chars().map(|c| if c == ' ' { blank } else { c }));
                after_blank = self.merges_blanks && kept.ends_with(' ');
            }
        }
        if self.merges_blanks {
            out.truncate(out.trim_end_matches(blank).len());
        }
        out
    }

    /// The segmentation of the largest total probability; of equal ones the first found, going from
    /// the left and from shorter pieces to longer ones. Neighbouring unknown characters share one id.
    fn segment(&self, text: &str) -> Vec<u32> {
        /// The best way to a position: where its last piece starts, which it is, and the total.
        #[derive(Clone, Copy)]
        struct Way {
            start: usize,
            id: u32,
            score: f32,
        }
        let mut ways: Vec<Option<Way>> = vec![None; text.len() + 1];
        ways[0] = Some(Way { start: 0, id: self.unknown, score: 0.0 });
        for (start, first) in text.char_indices() {
            let Some(Way { score: before, .. }) = ways[start] else { continue };
            let mut offer = |end: usize, id: u32, score: f32| {
                let score = score + before;
                if ways[end].is_none_or(|way| score > way.score) {
                    ways[end] = Some(Way { start, id, score });
                }
            };
            let single = start + first.len_utf8();
            let mut known = false;
            for (offset, letter) in text[start..].char_indices() {
                let end = start + offset + letter.len_utf8();
                if end - start > self.longest {
                    break;
                }
                if let Some(&(id, score)) = self.pieces.get(&text[start..end]) {
                    offer(end, id, score);
                    known |= end == single;
                }
            }
            if !known {
                offer(single, self.unknown, self.unknown_score);
            }
        }
        let mut ids = Vec::new();
        let mut end = text.len();
        while end > 0 {
            // Every position that starts a character has a way, through unknown ones at worst.
            let Some(way) = ways[end] else { break };
            if way.id != self.unknown || ids.last() != Some(&self.unknown) {
                ids.push(way.id);
            }
            end = way.start;
        }
        ids.reverse();
        ids
    }
}

/// Unigram without fallback to bytes is what T5's models are.
fn check_trainer(bytes: &[u8]) -> Result<()> {
    for field in Fields::of(bytes) {
        match field? {
            (3, Field::Number(kind)) if kind != 1 => {
                bail!("its model type is {kind}; only unigram (1) is supported")
            }
            (24, Field::Number(flag)) if flag != 0 => {
                bail!("it writes blanks behind words, which is not supported")
            }
            (35, Field::Number(flag)) if flag != 0 => {
                bail!("it falls back to bytes, which is not supported; add the tokenizer.json")
            }
            _ => {}
        }
    }
    Ok(())
}

struct Piece {
    text: Box<str>,
    score: f32,
    kind: PieceKind,
}

#[derive(Clone, Copy)]
enum PieceKind {
    Normal,
    Unknown,
    /// Control and unused pieces: they have ids and stand in no text.
    Silent,
}

impl Piece {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut piece = Self { text: "".into(), score: 0.0, kind: PieceKind::Normal };
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(text)) => {
                    piece.text = std::str::from_utf8(text).context("a piece is not UTF-8")?.into();
                }
                (2, Field::Float(score)) => piece.score = score,
                (3, Field::Number(kind)) => {
                    piece.kind = match kind {
                        1 => PieceKind::Normal,
                        2 => PieceKind::Unknown,
                        3 | 5 => PieceKind::Silent,
                        other => bail!(
                            "piece `{}` is of type {other}, which is not supported; add the \
                             tokenizer.json",
                            piece.text
                        ),
                    }
                }
                _ => {}
            }
        }
        Ok(piece)
    }
}

/// The compiled character map: a double-array trie (as darts-clone stores it) from byte sequences to
/// places in a table of strings that each end with a zero byte.
#[derive(Debug)]
struct CharacterMap {
    units: Vec<u32>,
    texts: Vec<u8>,
}

impl CharacterMap {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let (size, rest) = bytes.split_first_chunk::<4>().context("its character map is cut")?;
        let size = u32::from_le_bytes(*size) as usize;
        ensure!(size.is_multiple_of(4) && size <= rest.len(), "its character map is damaged");
        let (trie, texts) = rest.split_at(size);
        let units = trie
            .chunks_exact(4)
            .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
            .collect();
        ensure!(std::str::from_utf8(texts).is_ok(), "its character map is not UTF-8");
        Ok(Self { units, texts: texts.to_vec() })
    }

    /// The longest beginning of `text` that the map knows, its length in bytes, with what it becomes.
    fn next(&self, text: &str) -> Option<(usize, &str)> {
        let mut best = None;
        let mut position = offset(*self.units.first()?);
        for (index, byte) in text.bytes().enumerate() {
            position ^= usize::from(byte);
            let Some(&unit) = self.units.get(position) else { break };
            // A label with the top bit set belongs to a value, never to a byte.
            if unit & 0x8000_00ff != u32::from(byte) {
                break;
            }
            position ^= offset(unit);
            if unit & 0x100 != 0 {
                best = Some((index + 1, *self.units.get(position)? & 0x7fff_ffff));
            }
        }
        let (length, place) = best?;
        let tail = self.texts.get(place as usize..)?;
        let end = tail.iter().position(|&byte| byte == 0)?;
        // A key that ends within a character would be no key of valid text.
        let mapped = std::str::from_utf8(&tail[..end]).ok()?;
        text.is_char_boundary(length).then_some((length, mapped))
    }
}

/// Where a unit's children stand, relative to the unit.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 0x200) >> 6)) as usize
}
