//! Compression of bodies and answers, as `Content-Encoding` and `Accept-Encoding` name it.

use std::io::{self, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// A zstd stream may ask for a window of so many bytes, as a power of two: what the format recommends every
/// decoder to grant.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Quick and good enough: what is exported is text, and written as fast as it can be read.
const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: u32 = 1;

/// How much of a compressed body is held, in bytes.
const READ_BYTES: usize = 64 << 10;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// By the name that it has in headers.
    pub(crate) fn named(name: &str) -> Option<Encoding> {
        let name = name.trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if name.is_empty() || is("identity") {
            Some(Encoding::Identity)
        } else if is("gzip") || is("x-gzip") {
            Some(Encoding::Gzip)
        } else if is("zstd") {
            Some(Encoding::Zstd)
        } else {
            None
        }
    }

    /// The best of those that `Accept-Encoding` allows: the one that it weighs most, and of equals zstd, gzip,
    /// none.
    pub(crate) fn accepted(header: &str) -> Encoding {
        let mut best = (0.0, Encoding::Identity);
        for (encoding, name) in [(Encoding::Zstd, "zstd"), (Encoding::Gzip, "gzip")] {
            let weight = weight_of(header, name);
            if weight > best.0 {
                best = (weight, encoding);
            }
        }
        best.1
    }

    /// What `Content-Encoding` says of it.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Encoding::Identity => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
        }
    }
}

/// The weight that a list gives to a coding: its own, or that of `*`.
fn weight_of(header: &str, coding: &str) -> f32 {
    let mut any = 0.0;
    for part in header.split(',') {
        let mut pieces = part.split(';').map(str::trim);
        let name = pieces.next().unwrap_or_default();
        let weight = pieces.find_map(|piece| piece.strip_prefix("q="));
        let weight = weight.map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if name.eq_ignore_ascii_case(coding) {
            return weight;
        }
        if name == "*" {
            any = weight;
        }
    }
    any
}

/// What a body holds, decompressed piece by piece. A body that ends within a stream is an error.
pub(crate) fn decoder<'r>(
    encoding: Encoding,
    body: impl Read + 'r,
) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match encoding {
        Encoding::Identity => Box::new(body),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, body))),
        Encoding::Zstd => {
            let body = BufReader::with_capacity(READ_BYTES, body);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

/// Compresses an answer piece by piece.
pub(crate) enum Encoder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    pub(crate) fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Identity => Encoder::Identity,
            Encoding::Gzip => {
                Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL)))
            }
            Encoding::Zstd => {
                Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?)
            }
        })
    }

    /// Takes `plain`, which is empty afterwards, and appends to `out` what can be sent.
    pub(crate) fn encode(&mut self, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Identity => out.append(plain),
            Encoder::Gzip(encoder) => {
                encoder.write_all(plain)?;
                out.append(encoder.get_mut());
            }
            Encoder::Zstd(encoder) => {
                encoder.write_all(plain)?;
                out.append(encoder.get_mut());
            }
        }
        plain.clear();
        Ok(())
    }

    /// Appends the end of the compressed stream.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Identity => {}
            Encoder::Gzip(encoder) => {
                encoder.try_finish()?;
                out.append(encoder.get_mut());
            }
            Encoder::Zstd(encoder) => {
                encoder.do_finish()?;
                out.append(encoder.get_mut());
            }
        }
        Ok(())
    }
}
