//! The bucket: what the S3 API can do with it, checked and repeated.
//!
//! Every request here can be repeated without harm, so each is, with growing pauses, when the server
//! is busy or the connection breaks. What is sent goes with its MD5, which the server checks, and the
//! `ETag` that comes back is compared where it is one of MD5, as it is unless the bucket encrypts with
//! keys of its own.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2};
use rusty_s3::{Bucket, Credentials, S3Action};
use vox_plugin::storage::Entry;
use vox_plugin::{Error, Result, failed};

use crate::config::Config;
use crate::refusal::{Refusal, unanswered};
use crate::transport::{Answer, Cancel, Fault, Request, Transport};

/// How long a signature holds; a request begins at once.
const VALID: Duration = Duration::from_secs(15 * 60);

/// The first pause before a request is repeated, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long the end of an upload may keep a cancelled run or a shutdown.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most keys of a page of a listing.
const PAGE: usize = 1000;

/// A part that the store has.
pub struct Part {
    etag: String,
    md5: [u8; 16],
}

/// What the store says of an object.
struct Head {
    size: u64,
    etag: Option<String>,
}

/// The bucket.
pub struct Store {
    /// How it is configured.
    pub config: Config,
    credentials: Credentials,
    transport: Transport,
    /// Whether the bucket is known to exist, which the answer to `HEAD` for a missing object leaves open.
    bucket_seen: Cell<bool>,
}

impl Store {
    /// The bucket of a configuration.
    pub fn new(config: Config, credentials: Credentials, cancel: Cancel) -> Self {
        Self {
            transport: Transport::new(config.timeout, cancel),
            config,
            credentials,
            bucket_seen: Cell::new(false),
        }
    }

    /// The size of an object.
    pub fn stat(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.head(key)?.map(|head| head.size))
    }

    fn head(&self, key: &str) -> Result<Option<Head>> {
        let what = format!("asking for {key:?}");
        let answer = self.exchange(&what, || {
            signed(&self.bucket().head_object(self.signer(), key))
        })?;
        if answer.status == 404 {
            self.require_bucket(&what)?;
            return Ok(None);
        }
        self.accept(&answer, &what)?;
        let size = answer
            .header("content-length")
            .and_then(|size| size.parse().ok());
        Ok(Some(Head {
            size: size
                .ok_or_else(|| failed(format!("{what}: the store does not say how large it is")))?,
            etag: etag(&answer),
        }))
    }

    /// A range of an object.
    pub fn read(&self, key: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        // Servers read positions as signed numbers.
        let last_position = i64::MAX.unsigned_abs();
        if length == 0 || offset > last_position {
            return match self.stat(key)? {
                Some(_) => Ok(Vec::new()),
                None => Err(no_object(key)),
            };
        }
        let last = offset
            .saturating_add(u64::from(length) - 1)
            .min(last_position);
        let what = format!("reading {key:?}");
        let answer = self.exchange(&what, || Request {
            headers: vec![("range", format!("bytes={offset}-{last}"))],
            longest_answer: u64::from(length).max(64 << 10),
            ..signed(&self.bucket().get_object(self.signer(), key))
        })?;
        if answer.status == 416 {
            return Ok(Vec::new());
        }
        self.accept_object(&answer, key, &what)?;
        let mut data = answer.body;
        if answer.status == 200 && offset > 0 {
            // The whole object came in place of the range.
            if data.len() as u64 > offset {
                return Err(failed(format!(
                    "{what}: {} ignores ranges; use another store",
                    self.config.endpoint
                )));
            }
            data.clear();
        }
        data.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(data)
    }

    /// Writes an object in one request.
    pub fn put(&self, key: &str, body: &Arc<Vec<u8>>) -> Result<()> {
        let what = format!("writing {key:?}");
        let md5 = Md5::digest(body.as_slice()).into();
        let answer = self.send_checked(&what, body, &md5, || {
            self.bucket().put_object(self.signer(), key)
        })?;
        check_etag(&answer, &hexadecimal(&md5), &what)
    }

    /// Begins an object of several parts; answers the store's name for the upload.
    pub fn create(&self, key: &str) -> Result<String> {
        let what = format!("beginning {key:?}");
        let answer = self.exchange(&what, || {
            signed(&self.bucket().create_multipart_upload(self.signer(), key))
        })?;
        self.accept(&answer, &what)?;
        let created = CreateMultipartUpload::parse_response(text(&answer, &what)?)
            .map_err(|error| unreadable(&what, &error))?;
        Ok(created.upload_id().to_owned())
    }

    /// Writes part `number`, counted from 1.
    pub fn part(&self, key: &str, id: &str, number: u16, body: &Arc<Vec<u8>>) -> Result<Part> {
        let what = format!("writing part {number} of {key:?}");
        let md5 = Md5::digest(body.as_slice()).into();
        let answer = self.send_checked(&what, body, &md5, || {
            self.bucket().upload_part(self.signer(), key, number, id)
        })?;
        check_etag(&answer, &hexadecimal(&md5), &what)?;
        let Some(etag) = answer.header("etag").map(str::to_owned) else {
            return Err(failed(format!("{what}: the store's answer has no ETag")));
        };
        Ok(Part { etag, md5 })
    }

    /// Makes an object of its parts, `size` bytes together.
    pub fn complete(&self, key: &str, id: &str, parts: &[Part], size: u64) -> Result<()> {
        let what = format!("completing {key:?}");
        let expected = etag_of(parts);
        let answer = self.exchange(&what, || {
            let etags = parts.iter().map(|part| part.etag.as_str());
            let action = self
                .bucket()
                .complete_multipart_upload(self.signer(), key, id, etags);
            let request = signed(&action);
            Request {
                body: Arc::new(action.body().into_bytes()),
                ..request
            }
        })?;
        let refusal = Refusal::of(&answer);
        let is_ours = |head: &Head| head.etag.as_deref() == Some(expected.as_str());
        // The store may find out that it fails after it has said `200 OK`.
        if answer.status >= 300 || !refusal.code.is_empty() {
            // An earlier attempt may have completed it although its answer was lost.
            if refusal.code == "NoSuchUpload" && self.head(key)?.as_ref().is_some_and(is_ours) {
                return Ok(());
            }
            return Err(self.refused(&refusal, &what));
        }
        let head = self.head(key)?;
        match head {
            Some(head) if is_ours(&head) && head.size != size => Err(failed(format!(
                "{what}: the store has {} bytes of {size}; write it anew",
                head.size
            ))),
            // Another etag is that of a bucket with keys of its own, or of somebody's later object.
            Some(_) => Ok(()),
            None => Err(failed(format!(
                "{what}: the store took the object, and has none; was it removed meanwhile?"
            ))),
        }
    }

    /// Ends an upload of several parts. Also where the run is cancelled, but not at any price.
    pub fn abort(&self, key: &str, id: &str) -> Result<()> {
        let what = format!("ending the upload of {key:?}");
        let request = signed(&self.bucket().abort_multipart_upload(self.signer(), key, id));
        let answer = self
            .transport
            .send_within(request, PATIENCE)
            .map_err(|fault| unanswered(fault, &self.config, &what))?;
        let refusal = Refusal::of(&answer);
        if answer.status < 300 || refusal.code == "NoSuchUpload" {
            return Ok(());
        }
        Err(self.refused(&refusal, &what))
    }

    /// Removes an object; false when there was none.
    pub fn remove(&self, key: &str) -> Result<bool> {
        // The API does not tell whether there was one.
        if self.head(key)?.is_none() {
            return Ok(false);
        }
        let what = format!("removing {key:?}");
        let answer = self.exchange(&what, || {
            signed(&self.bucket().delete_object(self.signer(), key))
        })?;
        self.accept(&answer, &what)?;
        Ok(true)
    }

    /// Objects whose key in the bucket starts with `prefix`, after `after`, in order.
    pub fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>> {
        let what = format!("listing {prefix:?}");
        let mut entries: Vec<Entry> = Vec::new();
        let mut token: Option<String> = None;
        while entries.len() < limit {
            let wanted = PAGE.min(limit - entries.len());
            let answer = self.exchange(&what, || {
                let mut action = self.bucket().list_objects_v2(self.signer());
                action.with_prefix(prefix);
                action.with_max_keys(wanted);
                if !after.is_empty() {
                    action.with_start_after(after);
                }
                if let Some(token) = &token {
                    action.with_continuation_token(token.as_str());
                }
                signed(&action)
            })?;
            self.accept(&answer, &what)?;
            let page = ListObjectsV2::parse_response(text(&answer, &what)?)
                .map_err(|error| unreadable(&what, &error))?;
            for object in page.contents.into_iter().take(wanted) {
                if entries.last().is_some_and(|last| last.key >= object.key) {
                    return Err(failed(format!(
                        "{what}: {} does not list in key order; use another store or bucket",
                        self.config.endpoint
                    )));
                }
                let size = object.size.unwrap_or_default();
                entries.push(Entry {
                    key: object.key,
                    size,
                });
            }
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        Ok(entries)
    }

    fn bucket(&self) -> &Bucket {
        &self.config.bucket
    }

    fn signer(&self) -> Option<&Credentials> {
        Some(&self.credentials)
    }

    /// Sends bytes with their MD5.
    fn send_checked<'a, A: S3Action<'a>>(
        &self,
        what: &str,
        body: &Arc<Vec<u8>>,
        md5: &[u8; 16],
        action: impl Fn() -> A,
    ) -> Result<Answer> {
        let md5 = STANDARD.encode(md5);
        let answer = self.exchange(what, || {
            let mut action = action();
            action.headers_mut().insert("content-md5", md5.clone());
            Request {
                headers: vec![("content-md5", md5.clone())],
                body: Arc::clone(body),
                ..signed(&action)
            }
        })?;
        self.accept(&answer, what)?;
        Ok(answer)
    }

    /// One exchange, repeated with growing pauses while the store cannot answer.
    fn exchange(&self, what: &str, request: impl Fn() -> Request) -> Result<Answer> {
        let unanswered = |fault| unanswered(fault, &self.config, what);
        let mut repeats = 0;
        loop {
            // Signed anew each time, as a signature has its time.
            let answer = self.transport.send(request());
            if repeats == self.config.retries {
                return answer.map_err(unanswered);
            }
            match answer {
                Ok(answer) if answer.status < 400 || !Refusal::of(&answer).may_pass() => {
                    return Ok(answer);
                }
                Err(Fault::Cancelled) => return Err(Error::Cancelled),
                Ok(_) | Err(_) => {}
            }
            self.transport.pause(pause(repeats)).map_err(unanswered)?;
            repeats += 1;
        }
    }

    /// Refuses an answer that is no success.
    fn accept(&self, answer: &Answer, what: &str) -> Result<()> {
        if answer.status >= 300 {
            return Err(self.refused(&Refusal::of(answer), what));
        }
        self.bucket_seen.set(true);
        Ok(())
    }

    /// As [`accept`](Self::accept), of an answer about an object.
    fn accept_object(&self, answer: &Answer, key: &str, what: &str) -> Result<()> {
        if answer.status == 404 && Refusal::of(answer).code == "NoSuchKey" {
            return Err(no_object(key));
        }
        self.accept(answer, what)
    }

    fn refused(&self, refusal: &Refusal, what: &str) -> Error {
        refusal.error(&self.config, self.credentials.key(), what)
    }

    /// Makes sure, once, that it is not the bucket that is missing.
    fn require_bucket(&self, what: &str) -> Result<()> {
        if !self.bucket_seen.get() {
            let request = || {
                let mut action = self.bucket().list_objects_v2(self.signer());
                action.with_max_keys(1);
                signed(&action)
            };
            let answer = self.exchange(what, request)?;
            self.accept(&answer, what)?;
        }
        Ok(())
    }
}

/// A request for an action, signed now.
fn signed<'a>(action: &impl S3Action<'a>) -> Request {
    fn method<'a, A: S3Action<'a>>(_: &A) -> rusty_s3::Method {
        A::METHOD
    }
    Request::new(method(action), action.sign(VALID))
}

/// The pause before a repetition: twice the one before, less up to a half, so that many callers do
/// not come back at the same time.
fn pause(repeats: u32) -> Duration {
    let (first, longest) = PAUSES;
    let whole = first.saturating_mul(1 << repeats.min(16)).min(longest);
    let chance = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.subsec_micros() % 1024);
    whole - whole / 2 * chance / 1024
}

/// The etag of an answer without its quotes.
fn etag(answer: &Answer) -> Option<String> {
    Some(answer.header("etag")?.trim_matches('"').to_owned())
}

/// Refuses an etag that is an MD5, and not the one of what was sent.
fn check_etag(answer: &Answer, expected: &str, what: &str) -> Result<()> {
    let Some(found) = etag(answer) else {
        return Ok(());
    };
    let is_md5 =
        found.len() == expected.len() && found.bytes().all(|byte| byte.is_ascii_hexdigit());
    // With keys of the bucket's own it is something else of the same form.
    let is_encrypted = answer
        .header("x-amz-server-side-encryption")
        .is_some_and(|how| how != "AES256");
    if is_md5 && !is_encrypted && !found.eq_ignore_ascii_case(expected) {
        return Err(failed(format!(
            "{what}: the store has other bytes than were sent (MD5 {found} in place of {expected}); \
             write it anew"
        )));
    }
    Ok(())
}

/// The etag of an object of several parts, as S3 makes it.
fn etag_of(parts: &[Part]) -> String {
    let mut all = Md5::new();
    for part in parts {
        all.update(part.md5);
    }
    format!("{}-{}", hexadecimal(&all.finalize().into()), parts.len())
}

fn hexadecimal(md5: &[u8; 16]) -> String {
    md5.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text<'a>(answer: &'a Answer, what: &str) -> Result<&'a str> {
    std::str::from_utf8(&answer.body).map_err(|error| unreadable(what, &error))
}

fn unreadable(what: &str, error: &dyn std::fmt::Display) -> Error {
    failed(format!(
        "{what}: the answer cannot be read: {error}; is the `endpoint` one of the S3 API?"
    ))
}

fn no_object(key: &str) -> Error {
    Error::NotFound(format!("there is no object {key:?}"))
}
