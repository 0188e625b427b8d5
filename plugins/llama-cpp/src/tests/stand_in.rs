//! What stands in for `llama-server`: this test program itself, started by a script that hands its
//! arguments over in the environment, where the test `stand_in` finds them and serves.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs, thread};

use rustix::process::{Pid, getpid};
use vox_plugin::serde_json::json;
use vox_remote::scripted::{End, Reply, Scripted, Seen};

/// Where the arguments are.
const ARGUMENTS: &str = "VOX_STAND_IN_ARGUMENTS";

/// The script. Made once, before any process is started that could hold it open.
static SCRIPT: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("llama-server");
    let own = env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --list-devices ]; then\n  echo 'Available devices:'\n  \
         echo '  CUDA0: Stand-in (1000 MiB, 900 MiB free)'\n  exit 0\nfi\n\
         {ARGUMENTS}=\"$*\" exec '{}' --exact tests::stand_in::stand_in --nocapture\n",
        own.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    (directory, path)
});

/// The stand-in, as a program.
pub fn program() -> PathBuf {
    SCRIPT.1.clone()
}

/// A process whose end can be waited for.
pub struct Watched(#[cfg(target_os = "linux")] std::os::fd::OwnedFd);

impl Watched {
    /// A process that runs now.
    pub fn new(id: i32) -> Self {
        let process = Pid::from_raw(id).unwrap();
        #[cfg(target_os = "linux")]
        {
            let flags = rustix::process::PidfdFlags::empty();
            Self(rustix::process::pidfd_open(process, flags).unwrap())
        }
        #[cfg(not(target_os = "linux"))]
        {
            rustix::process::test_kill_process(process).unwrap();
            Self()
        }
    }

    /// Waits for it to end; false where it does not.
    pub fn is_gone(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};

            let mut events = [PollFd::new(&self.0, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 30,
                tv_nsec: 0,
            };
            poll(&mut events, Some(&patience)) == Ok(1)
        }
        // Elsewhere an end cannot be waited for.
        #[cfg(not(target_os = "linux"))]
        true
    }
}

/// No test but the program, where its arguments are there.
#[test]
fn stand_in() {
    let Ok(all) = env::var(ARGUMENTS) else { return };
    let words: Vec<&str> = all.split(' ').collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name).unwrap();
        words[at + 1].to_owned()
    };
    let scratch = PathBuf::from(after("--scratch"));
    let role = after("--role");
    match role.as_str() {
        "broken" => {
            eprintln!("loading {}", after("-m"));
            eprintln!("error: the tensor `output` is missing");
            std::process::exit(1);
        }
        "late" if !scratch.exists() => {
            fs::write(&scratch, "").unwrap();
            cannot_bind(&after("--port"));
        }
        _ => {}
    }
    let port = after("--port");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"));
    let listener = listener.unwrap_or_else(|_| cannot_bind(&port));
    let key = format!("Bearer {}", env::var("LLAMA_API_KEY").unwrap());
    let answers = all.clone();
    let _server = Scripted::at(listener, move |seen| reply(&role, seen, &key, &answers));
    loop {
        thread::park();
    }
}

/// Ends as `llama-server` does where somebody has its port.
fn cannot_bind(port: &str) -> ! {
    eprintln!("couldn't bind HTTP server socket, port: {port}");
    std::process::exit(1);
}

fn reply(role: &str, seen: &Seen, key: &str, arguments: &str) -> Reply {
    if seen.line == "GET /v1/health" {
        return match role {
            "loading" => Reply::json(503, json!({ "error": { "message": "Loading model" } })),
            _ => Reply::json(200, json!({ "status": "ok" })),
        };
    }
    if seen.header("authorization") != Some(key) {
        return Reply::json(401, json!({ "error": { "message": "Invalid API Key" } }));
    }
    let hel = r#"{"choices":[{"index":0,"delta":{"content":"hel"}}]}"#;
    match (seen.line.as_str(), role) {
        ("GET /v1/models", _) => {
            let id = format!("{} {arguments}", getpid().as_raw_pid());
            Reply::json(200, json!({ "data": [{ "id": id }] }))
        }
        (_, "dying") => {
            eprintln!("ggml: out of memory");
            std::process::exit(7)
        }
        (_, "slow") => Reply::events(&[hel]).ending(End::Silence),
        _ => Reply::events(&[
            hel,
            r#"{"choices":[{"index":0,"delta":{"content":"lo!"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ]),
    }
}
