//! What a step asks for: its arguments, and the order that they make.

use std::collections::BTreeMap;

use serde::Deserialize;
use vox_crypto::{Algorithm, Digest};
use vox_plugin::serde_json::{Value, json};
use vox_plugin::{Error, Result, from_json};

use crate::target::Target;

/// The most bytes that are fetched unless the step says otherwise: 1 GiB.
pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// The most redirects that are followed unless the step says otherwise.
pub const DEFAULT_REDIRECTS: u32 = 5;
/// The most redirects that a step may ask for.
const MOST_REDIRECTS: u32 = 20;
/// The algorithms that a digest may be of.
pub const ALGORITHMS: [Algorithm; 2] = [Algorithm::Blake3, Algorithm::Sha256];

/// Headers that belong to the connection, or that are made from other arguments.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
}

impl Method {
    /// As it is sent.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// A step's arguments as they are written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Arguments {
    url: String,
    #[serde(default)]
    method: Method,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    digest: Option<Digest>,
    max_bytes: Option<u64>,
    expect: Option<Vec<u16>>,
    redirects: Option<u32>,
}

/// What is to be fetched, and how it is judged.
#[derive(Debug)]
pub struct Order {
    /// Where it is.
    pub target: Target,
    /// What is done there.
    pub method: Method,
    /// The headers that are sent, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body that is sent.
    pub body: Option<Vec<u8>>,
    /// What the answer's body must be.
    pub digest: Option<Digest>,
    /// The most bytes that it may have.
    pub max_bytes: u64,
    /// The status codes that are taken.
    pub expect: Vec<u16>,
    /// The most redirects that are followed.
    pub redirects: u32,
}

/// The JSON Schema of the arguments.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "http",
        "description": "Makes an HTTP request, and hands the body of its answer on at port `body`.",
        "type": "object",
        "properties": {
            "url": {
                "description": "What is fetched: an `https` or `http` URL in ASCII, without a name or password.",
                "type": "string",
                "pattern": "^[hH][tT][tT][pP][sS]?://"
            },
            "method": {
                "description": "The request's method.",
                "enum": ["GET", "HEAD", "POST", "PUT"],
                "default": "GET"
            },
            "headers": {
                "description": "Headers that are sent. Those for the connection, `Host` and `Content-Length` are not among them. All but `Accept`, `Accept-Language`, `Range` and `User-Agent` are dropped where a redirect leaves the server.",
                "type": "object",
                "additionalProperties": { "type": "string" }
            },
            "body": {
                "description": "The text that is sent, with POST and PUT. Its kind stands in the header `Content-Type`.",
                "type": "string"
            },
            "digest": {
                "description": "What the answer's body must be: `blake3:<hex>` or `sha256:<hex>`. Anything else fails the step.",
                "type": "string",
                "pattern": "^(blake3|sha256):[0-9a-f]{64}$"
            },
            "max-bytes": {
                "description": "The most bytes that the answer's body may have.",
                "type": "integer",
                "minimum": 0,
                "default": DEFAULT_MAX_BYTES
            },
            "expect": {
                "description": "The status codes with which the step succeeds.",
                "type": "array",
                "items": { "type": "integer", "minimum": 200, "maximum": 599 },
                "minItems": 1,
                "default": [200]
            },
            "redirects": {
                "description": "How many redirects are followed: never from https to http, and only to hosts that are granted. A status in `expect` is not followed.",
                "type": "integer",
                "minimum": 0,
                "maximum": MOST_REDIRECTS,
                "default": DEFAULT_REDIRECTS
            }
        },
        "required": ["url"],
        "additionalProperties": false
    })
}

impl Order {
    /// Reads a step's arguments.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when they make no sense.
    pub fn new(arguments: &str) -> Result<Self> {
        let arguments: Arguments = from_json(arguments)?;
        let target = Target::parse(&arguments.url).map_err(Error::Invalid)?;
        let refuse = |why: String| Err(Error::Invalid(why));
        if arguments.body.is_some() && matches!(arguments.method, Method::Get | Method::Head) {
            return refuse("`body` is sent with `method = \"POST\"` or `\"PUT\"`".to_owned());
        }
        if let Some(digest) = &arguments.digest {
            if !ALGORITHMS.contains(&digest.algorithm()) {
                return refuse(format!(
                    "what is fetched is compared by blake3 or sha256, and `digest` is of {}",
                    digest.algorithm()
                ));
            }
            if arguments.method == Method::Head {
                return refuse("HEAD fetches no body that `digest` could be of".to_owned());
            }
        }
        let redirects = arguments.redirects.unwrap_or(DEFAULT_REDIRECTS);
        if redirects > MOST_REDIRECTS {
            return refuse(format!("at most {MOST_REDIRECTS} redirects are followed"));
        }
        let expect = arguments.expect.unwrap_or_else(|| vec![200]);
        if expect.is_empty() || expect.iter().any(|status| !(200..600).contains(status)) {
            return refuse("`expect` lists status codes from 200 to 599, at least one".to_owned());
        }
        let body = match (arguments.body, arguments.method) {
            (Some(body), _) => Some(body.into_bytes()),
            // So that the server is told that it has no bytes.
            (None, Method::Post | Method::Put) => Some(Vec::new()),
            (None, _) => None,
        };
        Ok(Self {
            target,
            method: arguments.method,
            headers: headers(arguments.headers)?,
            body,
            digest: arguments.digest,
            max_bytes: arguments.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
            expect,
            redirects,
        })
    }
}

/// Headers that may be sent. Values are not repeated in errors: they may be secrets.
fn headers(written: BTreeMap<String, String>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut headers: Vec<(String, Vec<u8>)> = Vec::with_capacity(written.len());
    for (name, value) in written {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(Error::Invalid(format!(
                "`{}` is no name of a header",
                name.escape_debug()
            )));
        }
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) {
            return Err(Error::Invalid(format!(
                "the header `{name}` belongs to the connection, or is made from `url` and `body`; leave it out"
            )));
        }
        if headers.iter().any(|(other, _)| *other == lower) {
            return Err(Error::Invalid(format!("the header `{name}` stands twice")));
        }
        if value
            .bytes()
            .any(|byte| byte.is_ascii_control() && byte != b'\t')
        {
            return Err(Error::Invalid(format!(
                "the value of the header `{name}` has a line break or another control character"
            )));
        }
        headers.push((lower, value.trim().as_bytes().to_vec()));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(arguments: Value) -> Result<Order> {
        Order::new(&arguments.to_string())
    }

    #[test]
    fn a_url_is_enough() {
        let order = order(json!({ "url": "https://e.org/a" })).unwrap();
        assert_eq!(order.method, Method::Get);
        assert_eq!((order.max_bytes, order.redirects), (1 << 30, 5));
        assert_eq!(order.expect, [200]);
        assert!(order.headers.is_empty() && order.body.is_none() && order.digest.is_none());
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused_with_the_reason() {
        let sha3 = format!("sha3-256:{}", "0".repeat(64));
        let sha2 = format!("sha256:{}", "0".repeat(64));
        for (more, reason) in [
            (json!({ "urll": "x" }), "unknown field `urll`"),
            (json!({ "method": "get" }), "unknown variant `get`"),
            (json!({ "body": "x" }), "`body` is sent with"),
            (
                json!({ "digest": "af" }),
                "write the algorithm before the hash",
            ),
            (json!({ "digest": sha3 }), "blake3 or sha256"),
            (
                json!({ "digest": sha2, "method": "HEAD" }),
                "fetches no body",
            ),
            (json!({ "redirects": 21 }), "at most 20"),
            (json!({ "expect": [] }), "at least one"),
            (json!({ "expect": [99] }), "from 200 to 599"),
            (json!({ "headers": { "Host": "x" } }), "leave it out"),
            (json!({ "headers": { "a b": "x" } }), "no name of a header"),
            (json!({ "headers": { "A": "1", "a": "2" } }), "stands twice"),
            (
                json!({ "headers": { "A": "secret\r\nB: c" } }),
                "control character",
            ),
        ] {
            let mut arguments = json!({ "url": "https://e.org/" });
            arguments
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let told = order(arguments.clone())
                .expect_err("it was taken")
                .to_string();
            assert!(told.contains(reason), "{arguments}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn the_schema_lists_every_argument_and_refuses_others() {
        let schema = schema();
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(schema["additionalProperties"], false);
        for (name, property) in properties {
            assert!(property["description"].is_string(), "{name}");
        }
        let all = json!({
            "url": "https://e.org/", "method": "POST", "headers": {}, "body": "",
            "digest": format!("blake3:{}", "0".repeat(64)), "max-bytes": 1, "expect": [200],
            "redirects": 1
        });
        let listed: Vec<&String> = properties.keys().collect();
        assert_eq!(listed, all.as_object().unwrap().keys().collect::<Vec<_>>());
        order(all).unwrap();
    }
}
