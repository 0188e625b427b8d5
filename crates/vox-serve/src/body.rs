//! Bodies: of requests, read within limits, and of answers, whole or as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{HeaderMap, StatusCode, header};
use tokio::time::timeout;

use crate::metrics::Meter;
use crate::options::Options;
use crate::pipe::Reader;
use crate::refusal::Refusal;

/// The body of an answer. The request is counted when it is over, or dropped.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    _meter: Meter,
}

/// What an answer has.
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// What comes out of a pipe.
    Stream(Reader),
}

impl Answer {
    /// A body.
    pub fn new(content: Content, meter: Meter) -> Self {
        Self {
            content,
            _meter: meter,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(std::mem::take(bytes))),
            Content::Stream(reader) => Pin::new(reader).poll(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// Reads the body of a request. It grows as it comes, so what a client says of its length takes nothing.
pub async fn read(
    body: &mut Incoming,
    headers: &HeaderMap,
    options: &Options,
) -> Result<Vec<u8>, Refusal> {
    let most = options.body_bytes;
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && coding != "identity"
    {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is compressed; send it as it is",
        ));
    }
    let told = body.size_hint().lower();
    if told > most as u64 {
        return Err(too_large(most));
    }
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Refusal::bad(format!("the body cannot be read: {error}")).code("invalid_body")
            })?;
            let data = frame.into_data().unwrap_or_default();
            if bytes.len() + data.len() > most {
                return Err(too_large(most));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    };
    timeout(options.body_time, reading)
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the body did not come within {:?} (`body_time`)",
                    options.body_time
                ),
            )
            .code("body_timeout"))
        })
}

/// Reads what is left of a refused request's body, for a while: a client that sends all before it reads
/// would otherwise meet a closed connection, and not the refusal. One that waits to be asked for the body
/// is not asked.
pub async fn linger(body: &mut Incoming, headers: &HeaderMap, options: &Options) {
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Where that is not all, the connection is closed.
    let _ = timeout(options.linger, rest).await;
}

fn too_large(most: usize) -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has more than {most} bytes, the server's limit `body_bytes`"),
    )
    .code("body_too_large")
}
