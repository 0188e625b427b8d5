//! A terminal whose whole screen is drawn over and over, and the keys that are pressed there.
//!
//! What must stay true: however the command ends, the terminal is as it was before; what a plugin
//! wrote never reaches the screen but through [`style::plain`](super::style::plain).

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::thread;

use crossbeam_channel::{Receiver, bounded, never};

/// What Ctrl-C sends while a screen is open.
pub const CTRL_C: u8 = 3;

/// The size of a terminal that does not tell.
const USUAL: Size = Size {
    columns: 80,
    lines: 24,
};

/// How much a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Letters in a line.
    pub columns: usize,
    /// Lines.
    pub lines: usize,
}

/// A screen of its own, on a terminal that shows what was there before when this is dropped.
#[derive(Debug)]
pub struct Screen {
    keys: Receiver<u8>,
    _input: Option<Input>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written to.
    pub fn open() -> io::Result<Self> {
        let input = io::stdin().is_terminal().then(Input::take).flatten();
        let keys = if input.is_some() {
            read_keys()
        } else {
            never()
        };
        // From here on, dropping it gives the terminal back.
        let screen = Self {
            keys,
            _input: input,
        };
        // The other screen, without a cursor.
        write("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    /// Whether standard output is a terminal that can be drawn on: one that calls itself `dumb` knows
    /// no movements.
    pub fn is_there() -> bool {
        let is_dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        io::stdout().is_terminal() && !is_dumb
    }

    /// How much there is room for now.
    pub fn size() -> Size {
        size().unwrap_or(USUAL)
    }

    /// How many letters fit into a line of standard output; none where that is no terminal.
    pub fn columns() -> Option<usize> {
        io::stdout().is_terminal().then(|| Self::size().columns)
    }

    /// Keys as they are pressed; none on a terminal that does not say.
    pub fn keys(&self) -> &Receiver<u8> {
        &self.keys
    }

    /// Draws a text from the top, as much of it as there is room for.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written to.
    pub fn draw(&self, text: &str) -> io::Result<()> {
        let plain = anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never;
        let text = if plain {
            anstream::adapter::strip_str(text).to_string()
        } else {
            text.to_owned()
        };
        let lines: Vec<&str> = text.lines().take(Self::size().lines).collect();
        let mut frame = String::from("\x1b[H");
        for (index, line) in lines.iter().enumerate() {
            let end = if index + 1 == lines.len() { "" } else { "\r\n" };
            // Writing to a `String` cannot fail.
            let _ = write!(frame, "{line}\x1b[K{end}");
        }
        frame.push_str("\x1b[J");
        write(&frame)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nowhere to say that this failed.
        let _ = write("\x1b[?25h\x1b[?1049l");
    }
}

/// Writes at once, escapes and all.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Reads key after key. The thread ends with the process, as a read cannot be given up.
fn read_keys() -> Receiver<u8> {
    let (sender, receiver) = bounded(16);
    let read = move || {
        for key in io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.send(key).is_err() {
                return;
            }
        }
    };
    match thread::Builder::new()
        .name("vox-keys".to_owned())
        .spawn(read)
    {
        Ok(_) => receiver,
        Err(_) => never(),
    }
}

/// The keyboard, whose keys come as they are pressed and are not shown.
#[derive(Debug)]
struct Input {
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

#[cfg(unix)]
impl Input {
    fn take() -> Option<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin()).ok()?;
        let mut now = before.clone();
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Now, &now).ok()?;
        Some(Self { before })
    }
}

#[cfg(unix)]
impl Drop for Input {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(not(unix))]
impl Input {
    /// Keys come a line at a time here; Ctrl-C ends the command all the same.
    fn take() -> Option<Self> {
        None
    }
}

fn size() -> Option<Size> {
    #[cfg(unix)]
    {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then(|| Size {
            columns: size.ws_col.into(),
            lines: size.ws_row.into(),
        })
    }
    #[cfg(not(unix))]
    None
}
