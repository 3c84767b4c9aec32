//! Integration tests of `KVTimeDB`, through the interfaces that users have.

mod aggregate;
mod backup;
mod checkpoint;
mod cli;
mod closing;
mod common;
mod compaction;
mod concurrent;
mod corruption;
mod crash;
mod damage;
mod explain;
mod feed;
mod floor;
mod golden;
mod http;
mod kill9;
mod linearizable;
mod model;
mod nyc2013;
mod recovery;
mod resolving;
mod retention;
mod rot;
mod shutdown;
mod simulation;
mod tidy;
mod views;
mod world;

pub(crate) use kvtimedb_sim::oracle;
