//! Which ops are meant.

use clap::Args;
use vox_crypto::KeyId;
use vox_oplog::{KindFilter, Query, Reader};

use crate::error::Failure;
use crate::exit::Exit;
use crate::record::parse_time;

/// Options that choose among ops.
#[derive(Debug, Args)]
pub(super) struct Select {
    /// Only of this kind; `model.*` stands for all below a word (may be given several times)
    #[arg(long, value_name = "KIND")]
    kind: Vec<KindFilter>,
    /// Only of this run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only of this step
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// Only by the key with this id
    #[arg(long, value_name = "KEY-ID")]
    author: Option<KeyId>,
    /// Only from then on: a day, a time, or how long ago (2days)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Only before then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
}

impl Select {
    /// The ops of this log that are meant.
    pub(super) fn query(&self, reader: &Reader) -> Result<Query, Failure> {
        let author = self.author.map(|id| {
            let known = reader.authors()?;
            known.into_iter().find(|key| key.id() == id).ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("no key {id} has written this log"))
                    .hint("`vox log verify` names those that may")
            })
        });
        Ok(Query {
            kinds: self.kind.clone(),
            run: self.run.clone(),
            step: self.step.clone(),
            since: self.since,
            until: self.until,
            author: author.transpose()?,
            ..Query::default()
        })
    }
}
