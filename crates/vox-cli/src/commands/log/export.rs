//! `vox log export`: a log as a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::chain::Chain;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, GOOD, paint};
use crate::output::{View, bytes};

/// Arguments of `vox log export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A file that is not there yet
    file: PathBuf,
    /// Begin with this op: what follows on an earlier export
    #[arg(long, default_value_t = 0, value_name = "OP")]
    from: u64,
    #[command(flatten)]
    chain: Chain,
}

#[derive(Debug, Serialize)]
struct ExportedView {
    file: PathBuf,
    ops: u64,
    first: Option<u64>,
    last: Option<u64>,
    head: Option<String>,
    bytes: u64,
}

impl View for ExportedView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let (exported, size) = (paint(GOOD, "exported"), bytes(self.bytes));
        writeln!(
            out,
            "{exported} {} ops to {}, {size}",
            self.ops,
            self.file.display()
        )?;
        match (self.last, &self.head) {
            (Some(last), Some(head)) => writeln!(
                out,
                "  {}",
                paint(DIM, format!("it ends with op {last}, {head}"))
            ),
            _ => Ok(()),
        }
    }
}

pub(super) fn run(context: &Context, arguments: &ExportArgs) -> Result<Exit, Failure> {
    let reader = arguments.chain.open(context)?;
    let file = &arguments.file;
    let failed = |action: &'static str| move |error: io::Error| Failure::io(action, file, &error);
    if file.exists() {
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "{} is there already, and nothing is written over",
                file.display()
            ),
        ));
    }
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // It gets its name once it is whole.
    let unfinished = tempfile::Builder::new()
        .prefix(".vox-export-")
        .tempfile_in(directory)
        .map_err(failed("create"))?;
    let mut out = BufWriter::new(unfinished.as_file());
    let exported = reader.export(arguments.from, None, &mut out)?;
    out.flush().map_err(failed("write"))?;
    drop(out);
    unfinished.as_file().sync_all().map_err(failed("write"))?;
    let written: File = unfinished
        .persist_noclobber(file)
        .map_err(|error| failed("create")(error.error))?;
    open_to_all(&written);
    context.output.show(&ExportedView {
        file: file.clone(),
        ops: exported.ops,
        first: exported.first,
        last: exported.last.map(|(seq, _)| seq),
        head: exported.last.map(|(_, hash)| hash.to_string()),
        bytes: exported.bytes,
    })?;
    Ok(Exit::Success)
}

/// A temporary file is for its owner alone; an export is a file like any other.
fn open_to_all(file: &File) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o644));
    }
    #[cfg(not(unix))]
    let _ = file;
}
