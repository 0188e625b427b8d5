//! The op-log: signed, hash-chained, durable records; the one durable truth of Vox.
//!
//! A log is a directory with a SQLite database, a head file and a lock. Each op names the hash of the
//! one before it and is signed by a key that may write the log, so that nothing can be altered, removed
//! or put between without being found.
//!
//! | module | owns |
//! |---|---|
//! | `op` | [`Op`], [`NewOp`], their parts, and the bytes that an op's hash is over |
//! | `control` | what the ops of the log itself say: genesis, authors, compactions |
//! | `db` | the database: schema, settings, durability, ops as rows |
//! | `head` | [`Head`]: the signed file that tells when a log was cut or rolled back |
//! | `queue`, `seal`, `writer` | from an op that is handed over to one that is signed and durable |
//! | `log` | [`OpLog`]: opening, repairing, appending |
//! | `reader`, `query`, `subscribe`, `signal` | [`Reader`]: ops that are there and ops that come |
//! | `chain`, `verify` | whether a log is sound, and the first thing that is not |
//! | `compact` | removing what need not be kept, with a signed record of it |
//! | `projection` | [`Projections`]: tables that follow from the log; [`Links`] is one |
//! | `transfer` | [`Replica`]: logs as files, and copies of other machines' logs |
//!
//! What must stay true: an acknowledged op is durable and whole; readers never block a writer; writers
//! of several processes interleave and the chain holds; neither opening nor reading needs memory or time
//! that grows with the log.
//!
//! ```
//! use std::ops::ControlFlow;
//! use vox_crypto::{SigningKey, canonical};
//! use vox_oplog::{NewOp, OpLog, Options, VerifyOptions};
//!
//! let dir = tempfile::tempdir()?;
//! let log = OpLog::open(dir.path(), SigningKey::generate()?, Options::default())?;
//! let payload = canonical::encode("hello")?;
//! let receipt = log.append(NewOp::new("example.greeting", payload)?.run("r1"))?;
//! assert_eq!(receipt.seq, 1);
//!
//! let reader = log.reader()?;
//! assert_eq!(reader.get(1)?.unwrap().hash(), receipt.hash);
//! let summary = reader.verify(&VerifyOptions::default(), &mut |_| ControlFlow::Continue(()))?;
//! assert_eq!(summary.ops, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod compact;
mod control;
mod db;
mod error;
mod head;
mod log;
mod op;
mod projection;
mod query;
mod queue;
mod reader;
mod seal;
mod signal;
mod subscribe;
mod transfer;
mod verify;
mod writer;

pub use compact::{Compacted, Policy};
pub use control::{Compaction, Gap};
pub use db::Durability;
pub use error::{Error, Fault, Fork};
pub use head::Head;
pub use log::{OpLog, Opened, Options, Repair};
pub use op::{
    Class, Hash, Kind, LogId, MAX_ID_BYTES, MAX_KIND_BYTES, MAX_PAYLOAD_BYTES, NewOp, Op, micros,
};
pub use projection::{CaughtUp, Links, Projection, Projections};
pub use query::{KindFilter, Ops, Query};
pub use queue::{Pending, Receipt};
pub use reader::{KindStats, Reader, Stats};
/// What projections are written with.
pub use rusqlite;
pub use subscribe::{Canceller, Subscription};
pub use transfer::{Exported, Imported, Replica};
pub use verify::{Progress, Summary, VerifyOptions};
