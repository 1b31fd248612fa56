//! In: the bytes of a pickle, protocols 0 to 5. Out: its operations, one by one, with their arguments
//! borrowed from the bytes. What they do is left to `unpickler`.

use super::fault::BytesFault;
use super::value::Value;

/// One step of a pickle.
pub(super) enum Operation<'p> {
    Nothing,
    Stop,
    Push(Value<'p>),
    Mark,
    Pop,
    PopMark,
    Duplicate,
    Get(u32),
    Put(u32),
    Memoize,
    /// A tuple or list of so many values, or of all above the mark.
    Sequence(Option<usize>),
    Dict,
    Set,
    Append,
    Appends,
    SetItem,
    SetItems,
    StackGlobal,
    Reduce,
    NewObjectEx,
    Object,
    Instance(&'p str, &'p str),
    Build,
    PersistentId,
}

/// Takes operations off the front of a pickle.
pub(super) struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl<'p> Reader<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were taken.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next operation.
    ///
    /// # Errors
    /// The bytes end within it, or it is none.
    pub(super) fn next(&mut self) -> Result<Operation<'p>, BytesFault> {
        let at = self.at;
        let code = self.take(1)?[0];
        Ok(match code {
            b'.' => Operation::Stop,
            // Protocol and frame: they say how to read, not what.
            0x80 => self.skip(1)?,
            0x95 => self.skip(8)?,
            b'(' => Operation::Mark,
            b'0' => Operation::Pop,
            b'1' => Operation::PopMark,
            b'2' => Operation::Duplicate,
            b'N' | 0x88 | 0x89 => Operation::Push(Value::Other),
            b'K' => Operation::Push(Value::Int(self.little(1)? as i64)),
            b'M' => Operation::Push(Value::Int(self.little(2)? as i64)),
            b'J' => Operation::Push(Value::Int(i64::from(self.little(4)? as u32 as i32))),
            b'I' | b'L' => Operation::Push(decimal(self.line()?)),
            0x8a => {
                let length = self.little(1)? as usize;
                Operation::Push(signed(self.take(length)?))
            }
            0x8b => {
                let length = self.little(4)? as usize;
                Operation::Push(signed(self.take(length)?))
            }
            b'F' => {
                self.line()?;
                Operation::Push(Value::Other)
            }
            b'G' => {
                self.take(8)?;
                Operation::Push(Value::Other)
            }
            b'X' => Operation::Push(self.text(4)?),
            0x8c => Operation::Push(self.text(1)?),
            0x8d => Operation::Push(self.text(8)?),
            b'T' => Operation::Push(self.text_or_bytes(4)?),
            b'U' => Operation::Push(self.text_or_bytes(1)?),
            b'V' => Operation::Push(Value::Text(self.line()?)),
            b'S' => Operation::Push(Value::Text(self.line()?.trim_matches(['\'', '"']))),
            b'B' => self.bytes(4)?,
            b'C' => self.bytes(1)?,
            0x8e | 0x96 => self.bytes(8)?,
            b']' => Operation::Push(Value::Sequence(Vec::new())),
            b')' => Operation::Push(Value::Sequence(Vec::new())),
            b'}' => Operation::Push(Value::Dict(Vec::new())),
            0x8f => Operation::Push(Value::Other),
            b'l' | b't' => Operation::Sequence(None),
            0x85 => Operation::Sequence(Some(1)),
            0x86 => Operation::Sequence(Some(2)),
            0x87 => Operation::Sequence(Some(3)),
            b'd' => Operation::Dict,
            0x91 => Operation::Set,
            b'a' => Operation::Append,
            b'e' | 0x90 => Operation::Appends,
            b's' => Operation::SetItem,
            b'u' => Operation::SetItems,
            b'g' => Operation::Get(self.number()?),
            b'h' => Operation::Get(self.little(1)? as u32),
            b'j' => Operation::Get(self.little(4)? as u32),
            b'p' => Operation::Put(self.number()?),
            b'q' => Operation::Put(self.little(1)? as u32),
            b'r' => Operation::Put(self.little(4)? as u32),
            0x94 => Operation::Memoize,
            b'c' => {
                let module = self.line()?;
                Operation::Push(Value::Global(module, self.line()?))
            }
            0x93 => Operation::StackGlobal,
            b'R' | 0x81 => Operation::Reduce,
            0x92 => Operation::NewObjectEx,
            b'o' => Operation::Object,
            b'i' => {
                let module = self.line()?;
                Operation::Instance(module, self.line()?)
            }
            b'b' => Operation::Build,
            b'Q' => Operation::PersistentId,
            _ => {
                return Err(BytesFault::Code { code, at });
            }
        })
    }

    fn take(&mut self, count: usize) -> Result<&'p [u8], BytesFault> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() {
            return Err(BytesFault::EndsEarly(self.bytes.len()));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    fn skip(&mut self, count: usize) -> Result<Operation<'p>, BytesFault> {
        self.take(count)?;
        Ok(Operation::Nothing)
    }

    /// A number of up to 8 bytes, the lowest first.
    fn little(&mut self, count: usize) -> Result<u64, BytesFault> {
        let bytes = self.take(count)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// As many bytes as the number of `width` bytes before them says.
    fn counted(&mut self, width: usize) -> Result<&'p [u8], BytesFault> {
        let length = self.little(width)?;
        // A length over the address space is over what is left as well.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn text(&mut self, width: usize) -> Result<Value<'p>, BytesFault> {
        let at = self.at;
        let bytes = self.counted(width)?;
        let text = std::str::from_utf8(bytes);
        text.map(Value::Text).map_err(|_| BytesFault::Text(at))
    }

    fn text_or_bytes(&mut self, width: usize) -> Result<Value<'p>, BytesFault> {
        let bytes = self.counted(width)?;
        Ok(std::str::from_utf8(bytes).map_or(Value::Other, Value::Text))
    }

    fn bytes(&mut self, width: usize) -> Result<Operation<'p>, BytesFault> {
        self.counted(width)?;
        Ok(Operation::Push(Value::Other))
    }

    fn line(&mut self) -> Result<&'p str, BytesFault> {
        let at = self.at;
        let length = self.bytes[at..].iter().position(|&byte| byte == b'\n');
        let line = self.take(length.unwrap_or(usize::MAX - 1))?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| BytesFault::Text(at))
    }

    fn number(&mut self) -> Result<u32, BytesFault> {
        let at = self.at;
        let line = self.line()?;
        line.parse().map_err(|_| BytesFault::Number(at))
    }
}

/// A number in decimal; `00` and `01` are truth values, and a trailing `L` is Python 2's.
fn decimal(line: &str) -> Value<'_> {
    match line {
        "00" | "01" => Value::Other,
        _ => line.trim_end_matches('L').parse().map_or(Value::Other, Value::Int),
    }
}

/// A number in two's complement, the lowest byte first. One beyond 64 bits is none that matters here.
fn signed(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}
