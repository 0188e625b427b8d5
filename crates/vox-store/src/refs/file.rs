//! The file of a reference.
//!
//! ```text
//! vox ref 1
//! name <the name, encoded>
//! digest blake3:<hex>
//! class kept | evictable
//! time <milliseconds since 1970>
//! check <BLAKE3 of the lines above, first 16 digits>
//! ```
//!
//! The check is there because a flipped bit in the digest would make garbage of what is needed.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use vox_crypto::Digest;

use super::{Class, Ref, RefName, name};
use crate::error::{Error, failed};
use crate::layout;

const FIRST: &str = "vox ref 1";

/// No reference's file is larger: a name triples at most when it is encoded.
const MAX_FILE_BYTES: u64 = 3 * name::MAX_NAME_BYTES as u64 + 512;

pub(super) fn write(reference: &Ref) -> String {
    let since = reference.time.duration_since(SystemTime::UNIX_EPOCH);
    let text = format!(
        "{FIRST}\nname {}\ndigest {}\nclass {}\ntime {}\n",
        name::encode(reference.name.name()),
        reference.digest,
        reference.class.name(),
        since.map_or(0, |since| since.as_millis()),
    );
    let check = check(&text);
    format!("{text}check {check}\n")
}

/// Reads the reference in a file; `None` when it is not there.
pub(super) fn read(path: &Path, namespace: &str) -> Result<Option<Ref>, Error> {
    let bad = |fault| Error::BadRef {
        path: path.into(),
        fault,
    };
    let file = match layout::open_no_follow(path) {
        Ok(Some((file, _))) => file,
        Ok(None) => return Err(bad("it is no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    let text = String::from_utf8(bytes).map_err(|_| bad("it is not text"))?;
    let reference = parse(&text, namespace).map_err(bad)?;
    let own = path.file_name() == Some(name::file_name(reference.name.name()).as_ref());
    if own {
        Ok(Some(reference))
    } else {
        Err(bad("it is the file of another name"))
    }
}

fn parse(text: &str, namespace: &str) -> Result<Ref, &'static str> {
    let (said, check_line) = text
        .strip_suffix('\n')
        .and_then(|text| text.rsplit_once('\n'))
        .ok_or("it is cut")?;
    let lines_end = said.len() + 1;
    let above = text.get(..lines_end).ok_or("it is cut")?;
    if check_line.strip_prefix("check ") != Some(check(above).as_str()) {
        return Err("it is cut or altered");
    }
    let mut lines = said.split('\n');
    if lines.next() != Some(FIRST) {
        return Err("another version wrote it");
    }
    let mut field = |key: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(key));
        line.ok_or("a line is missing")
    };
    let name = name::decode(field("name ")?).ok_or("its name is none")?;
    let digest: Digest = field("digest ")?
        .parse()
        .map_err(|_| "its digest is none")?;
    let class = Class::of(field("class ")?).ok_or("its class is unknown")?;
    let time: u64 = field("time ")?.parse().map_err(|_| "its time is none")?;
    let time = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(time))
        .ok_or("its time is none")?;
    Ok(Ref {
        name: RefName::new(namespace, &name).map_err(|_| "its name is none")?,
        digest,
        class,
        time,
    })
}

fn check(text: &str) -> String {
    let mut hex = vox_crypto::hash(text.as_bytes()).to_hex();
    hex.truncate(16);
    hex
}
