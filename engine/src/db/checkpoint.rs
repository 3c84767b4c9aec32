//! A copy that the open database makes of itself.

use std::path::Path;

use super::state::Core;
use crate::backup::Target;
use crate::error::Result;
use crate::key::SeqNo;

/// What a checkpoint holds, and how it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// It holds every operation up to this one, and no other.
    pub seq: SeqNo,
    /// Its SSTables.
    pub tables: u64,
    /// The length of all of them.
    pub bytes: u64,
    /// Those that are a second name of the database's own file.
    pub linked: u64,
    /// Those that were copied, because the file system could not link them.
    pub copied: u64,
}

impl Core {
    /// Makes a checkpoint of what has been flushed.
    pub(crate) fn checkpoint(&self, dir: &Path) -> Result<Checkpoint> {
        let target = Target::create(&self.home.fs, dir, self.home.database)?;
        let made = target.clear().and_then(|()| self.fill(&target));
        made.inspect_err(|_| target.abandon())
    }

    fn fill(&self, target: &Target) -> Result<Checkpoint> {
        let versions = self.versions.lock();
        self.check_open()?;
        let version = versions.version().clone();
        let (seq, horizon) = (versions.flushed_seq(), versions.horizon());
        target.skip_file_ids(self.home.new_file_id().0);
        // Under the lock: a merge removes its inputs after it has installed its outputs, which takes
        // this lock. So the tables of the version that is live now keep their names until it is given
        // up. A link takes some microseconds; what can't be linked is copied afterwards, from the map
        // that the version holds, which needs no name.
        let mut to_copy = Vec::new();
        let mut checkpoint = Checkpoint { seq, ..Checkpoint::default() };
        for table in version.tables() {
            let id = table.meta.id;
            checkpoint.tables += 1;
            checkpoint.bytes += table.meta.file_bytes;
            if target.link_table(&id.table_path(&self.home.dir), id)? {
                checkpoint.linked += 1;
            } else {
                checkpoint.copied += 1;
                to_copy.push(table);
            }
        }
        drop(versions);
        for table in to_copy {
            // A block that was read before is not verified again in the map, and may have rotted since.
            target.write_table(table.meta.id, table.reader.bytes())?;
            target.verify_table(&table.meta)?;
        }
        target.install((*version).clone(), seq, horizon)?;
        Ok(checkpoint)
    }
}
