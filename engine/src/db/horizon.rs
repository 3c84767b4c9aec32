//! The horizon: before it nothing can be read or written any more, so that merges may drop what no other
//! read shows.

use super::state::Core;
use crate::error::Result;
use crate::key::Timestamp;
use crate::options::Background;

impl Core {
    /// Moves the horizon up to `horizon`; where it is there or further already, nothing is done.
    ///
    /// Under `writer`: a commit goes by the horizon of the view that it finds, and none may be under way
    /// when merges begin to go by a higher one. It is durable before any view has it, so that nothing is
    /// dropped because of a horizon that a crash takes back.
    pub(crate) fn set_horizon(&self, horizon: Timestamp) -> Result<()> {
        let writer = self.writer.lock();
        self.check_writable()?;
        let mut versions = self.versions.lock();
        if horizon <= versions.horizon() {
            return Ok(());
        }
        versions.install_horizon(horizon).map_err(|error| self.install_failed(error))?;
        self.view.swap(|view| view.horizon = horizon);
        drop(versions);
        drop(writer);
        self.signals.wake_compaction();
        if self.options.background == Background::Inline {
            self.run_background_work();
        }
        Ok(())
    }
}
