//! What is asked of a file: the arguments, checked.

use serde::Deserialize;
use vox_plugin::{Error, Result, from_json};

use crate::format::Format;

/// The arguments as they are written.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Arguments {
    modality: Option<String>,
    frame: Option<u32>,
    start: u64,
    mono: bool,
    to: Option<Format>,
    truncated: Truncated,
    format: Option<Format>,
    rate: Option<u32>,
    channels: Option<u32>,
}

/// What happens to a file that holds fewer samples than it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncated {
    /// It is refused.
    #[default]
    Refuse,
    /// Its samples are taken.
    Accept,
}

/// What is to be done with a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the file is.
    pub kind: Kind,
    /// Milliseconds of a frame.
    pub frame: u32,
    /// When the first sample was taken.
    pub start: u64,
    /// Whether the channels become one.
    pub mono: bool,
    /// The format of the chunks, if it is another.
    pub to: Option<Format>,
    /// What happens to a file that is too short.
    pub truncated: Truncated,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A WAV file, which says what it holds.
    Wav,
    /// Samples and nothing else.
    Raw(Signal),
}

/// What samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// How one is written.
    pub format: Format,
    /// Channels; their samples alternate.
    pub channels: u32,
    /// Samples a second.
    pub rate: u32,
}

impl Signal {
    /// The most samples a second.
    pub const MOST_RATE: u32 = 6_144_000;
    /// The most channels.
    pub const MOST_CHANNELS: u32 = 256;

    /// Bytes of one sample of all channels.
    pub fn block(self) -> u64 {
        u64::from(self.channels) * self.format.bytes() as u64
    }
}

impl Plan {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when they make no sense.
    pub fn new(arguments: &str) -> Result<Self> {
        let written: Arguments = from_json(arguments)?;
        let of_raw = [
            ("format", written.format.is_some()),
            ("rate", written.rate.is_some()),
            ("channels", written.channels.is_some()),
        ];
        let given = of_raw.iter().find(|(_, given)| *given);
        let kind = match (written.modality.as_deref(), given) {
            (Some("audio/wav"), Some((name, _))) => {
                return Err(Error::Invalid(format!(
                    "a WAV file says its `{name}` itself; leave it out, or write `modality = \
                     \"audio/pcm\"` for samples alone"
                )));
            }
            (Some("audio/wav"), None) | (None, None) => Kind::Wav,
            (Some("audio/pcm"), _) | (None, Some(_)) => Kind::Raw(written.signal()?),
            (Some(other), _) => {
                return Err(Error::Invalid(format!(
                    "`modality` is `{other}`, and this plugin reads `audio/wav` and `audio/pcm`"
                )));
            }
        };
        Ok(Self {
            kind,
            frame: within("frame", written.frame.unwrap_or(20), 60_000)?,
            start: written.start,
            mono: written.mono,
            to: written.to,
            truncated: written.truncated,
        })
    }
}

impl Arguments {
    fn signal(&self) -> Result<Signal> {
        let (Some(format), Some(rate)) = (self.format, self.rate) else {
            return Err(Error::Invalid(
                "raw PCM does not say what it is: give `format`, such as `s16le`, and `rate`, the \
                 samples a second"
                    .to_owned(),
            ));
        };
        Ok(Signal {
            format,
            channels: within(
                "channels",
                self.channels.unwrap_or(1),
                Signal::MOST_CHANNELS,
            )?,
            rate: within("rate", rate, Signal::MOST_RATE)?,
        })
    }
}

fn within(name: &str, value: u32, most: u32) -> Result<u32> {
    if (1..=most).contains(&value) {
        return Ok(value);
    }
    Err(Error::Invalid(format!(
        "`{name}` is {value}, and may be 1 to {most}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default() {
        let plan = Plan::new("{}").unwrap();
        assert_eq!((plan.kind, plan.frame, plan.start), (Kind::Wav, 20, 0));
        let plan = Plan::new(r#"{"format":"s16le","rate":16000}"#).unwrap();
        let signal = Signal {
            format: Format::S16Le,
            channels: 1,
            rate: 16000,
        };
        assert_eq!(plan.kind, Kind::Raw(signal));
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for (arguments, told) in [
            (r#"{"frames":1}"#, "unknown field `frames`"),
            (r#"{"modality":"audio/mp3"}"#, "`audio/mp3`"),
            (r#"{"frame":0}"#, "1 to 60000"),
            (r#"{"to":"s12le"}"#, "unknown variant `s12le`"),
            (r#"{"rate":8000}"#, "give `format`"),
            (r#"{"modality":"audio/pcm"}"#, "give `format`"),
            (
                r#"{"modality":"audio/wav","rate":8000}"#,
                "its `rate` itself",
            ),
            (r#"{"format":"u8","rate":0}"#, "`rate` is 0"),
            (r#"{"format":"u8","rate":1,"channels":257}"#, "1 to 256"),
            (r#"{"start":-1}"#, "invalid value"),
        ] {
            match Plan::new(arguments) {
                Err(Error::Invalid(text)) => assert!(text.contains(told), "{arguments}: {text}"),
                other => panic!("{arguments}: {other:?}"),
            }
        }
    }
}
