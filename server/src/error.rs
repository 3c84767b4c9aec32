//! The one error type of the server.
//!
//! One type, because a handler fails for the reasons of every layer below it and they all end in
//! the same place: `reject`, which gives each variant its status. The text of a variant is what the
//! client reads, except where `reject` says otherwise.

use std::fmt;
use std::io;

/// The server's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the server did not start, or why a request was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address can't be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as it was configured.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// Threads, timers or signal handlers could not be set up.
    #[error("cannot start: {0}")]
    Runtime(io::Error),

    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] kvtimedb_engine::Error),

    /// The request is not well formed.
    #[error("{0}")]
    BadRequest(String),

    /// Members that have to be there are not. Holds the names of all that have to be.
    #[error("Missing required fields: {0}")]
    MissingFields(&'static str),

    /// A member has a type that can't be taken for the one it should have.
    #[error("Invalid data types: {0}")]
    InvalidTypes(String),

    /// Parts of the request can't be taken. Holds at least one.
    #[error("{}", List(.0))]
    Invalid(Vec<Flaw>),

    /// No endpoint has this path.
    #[error("Not found")]
    NotFound,

    /// There is no value to be sent bare.
    #[error("No value answers this: ask without raw to be told so in JSON")]
    NoValue,

    /// The endpoint is there, and what the request names is not.
    #[error("{0}")]
    NoSuch(String),

    /// The endpoint has no such method.
    #[error("Method not allowed: this path answers {allow}")]
    MethodNotAllowed {
        /// The methods that it has.
        allow: String,
    },

    /// The value exists but is not JSON.
    #[error("The value is stored as octets, which this endpoint can't answer as JSON")]
    NotJson,

    /// None of the types that the client accepts can be answered.
    #[error("Not acceptable: this endpoint answers {offered}")]
    NotAcceptable {
        /// The types that there are.
        offered: &'static str,
    },

    /// Something else is under way that excludes it.
    #[error("{0}")]
    Conflict(String),

    /// A condition of the request does not hold: nothing was written.
    #[error("{0}")]
    ConditionFailed(String),

    /// The client stopped sending.
    #[error("The request's body did not arrive in time")]
    BodyTimeout,

    /// The body, or the value in it, is over its limit.
    #[error("{what} is too large: the limit is {limit} bytes")]
    TooLarge {
        /// `The body` or `The value`.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },

    /// The body is compressed.
    #[error("Content-Encoding {0} is not supported: send the body as it is")]
    ContentEncoding(String),

    /// The body is of a type that the endpoint doesn't take.
    #[error("{0}")]
    ContentType(String),

    /// The memory set aside for bodies is used up.
    #[error("Too much data is under way, try again")]
    Overloaded,

    /// An import ended early: what came before stays.
    #[error("{source}; the {imported} rows before are imported")]
    Partly {
        /// Why.
        source: Box<Error>,
        /// How many rows were committed.
        imported: u64,
    },

    /// As many jobs wait as may.
    #[error("Too many jobs wait already, try again when one is done")]
    TooManyJobs,

    /// The request took longer than requests may.
    #[error("The request took too long; a write may or may not have happened")]
    RequestTimeout,

    /// A handler panicked.
    #[error("Internal server error")]
    Panicked,
}

/// A part of a request that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Flaw {
    /// Which part: a JSON pointer into the request, as if it were an object of `path`, `query`, `header`
    /// and `body`.
    pub pointer: String,
    /// What is wrong with it, and what is expected.
    pub detail: String,
}

/// The most flaws that are told of one request.
pub(crate) const FLAWS_MAX: usize = 100;

/// Flaws in one line, in so far as they fit there.
struct List<'f>(&'f [Flaw]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (at, Flaw { pointer, detail }) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{pointer}: {detail}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Error {
    /// One part of the request can't be taken.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Invalid(vec![Flaw { pointer: pointer.into(), detail: detail.into() }])
    }

    /// A parameter of the query can't be taken.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Error {
        Error::invalid(format!("/query/{name}"), detail)
    }

    /// What the process ends with if this stops it.
    pub fn exit_code(&self) -> u8 {
        match self {
            // Before anything is served, the only arguments are the options.
            Error::Engine(kvtimedb_engine::Error::InvalidArgument(_)) => 2,
            Error::Engine(kvtimedb_engine::Error::Locked { .. }) => 5,
            Error::Engine(kvtimedb_engine::Error::Corruption { .. }) => 4,
            _ => 1,
        }
    }
}
