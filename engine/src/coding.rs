//! Integers and byte strings in bytes: little endian, LEB128 varints, and a reader that checks every
//! length before it believes it.

use crate::error::Malformed;

/// Appends `value` as an LEB128 varint, 1 to 10 bytes.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] appends.
pub(crate) fn varint_bytes(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// Appends `value` as a zigzag varint: short where the value is near zero, on either side.
pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63) as u64);
}

/// Appends a length as a varint, then the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a buffer front to back; nothing it is given can make it panic or allocate.
#[derive(Clone, Debug)]
pub(crate) struct Decoder<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(buf: &'a [u8]) -> Self {
        Decoder { buf, pos: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.pos
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pos == self.buf.len()
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { pos: self.pos, what }
    }

    /// The next `len` bytes and the `pad` bytes behind them, which stay to be read.
    #[inline]
    pub(crate) fn take_padded(
        &mut self,
        len: usize,
        pad: usize,
        what: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let padded = self.buf[self.pos..].get(..len.saturating_add(pad));
        let padded = padded.ok_or_else(|| self.malformed(what))?;
        self.pos += len;
        Ok(padded)
    }

    /// The next `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let rest = &self.buf[self.pos..];
        let bytes = rest.get(..len).ok_or_else(|| self.malformed(what))?;
        self.pos += len;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    #[inline]
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    /// An LEB128 varint; one that does not fit 64 bits is malformed.
    #[inline]
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        match self.buf.get(self.pos) {
            Some(&byte) if byte < 0x80 => {
                self.pos += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(what),
        }
    }

    fn long_varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed(what))
    }

    /// A number as [`put_zigzag`] wrote it.
    #[inline]
    pub(crate) fn zigzag(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let value = self.varint(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A byte string of at most `len_max` bytes, as [`put_bytes`] wrote it.
    #[inline]
    pub(crate) fn bytes(
        &mut self,
        len_max: usize,
        what: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let len = self.varint(what)?;
        if len > len_max as u64 {
            return Err(self.malformed(what));
        }
        self.take(len as usize, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_and_strings_come_back(values: Vec<u64>, text: Vec<u8>) {
            let mut out = Vec::new();
            for &value in &values {
                let before = out.len();
                put_varint(&mut out, value);
                prop_assert_eq!(out.len() - before, varint_bytes(value));
                put_zigzag(&mut out, value as i64);
            }
            put_bytes(&mut out, &text);
            let mut input = Decoder::new(&out);
            for &value in &values {
                prop_assert_eq!(input.varint("a number").unwrap(), value);
                prop_assert_eq!(input.zigzag("a number").unwrap(), value as i64);
            }
            prop_assert_eq!(input.bytes(text.len(), "a text").unwrap(), &text[..]);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut input = Decoder::new(&bytes);
            while input.varint("a number").is_ok() && input.bytes(9, "a text").is_ok() {}
        }
    }

    #[test]
    fn a_varint_that_overflows_is_malformed() {
        let mut bytes = vec![0xff; 9];
        bytes.push(2);
        assert!(Decoder::new(&bytes).varint("a number").is_err());
    }
}
