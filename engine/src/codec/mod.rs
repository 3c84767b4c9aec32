//! How columns of numbers and runs of values become bytes.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod ints;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod template;
pub(crate) mod values;

/// How the values of a chunk are stored.
///
/// The numbers are on disk: do not change these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame without checksum or content size: the chunk names the size, and the block's
    /// checksum covers the frame.
    Zstd = 1,
    /// Skeletons and bits: see [`template`].
    Template = 2,
}

impl Codec {
    /// Reads a codec from disk; `None` where no build has written such a byte.
    pub(crate) const fn from_byte(byte: u8) -> Option<Codec> {
        match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            2 => Some(Codec::Template),
            _ => None,
        }
    }

    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Codec::Raw => "raw",
            Codec::Zstd => "zstd",
            Codec::Template => "template",
        }
    }
}
