//! A simulator: the real engine, single-stepped, on a disk that fails, and what it answers held against
//! a model at every moment.
//!
//! A [`Scenario`] follows from a seed: settings, and steps such as a write, a flush, a merge with writes
//! in its midst, a fault of the disk, a crash. One thread takes them one after the other. The engine's
//! own threads are not started: their work is steps too, so that nothing depends on a clock or on
//! scheduling, and the same seed does the same.
//!
//! At each call that changes the file system the simulator looks around, before it is made:
//! - reads go on beside whatever is under way, and must answer as the model at the sequence number that
//!   is visible;
//! - a copy of the disk loses power, or its process, in one of three ways, and is recovered: all that
//!   was acknowledged must be there, as a prefix of the order of commits, with the right answers; some
//!   recoveries are crashed in their midst, and again, and must then find the same.
//!
//! A scenario that fails is made shorter as long as it fails, and printed with the command that
//! replays it.

mod crash;
mod feed;
mod ledger;
pub mod oracle;
mod readers;
mod run;
mod scenario;
mod world;

pub use run::{Failure, Tally, replay, search};
pub use scenario::{Scenario, Settings, Step};
