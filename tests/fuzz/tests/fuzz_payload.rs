//! The encoding in which values cross to native plugins and back: any bytes are decoded or refused
//! at little cost, what is decoded has one encoding, and any arguments may be served.

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vox_abi::call::{Answer, Encoded, Malformed, Scalar, decode, serve};
use vox_abi::{Buffer, Slice, Status};
use vox_fuzz::{bound, ensure, fuzz, peak_of};
use vox_host::contract::{
    Attribute, Chunk, ChunkHead, Error, Exceeded, agent, command, hook, lifecycle, metrics, stage,
    step, storage,
};

/// Decodes `bytes` as a `T`; what comes out is encoded, and decodes to the same again.
fn value<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<(), String> {
    let (decoded, peak) = peak_of(|| decode::<T>(bytes));
    // Of a list whose length is said to be large, serde makes room for at most 1 MiB; the types of
    // the contract are nested three deep.
    let most = bound(4 << 20, 64, bytes.len());
    ensure!(
        peak <= most,
        "{}: {peak} bytes of memory for {} of input",
        type_name::<T>(),
        bytes.len()
    );
    match decoded {
        Err(Malformed(text)) => ensure!(!text.is_empty(), "a refusal without a reason"),
        Ok(value) => {
            let encoded = Encoded::new(&value);
            // SAFETY: `encoded` lives on.
            let once = unsafe { encoded.slice().bytes() };
            let again = decode::<T>(once)
                .map_err(|Malformed(text)| format!("{}: {text}", type_name::<T>()))?;
            let again = Encoded::new(&again);
            // SAFETY: `again` lives on.
            let twice = unsafe { again.slice().bytes() };
            // Bytes are compared, as a float may be none that equals itself.
            ensure!(once == twice, "{} has two encodings", type_name::<T>());
        }
    }
    Ok(())
}

fn scalar<T: Scalar>(bytes: &[u8]) -> Result<(), String> {
    if let Some(value) = T::from_bytes(bytes) {
        let written = value.to_bytes();
        ensure!(
            written.as_ref() == bytes,
            "{} has two encodings",
            type_name::<T>()
        );
    }
    Ok(())
}

/// Reads a value of one type from hostile bytes; an error says what is wrong with the reading.
type Reader = fn(&[u8]) -> Result<(), String>;

/// Every type that crosses.
const READERS: &[Reader] = &[
    value::<Error>,
    value::<Exceeded>,
    value::<Vec<Attribute>>,
    value::<ChunkHead>,
    value::<Option<Chunk>>,
    value::<agent::Assignment>,
    value::<agent::Message>,
    value::<Vec<agent::Action>>,
    value::<Vec<command::Node>>,
    value::<hook::Event>,
    value::<hook::Outcome>,
    value::<lifecycle::Condition>,
    value::<Option<lifecycle::SavedState>>,
    value::<Vec<metrics::Sample>>,
    value::<stage::Opening>,
    value::<step::Invocation>,
    value::<step::Outcome>,
    value::<Vec<storage::Entry>>,
    value::<Vec<Vec<u8>>>,
    value::<Option<u32>>,
    scalar::<bool>,
    scalar::<char>,
    scalar::<u8>,
    scalar::<i32>,
    scalar::<u64>,
    scalar::<f32>,
    scalar::<f64>,
];

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap()
}

fn corpus() -> Vec<Vec<u8>> {
    let attribute = |key: &str| Attribute {
        key: key.to_owned(),
        value: "a value".to_owned(),
    };
    let head = ChunkHead {
        modality: "audio/pcm".to_owned(),
        sequence: 1 << 40,
        timestamp: u64::MAX,
        attributes: vec![attribute("one"), attribute("ß")],
    };
    let argument = command::Argument {
        id: "all".to_owned(),
        short: Some('a'),
        long: Some("all".to_owned()),
        value_name: None,
        help: "all of it".to_owned(),
        arity: command::Arity::Many,
        required: true,
        default_values: vec!["x".to_owned()],
        possible_values: vec![],
        conflicts: vec![String::new()],
        hidden: false,
    };
    let node = command::Node {
        path: vec!["a".to_owned(), "b".to_owned()],
        about: "about".to_owned(),
        arguments: vec![argument],
        subcommand_required: true,
    };
    let sample = metrics::Sample {
        name: "n".to_owned(),
        kind: metrics::Kind::Gauge,
        help: "h".to_owned(),
        value: f64::NAN,
        labels: vec![attribute("l")],
    };
    vec![
        encoded(&Some(Chunk {
            head,
            data: vec![0, 255],
        })),
        encoded(&vec![node]),
        encoded(&vec![sample]),
        encoded(&Error::NotFound("it".to_owned())),
        encoded(&hook::Outcome::Replace(vec![1; 300])),
        encoded(&Some(lifecycle::SavedState {
            version: 7,
            state: vec![2; 200],
        })),
        encoded(&vec![vec![1_u8, 2], vec![]]),
        1_f64.to_le_bytes().to_vec(),
        u32::from('ß').to_le_bytes().to_vec(),
    ]
}

#[test]
fn any_bytes_are_one_value_or_refused() {
    fuzz(corpus(), &[], |bytes| {
        READERS.iter().try_for_each(|reader| reader(bytes))
    });
}

#[test]
fn any_arguments_may_be_served() {
    fuzz(corpus(), &[], |bytes| {
        // As many arguments as the first byte says, cut from the rest.
        let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let count = usize::from(first % 5);
        let size = rest.len() / count.max(1);
        let slices: Vec<Slice> = (0..count)
            .map(|index| Slice::new(&rest[index * size..(index + 1) * size]))
            .collect();
        let mut reply = Buffer::EMPTY;
        // SAFETY: `slices` are live slices of `bytes`, and the reply is empty.
        let status = unsafe {
            serve(slices.as_ptr(), slices.len(), &mut reply, |arguments| {
                let text = arguments.text(0)?;
                let head: ChunkHead = arguments.value(1)?;
                let timeout: u32 = arguments.scalar(2)?;
                let data = arguments.bytes(3)?;
                Ok(Answer::value(&(
                    text.to_owned(),
                    head,
                    timeout,
                    data.to_vec(),
                )))
            })
        };
        let text = String::from_utf8_lossy(reply.bytes()).into_owned();
        // SAFETY: filled by `serve` in this program.
        unsafe { reply.free() };
        match status {
            Status::VALUE => Ok(()),
            Status::MALFORMED if text.starts_with("argument ") => Ok(()),
            other => Err(format!("{other:?}: {text}")),
        }
    });
}
