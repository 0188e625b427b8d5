//! One file from one address, however often the connection breaks.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ureq::Body;
use ureq::http::{HeaderMap, Response, header};
use vox_crypto::{Algorithm, Digest, Hasher};

use super::Error;
use super::address::Address;
use super::client::{Client, Token, Trouble};
use super::partial::{Origin, Partial};

/// Bytes that are read at once.
const CHUNK: usize = 128 << 10;

/// Watches a transfer and may stop it.
pub trait Watch {
    /// `done` bytes of `total` are here; `total` is unknown when the server does not say.
    fn progress(&mut self, done: u64, total: Option<u64>) {
        let _ = (done, total);
    }

    /// Whether to stop; asked before each attempt and after each piece.
    fn cancelled(&mut self) -> bool {
        false
    }
}

/// Watches nothing.
impl Watch for () {}

/// What to fetch, and what is known about it.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// The address.
    pub url: &'a str,
    /// The file that it becomes. `<to>.part` and `<to>.part.json` hold what is not complete.
    pub to: &'a Path,
    /// Its length in bytes, if it is known beforehand.
    pub len: Option<u64>,
    /// Its digest, if it is known beforehand.
    pub digest: Option<Digest>,
    /// Bytes that it may have at most.
    pub max_bytes: u64,
    /// A secret, sent only to the host that it is for.
    pub token: Option<&'a Token>,
}

/// A file that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Its digest: by the algorithm of the expected one, SHA-256 when none was expected.
    pub digest: Digest,
    /// Bytes that were there before.
    pub resumed: u64,
}

impl Client {
    /// Fetches a file. It gets its name once it is whole, has the expected length and digest, and is on
    /// the disk; until then a later call goes on where this one stopped.
    ///
    /// # Errors
    ///
    /// Any [`Error`]. After [`Error::Digest`] and [`Error::Length`] nothing is kept.
    pub fn download(
        &self,
        what: &Download<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Downloaded, Error> {
        let url = Address::parse(what.url)?;
        if what.len.is_some_and(|len| len > what.max_bytes) {
            return Err(too_large(&url, what));
        }
        let mut partial = Partial::open(what.to)?;
        let resumed = partial
            .resume(what.url, what.digest)?
            .map_or(0, |(_, len)| len);
        let (mut failed, mut furthest) = (0, resumed);
        let (len, digest) = loop {
            if watch.cancelled() {
                return Err(Error::Cancelled { url: url.shown() });
            }
            let mut attempt = Attempt {
                client: self,
                what,
                url: &url,
                partial: &mut partial,
                reached: 0,
            };
            let result = attempt.make(watch);
            let reached = attempt.reached;
            match result {
                Ok(done) => break done,
                Err(Trouble::Transient(source)) => {
                    failed = if reached > furthest { 1 } else { failed + 1 };
                    furthest = furthest.max(reached);
                    self.wait(&url, failed, source, watch)?;
                }
                Err(Trouble::Final(error)) => {
                    if matches!(error, Error::Length { .. } | Error::TooLarge { .. }) {
                        partial.discard()?;
                    }
                    return Err(error);
                }
            }
        };
        if let Some(expected) = what.digest.filter(|expected| *expected != digest) {
            partial.discard()?;
            return Err(Error::Digest {
                url: url.shown(),
                expected: Box::new(expected),
                found: Box::new(digest),
            });
        }
        partial.finish()?;
        Ok(Downloaded {
            path: what.to.into(),
            len,
            digest,
            resumed,
        })
    }
}

fn too_large(url: &Address, what: &Download<'_>) -> Error {
    Error::TooLarge {
        url: url.shown(),
        limit: what.max_bytes,
    }
}

/// One connection's worth of a download.
struct Attempt<'a> {
    client: &'a Client,
    what: &'a Download<'a>,
    url: &'a Address,
    partial: &'a mut Partial,
    /// Bytes that are there after it.
    reached: u64,
}

impl Attempt<'_> {
    /// The length and the digest of the whole file.
    fn make(&mut self, watch: &mut dyn Watch) -> Result<(u64, Digest), Trouble> {
        let algorithm = self.what.digest.map(|digest| digest.algorithm());
        let mut hasher = Hasher::of(algorithm.unwrap_or(Algorithm::Sha256));
        let known = self.partial.resume(self.what.url, self.what.digest)?;
        if let Some((origin, have)) = &known
            && *have == origin.len
        {
            self.check_len(origin.len)?;
            self.partial.hash(&mut hasher)?;
            return Ok((origin.len, hasher.finish()));
        }
        let mut headers = vec![
            ("accept", "*/*".to_owned()),
            // The bytes themselves, or ranges and lengths would be of something else.
            ("accept-encoding", "identity".to_owned()),
        ];
        if let Some((origin, have)) = &known {
            headers.push(("range", format!("bytes={have}-")));
            headers.extend(origin.etag.clone().map(|etag| ("if-range", etag)));
        }
        let response = self.client.request(self.url, &headers, self.what.token)?;
        let (have, total) = match (response.status().as_u16(), &known) {
            (206, Some((origin, have))) => {
                let fits = content_range(response.headers()) == Some((*have, origin.len))
                    && etag(response.headers())
                        .zip(origin.etag.as_deref())
                        .is_none_or(|(found, known)| found == known);
                if !fits {
                    self.partial.restart()?;
                    return Err(changed());
                }
                (*have, Some(origin.len))
            }
            (416, Some(_)) => {
                self.partial.restart()?;
                return Err(changed());
            }
            (200, _) => {
                self.partial.restart()?;
                (0, content_length(&response))
            }
            (status, _) => {
                return Err(Error::Status {
                    url: self.url.shown(),
                    status,
                }
                .into());
            }
        };
        if response.headers().contains_key(header::CONTENT_ENCODING)
            && header_text(response.headers(), header::CONTENT_ENCODING) != Some("identity")
        {
            return Err(Error::Answer {
                url: self.url.shown(),
                why: "it sends the file in an encoding that was not asked for".to_owned(),
            }
            .into());
        }
        if let Some(total) = total {
            self.check_len(total)?;
        }
        if have > 0 {
            self.partial.hash(&mut hasher)?;
        } else if let Some(len) = total {
            self.partial.describe(&Origin {
                url: self.what.url.to_owned(),
                etag: etag(response.headers()).map(str::to_owned),
                digest: self.what.digest,
                len,
            })?;
        }
        let body = response.into_body().into_reader();
        let len = self.receive(body, have, total, &mut hasher, watch)?;
        Ok((len, hasher.finish()))
    }

    /// Compares the length that the server announces with what is expected and allowed.
    fn check_len(&self, found: u64) -> Result<(), Error> {
        if let Some(expected) = self.what.len.filter(|&expected| expected != found) {
            return Err(Error::Length {
                url: self.url.shown(),
                expected,
                found,
            });
        }
        if found > self.what.max_bytes {
            return Err(too_large(self.url, self.what));
        }
        Ok(())
    }

    /// Writes what arrives after the `have` bytes that are there. The length of the whole.
    fn receive(
        &mut self,
        mut body: impl Read,
        have: u64,
        total: Option<u64>,
        hasher: &mut Hasher,
        watch: &mut dyn Watch,
    ) -> Result<u64, Trouble> {
        let mut buffer = vec![0; CHUNK];
        let mut done = have;
        watch.progress(done, total);
        loop {
            if watch.cancelled() {
                return Err(Error::Cancelled {
                    url: self.url.shown(),
                }
                .into());
            }
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Trouble::Transient(error)),
            };
            let piece = buffer.get(..count).unwrap_or_default();
            done = done.saturating_add(count as u64);
            if let Some(expected) = self.what.len.or(total).filter(|&expected| done > expected) {
                return Err(Error::Length {
                    url: self.url.shown(),
                    expected,
                    found: done,
                }
                .into());
            }
            if done > self.what.max_bytes {
                return Err(too_large(self.url, self.what).into());
            }
            self.partial
                .file
                .write_all(piece)
                .map_err(|error| Error::io("write", &self.partial.path, error))?;
            hasher.update(piece);
            self.reached = done;
            watch.progress(done, total);
        }
        match self.what.len.or(total) {
            Some(expected) if done < expected && total.is_some() => {
                let why = format!("the connection ended after {done} of {expected} bytes");
                Err(Trouble::Transient(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    why,
                )))
            }
            Some(expected) if done != expected => Err(Error::Length {
                url: self.url.shown(),
                expected,
                found: done,
            }
            .into()),
            _ => Ok(done),
        }
    }
}

fn changed() -> Trouble {
    Trouble::Transient(io::Error::other("the file there has changed"))
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn content_length(response: &Response<Body>) -> Option<u64> {
    header_text(response.headers(), header::CONTENT_LENGTH)?
        .trim()
        .parse()
        .ok()
}

/// A strong entity tag: a weak one does not promise the same bytes.
fn etag(headers: &HeaderMap) -> Option<&str> {
    header_text(headers, header::ETAG).filter(|etag| etag.starts_with('"'))
}

/// The first byte and the length of the whole, of `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = header_text(headers, header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    let (range, len) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let len: u64 = len.parse().ok()?;
    (last.checked_add(1)? == len).then_some((first, len))
}
