//! What a store's refusal means, and what to do next.

use vox_plugin::{Error, Exceeded, failed};

use crate::config::Config;
use crate::transport::{Answer, Fault};

/// The most of a server's own words that is passed on, in characters.
const LONGEST_MESSAGE: usize = 300;

/// An answer that is not the one that was asked for.
pub struct Refusal {
    status: u16,
    /// The error's name in the S3 API; empty where the answer has none, as to `HEAD`.
    pub code: String,
    message: String,
    /// The region that the bucket is in, where the server says so.
    region: Option<String>,
    /// The server's clock.
    date: Option<String>,
}

impl Refusal {
    /// Reads an answer of a status from 300, or one whose error came after its status.
    pub fn of(answer: &Answer) -> Self {
        let text = std::str::from_utf8(&answer.body).unwrap_or_default();
        let document = roxmltree::Document::parse(text).ok();
        let element = |name: &str| {
            let root = document.as_ref()?.root_element();
            let element = (root.tag_name().name() == "Error").then(|| {
                root.children()
                    .find(|child| child.tag_name().name() == name)
            })??;
            Some(element.text()?.trim().to_owned())
        };
        let header = |name: &str| answer.header(name).map(str::to_owned);
        Self {
            status: answer.status,
            code: element("Code").unwrap_or_default(),
            message: element("Message").unwrap_or_default(),
            region: header("x-amz-bucket-region").or_else(|| element("Region")),
            date: header("date"),
        }
    }

    /// Whether the same request may well succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
            || matches!(
                self.code.as_str(),
                "InternalError"
                    | "SlowDown"
                    | "RequestTimeout"
                    | "ServiceUnavailable"
                    | "BadDigest"
            )
    }

    /// What the caller is told; `what` was to be done.
    pub fn error(&self, config: &Config, access_key: &str, what: &str) -> Error {
        let store = &config.endpoint;
        let bucket = config.bucket.name();
        let words = self.words();
        let of_region = || {
            let configured = config.bucket.region();
            let next = match self
                .region
                .as_deref()
                .filter(|region| *region != configured)
            {
                Some(region) => format!("write `region = \"{region}\"`"),
                None => "write the `region` and `endpoint` that the bucket is in".to_owned(),
            };
            failed(format!(
                "{what}: bucket `{bucket}` is not to be had at {store} as region `{configured}` \
                 ({words}); {next} under `[plugin.storage-s3.config]`"
            ))
        };
        match (self.code.as_str(), self.status) {
            ("NoSuchBucket", _) => Error::NotFound(format!(
                "{what}: there is no bucket `{bucket}` at {store}; make it, for example with \
                 `aws s3api create-bucket --bucket {bucket} --endpoint-url {store}`, or write another \
                 `bucket`"
            )),
            ("NoSuchUpload", _) => Error::NotFound(format!(
                "{what}: the store has forgotten the upload ({words}); begin the object anew"
            )),
            ("RequestTimeTooSkewed", _) => failed(format!(
                "{what}: the clock of this machine differs from that of {store}, which says {}; set it \
                 right",
                self.date.as_deref().unwrap_or("another time")
            )),
            ("EntityTooLarge" | "EntityTooSmall", _) => Error::Exceeded(Exceeded {
                limit: "part-size".to_owned(),
                value: config.part_size as u64,
                remedy: format!("{words}; change `part-size` under `[plugin.storage-s3.config]`"),
            }),
            ("AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError", _)
                if self.region.is_some() =>
            {
                of_region()
            }
            (_, 301 | 302 | 307 | 308) => of_region(),
            (_, 401 | 403) => failed(format!(
                "{what}: {store} refuses access key `{access_key}` from {} ({words}); check that the \
                 key and its secret are right and not expired, that the key may use bucket \
                 `{bucket}`, and that this machine's clock is (the store's says {})",
                config.credentials.describe(),
                self.date.as_deref().unwrap_or("nothing"),
            )),
            _ if self.may_pass() => Error::Unavailable(format!(
                "{what}: {store} cannot answer now ({words}), also not when asked {} times; try later",
                config.retries + 1
            )),
            _ => failed(format!("{what}: {store} refuses ({words})")),
        }
    }

    /// The server's own words, in brief.
    fn words(&self) -> String {
        let message: String = self
            .message
            .chars()
            .filter(|character| !character.is_control())
            .take(LONGEST_MESSAGE)
            .collect();
        [self.status.to_string(), self.code.clone(), message]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What the caller is told of a request that got no answer.
pub fn unanswered(fault: Fault, config: &Config, what: &str) -> Error {
    let store = &config.endpoint;
    match fault {
        Fault::Cancelled => Error::Cancelled,
        Fault::TimedOut => Error::TimedOut(format!(
            "{what}: {store} did nothing for {} ms; try later, or raise `timeout` under \
             `[plugin.storage-s3.config]`",
            config.timeout.as_millis()
        )),
        Fault::Broken(how) => Error::Unavailable(format!(
            "{what}: no connection to {store}: {how}; check the `endpoint`, and that the store runs"
        )),
    }
}
