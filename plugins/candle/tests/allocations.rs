//! A token allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle::architecture::Architecture;
use candle::cpu::{Model, Options, Sequence, Source};
use candle::kernels::attention::CacheFormat;
use candle::kernels::packed::Format;
use candle::kernels::pool::Pool;
use candle::kernels::simd::Level;

/// Counts what all threads allocate.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls are those of the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Weights that are the same everywhere but for their sign.
struct Even;

impl Source for Even {
    fn row(&self, _: &str, row: usize, to: &mut [f32]) -> candle::Result<()> {
        for (column, to) in to.iter_mut().enumerate() {
            *to = if (row * 7 + column * 3) % 5 < 2 {
                0.1
            } else {
                -0.1
            };
        }
        Ok(())
    }

    fn vector(&self, _: &str, length: usize) -> candle::Result<Vec<f32>> {
        Ok(vec![1.0; length])
    }
}

#[test]
fn a_token_allocates_nothing() {
    let config = serde_json::json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 300,
        "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256, "hidden_act": "silu",
    });
    let config = config.as_object().unwrap();
    let architecture = Architecture::of_config(Path::new("config.json"), config).unwrap();
    let threads = NonZeroUsize::new(3).unwrap();
    let mut pool = Pool::new(threads);
    for format in [Format::F32, Format::Q8_0, Format::Q4_0] {
        let decoder = architecture.decoder().unwrap();
        let model = Model::load(decoder, &Even, &|_| format, &mut pool).unwrap();
        let options = Options {
            context: 256,
            reserved: 256,
            threads,
            cache: CacheFormat::F16,
            level: Level::best(),
        };
        let mut sequence = Sequence::new(Arc::new(model), options);
        let mut logits = Vec::with_capacity(300);
        let prompt: Vec<u32> = (0..40).collect();
        sequence.forward(&prompt, 0, &mut logits).unwrap();
        // A thread allocates as it starts, which is when the system lets it; a token would in every round.
        let mut allocates = || {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            sequence.forward(&prompt, 0, &mut logits).unwrap();
            for position in 40..100 {
                sequence.forward(&[5], position, &mut logits).unwrap();
            }
            ALLOCATIONS.load(Ordering::Relaxed) > before
        };
        assert!((0..200).any(|_| !allocates()), "{}", format.name());
    }
}
