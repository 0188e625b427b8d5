//! Every operation's way back against central differences, and its way over slices against the framework's
//! operations.

use candle_core::{Device, Tensor};

use super::attention::{Attention, Sight};
use super::frozen::{Format, Frozen};
use super::loss::{Head, cross_entropy};
use super::norm::Norm;
use super::rope::{Direction, Turns};
use super::*;
use crate::architecture::{Activation, Rope, RopeScaling};
use crate::random::Random;

fn random(stream: u64, shape: &[usize]) -> Tensor {
    let random = Random::new(5, stream);
    let elements: usize = shape.iter().product();
    let values = (0..elements as u64)
        .map(|at| random.normal(at) as f32)
        .collect();
    host::tensor(values, shape).unwrap()
}

fn list(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// `tensor` with one element changed.
fn moved(tensor: &Tensor, at: usize, by: f32) -> Tensor {
    let mut values = list(tensor);
    values[at] += by;
    host::tensor(values, tensor.dims()).unwrap()
}

/// The sum of products with weights that are no tensor's own, in 64-bit floats.
fn objective(tensor: &Tensor, weights: &Tensor) -> f64 {
    let products = list(tensor).into_iter().zip(list(weights));
    products.map(|(x, w)| f64::from(x) * f64::from(w)).sum()
}

/// Compares a gradient with central differences of a function of one tensor.
fn check(gradient: &Tensor, x: &Tensor, function: impl Fn(&Tensor) -> f64) {
    const STEP: f32 = 1e-2;
    assert_eq!(gradient.dims(), x.dims());
    for (at, found) in list(gradient).into_iter().enumerate() {
        let difference = function(&moved(x, at, STEP)) - function(&moved(x, at, -STEP));
        let wanted = difference / (2.0 * f64::from(STEP));
        let error = (f64::from(found) - wanted).abs();
        assert!(
            error < 3e-3 * (1.0 + wanted.abs()),
            "element {at}: {found}, and differences say {wanted}"
        );
    }
}

fn assert_close(a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims());
    for (at, (a, b)) in list(a).into_iter().zip(list(b)).enumerate() {
        assert!(
            (a - b).abs() <= 2e-5 * (1.0 + b.abs()),
            "element {at}: {a} and {b}"
        );
    }
}

#[test]
fn exponentials_are_those_of_the_library() {
    for at in -8600..8800 {
        let x = at as f32 * 0.01;
        let (found, wanted) = (f64::from(lanes::exp(x)), f64::from(x).exp());
        assert!(
            (found / wanted - 1.0).abs() < 3e-7,
            "e^{x} is {wanted}, not {found}"
        );
    }
    assert!(lanes::exp(f32::NAN).is_nan());
    assert!(lanes::exp(-1e30) < 1e-37 && lanes::exp(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn norms_go_back_as_differences_say() {
    for plus_one in [false, true] {
        let norm = Norm {
            epsilon: 1e-5,
            plus_one,
        };
        let (x, weight, c) = (random(1, &[5, 19]), random(2, &[19]), random(3, &[5, 19]));
        let (to_x, to_weight) = norm.backward(&x, &weight, &c, true).unwrap();
        check(&to_x, &x, |x| {
            objective(&norm.forward(x, &weight).unwrap(), &c)
        });
        check(&to_weight.unwrap(), &weight, |w| {
            objective(&norm.forward(&x, w).unwrap(), &c)
        });
    }
}

#[test]
fn norms_over_slices_are_those_of_the_framework() {
    let norm = Norm {
        epsilon: 1e-6,
        plus_one: true,
    };
    let (x, weight, c) = (
        random(1, &[130, 24]),
        random(2, &[24]),
        random(3, &[130, 24]),
    );
    assert_close(
        &norm.forward(&x, &weight).unwrap(),
        &composed::norm(norm, &x, &weight).unwrap(),
    );
    let (to_x, to_weight) = norm.backward(&x, &weight, &c, true).unwrap();
    let (wanted_x, wanted_weight) = composed::norm_backward(norm, &x, &weight, &c, true).unwrap();
    assert_close(&to_x, &wanted_x);
    assert_close(&to_weight.unwrap(), &wanted_weight.unwrap());
}

fn turns(tokens: usize) -> Turns {
    let rope = Rope {
        base: 100.0,
        scaling: RopeScaling::Linear { factor: 2.0 },
    };
    let positions: Vec<u32> = (0..tokens as u32).map(|at| at * 3 % 7).collect();
    Turns::new(&rope, 6, &positions, &Device::Cpu).unwrap()
}

#[test]
fn heads_that_are_turned_and_turned_back_are_what_they_were() {
    let (x, turns) = (random(1, &[70, 12]), turns(70));
    let turned = turns.turn(&x, Direction::Forward).unwrap();
    assert_close(
        &turned,
        &composed::turn(&turns, &x, Direction::Forward).unwrap(),
    );
    assert_close(&turns.turn(&turned, Direction::Back).unwrap(), &x);
    assert_close(
        &composed::turn(&turns, &turned, Direction::Back).unwrap(),
        &x,
    );
}

#[test]
fn gates_go_back_as_differences_say() {
    for activation in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        let (g, u, c) = (random(1, &[4, 9]), random(2, &[4, 9]), random(3, &[4, 9]));
        let (to_g, to_u) = gate::backward(activation, &g, &u, &c).unwrap();
        check(&to_g, &g, |g| {
            objective(&gate::forward(activation, g, &u).unwrap(), &c)
        });
        check(&to_u, &u, |u| {
            objective(&gate::forward(activation, &g, u).unwrap(), &c)
        });
        let composed = composed::gate(activation, &g, &u).unwrap();
        assert_close(&gate::forward(activation, &g, &u).unwrap(), &composed);
        let (wanted_g, wanted_u) = composed::gate_backward(activation, &g, &u, &c).unwrap();
        assert_close(&to_g, &wanted_g);
        assert_close(&to_u, &wanted_u);
    }
}

const ATTENTION: Attention = Attention {
    heads: 4,
    kv_heads: 2,
    head: 6,
    scale: 0.4,
    window: None,
};

#[test]
fn attention_goes_back_as_differences_say() {
    let sight = Sight::new(&[0, 0, 0, 1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 5], 7);
    for window in [None, Some(2)] {
        let attention = Attention {
            window,
            ..ATTENTION
        };
        let (q, k, v) = (
            random(1, &[14, 24]),
            random(2, &[14, 12]),
            random(3, &[14, 12]),
        );
        let c = random(4, &[14, 24]);
        let forward = |q: &Tensor, k: &Tensor, v: &Tensor| {
            objective(&attention.forward(q, k, v, &sight).unwrap().output, &c)
        };
        let attended = attention.forward(&q, &k, &v, &sight).unwrap();
        let [to_q, to_k, to_v] = attention
            .backward(&q, &k, &v, &sight, &attended, &c)
            .unwrap();
        check(&to_q, &q, |q| forward(q, &k, &v));
        check(&to_k, &k, |k| forward(&q, k, &v));
        check(&to_v, &v, |v| forward(&q, &k, v));
    }
}

#[test]
fn attention_over_slices_is_that_of_the_framework() {
    // More columns than a block of queries has, and segments that begin inside of blocks.
    let segments: Vec<u32> = (0..2 * 150)
        .map(|at| (at % 150 > 37) as u32 + (at % 150 > 100) as u32)
        .collect();
    let sight = Sight::new(&segments, 150);
    for window in [None, Some(20)] {
        let attention = Attention {
            window,
            ..ATTENTION
        };
        let (q, k, v) = (
            random(1, &[300, 24]),
            random(2, &[300, 12]),
            random(3, &[300, 12]),
        );
        let c = random(4, &[300, 24]);
        let found = attention.forward(&q, &k, &v, &sight).unwrap();
        let wanted = composed::attention(attention, &q, &k, &v, &sight).unwrap();
        assert_close(&found.output, &wanted.output);
        assert_close(&found.log_sums, &wanted.log_sums);
        let back = attention.backward(&q, &k, &v, &sight, &found, &c).unwrap();
        let wanted =
            composed::attention_backward(attention, &q, &k, &v, &sight, &wanted, &c).unwrap();
        for (found, wanted) in back.iter().zip(&wanted) {
            assert_close(found, wanted);
        }
    }
}

#[test]
fn positions_start_anew_with_each_segment() {
    let sight = Sight::new(&[3, 3, 4, 4, 4, 3, 0, 0, 0, 0, 0, 0], 6);
    assert_eq!(sight.positions(), [0, 1, 0, 1, 2, 0, 0, 1, 2, 3, 4, 5]);
}

#[test]
fn linear_maps_go_back_as_differences_say() {
    let (x, weight, c) = (random(1, &[5, 7]), random(2, &[4, 7]), random(3, &[5, 4]));
    let forward =
        |x: &Tensor, weight: &Tensor| objective(&linear::forward(x, weight, 0.5).unwrap(), &c);
    let to_x = linear::input_gradient(None, &c, &weight, 0.5).unwrap();
    check(&to_x, &x, |x| forward(x, &weight));
    let mut to_weight = None;
    linear::weight_gradient(&mut to_weight, &c, &x, 0.5).unwrap();
    check(&to_weight.unwrap(), &weight, |weight| forward(&x, weight));
}

#[test]
fn gradients_are_added_to_those_that_there_are() {
    let (x, weight, c) = (random(1, &[5, 7]), random(2, &[4, 7]), random(3, &[5, 4]));
    let once = linear::input_gradient(None, &c, &weight, 1.0).unwrap();
    let sum = linear::input_gradient(Some(once.copy().unwrap()), &c, &weight, 2.0).unwrap();
    assert_close(&sum, &elementwise::scaled(&once, 3.0).unwrap());
    let mut total = None;
    linear::weight_gradient(&mut total, &c, &x, 1.0).unwrap();
    let once = total.as_ref().unwrap().copy().unwrap();
    linear::weight_gradient(&mut total, &c, &x, 1.0).unwrap();
    assert_close(&total.unwrap(), &elementwise::scaled(&once, 2.0).unwrap());
}

#[test]
fn rows_of_a_table_get_the_gradients_of_all_that_took_them() {
    let (table, c) = (random(1, &[6, 3]), random(2, &[5, 3]));
    let numbers = [2, 5, 2, 0, 2];
    let mut to_table = None;
    embedding::scatter(&mut to_table, 6, &numbers, &c, 1.5).unwrap();
    check(&to_table.unwrap(), &table, |table| {
        objective(&embedding::gather(table, &numbers, 1.5).unwrap(), &c)
    });
    assert!(embedding::gather(&table, &[6], 1.0).is_err());
}

#[test]
fn the_loss_goes_back_as_differences_say() {
    let (hidden, head) = (random(1, &[6, 5]), random(2, &[11, 5]));
    let targets = [3, -1, 0, 10, -1, 7];
    let loss = |hidden: &Tensor, head: &Tensor| {
        cross_entropy(hidden, Head::Trained(head), &targets, false, None)
            .unwrap()
            .sum
    };
    let mut to_head = None;
    let found = cross_entropy(
        &hidden,
        Head::Trained(&head),
        &targets,
        true,
        Some(&mut to_head),
    )
    .unwrap();
    assert_eq!(found.targets, 4);
    assert!((found.sum - loss(&hidden, &head)).abs() < 1e-5);
    check(&found.gradient.unwrap(), &hidden, |hidden| {
        loss(hidden, &head)
    });
    check(&to_head.unwrap(), &head, |head| loss(&hidden, head));
}

#[test]
fn the_loss_in_parts_is_that_of_all_logits() {
    let (tokens, vocabulary) = (300, 5000);
    let (hidden, head) = (random(1, &[tokens, 8]), random(2, &[vocabulary, 8]));
    let targets: Vec<i32> = (0..tokens as i32)
        .map(|at| if at % 9 == 0 { -1 } else { at * 16 })
        .collect();
    let frozen = Frozen::new(list(&head), vocabulary, 8, Format::F32, &Device::Cpu).unwrap();
    let found = cross_entropy(&hidden, Head::Frozen(&frozen), &targets, true, None).unwrap();
    let logits = linear::forward(&hidden, &head, 1.0).unwrap();
    let all: Vec<u32> = targets.iter().map(|&target| target.max(0) as u32).collect();
    let (_, slopes) = composed::cross_entropy(&logits, &all).unwrap();
    let wanted = list(&linear::input_gradient(None, &slopes, &head, 1.0).unwrap());
    let gradient = list(&found.gradient.unwrap());
    for (at, target) in targets.iter().enumerate() {
        for (found, wanted) in gradient[at * 8..][..8].iter().zip(&wanted[at * 8..][..8]) {
            let wanted = if *target == -1 { 0.0 } else { *wanted };
            assert!(
                (found - wanted).abs() < 2e-5 * (1.0 + wanted.abs()),
                "{found} and {wanted}"
            );
        }
    }
}

#[test]
fn a_logit_that_is_no_number_makes_the_loss_none() {
    let (hidden, head) = (moved(&random(1, &[3, 5]), 7, f32::NAN), random(2, &[11, 5]));
    let found = cross_entropy(&hidden, Head::Trained(&head), &[1, 2, 3], true, None).unwrap();
    assert!(found.sum.is_nan());
}

#[test]
fn dropout_leaves_out_its_share_and_the_same_each_time() {
    let ones = host::tensor(vec![1.0; 40_000], &[200, 200]).unwrap();
    let random = Random::new(1, 2);
    let dropped = list(&dropout::apply(&ones, random, 0.25).unwrap());
    let left = dropped.iter().filter(|&&x| x != 0.0).count() as f64 / 4e4;
    assert!((left - 0.75).abs() < 0.01, "{left}");
    assert!(
        dropped
            .iter()
            .all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6)
    );
    assert_eq!(dropped, list(&dropout::apply(&ones, random, 0.25).unwrap()));
    assert_ne!(
        dropped,
        list(&dropout::apply(&ones, Random::new(1, 3), 0.25).unwrap())
    );
}

#[test]
fn frozen_weights_come_back_within_what_their_format_keeps() {
    let weights = list(&random(9, &[7, 45]));
    let errors = [
        (Format::F32, 0.0),
        (Format::Bf16, 0.004),
        (Format::F16, 0.0005),
        (Format::Q8_0, 0.01),
        (Format::Q4_0, 0.13),
        (Format::Nf4, 0.16),
    ];
    for (format, error) in errors {
        let frozen = Frozen::new(weights.clone(), 7, 45, format, &Device::Cpu).unwrap();
        let back = frozen.weights().unwrap();
        assert_eq!(back.dims(), [7, 45]);
        // Relative to the greatest weight of a block, which here is below 4.
        for (weight, back) in weights.iter().zip(list(&back)) {
            assert!(
                (weight - back).abs() <= error * 4.0,
                "{format:?}: {weight} came back as {back}"
            );
        }
        let rows = frozen.gather(&[3, 0], 1.0).unwrap();
        assert_eq!(list(&rows)[..45], list(&back)[3 * 45..4 * 45]);
        assert_eq!(
            list(&frozen.part(2, 4).unwrap()),
            list(&back)[2 * 45..4 * 45]
        );
    }
}

#[test]
fn blocks_of_ggml_are_those_of_the_framework() {
    use candle_core::quantized::{GgmlDType, QTensor};
    let weights = random(9, &[8, 64]);
    for (format, kind) in [
        (Format::Q8_0, GgmlDType::Q8_0),
        (Format::Q4_0, GgmlDType::Q4_0),
    ] {
        let frozen = Frozen::new(list(&weights), 8, 64, format, &Device::Cpu).unwrap();
        let wanted = QTensor::quantize(&weights, kind)
            .unwrap()
            .dequantize(&Device::Cpu)
            .unwrap();
        assert_eq!(
            list(&frozen.weights().unwrap()),
            list(&wanted),
            "{format:?}"
        );
    }
}

#[test]
fn weights_on_a_device_are_those_that_the_processor_makes_of_the_same_blocks() {
    // Every code of every format is among so many.
    let weights = list(&random(9, &[96, 512]));
    for format in [Format::Q8_0, Format::Q4_0, Format::Nf4] {
        let new = || Frozen::new(weights.clone(), 96, 512, format, &Device::Cpu).unwrap();
        let wanted = list(&new().weights().unwrap());
        let on_device = host::composing::with(new);
        assert_eq!(
            list(&on_device.weights().unwrap()),
            wanted,
            "{format:?}, as numbers of a table's rows"
        );
        let part = list(&on_device.part(3, 5).unwrap());
        assert_eq!(part, wanted[3 * 512..5 * 512], "{format:?}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (x, weight) = (random(1, &[200, 96]), random(2, &[160, 96]));
            let y = linear::forward(&x, &weight, 1.0).unwrap();
            let mut to_weight = None;
            linear::weight_gradient(&mut to_weight, &y, &x, 1.0).unwrap();
            let norm = Norm {
                epsilon: 1e-5,
                plus_one: false,
            };
            let scale = random(3, &[96]);
            let (_, to_scale) = norm.backward(&x, &scale, &x, true).unwrap();
            let sum = elementwise::sum_of_squares(&y).unwrap();
            (
                list(&y),
                list(&to_weight.unwrap()),
                list(&to_scale.unwrap()),
                sum.to_bits(),
            )
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn nf4_is_that_of_bitsandbytes() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/reference/nf4.safetensors"
    );
    let file = crate::weights::Weights::open_file(std::path::Path::new(path)).unwrap();
    let floats = |name: &str| file.floats(name).unwrap();
    assert_eq!(floats("code_book"), nf4::CODE_BOOK);
    // Over the first it writes -1, of which nothing in the file makes use.
    assert_eq!(floats("scale_code_book")[1..], nf4::dynamic_map()[1..]);
    for name in ["large", "edges"] {
        let quantised = nf4::Nf4::quantise(&floats(&format!("{name}.values")));
        // The first block of `edges` is of zeros, which here stay zeros.
        let from = if name == "edges" { nf4::BLOCK } else { 0 };
        let codes = &file.stored(&format!("{name}.packed")).unwrap()[from / 2..];
        assert_eq!(&quantised.codes[from / 2..], codes, "{name}");
        assert_eq!(
            quantised.scales,
            file.stored(&format!("{name}.scale_codes")).unwrap(),
            "{name}"
        );
        let mut again = vec![0.0; quantised.codes.len() * 2];
        quantised.dequantise(&mut again);
        let wanted = floats(&format!("{name}.values_again"));
        for (found, wanted) in again.iter().zip(wanted).skip(from) {
            assert!(
                (found - wanted).abs() <= 1e-6 * wanted.abs().max(1e-3),
                "{name}: {found} and {wanted}"
            );
        }
    }
}
