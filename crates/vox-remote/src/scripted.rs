//! A server that answers from a script, over real sockets, for tests.
//!
//! Nothing here waits for a time: a test waits for what the server saw ([`Scripted::next`]) and for
//! clients to leave ([`Scripted::is_left`]).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long a test waits for what must happen before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method and path: `GET /v1/models`.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A member of the body, which is JSON; null where there is none.
    pub fn member(&self, name: &str) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body.get(name).cloned().unwrap_or_default()
    }
}

/// What is done with a request.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    kind: String,
    parts: Vec<Vec<u8>>,
    end: End,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// The connection is closed in the middle of it.
    Cut,
    /// Nothing more comes; the client has to leave.
    Silence,
    /// Nothing at all comes, not even the headers.
    Mute,
}

impl Reply {
    /// A whole answer.
    pub fn json(status: u16, body: impl ToString) -> Self {
        Self {
            status,
            kind: "application/json".to_owned(),
            parts: vec![body.to_string().into_bytes()],
            end: End::Whole,
        }
    }

    /// An answer in parts, each of which is sent by itself.
    pub fn parts(kind: &str, parts: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self {
            status: 200,
            kind: kind.to_owned(),
            parts: parts.into_iter().map(Into::into).collect(),
            end: End::Whole,
        }
    }

    /// A stream of events with these data.
    pub fn events(data: &[&str]) -> Self {
        let events = data.iter().map(|data| format!("data: {data}\n\n"));
        Self::parts("text/event-stream; charset=utf-8", events)
    }

    /// The same with another end.
    #[must_use]
    pub fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

/// A server on this machine; it ends with the process.
#[derive(Debug)]
pub struct Scripted {
    /// Its address.
    pub url: String,
    seen: Receiver<Seen>,
    left: Receiver<()>,
}

impl Scripted {
    /// A server that answers as `script` says.
    pub fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        Self::at(listener, script)
    }

    /// The same at a place that is bound already.
    pub fn at(
        listener: TcpListener,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let (saw, seen) = channel();
        let (leave, left) = channel();
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, saw, leave) = (Arc::clone(&script), saw.clone(), leave.clone());
                thread::spawn(move || serve(stream, &*script, &saw, &leave));
            }
        });
        Self {
            url: format!("http://{address}"),
            seen,
            left,
        }
    }

    /// Waits for the next request.
    pub fn next(&self) -> Seen {
        let next = self.seen.recv_timeout(PATIENCE);
        next.expect("a request is made")
    }

    /// The requests that were made and nobody has looked at.
    pub fn rest(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }

    /// Waits for a client to leave an answer that was [silent](End::Silence); false where none does.
    pub fn is_left(&self) -> bool {
        self.left.recv_timeout(PATIENCE).is_ok()
    }
}

/// An address at which nobody listens: no system gives this port out.
pub fn deserted() -> String {
    "http://127.0.0.1:1".to_owned()
}

fn serve(
    mut stream: TcpStream,
    script: &dyn Fn(&Seen) -> Reply,
    saw: &Sender<Seen>,
    leave: &Sender<()>,
) {
    let Some(seen) = request(&stream) else { return };
    let reply = script(&seen);
    // Told before the answer, so that a test finds it after the answer.
    let _ = saw.send(seen);
    let _ = stream.set_nodelay(true);
    if reply.end != End::Mute {
        let head = format!(
            "HTTP/1.1 {} X\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            reply.status, reply.kind
        );
        let mut sent = stream.write_all(head.as_bytes());
        for part in reply.parts.iter().filter(|part| !part.is_empty()) {
            let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
            sent = sent.and_then(|()| stream.write_all(&chunk));
        }
        if sent.is_err() {
            let _ = leave.send(());
            return;
        }
    }
    match reply.end {
        End::Whole => {
            let _ = stream.write_all(b"0\r\n\r\n");
        }
        End::Cut => {}
        End::Silence | End::Mute => {
            // Nothing comes from a client that waits: this ends when it leaves.
            let _ = stream.read(&mut [0]);
            let _ = leave.send(());
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn request(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut words = first.split(' ');
    let mut seen = Seen {
        line: format!("{} {}", words.next()?, words.next()?),
        headers,
        body: String::new(),
    };
    let length = seen
        .header("content-length")
        .and_then(|text| text.parse().ok());
    let length = length.unwrap_or_default();
    reader.take(length).read_to_string(&mut seen.body).ok()?;
    Some(seen)
}
