//! The content-addressed store: everything large lies here under its hash.
//!
//! A store is a directory and nothing else; there is no index that could disagree with the files. It
//! holds *blobs*, which are opaque bytes, and *nodes*, which are canonical values such as a manifest:
//! every text in a node that is a `blake3:…` digest is a *link* to an object. *References* are names for
//! objects; what a reference names stays, with everything that links from there.
//!
//! ```
//! use vox_store::{Class, GcOptions, Options, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path().join("store");
//! let (store, opened) = Store::open(&root, Options::default())?;
//! assert!(opened.repairs.is_empty());
//!
//! let weights = store.put_bytes(b"not many weights")?;
//! let manifest = store.put_node(&std::collections::BTreeMap::from([("weights", weights)]))?;
//! store.set_ref("models", "tiny", &manifest, Class::Kept)?;
//!
//! let mut blob = store.get(&weights)?;
//! assert_eq!(blob.read_range(9, 7)?, b"weights");
//!
//! // Nothing is removed that the reference leads to. This program's op-log needs nothing here.
//! let report = store.gc(&mut |_needed| Ok(()), GcOptions::default())?;
//! assert!(report.removed.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `store` | [`Store`]: opening, putting and getting |
//! | `layout` | where files lie, and how they are opened and made durable |
//! | `lock`, `lease` | what keeps processes apart, and what a running one needs |
//! | `write`, `import` | [`BlobWriter`] and files: hashed while they are written |
//! | `read` | [`BlobReader`]: verified before a byte is handed out |
//! | `node` | values with links |
//! | `refs` | named references and pins |
//! | `graph` | who needs what |
//! | `gc`, `size` | garbage collection, eviction, and how large the store is |
//! | `scrub` | verifying everything |
//!
//! # What must stay true
//!
//! - **Durable when it returns.** A file is written in `tmp/`, synced, renamed to its place, and the
//!   directory synced. What was acknowledged survives a crash of the process and of the machine, as far
//!   as the disk keeps what it says it has; what was not is invisible.
//! - **Verified before it is used.** No byte of a blob and no field of a node is handed out that was not
//!   compared with the name. [`Store::path_of`] is the one way around, and says so.
//! - **Claimed before it is visible.** A process writes into its lease what it is about to publish or
//!   has opened, while the store's lock is shared; whoever removes holds the lock alone, and reads the
//!   leases of the processes that live. A lock goes with its process, so that a dead one claims nothing.
//! - **Nothing is removed in doubt.** A node, a reference or a lease that cannot be read stops garbage
//!   collection.
//!
//! Many processes may use a store at once, where the file system has `flock` (local ones, and NFS since
//! version 4 as Linux does it).

mod error;
mod gc;
mod graph;
mod import;
mod layout;
mod lease;
mod lock;
mod node;
mod read;
mod refs;
mod scrub;
mod size;
mod store;
mod write;

pub use error::{BoxError, Error, Fault, Moved};
pub use gc::{Count, EvictReport, GcOptions, GcReport, Kept};
pub use graph::{Reason, Roots};
pub use import::{ImportOptions, Link, Progress, Watch};
pub use layout::Kind;
pub use lease::Repair;
pub use node::MAX_NODE_BYTES;
pub use read::BlobReader;
pub use refs::{Class, MAX_NAME_BYTES, MAX_NAMESPACE_BYTES, PINS, Ref, RefName};
pub use scrub::{Broken, MissingObject, ScrubReport};
pub use store::{Opened, Options, Store};
pub use write::{Blob, BlobWriter};
