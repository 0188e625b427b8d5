//! SmolLM2 against `transformers`, over sessions as the plugin has them.

use super::*;
use crate::smollm2::{Bundle, VOCABULARY, WINDOW, bundle, ids, json, numbers};

/// Windows of the text that are read where weights are quantised.
pub(super) const WINDOWS: usize = 4;

/// The most that a perplexity may be from the reference's, as a part of it.
pub(super) const PERPLEXITY: f64 = 0.005;

pub(super) fn session(bundle: &Bundle, format: WeightFormat) -> Session {
    let options = LoadOptions {
        device: Some("cpu".to_owned()),
        format: Some(format),
        ..LoadOptions::default()
    };
    Session::load(&bundle.directory, &options).unwrap()
}

/// The logits of all places of a sequence.
pub(super) fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    let layers = session.loaded().layers;
    session
        .forward_layers(0..layers, Input::Tokens(tokens), 0)
        .unwrap()
}

/// The perplexity of windows of a text, in each of which every token but the first is predicted.
pub(super) fn perplexity<'t>(
    session: &mut Session,
    windows: impl Iterator<Item = &'t [u32]>,
) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for window in windows {
        let logits = logits(session, window);
        for (logits, &next) in logits.chunks(VOCABULARY).zip(&window[1..]) {
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = logits.iter().map(|&x| f64::from((x - highest).exp())).sum();
            sum -= f64::from(logits[next as usize] - highest) - total.ln();
            count += 1;
        }
    }
    (sum / f64::from(count)).exp()
}

/// The same of the negative log-likelihoods that a reference has of the first windows.
pub(super) fn perplexity_of(likelihoods: &[f64], tokens: usize) -> f64 {
    (likelihoods.iter().sum::<f64>() / (tokens - likelihoods.len()) as f64).exp()
}

/// Goes through the answers of a reference: at each place the largest logit must be that of its token, until a
/// place where it has two logits closer than `epsilon`. What is computed at once has the same bits as token by
/// token, so these are the answers that are generated. Comes back with the largest gap at which an answer parted.
pub(super) fn follow(session: &mut Session, answers: &Value, epsilon: f64) -> f64 {
    let prompts = json("greedy.json");
    let (prompts, answers) = (prompts.as_array().unwrap(), answers.as_array().unwrap());
    assert_eq!((prompts.len(), answers.len()), (20, 20));
    let mut most: f64 = 0.0;
    for (prompt, answer) in prompts.iter().zip(answers) {
        let (text, answer, gaps) = (
            &prompt["prompt"],
            ids(&answer["ids"]),
            numbers(&answer["gaps"]),
        );
        let mut sequence = ids(&prompt["prompt_ids"]);
        let first = sequence.len() - 1;
        sequence.extend(&answer[..answer.len() - 1]);
        let logits = logits(session, &sequence);
        let places = logits.chunks(VOCABULARY).skip(first);
        for (at, (logits, &wanted)) in places.zip(&answer).enumerate() {
            let mut sampler = Sampler::new(Sampling::default(), &[], &[]).unwrap();
            let found = sampler.choose(logits, at, None).unwrap().token;
            if found != wanted {
                let gap = gaps[at];
                assert!(gap < epsilon, "{text} at {at}: {found} for {wanted}, {gap}");
                most = most.max(gap);
                break;
            }
        }
    }
    most
}

/// At f32 two logits that are closer than this may change places, by another order of additions.
pub(super) const EPSILON: f64 = 0.002;

#[test]
fn the_perplexity_is_that_of_transformers() {
    let Some(bundle) = bundle() else {
        return;
    };
    let mut session = session(&bundle, WeightFormat::F32);
    let text = bundle.text();
    let found = perplexity(&mut session, text.chunks(WINDOW));
    let wanted = json("perplexity.json")["perplexity"].as_f64().unwrap();
    let difference = found / wanted - 1.0;
    println!("f32: perplexity {found:.4} for {wanted:.4}: {difference:+.7}");
    assert!(difference.abs() < PERPLEXITY, "{found} for {wanted}");
}

#[test]
fn greedy_answers_are_those_of_transformers_until_two_logits_are_close() {
    let Some(bundle) = bundle() else {
        return;
    };
    let mut session = session(&bundle, WeightFormat::F32);
    let gap = follow(&mut session, &json("greedy.json"), EPSILON);
    println!("f32: answers part where logits are up to {gap} apart");
}

#[test]
fn weights_of_8_bits_and_plain_ones_agree() {
    let Some(bundle) = bundle() else {
        return;
    };
    let mut session = session(&bundle, WeightFormat::Q8_0);
    let text = bundle.text();
    let found = perplexity(&mut session, text.chunks(WINDOW).take(WINDOWS));
    let windows = &json("perplexity.json")["windows"];
    let windows = windows.as_array().unwrap().iter().take(WINDOWS);
    let plain: Vec<f64> = windows
        .map(|window| window["negative_log_likelihood"].as_f64().unwrap())
        .collect();
    let wanted = perplexity_of(&plain, WINDOWS * WINDOW);
    let difference = found / wanted - 1.0;
    println!("q8_0: perplexity {found:.4} for {wanted:.4} at f32: {difference:+.5}");
    assert!(difference.abs() < PERPLEXITY, "{found} for {wanted}");
}

#[test]
fn a_question_is_answered_with_text() {
    let Some(bundle) = bundle() else {
        return;
    };
    let mut session = session(&bundle, WeightFormat::Q8_0);
    let prompt =
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    let mut text = String::new();
    let finished = session
        .predict(&Request::greedy(prompt, 40), &mut |piece| {
            text.push_str(&piece.text);
            true
        })
        .unwrap();
    assert_eq!(finished.reason, Finish::Stop, "{text}");
    assert!(text.contains("Paris"), "{text}");
}
