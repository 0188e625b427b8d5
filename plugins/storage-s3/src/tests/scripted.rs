//! A server that answers from a script, for what a real one does only in distress.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// What is done with a request.
#[derive(Clone, Copy)]
pub enum Reply {
    /// The status, further lines of the head, and the body.
    Text(u16, &'static str, &'static str),
    /// As `Text` of status 206, of which only the beginning arrives.
    Cut(&'static str),
    /// The connection is closed without an answer.
    Close,
    /// Nothing, until the client has enough of it.
    Silence,
}

/// A scripted server; it ends with the process.
pub struct Scripted {
    pub endpoint: String,
    requests: Receiver<String>,
}

impl Scripted {
    /// Serves the replies in their order, the last one again and again.
    pub fn new(replies: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        thread::spawn(move || {
            let mut replies = replies.iter().copied();
            let mut last = Reply::Close;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(line) = request(&stream) else {
                    continue;
                };
                // Told before the answer, so that a test finds it after the answer.
                let _ = sender.send(line);
                last = replies.next().unwrap_or(last);
                match last {
                    Reply::Text(status, head, body) => {
                        let text = format!(
                            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{head}\r\n{body}",
                            body.len()
                        );
                        let _ = stream.write_all(text.as_bytes());
                    }
                    Reply::Cut(body) => {
                        let head = "HTTP/1.1 206 X\r\ncontent-length: 9999\r\n\r\n";
                        let _ = stream.write_all([head, body].concat().as_bytes());
                    }
                    Reply::Close => {}
                    Reply::Silence => {
                        thread::spawn(move || stream.read(&mut [0]));
                    }
                }
            }
        });
        Self { endpoint, requests }
    }

    /// Method and path of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }

    /// Waits for the next request.
    pub fn next(&self) -> String {
        self.requests.recv().unwrap()
    }
}

/// Reads a request; answers its method and path.
fn request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    let mut words = first.split([' ', '?']);
    Some(format!("{} {}", words.next()?, words.next()?))
}
