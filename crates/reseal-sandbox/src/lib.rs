//! Private servers and a writing application: what the demo, the tests and the benchmarks run against.
//!
//! ```text
//! postgres::Server   a server of one's own, in a temporary directory, killed and restarted at will
//! redis::Server      the same for Redis, with its password in each of the places where people keep it
//! pooler::Pooler     PgBouncer in transaction mode before a Postgres
//! table::Table       the encrypted table of the runbook, filled with values that follow from a seed
//! writer::Writer     an application that writes to it and keeps a ledger of what must be read back
//! proxy::Proxy       a wire that can be cut
//! ```
//!
//! Everything listens on the loopback device or on a socket in a private directory, and goes away with the process
//! that started it, also when that is killed. Unlike the other libraries this one looks for programs on `PATH`.

pub mod binaries;
pub mod codec;
mod error;
mod guard;
pub mod ledger;
pub mod pooler;
pub mod postgres;
mod private;
pub mod proxy;
pub mod redis;
pub mod seal;
pub mod stage;
pub mod table;
#[cfg(feature = "tls")]
mod tls;
pub mod usage;
mod user;
pub mod values;
pub mod writer;

pub use error::SandboxError;
pub use guard::Directory;
