//! Speed through HTTP: ours beside a server that does nothing, Redis, and the original service, each a
//! process of its own, with the load tester's client in this one.

pub mod bodies;
pub mod bulk;
pub mod exchange;
pub mod measures;
pub mod noop;
pub mod servers;
pub mod singles;
