//! What the tests have in common: an engine that follows a script, a server over it, and a client that
//! is nothing but a socket.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use vox_serve::{
    Alternative, Backends, Completion, Embeddings, Engine, EngineError, Finish, Finished,
    ModelCard, Options, Part, Server, Token,
};

/// How long a test waits for what is to happen; then it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The context of all models.
pub const CONTEXT: u32 = 4096;

/// What the engine did, as it tells the test.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// An answer began.
    Began(Box<Completion>),
    /// A part was handed on, and this is what `hear` answered.
    Heard(bool),
    /// An answer ended.
    Ended,
}

/// An engine that does what the name of the model says.
pub struct Script {
    events: Mutex<Sender<Event>>,
    steps: Mutex<Receiver<()>>,
    pub unready: Mutex<Option<String>>,
    pub backends: Mutex<Backends>,
}

/// A server over a script.
pub struct Served {
    // Dropped before the server, so that a model that waits for a step goes on.
    steps: Sender<()>,
    pub server: Option<Server>,
    pub script: Arc<Script>,
    pub address: SocketAddr,
    events: Receiver<Event>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// An answer that still comes.
pub struct Streamed {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    reader: BufReader<TcpStream>,
}

/// The names of the models, and what each does.
const MODELS: [(&str, bool, bool); 12] = [
    // Answers "Hello, world!", in four tokens.
    ("words", true, false),
    // The same, but waits for a step of the test before each.
    ("held", true, false),
    // Answers until nobody wants more.
    ("endless", true, false),
    // Answers all of "words", but does not look at what `hear` says, and waits for a step first.
    ("deaf", true, false),
    ("fails", true, false),
    ("panics", true, false),
    ("busy", true, false),
    ("long", true, false),
    // Fails after a token.
    ("half", true, false),
    // Answers nothing.
    ("silent", true, false),
    // Answers one token, which is a part of a character.
    ("cut", true, false),
    // Makes embeddings.
    ("org/vectors", false, true),
];

impl Engine for Script {
    fn models(&self) -> Vec<ModelCard> {
        let models = MODELS.iter();
        models
            .map(|(id, can_complete, can_embed)| ModelCard {
                id: (*id).to_owned(),
                created: 1_700_000_000,
                owned_by: "tests".to_owned(),
                context: CONTEXT,
                can_complete: *can_complete,
                can_embed: *can_embed,
                fingerprint: Some("fp_script".to_owned()),
            })
            .collect()
    }

    fn complete(
        &self,
        request: &Completion,
        hear: &mut dyn FnMut(Part) -> bool,
    ) -> Result<Finished, EngineError> {
        self.tell(Event::Began(Box::new(request.clone())));
        let answer = self.answer(request, &mut |part| {
            let wanted = hear(part);
            self.tell(Event::Heard(wanted));
            wanted
        });
        self.tell(Event::Ended);
        answer
    }

    fn embed(&self, _: &str, texts: &[String]) -> Result<Embeddings, EngineError> {
        if texts.iter().any(|text| text == "unfit") {
            return Err(EngineError::Refused("a text does not fit".to_owned()));
        }
        let vectors = texts.iter().map(|text| vec![text.len() as f32, 0.5, -0.25]);
        Ok(Embeddings {
            vectors: vectors.collect(),
            prompt_tokens: texts.len() as u32 * 2,
        })
    }

    fn ready(&self) -> Result<(), String> {
        self.unready.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn backends(&self) -> Backends {
        *self.backends.lock().unwrap()
    }
}

impl Script {
    fn tell(&self, event: Event) {
        // A test that has seen enough does not listen.
        let _ = self.events.lock().unwrap().send(event);
    }

    fn step(&self) {
        let _ = self.steps.lock().unwrap().recv_timeout(PATIENCE);
    }

    fn answer(
        &self,
        request: &Completion,
        hear: &mut dyn FnMut(Part) -> bool,
    ) -> Result<Finished, EngineError> {
        let finished = |reason, answer_tokens| {
            Ok(Finished {
                reason,
                prompt_tokens: 7,
                cached_tokens: 3,
                answer_tokens,
            })
        };
        let model = request.model.as_str();
        match model {
            "fails" => return Err(EngineError::Failed("the weights are gone".to_owned())),
            "panics" => panic!("as the test wants it"),
            "busy" => return Err(EngineError::Unavailable("the model is loading".to_owned())),
            "long" => {
                return Err(EngineError::TooLong {
                    tokens: 9000,
                    context: CONTEXT,
                });
            }
            "silent" => return finished(Finish::Stop, 0),
            "cut" => {
                let mut first = part("", 0, request);
                if let Some(token) = &mut first.token {
                    for other in &mut token.alternatives {
                        "\u{fffd}".clone_into(&mut other.text);
                    }
                }
                let rest = Part {
                    text: "\u{fffd}".to_owned(),
                    token: None,
                };
                let is_heard = hear(first) && hear(rest);
                let reason = if is_heard {
                    Finish::Length
                } else {
                    Finish::Cancelled
                };
                return finished(reason, 1);
            }
            "endless" => {
                let mut tokens = 0;
                let text = "x".repeat(1000);
                while hear(part(&text, 1, request)) {
                    tokens += 1;
                }
                return finished(Finish::Cancelled, tokens);
            }
            _ => {}
        }
        for (at, text) in ["Hello", ",", " world", "!"].into_iter().enumerate() {
            let at = at as u32;
            if at == request.max_tokens {
                return finished(Finish::Length, at);
            }
            if model == "held" || (model == "deaf" && at == 0) {
                self.step();
            }
            if !hear(part(text, at, request)) && model != "deaf" {
                return finished(Finish::Cancelled, at + 1);
            }
            if model == "half" {
                return Err(EngineError::Failed("the weights are gone".to_owned()));
            }
        }
        finished(Finish::Stop, 4)
    }
}

fn part(text: &str, token: u32, request: &Completion) -> Part {
    let other = |number: u32| Alternative {
        token: 100 + number,
        text: format!("other{number}"),
        log_probability: -2.0 - number as f32,
    };
    Part {
        text: text.to_owned(),
        token: Some(Token {
            token: Some(token),
            text: text.to_owned(),
            log_probability: request.alternatives.map(|_| -0.5),
            alternatives: (0..request.alternatives.unwrap_or(0)).map(other).collect(),
        }),
    }
}

/// A server with these options, at a port of its own.
pub fn serve(options: Options) -> Served {
    let (sender, events) = channel();
    let (steps, receiver) = channel();
    let script = Arc::new(Script {
        events: Mutex::new(sender),
        steps: Mutex::new(receiver),
        unready: Mutex::default(),
        backends: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let engine = Arc::clone(&script) as Arc<dyn Engine>;
    let server = Server::start(listener, engine, options).unwrap();
    Served {
        address: server.address(),
        server: Some(server),
        script,
        events,
        steps,
    }
}

/// The options that are set where they differ from the defaults.
pub fn options(set: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    set(&mut options);
    options
}

/// A request for a chat with a model; `more` has further members.
pub fn chat(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The bytes of a request that has a body.
pub fn post_bytes(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl Served {
    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asks for a body.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(&post_bytes(path, "", body.to_string().as_bytes()))
    }

    /// Asks without one.
    pub fn get(&self, path: &str) -> Answer {
        self.send(
            format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes(),
        )
    }

    /// Sends bytes and reads the answer.
    pub fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Streamed::read(stream).rest()
    }

    /// Begins a request whose answer comes in parts.
    pub fn begin(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        stream
            .write_all(&post_bytes(path, "", body.to_string().as_bytes()))
            .unwrap();
        stream
    }

    /// What the engine does next.
    pub fn event(&self) -> Event {
        self.events
            .recv_timeout(PATIENCE)
            .expect("the engine did something")
    }

    /// Waits until an answer begins.
    pub fn began(&self) -> Completion {
        match self.event() {
            Event::Began(completion) => *completion,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until an answer ended, and says what `hear` answered last.
    pub fn ended(&self) -> Option<bool> {
        let mut last = None;
        loop {
            match self.event() {
                Event::Heard(wanted) => last = Some(wanted),
                Event::Ended => return last,
                Event::Began(_) => panic!("another answer began"),
            }
        }
    }

    /// Lets a model that waits do its next step.
    pub fn step(&self) {
        self.steps.send(()).unwrap();
    }

    /// Asks for the metrics until they have a line.
    pub fn until_metric(&self, line: &str) {
        let began = std::time::Instant::now();
        loop {
            let text = self.get("/metrics").body;
            if text.lines().any(|found| found == line) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no `{line}` in\n{text}");
        }
    }
}

impl Answer {
    /// The body, which is JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error object, after the status was looked at.
    #[track_caller]
    pub fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let error = self.json()["error"].clone();
        assert!(error["message"].is_string(), "{}", self.body);
        error
    }

    /// The data of all events, without `[DONE]`, which is the last.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let mut events: Vec<_> = self
            .body
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").expect("an event"))
            .collect();
        assert_eq!(events.pop(), Some("[DONE]"), "{}", self.body);
        let events = events.into_iter();
        events
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }
}

impl Streamed {
    /// Reads the head of an answer.
    pub fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no answer: {line:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_owned(), value.to_owned());
        }
        Self {
            status,
            headers,
            reader,
        }
    }

    /// The next chunk; none after the last, or where the connection ends before it.
    pub fn chunk(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).ok()?;
        bytes.truncate(length);
        (length > 0).then(|| String::from_utf8(bytes).unwrap())
    }

    /// The rest of the answer.
    pub fn rest(mut self) -> Answer {
        let mut body = String::new();
        if self.headers.contains_key("transfer-encoding") {
            while let Some(chunk) = self.chunk() {
                body.push_str(&chunk);
            }
        } else if let Some(length) = self.headers.get("content-length") {
            let mut bytes = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut bytes).unwrap();
            body = String::from_utf8(bytes).unwrap();
        }
        Answer {
            status: self.status,
            headers: self.headers,
            body,
        }
    }
}
