//! SmolLM2 against llama.cpp, in every format that both have.

use vox_quant::{BlockKind, Role};

use super::smollm2::{EPSILON, PERPLEXITY, WINDOWS, follow, perplexity, perplexity_of, session};
use super::*;
use crate::smollm2::{WINDOW, bundle, json, numbers};
use crate::weights::Element;

/// Compares a format with llama.cpp: the perplexity of the first windows, and all answers.
fn check(format: WeightFormat, epsilon: f64) {
    let Some(bundle) = bundle() else { return };
    let mut session = session(&bundle, format);
    let reference = json("llama.json");
    let reference = &reference["formats"][format.name()];
    let text = bundle.text();
    let found = perplexity(&mut session, text.chunks(WINDOW).take(WINDOWS));
    let likelihoods = numbers(&reference["windows"]);
    let wanted = perplexity_of(&likelihoods[..WINDOWS], WINDOWS * WINDOW);
    let difference = found / wanted - 1.0;
    println!("{format}: perplexity {found:.4}, llama.cpp's {wanted:.4}: {difference:+.5}");
    assert!(difference.abs() < PERPLEXITY, "{found} for {wanted}");
    let gap = follow(&mut session, &reference["greedy"], epsilon);
    println!("{format}: answers part where logits are up to {gap} apart");
}

#[test]
fn at_f32_perplexity_and_answers_are_those_of_llama_cpp() {
    check(WeightFormat::F32, EPSILON);
}

#[test]
fn in_q8_0_perplexity_and_answers_are_those_of_llama_cpp() {
    check(WeightFormat::Q8_0, 0.25);
}

#[test]
fn in_q4_0_perplexity_and_answers_are_those_of_llama_cpp() {
    check(WeightFormat::Q4_0, 0.25);
}

#[test]
fn in_q4_k_m_perplexity_and_answers_are_those_of_llama_cpp() {
    check(WeightFormat::Q4KM, 0.65);
}

/// The matrices of a layer, as GGUF files and bundles name them.
const MATRICES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const QUANTISED: [WeightFormat; 3] = [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4KM];

#[test]
fn each_matrix_has_the_blocks_that_llama_cpp_gives_it() {
    let reference = json("llama.json");
    for format in QUANTISED {
        let types = &reference["formats"][format.name()]["types"];
        let check = |name: &str, columns: usize, wanted: &Value| {
            let kind = format.blocks(Role::of(name, 30), columns).unwrap();
            let found = Element::Blocks(kind).name();
            assert_eq!(Some(found.as_str()), wanted.as_str(), "{format}: {name}");
        };
        check("model.embed_tokens.weight", 576, &types["token_embd"]);
        for (kind, name) in MATRICES {
            let columns = if kind == "ffn_down" { 1536 } else { 576 };
            for layer in 0..30 {
                let wanted = match &types[kind] {
                    Value::Array(by_layer) => &by_layer[layer],
                    all => all,
                };
                let name = format!("model.layers.{layer}.{name}.weight");
                check(&name, columns, wanted);
            }
        }
    }
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn blocks_are_byte_for_byte_those_of_llama_cpp() {
    let Some(bundle) = bundle() else {
        return;
    };
    let weights = Weights::open(&bundle.directory).unwrap();
    let reference = json("llama.json");
    let mut kinds = std::collections::BTreeSet::new();
    for format in QUANTISED {
        let blocks = &reference["formats"][format.name()]["blocks"];
        for (name, wanted) in blocks.as_object().unwrap() {
            let name_of_kind = wanted["type"].as_str().unwrap();
            let mut all = BlockKind::ALL.iter();
            let kind = all.find(|kind| kind.name() == name_of_kind).unwrap();
            let rows = usize::try_from(wanted["rows"].as_u64().unwrap()).unwrap();
            let columns = weights.info(name).unwrap().shape[1];
            let mut numbers = vec![0.0; rows * columns];
            weights.read_rows(name, 0..rows, &mut numbers).unwrap();
            let found = format!("{:016x}", fnv(&kind.quantise(&numbers)));
            assert_eq!(found, wanted["fnv1a"], "{name} in {kind}");
            kinds.insert(kind.name());
        }
    }
    let all: Vec<&str> = kinds.into_iter().collect();
    assert_eq!(all, ["Q4_0", "Q4_K", "Q5_0", "Q6_K", "Q8_0"]);
}
