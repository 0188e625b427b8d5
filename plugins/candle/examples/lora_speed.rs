//! Tokens a second of a LoRA training: rank 8 on `q_proj` and `v_proj`, f32, batches of 4 rows of 128 tokens, in
//! a model of the size of SmolLM2-135M with random weights.
//!
//! `lora_speed [steps] [threads] [format] [checkpointing]`, as in `lora_speed 5 2 nf4 checkpointing`.

use std::error::Error;
use std::fs;
use std::time::Instant;

use candle::ops::frozen::Format;
use candle::train::{AdapterSpec, Batch, Beginning, Session, Spec, Update};

const CONFIG: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152, "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "rope_theta": 100000, "hidden_act": "silu",
    "tie_word_embeddings": true, "initializer_range": 0.041666666666666664
}"#;

const ROWS: usize = 4;
const COLUMNS: usize = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let steps: u64 = arguments.next().map_or(Ok(5), |steps| steps.parse())?;
    let threads: usize = arguments.next().map_or(Ok(0), |threads| threads.parse())?;
    let base = match arguments.next().as_deref() {
        None | Some("f32") => Format::F32,
        Some("bf16") => Format::Bf16,
        Some("q8_0") => Format::Q8_0,
        Some("q4_0") => Format::Q4_0,
        Some("nf4") => Format::Nf4,
        Some(other) => return Err(format!("the format `{other}` is unknown").into()),
    };
    let spec = Spec {
        threads,
        beginning: Beginning::Random,
        base,
        adapter: Some(AdapterSpec {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            rank_stabilised: false,
            targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        }),
        gradient_checkpointing: arguments.next().is_some(),
        ..Spec::default()
    };
    let bundle = std::env::temp_dir().join(format!("lora-speed-{}", std::process::id()));
    fs::create_dir_all(&bundle)?;
    fs::write(bundle.join("config.json"), CONFIG)?;
    let session = Session::load(&bundle, &spec);
    let estimate = Session::estimate(&bundle, &spec, ROWS as u64, COLUMNS as u64)?;
    fs::remove_dir_all(&bundle)?;
    let mut session = session?;
    let size = ROWS * COLUMNS;
    let tokens: Vec<u32> = (0..size as u32).map(|at| at * 7919 % 49152).collect();
    let targets: Vec<i32> = (0..size as i32).map(|at| (at + 1) * 7919 % 49152).collect();
    let segments: Vec<u32> = (0..size).map(|_| 0).collect();
    let mut best = f64::MAX;
    for step in 1..=steps {
        let batch = Batch {
            position: step - 1,
            rows: ROWS,
            columns: COLUMNS,
            tokens: &tokens,
            targets: &targets,
            segments: &segments,
        };
        let update = Update {
            step,
            learning_rate: 1e-3,
            scale: 1.0 / size as f64,
            clip: Some(1.0),
        };
        let begin = Instant::now();
        let stepped = session.train_step(&batch, &update)?;
        let seconds = begin.elapsed().as_secs_f64();
        best = best.min(seconds);
        println!(
            "step {step}: loss {:.4}, {seconds:.3} s, {:.1} tokens/s",
            stepped.statistics.loss / size as f64,
            size as f64 / seconds
        );
    }
    println!(
        "{} threads, best {:.1} tokens/s",
        session.threads(),
        size as f64 / best
    );
    println!("estimate {estimate:?}");
    println!("report   {:?}", session.memory());
    Ok(())
}
