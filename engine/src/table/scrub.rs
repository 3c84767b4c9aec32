//! Whether the disk still holds a table: its file is read again, with `pread` and not through the map,
//! part by part.

use std::fmt;

use super::format::{BlockHandle, BlockType, FOOTER_BYTES, TableProperties};
use super::reader::TableReader;
use crate::error::{Error, IoContext, Result};
use crate::fs::{Fs, ReadableFile};

/// A part of an SSTable that can't be read, or does not hold what was written to it, and whose keys that
/// concerns.
#[derive(Clone, Debug)]
pub struct Damage {
    /// [`Error::Corruption`], with file and offset; [`Error::Io`], if the disk can't read it.
    pub error: Error,
    /// Where the part begins in its file, in bytes.
    pub offset: u64,
    /// No lesser key is concerned.
    pub first_key: Vec<u8>,
    /// No greater key is concerned.
    pub last_key: Vec<u8>,
}

impl Damage {
    /// Of a table as a whole.
    pub(crate) fn of_table(properties: &TableProperties, offset: u64, error: Error) -> Damage {
        let TableProperties { first_key, last_key, .. } = properties;
        Damage { error, offset, first_key: first_key.clone(), last_key: last_key.clone() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { error, offset, first_key, last_key } = self;
        let (first_key, last_key) = (first_key.escape_ascii(), last_key.escape_ascii());
        write!(f, "{error}; at {offset}, keys from \"{first_key}\" to \"{last_key}\"")
    }
}

impl TableReader {
    /// What `error`, met in data block `block`, concerns.
    pub(crate) fn block_damage(&self, block: usize, error: Error) -> Damage {
        let index = self.index();
        // The next block's first key may have versions in this one.
        let is_last = block + 1 == index.len();
        let last_key =
            if is_last { &self.properties().last_key } else { index.first_key(block + 1) };
        let (first_key, last_key) = (index.first_key(block).to_vec(), last_key.to_vec());
        Damage { error, offset: index.row(block).handle.offset, first_key, last_key }
    }

    /// What `error`, met at `offset` in a part that concerns all keys, concerns.
    fn table_damage(&self, offset: u64, error: Error) -> Damage {
        Damage::of_table(self.properties(), offset, error)
    }

    /// Reads the whole file once more and verifies each part of it. `read` is told of the bytes of each
    /// part, and may end the scrub with an error, as too few file handles do; `found` of what is damaged.
    /// Damaged data blocks are not believed any more: the next read of one verifies it, or is refused
    /// where the disk can't read it.
    pub(crate) fn scrub(
        &self,
        fs: &dyn Fs,
        read: &mut dyn FnMut(u64) -> Result<()>,
        found: &mut dyn FnMut(Damage),
    ) -> Result<()> {
        let file = fs.open(self.path()).at("open", self.path());
        let file = match file.and_then(|file| self.check_length(&*file).map(|()| file)) {
            Ok(file) => file,
            // It says nothing of the file.
            Err(error) if error.heals() => return Err(error),
            Err(error) => {
                found(self.table_damage(0, error));
                return Ok(());
            }
        };
        let mut bytes = Vec::new();
        for block in 0..self.index().len() {
            let handle = self.index().row(block).handle;
            let verified = self.verify_in_file(&*file, handle, BlockType::Data, &mut bytes);
            self.set_unreadable(block, matches!(verified, Err(Error::Io { .. })));
            if let Err(error) = verified {
                self.distrust(block);
                found(self.block_damage(block, error));
            }
            read(u64::from(handle.len))?;
        }
        let footer = self.footer();
        for (handle, block_type) in [
            (footer.filter, BlockType::Filter),
            (footer.late_filter, BlockType::LateFilter),
            (footer.dictionary, BlockType::Dictionary),
            (footer.index, BlockType::Index),
            (footer.properties, BlockType::Properties),
        ] {
            // A block that the table lacks has length 0.
            if handle.len > 0 {
                if let Err(error) = self.verify_in_file(&*file, handle, block_type, &mut bytes) {
                    found(self.table_damage(handle.offset, error));
                }
                read(u64::from(handle.len))?;
            }
        }
        if let Err(error) = self.verify_footer(&*file) {
            found(self.table_damage(footer.file_bytes - FOOTER_BYTES as u64, error));
        }
        read(FOOTER_BYTES as u64)
    }

    fn check_length(&self, file: &dyn ReadableFile) -> Result<()> {
        let (expected, found) = (self.footer().file_bytes, file.len().at("read", self.path())?);
        if expected == found {
            return Ok(());
        }
        let what = format!("expected a file of {expected} bytes, found {found}");
        Err(self.corruption(expected.min(found), what))
    }

    fn verify_in_file(
        &self,
        file: &dyn ReadableFile,
        handle: BlockHandle,
        block_type: BlockType,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        bytes.resize(handle.len as usize, 0);
        file.read_exact_at(handle.offset, bytes).at("read", self.path())?;
        let identity = self.footer().identity;
        identity.verify_block(bytes, self.path(), handle.offset, block_type).map(drop)
    }

    fn verify_footer(&self, file: &dyn ReadableFile) -> Result<()> {
        let (expected, _) = self.footer().encode();
        let offset = self.footer().file_bytes - FOOTER_BYTES as u64;
        let mut found = [0; FOOTER_BYTES];
        file.read_exact_at(offset, &mut found).at("read", self.path())?;
        if expected[..] == found {
            return Ok(());
        }
        Err(self.corruption(offset, "expected the footer that the table was opened with"))
    }
}
