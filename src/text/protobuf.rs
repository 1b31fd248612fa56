//! In: bytes of a protocol buffer message. Out: its fields by number, in order. What they mean is left
//! to the caller.

use anyhow::{Result, bail};

/// The content of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field<'b> {
    /// A number, a flag or a member of an enumeration.
    Number(u64),
    /// Text, bytes or a message.
    Bytes(&'b [u8]),
    /// 32 bits, read as a number with a fraction.
    Float(f32),
    /// 64 bits, which nothing here reads.
    Double,
}

/// The fields of one message.
pub(crate) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    /// The fields of the message `bytes`.
    pub(crate) fn of(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Seven bits to a byte, the lowest first; the top bit says that more follow.
    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        bail!("the message is damaged: a number has no end")
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            bail!("the message ends within a field; the file is cut");
        };
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Field<'b>)> {
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.take(8)?;
                Field::Double
            }
            2 => {
                let length = usize::try_from(self.number()?)?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Float(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            other => bail!("the message is damaged: there is no wire type {other}"),
        };
        Ok((tag >> 3, field))
    }
}

impl<'b> Iterator for Fields<'b> {
    /// Number and content of a field; an error ends the message.
    type Item = Result<(u64, Field<'b>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as the encoding guide of protocol buffers spells them: 150 is 96 01.
    #[test]
    fn every_kind_of_field_is_read() {
        let bytes = [
            0x08, 0x96, 0x01, // field 1, number 150
            0x12, 0x02, b'h', b'i', // field 2, two bytes
            0x1d, 0x00, 0x00, 0x80, 0xbf, // field 3, 32 bits: -1
            0x21, 0, 0, 0, 0, 0, 0, 0, 0, // field 4, 64 bits
            0x82, 0x01, 0x00, // field 16, no bytes
        ];
        let fields: Vec<_> = Fields::of(&bytes).map(Result::unwrap).collect();
        assert_eq!(
            fields,
            [
                (1, Field::Number(150)),
                (2, Field::Bytes(b"hi")),
                (3, Field::Float(-1.0)),
                (4, Field::Double),
                (16, Field::Bytes(b"")),
            ]
        );
    }

    #[test]
    fn damage_is_an_error_and_ends_the_message() {
        for damaged in [&[0x08_u8][..], &[0x12, 0x05, b'x'], &[0x0b], &[0xff; 12], &[0x1d, 0, 0]] {
            let fields: Vec<_> = Fields::of(damaged).collect();
            assert!(fields.len() == 1 && fields[0].is_err(), "{damaged:?}");
        }
    }
}
