//! The real `llama-server`, where it is in `PATH` and a model is at hand.

use super::*;

/// Names the model, which is a GGUF file.
const MODEL_FILE: &str = "VOX_TEST_GGUF";

#[test]
fn the_real_server_answers_and_ends() {
    let Some(file) = std::env::var_os(MODEL_FILE) else {
        skipped::because(format_args!("{MODEL_FILE} names no GGUF file"));
        return;
    };
    if let Err(why) = devices::program(Path::new("llama-server")) {
        skipped::because(why);
        return;
    }
    let config = json!({ "models": { "m": PathBuf::from(file) }, "context": 256 });
    let mut plugin = LlamaCpp::init(&config.to_string()).unwrap();
    let model = Model {
        name: "m".to_owned(),
        directory: None,
        adapter: None,
    };
    plugin.load(model, any()).unwrap();
    let mut request = hello();
    request.prompt = Prompt::Text("one, two, three,".to_owned());
    request.alternatives = Some(2);
    let mut pieces = Vec::new();
    let finished = plugin.answer(&request, &mut |piece| {
        pieces.push(piece.clone());
        true
    });
    let finished = finished.unwrap();
    assert_eq!(finished.reason, Finish::Length);
    assert_eq!((finished.answer_tokens, pieces.len()), (8, 8));
    assert!(pieces.iter().all(|piece| piece.alternatives.len() == 2));
    // Greedy: the most probable one is the one that was taken.
    assert!(
        pieces
            .iter()
            .all(|piece| piece.token == Some(piece.alternatives[0].token))
    );
    let whole: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    // The same answer where it goes on from its beginning.
    let mut rest = request.clone();
    rest.answered = pieces[..4]
        .iter()
        .map(|piece| piece.text.as_str())
        .collect();
    rest.max_tokens = 4;
    let mut text = rest.answered.clone();
    plugin
        .answer(&rest, &mut |piece| {
            text.push_str(&piece.text);
            true
        })
        .unwrap();
    assert_eq!(text, whole);
    let mut taken = 0;
    let cancelled = plugin.answer(&request, &mut |_| {
        taken += 1;
        taken < 2
    });
    assert_eq!(cancelled.unwrap().reason, Finish::Cancelled);
    plugin.unload().unwrap();
}
