//! What the store and the import of models cost, beside what reading, hashing and the disk allow.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use vox_crypto::{Algorithm, Hasher};
use vox_model::TensorSource as _;
use vox_model::formats::gguf::{GgufModel, Precision};
use vox_model::formats::safetensors::WritePlan;
use vox_store::{ImportOptions, Link, Options, Store};

use crate::measure::median;
use crate::report::Row;

/// Bytes of the file that is imported.
const BYTES: usize = 512 << 20;
const PIECE: usize = 1 << 20;
/// How often each contender has its turn.
const ROUNDS: usize = 5;

/// A file with a header of SafeTensors and data that does not compress.
fn safetensors(path: &Path) -> anyhow::Result<()> {
    let elements = BYTES / 4;
    let mut header = format!(
        r#"{{"weight":{{"dtype":"F32","shape":[{elements}],"data_offsets":[0,{BYTES}]}}}}"#
    );
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut file = File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut piece = vec![0; PIECE];
    for _ in 0..BYTES / PIECE {
        for word in piece.as_chunks_mut::<8>().0 {
            // xorshift64*, G. Marsaglia and S. Vigna.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            *word = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        }
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}

/// Seconds to read a file and hash it by SHA3-512, as one stream.
fn read_and_hash(path: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut file = File::open(path)?;
    let mut hasher = Hasher::of(Algorithm::Sha3_512);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hasher.update(&piece[..read]),
        };
    }
    std::hint::black_box(hasher.finish());
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds to write as many bytes and have them on the disk.
pub fn write_to_disk(path: &Path, bytes: u64) -> anyhow::Result<f64> {
    let piece = vec![7; PIECE];
    let start = Instant::now();
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let part = left.min(PIECE as u64);
        file.write_all(&piece[..part as usize])?;
        left -= part;
    }
    file.sync_all()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(file);
    fs::remove_file(path)?;
    Ok(seconds)
}

/// `store.import`: a SafeTensors file of 512 MiB goes into the store, with BLAKE3, its tree and SHA3-512,
/// beside the slower of reading it with one SHA3-512 stream and writing as much to the disk.
pub fn import(name: &'static str) -> anyhow::Result<Row> {
    let place = crate::fixture::on_disk()?;
    let file = place.path().join("model.safetensors");
    safetensors(&file)?;
    let (mut ours, mut hashing, mut writing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        hashing.push(read_and_hash(&file)?);
        writing.push(write_to_disk(&place.path().join("written"), BYTES as u64)?);
        let root = place.path().join("store");
        let (store, _) = Store::open(&root, Options::default())?;
        let start = Instant::now();
        let options = ImportOptions {
            link: Link::Copy,
            also: &[Algorithm::Sha3_512],
            watch: None,
        };
        store.import_file(&file, options)?;
        ours.push(start.elapsed().as_secs_f64());
        drop(store);
        fs::remove_dir_all(&root)?;
    }
    let mib = (BYTES >> 20) as f64;
    let (ours, hashing, writing) = (
        mib / median(ours),
        mib / median(hashing),
        mib / median(writing),
    );
    let allowed = hashing.min(writing);
    let ratio = ours / allowed;
    Ok(Row {
        name,
        value: ours,
        unit: "MiB/s",
        peer: allowed,
        peer_name: "the slower of reading with SHA3-512, and writing",
        ratio,
        goal: "at least 0.85",
        met: ratio >= 0.85,
        detail: Some(format!(
            "reading and SHA3-512 {hashing:.0} MiB/s, writing and fsync {writing:.0} MiB/s"
        )),
    })
}

/// Elements of the large tensor of the GGUF file: 512 MiB as 32-bit floats.
const ROWS: u64 = 128 * 1024;
const WIDTH: u64 = 1024;
/// Number and bytes of Q4_1 in ggml: 32 elements in 20 bytes.
const Q4_1: u32 = 3;
const F32: u32 = 0;

/// A GGUF file (version 3) of a Llama without layers: an embedding in Q4_1 and a norm.
fn gguf(path: &Path) -> anyhow::Result<()> {
    let mut head = b"GGUF".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    head.extend(3_u32.to_le_bytes());
    head.extend(2_u64.to_le_bytes());
    head.extend(4_u64.to_le_bytes());
    text(&mut head, "general.architecture");
    head.extend(8_u32.to_le_bytes());
    text(&mut head, "llama");
    for (key, value) in [
        ("block_count", 0_u32),
        ("embedding_length", WIDTH as u32),
        ("attention.head_count", 16),
    ] {
        text(&mut head, &format!("llama.{key}"));
        head.extend(4_u32.to_le_bytes());
        head.extend(value.to_le_bytes());
    }
    let quantised = ROWS * WIDTH / 32 * 20;
    for (name, shape, kind, offset) in [
        ("token_embd.weight", vec![WIDTH, ROWS], Q4_1, 0),
        ("output_norm.weight", vec![WIDTH], F32, quantised),
    ] {
        text(&mut head, name);
        head.extend((shape.len() as u32).to_le_bytes());
        shape
            .iter()
            .for_each(|dimension| head.extend(dimension.to_le_bytes()));
        head.extend(kind.to_le_bytes());
        head.extend(offset.to_le_bytes());
    }
    head.resize(head.len().next_multiple_of(32), 0);
    let mut file = File::create(path)?;
    file.write_all(&head)?;
    // Scale 1, minimum 0, and every value of 4 bits.
    let block: Vec<u8> = [0x00, 0x3c, 0, 0]
        .into_iter()
        .chain((0..16).map(|at| at << 4 | (15 - at)))
        .collect();
    let blocks = block.repeat(PIECE / 20);
    let mut left = quantised as usize;
    while left > 0 {
        let part = left.min(blocks.len());
        file.write_all(&blocks[..part])?;
        left -= part;
    }
    file.write_all(&vec![0; WIDTH as usize * 4])?;
    Ok(file.sync_all()?)
}

/// `import.gguf`: a GGUF file is dequantised to 32-bit floats and written as SafeTensors to the disk,
/// beside writing as many bytes.
pub fn import_gguf(name: &'static str) -> anyhow::Result<Row> {
    let place = crate::fixture::on_disk()?;
    let source = place.path().join("model.gguf");
    gguf(&source)?;
    let (mut ours, mut writing, mut into_store) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let out = place.path().join("model.safetensors");
        let start = Instant::now();
        let model = GgufModel::open(&source, Precision::F32)?;
        let plan = WritePlan::new(model.tensors(), &model.safetensors_metadata())?;
        let mut file = File::create(&out)?;
        plan.write(&model, &mut file, &mut |_| {})?;
        file.sync_all()?;
        ours.push(start.elapsed().as_secs_f64());
        bytes = plan.len();
        drop(file);
        fs::remove_file(&out)?;
        writing.push(write_to_disk(&place.path().join("written"), bytes)?);

        let root = place.path().join("store");
        let (store, _) = Store::open(&root, Options::default())?;
        let start = Instant::now();
        let model = GgufModel::open(&source, Precision::F32)?;
        let mut blob = store.writer()?.also(&[Algorithm::Sha3_512])?;
        plan.write(&model, &mut blob, &mut |_| {})?;
        blob.commit()?;
        into_store.push(start.elapsed().as_secs_f64());
        drop(store);
        fs::remove_dir_all(&root)?;
    }
    let mib = bytes as f64 / f64::from(1 << 20);
    let (ours, writing, into_store) = (
        mib / median(ours),
        mib / median(writing),
        mib / median(into_store),
    );
    let ratio = ours / writing;
    Ok(Row {
        name,
        value: ours,
        unit: "MiB/s",
        peer: writing,
        peer_name: "writing as much and flushing",
        ratio,
        goal: "at least 0.5",
        met: ratio >= 0.5,
        detail: Some(format!(
            "into the store, with BLAKE3 and SHA3-512: {into_store:.0} MiB/s"
        )),
    })
}
