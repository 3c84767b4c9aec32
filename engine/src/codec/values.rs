//! Runs of value bytes, as they are or compressed with zstd.

use std::cell::RefCell;

use super::Codec;

/// Level 1: on time-series values level 3 is smaller by a few percent and costs twice the time.
const ZSTD_LEVEL: i32 = 1;

/// Below this size a frame's header eats the gain.
const ZSTD_BYTES_MIN: usize = 64;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Compresses runs of values; kept by whoever writes many.
pub(crate) struct ValueEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    frame: Vec<u8>,
}

impl ValueEncoder {
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        compressor.include_checksum(false)?;
        compressor.include_contentsize(false)?;
        Ok(ValueEncoder { compressor, frame: Vec::new() })
    }

    /// The bytes to store for `values`, and how: compressed where that saves at least an eighth.
    pub(crate) fn encode<'a>(&'a mut self, values: &'a [u8]) -> (Codec, &'a [u8]) {
        if values.len() < ZSTD_BYTES_MIN {
            return (Codec::Raw, values);
        }
        self.frame.clear();
        self.frame.reserve(zstd::zstd_safe::compress_bound(values.len()));
        match self.compressor.compress_to_buffer(values, &mut self.frame) {
            Ok(len) if len <= values.len() - values.len() / 8 => (Codec::Zstd, &self.frame),
            // Raw is always right, so a compressor that fails costs space and nothing else.
            _ => (Codec::Raw, values),
        }
    }
}

/// A zstd block takes four bytes at least and holds 128 KiB at most: a frame of so many bytes for each of
/// its own can't be.
const ZSTD_RATIO_MAX: usize = (128 << 10) / 4;

/// Decompresses a frame that must hold exactly `len` bytes.
pub(crate) fn decompress(frame: &[u8], len: usize) -> Result<Vec<u8>, String> {
    if len / ZSTD_RATIO_MAX > frame.len() {
        return Err(format!("expected {len} bytes of values, found a frame of {}", frame.len()));
    }
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?);
        }
        let Some(decompressor) = slot else { return Err("no zstd decompressor".to_owned()) };
        let mut values = Vec::with_capacity(len);
        match decompressor.decompress_to_buffer(frame, &mut values) {
            Ok(found) if found == len => Ok(values),
            Ok(found) => Err(format!("expected {len} bytes of values, found {found}")),
            Err(error) => Err(format!("a zstd frame of {len} bytes of values: {error}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_values_come_back(seed: Vec<u8>, times in 1_usize..20) {
            let values = seed.repeat(times);
            let mut encoder = ValueEncoder::new().unwrap();
            let (codec, stored) = encoder.encode(&values);
            if codec == Codec::Raw {
                prop_assert_eq!(stored, &values[..]);
            } else {
                prop_assert!(stored.len() < values.len());
                prop_assert_eq!(decompress(stored, values.len()).unwrap(), values.clone());
                prop_assert!(decompress(stored, values.len() - 1).is_err());
                prop_assert!(decompress(&stored[1..], values.len()).is_err());
            }
        }

        #[test]
        fn a_told_length_allocates_nothing(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
            let error = decompress(&frame, 64 << 20).unwrap_err();
            prop_assert!(error.contains("found a frame of"), "{error}");
        }

        #[test]
        fn no_bytes_make_it_panic(frame: Vec<u8>, len in 0_usize..5000) {
            let _ = decompress(&frame, len);
        }
    }
}
