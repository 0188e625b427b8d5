//! The page of the reference has what the server has.

mod kit;

use std::path::Path;

use kit::serve;
use vox_serve::Options;

fn page() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("../../docs/src/reference/server.md")).unwrap()
}

#[test]
fn every_limit_stands_in_the_reference_with_its_default() {
    let options = Options::default();
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    let page = page();
    for (name, value) in [
        ("served", options.served.to_string()),
        ("queue", options.queue.to_string()),
        ("queue_time", seconds(options.queue_time)),
        ("connections", options.connections.to_string()),
        ("head_bytes", options.head_bytes.to_string()),
        ("body_bytes", options.body_bytes.to_string()),
        ("prompt_bytes", options.prompt_bytes.to_string()),
        ("answer_tokens", options.answer_tokens.to_string()),
        ("stop_strings", options.stop_strings.to_string()),
        ("stop_bytes", options.stop_bytes.to_string()),
        ("alternatives", options.alternatives.to_string()),
        ("inputs", options.inputs.to_string()),
        ("head_time", seconds(options.head_time)),
        ("body_time", seconds(options.body_time)),
        ("linger", seconds(options.linger)),
        ("write_time", seconds(options.write_time)),
        ("kept_bytes", options.kept_bytes.to_string()),
        ("reader_time", seconds(options.reader_time)),
        ("drain_time", seconds(options.drain_time)),
        ("cancel_time", seconds(options.cancel_time)),
    ] {
        let row = format!("| `{name}` | {value} |");
        assert!(page.contains(&row), "{row}");
        // As it stands there it can be set.
        Options::default().set_limit(name, &value).unwrap();
    }
}

#[test]
fn every_metric_stands_in_the_reference_with_its_kind() {
    let text = serve(Options::default()).get("/metrics").body;
    let page = page();
    let mut metrics = 0;
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            let row = format!("| `{name}` | {kind} |");
            assert!(page.contains(&row), "{row}");
            metrics += 1;
        }
    }
    assert_eq!(metrics, page.matches("| `vox_serve_").count());
}
