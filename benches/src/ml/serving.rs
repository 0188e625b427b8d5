//! The first token of an answer: `vox serve` against `llama-server`, both asked as a chat that streams.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::place::{PLUGIN, Place, llama, text, threads};
use crate::measure::median;
use crate::report::Row;

/// Requests to each server, and starts of each.
const REQUESTS: usize = 15;
const STARTS: usize = 5;
/// The longest that a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A server, which ends with this value.
struct Server {
    process: Child,
    address: SocketAddr,
    model: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do where it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts `vox serve`, whose weights are quantised on the disk as those of `llama-server` are.
    fn vox(place: &Place) -> anyhow::Result<Self> {
        let model = place.quantised("q8_0")?;
        let address = free()?;
        let mut command = place.vox(&[
            "serve",
            &model,
            "--backend",
            PLUGIN,
            "--threads",
            &threads().to_string(),
            "--context",
            "2048",
            "--listen",
            &address.to_string(),
        ])?;
        Self::start(&mut command, address, model)
    }

    /// Starts `llama-server`.
    fn llama() -> anyhow::Result<Self> {
        let model = text(&llama("model/smollm2-q8_0.gguf")?);
        let address = free()?;
        let mut command = Command::new(llama("build/bin/llama-server")?);
        command
            .args(["-m", &model, "--host", &address.ip().to_string()])
            .args(["--port", &address.port().to_string()])
            .args(["-t", &threads().to_string(), "-c", "2048", "-np", "1"])
            .args(["--jinja", "--no-webui"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self::start(&mut command, address, model)
    }

    fn start(command: &mut Command, address: SocketAddr, model: String) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let process = command
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let mut server = Self {
            process,
            address,
            model,
        };
        let begin = Instant::now();
        while !server.is_ready() {
            if let Some(status) = server.process.try_wait()? {
                anyhow::bail!("{name} ended with {status} before it listened");
            }
            ensure!(
                begin.elapsed() < START,
                "{name} does not listen after {} s",
                START.as_secs()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    fn is_ready(&self) -> bool {
        let asked = self.ask("GET", "/health", "").and_then(|reader| {
            let status = reader.lines().next().transpose()?;
            Ok(status.is_some_and(|line| line.contains(" 200 ")))
        });
        asked.unwrap_or(false)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        Ok(BufReader::new(stream))
    }

    /// Seconds until the first text of the answer to a question is here.
    fn first_token(&self, question: &str) -> anyhow::Result<f64> {
        let body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": question }],
            "stream": true,
            "temperature": 0,
            "max_tokens": 4,
        });
        let begin = Instant::now();
        let mut lines = self
            .ask("POST", "/v1/chat/completions", &body.to_string())?
            .lines();
        let mut first = None;
        // The answer is read to its end, so that the next does not wait for it.
        while let Some(line) = lines.next().transpose()? {
            let event = line.strip_prefix("data: ").map(serde_json::from_str);
            let Some(Ok(event)) = event else { continue };
            let event: Value = event;
            let said = event["choices"][0]["delta"]["content"].as_str();
            if said.is_some_and(|said| !said.is_empty()) {
                first.get_or_insert_with(|| begin.elapsed().as_secs_f64());
            }
        }
        first.with_context(|| format!("{} says nothing", self.model))
    }
}

/// An address that nobody listens at.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Questions of which each is another from its beginning on, so that no server remembers more of it than the
/// template.
fn question(number: usize) -> String {
    format!(
        "Question {number}: a train leaves the village by the sea at {number} past eight, and another one leaves \
         the town in the hills, which is forty miles away, a quarter of an hour later. Both keep to the same \
         speed, and neither stops on its way. Explain step by step when and where they meet, and say what the \
         driver of the first train sees from the window when the second one passes."
    )
}

/// From a question to the first token of the answer, where both servers have answered before.
pub fn first_token(name: &'static str) -> anyhow::Result<Row> {
    let place = Place::new()?;
    let (ours, peer) = (Server::vox(&place)?, Server::llama()?);
    for server in [&ours, &peer] {
        server.first_token(&question(0))?;
    }
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for number in 1..=REQUESTS {
        our_times.push(ours.first_token(&question(number))?);
        peer_times.push(peer.first_token(&question(number))?);
    }
    Ok(judged(name, our_times, peer_times))
}

/// From the start of a server's process to the first token of its first answer, with all files in memory.
pub fn first_token_start(name: &'static str) -> anyhow::Result<Row> {
    let place = Place::new()?;
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for turn in 0..=STARTS {
        let begin = Instant::now();
        Server::vox(&place)?.first_token(&question(1))?;
        let ours = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        Server::llama()?.first_token(&question(1))?;
        let peers = begin.elapsed().as_secs_f64();
        // The first turn brings the files into memory.
        if turn > 0 {
            our_times.push(ours);
            peer_times.push(peers);
        }
    }
    Ok(judged(name, our_times, peer_times))
}

fn judged(name: &'static str, ours: Vec<f64>, peers: Vec<f64>) -> Row {
    let (value, peer) = (median(ours) * 1e3, median(peers) * 1e3);
    let ratio = value / peer;
    Row {
        name,
        value,
        unit: "ms",
        peer,
        peer_name: "llama-server",
        ratio,
        goal: "at most 1.2",
        met: ratio <= 1.2,
        detail: None,
    }
}
