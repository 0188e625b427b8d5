//! One fetch: redirects by hand, the status, the body piece by piece, and what it is compared with.
//!
//! | code of a failed step | because | trying again may help |
//! |---|---|---|
//! | the status, 200 to 599 | the server answered one that is not expected | with 408, 425, 429 and from 500 on |
//! | [`UNREACHABLE`] | nobody answered, or the answer broke off | yes |
//! | [`OTHER_CONTENT`] | what came has another digest | where something on the way broke it |
//! | [`TOO_LARGE`] | there is more of it than `max-bytes` | no |
//! | [`MISLED`] | a redirect leads where it must not be followed, or there are too many | no |
//!
//! What must stay true: the body goes on only with a status that is expected, and a step whose body
//! was cut short, grew too large or has another digest does not succeed, so whoever read it learns
//! that its stream broke off. Headers that the user sets go to the server that the plan names; another
//! one gets those alone that can tell nothing of the user.

use std::time::Duration;

use vox_crypto::{Algorithm, Digest, Hasher};
use vox_plugin::http::{Failure, Request};
use vox_plugin::step::Outcome;
use vox_plugin::{Attribute, ChunkHead, Error, Result, attribute};

use crate::arguments::{Method, Order};
use crate::headers::{self, Headers};
use crate::target::Target;

/// Code of a step whose server did not answer, or not to the end.
pub const UNREACHABLE: i32 = 1;
/// Code of a step that fetched something else than its digest says.
pub const OTHER_CONTENT: i32 = 2;
/// Code of a step whose answer is larger than allowed.
pub const TOO_LARGE: i32 = 3;
/// Code of a step that was redirected to where it does not go.
pub const MISLED: i32 = 4;

/// The port that the body goes to.
pub const PORT: &str = "body";
/// Between two notices of how far the fetch is: ten a second.
const NOTICE_INTERVAL: Duration = Duration::from_millis(100);
/// Characters of an error's body that are told.
const TOLD_CHARACTERS: usize = 200;
/// What is sent as `User-Agent` unless the step says otherwise.
const USER_AGENT: &str = concat!("vox-http/", env!("CARGO_PKG_VERSION"));
/// Headers that another server may see too.
const SHARED: [&str; 4] = ["accept", "accept-language", "range", "user-agent"];

/// The body of an answer.
pub trait Body {
    /// The next piece, never empty; none at the end.
    fn read(&mut self) -> std::result::Result<Option<Vec<u8>>, Failure>;
}

/// An answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Box<dyn Body>,
}

/// What a fetch needs of the world.
pub trait Surroundings {
    /// Makes a request.
    fn send(&mut self, request: &Request) -> std::result::Result<Answer, Failure>;

    /// Hands a piece of the body on.
    fn push(&mut self, head: &ChunkHead, data: &[u8]) -> Result<()>;

    /// Tells how many bytes came, of how many.
    fn tell(&mut self, done: u64, total: Option<u64>);

    /// A time that only grows; it may stand still.
    fn now(&self) -> Duration;

    /// Whether the step is to end.
    fn is_cancelled(&self) -> bool;
}

/// Why a fetch ends without success.
enum Stop {
    /// The step fails with this code.
    Failed(i32, String),
    /// The step could not be carried out.
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Carries an order out; the body goes on where `connected` says that somebody takes it.
///
/// # Errors
///
/// What keeps the request from being made at all, or from being finished here: no grant, no room
/// for the body, cancellation.
pub fn fetch(order: &Order, connected: bool, world: &mut dyn Surroundings) -> Result<Outcome> {
    let fetched = ask(order, world).and_then(|(target, answer)| {
        let taken = Taken::new(&answer, connected);
        taken.take(order, &target, answer, world)
    });
    match fetched {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Failed(code, summary)) => Ok(Outcome {
            code,
            summary,
            attributes: Vec::new(),
        }),
    }
}

/// Asks, and asks again where a redirect leads; answers who gave the answer that is expected.
fn ask(order: &Order, world: &mut dyn Surroundings) -> std::result::Result<(Target, Answer), Stop> {
    let mut target = order.target.clone();
    let mut request = request(order);
    let mut followed = 0;
    loop {
        address(&mut request, &target);
        let mut answer = world
            .send(&request)
            .map_err(|failure| unanswered(&target, order.method, followed > 0, &failure))?;
        if order.expect.contains(&answer.status) {
            return Ok((target, answer));
        }
        let location = headers::bytes(&answer.headers, "location");
        let (301 | 302 | 303 | 307 | 308, Some(location)) = (answer.status, location) else {
            return Err(unexpected(order, &target, &mut answer));
        };
        let misled = |why: String| Stop::Failed(MISLED, format!("{target} redirects: {why}"));
        if followed == order.redirects {
            let why = match followed {
                0 => "no redirect is followed; `redirects` says how many are".to_owned(),
                _ => format!("{followed} redirects were followed, and `redirects` allows no more"),
            };
            return Err(misled(why));
        }
        followed += 1;
        let next = target.redirected(location).map_err(misled)?;
        redirect(&mut request, answer.status, next.is_at(&target));
        target = next;
    }
}

fn request(order: &Order) -> Request {
    let mut request = Request::new(order.method.name(), true, "", "");
    request.headers.clone_from(&order.headers);
    if !request.headers.iter().any(|(name, _)| name == "user-agent") {
        request
            .headers
            .push(("user-agent".to_owned(), USER_AGENT.into()));
    }
    if !request.headers.iter().any(|(name, _)| name == "accept") {
        request.headers.push(("accept".to_owned(), b"*/*".to_vec()));
    }
    request.body.clone_from(&order.body);
    request
}

fn address(request: &mut Request, target: &Target) {
    request.encrypted = target.encrypted;
    request.authority.clone_from(&target.authority);
    request.path_with_query.clone_from(&target.path_with_query);
}

/// Changes a request as a redirect of this status wants it (RFC 9110, section 15.4; a POST becomes a
/// GET after 301 and 302, as all clients have it).
fn redirect(request: &mut Request, status: u16, same_place: bool) {
    let becomes_get = match status {
        303 => request.method != "HEAD",
        301 | 302 => request.method == "POST",
        _ => false,
    };
    if becomes_get {
        "GET".clone_into(&mut request.method);
        request.body = None;
        request
            .headers
            .retain(|(name, _)| !name.starts_with("content-"));
    }
    if !same_place {
        request.headers.retain(|(name, _)| {
            SHARED.contains(&name.as_str()) || (!becomes_get && name == "content-type")
        });
    }
}

fn unanswered(target: &Target, method: Method, redirected: bool, failure: &Failure) -> Stop {
    let led = if redirected {
        ", where a redirect leads"
    } else {
        ""
    };
    let scope = target.scope();
    match failure {
        Failure::Denied => Stop::Error(Error::Denied(format!(
            "`network={scope}` is not granted{led}; grant it with `vox plugin grant http \
             network={scope}`, or where it is, trust the plugin with `vox plugin trust allow http`"
        ))),
        Failure::AddressDenied => Stop::Error(Error::Denied(format!(
            "`{scope}`{led} is granted by name, and stands for an address of this machine or its \
             network; grant that address too, with `vox plugin grant http network=<address>`"
        ))),
        Failure::Invalid(_) | Failure::Unsupported => {
            Stop::Error(Error::Invalid(format!("{target}{led}: {failure}")))
        }
        _ => Stop::Failed(
            UNREACHABLE,
            format!("{} {target}{led}: {failure}", method.name()),
        ),
    }
}

/// The failure of a status that is not expected, with what the server says of it.
fn unexpected(order: &Order, target: &Target, answer: &mut Answer) -> Stop {
    let mut why = format!(
        "{} {target}: the server answered {}{}",
        order.method.name(),
        answer.status,
        phrase(answer.status)
    );
    if let Some(wait) = headers::text(&answer.headers, "retry-after") {
        why.push_str(&match wait.parse::<u64>() {
            Ok(seconds) => format!(", and asks to wait {seconds} s before the next try"),
            Err(_) => format!(", and asks to wait until {wait}"),
        });
    }
    let modality = headers::modality(&answer.headers);
    let readable = modality == "text" || modality.ends_with("json");
    if readable && let Ok(Some(piece)) = answer.body.read() {
        let said = String::from_utf8_lossy(&piece);
        let words: Vec<&str> = said.split_whitespace().collect();
        let words = words.join(" ");
        let words = words
            .chars()
            .filter(|c| !c.is_control())
            .take(TOLD_CHARACTERS);
        let words: String = words.collect();
        if !words.is_empty() {
            why.push_str(": ");
            why.push_str(&words);
        }
    }
    Stop::Failed(i32::from(answer.status), why)
}

/// What the commonest status codes are called, with a space before.
fn phrase(status: u16) -> &'static str {
    match status {
        204 => " No Content",
        304 => " Not Modified",
        400 => " Bad Request",
        401 => " Unauthorized",
        403 => " Forbidden",
        404 => " Not Found",
        405 => " Method Not Allowed",
        410 => " Gone",
        429 => " Too Many Requests",
        500 => " Internal Server Error",
        502 => " Bad Gateway",
        503 => " Service Unavailable",
        504 => " Gateway Timeout",
        _ => "",
    }
}

/// What came of a body so far.
struct Taken {
    bytes: u64,
    total: Option<u64>,
    hashers: [Hasher; 2],
    head: ChunkHead,
    /// Whether somebody takes what comes.
    connected: bool,
    told: Option<Duration>,
}

impl Taken {
    fn new(answer: &Answer, connected: bool) -> Self {
        Self {
            bytes: 0,
            total: headers::length(&answer.headers),
            hashers: [Hasher::of(Algorithm::Blake3), Hasher::of(Algorithm::Sha256)],
            head: ChunkHead {
                modality: headers::modality(&answer.headers),
                sequence: 0,
                timestamp: 0,
                attributes: Vec::new(),
            },
            connected,
            told: None,
        }
    }

    /// Takes a body to its end.
    fn take(
        mut self,
        order: &Order,
        target: &Target,
        mut answer: Answer,
        world: &mut dyn Surroundings,
    ) -> std::result::Result<Outcome, Stop> {
        let bodiless = order.method == Method::Head || [204, 304].contains(&answer.status);
        if bodiless {
            self.total = None;
        }
        if self.total.is_some_and(|total| total > order.max_bytes) {
            return Err(too_large(order, target));
        }
        self.tell(world, false);
        if !bodiless {
            self.take_body(order, target, &mut *answer.body, world)?;
        }
        if let Some(total) = self.total.filter(|total| *total != self.bytes) {
            let why = format!(
                "{target}: {} bytes came, and {total} were announced",
                self.bytes
            );
            return Err(Stop::Failed(UNREACHABLE, why));
        }
        let digests = self.hashers.each_ref().map(Hasher::finish);
        if let Some(wanted) = &order.digest
            && !digests.contains(wanted)
        {
            let came = digests
                .iter()
                .find(|came| came.algorithm() == wanted.algorithm());
            let came = came.map(Digest::to_string).unwrap_or_default();
            let why = format!(
                "{target}: what came is not what `digest` says: it is {came}, and should be {wanted}"
            );
            return Err(Stop::Failed(OTHER_CONTENT, why));
        }
        self.tell(world, true);
        Ok(Outcome {
            code: 0,
            summary: format!(
                "{} {target}: {}, {} bytes",
                order.method.name(),
                answer.status,
                self.bytes
            ),
            attributes: self.attributes(target, answer.status, &answer.headers, &digests),
        })
    }

    /// Takes the pieces of a body until there are no more.
    fn take_body(
        &mut self,
        order: &Order,
        target: &Target,
        body: &mut dyn Body,
        world: &mut dyn Surroundings,
    ) -> std::result::Result<(), Stop> {
        loop {
            if world.is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            let piece = body.read().map_err(|failure| {
                let why = format!("{target}: after {} bytes: {failure}", self.bytes);
                Stop::Failed(UNREACHABLE, why)
            })?;
            let Some(piece) = piece else { return Ok(()) };
            self.bytes += piece.len() as u64;
            if self.bytes > order.max_bytes {
                return Err(too_large(order, target));
            }
            for hasher in &mut self.hashers {
                hasher.update(&piece);
            }
            self.hand_on(&piece, world)?;
            self.tell(world, false);
        }
    }

    fn hand_on(&mut self, piece: &[u8], world: &mut dyn Surroundings) -> Result<()> {
        if !self.connected {
            return Ok(());
        }
        match world.push(&self.head, piece) {
            Ok(()) => self.head.sequence += 1,
            // Nobody takes it, or nobody any more; the rest is fetched for its digest.
            Err(Error::NotFound(_) | Error::Unavailable(_)) => self.connected = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn tell(&mut self, world: &mut dyn Surroundings, last: bool) {
        let now = world.now();
        let due = self
            .told
            .is_none_or(|told| now.saturating_sub(told) >= NOTICE_INTERVAL);
        if due || last {
            self.told = Some(now);
            world.tell(self.bytes, self.total);
        }
    }

    fn attributes(
        &self,
        target: &Target,
        status: u16,
        headers: &Headers,
        digests: &[Digest],
    ) -> Vec<Attribute> {
        let mut attributes = vec![
            attribute("url", target.to_string()),
            attribute("status", status.to_string()),
            attribute("bytes", self.bytes.to_string()),
        ];
        for name in ["content-type", "etag", "last-modified", "content-encoding"] {
            attributes.extend(headers::text(headers, name).map(|value| attribute(name, value)));
        }
        for digest in digests {
            attributes.push(attribute(digest.algorithm().name(), digest.to_string()));
        }
        attributes
    }
}

fn too_large(order: &Order, target: &Target) -> Stop {
    let why = format!(
        "{target}: there are more than {} bytes; `max-bytes` says how many may come",
        order.max_bytes
    );
    Stop::Failed(TOO_LARGE, why)
}

#[cfg(test)]
mod tests;
