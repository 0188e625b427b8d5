use serde_json::Value;

use super::*;

const WHOLE: &str = r#"
output = "runs/a"

[model]
base = "smollm2-135m"

[data]
files = ["a.jsonl", "/data/b"]
format = "messages"
context = 256
packing = "padded"
overlong = "cut"
skip-invalid = true
evaluation-fraction = 0.1

[method]
kind = "qlora"
rank = 16
alpha = 8
dropout = 0.05
rslora = true
targets = ["q_proj", "o_proj"]
quantisation = "q4_0"

[optimisation]
steps = 200
batch-rows = 2
accumulation = 8
learning-rate = 3e-4
schedule = "linear"
minimum-rate = 1e-5
warmup-steps = 10
clip = 0.5
weight-decay = 0.1
betas = [0.9, 0.95]
epsilon = 1e-6
seed = 7

[cadence]
evaluate-every = 20
checkpoint-every = 40
keep-last = 3
keep-best = true

[machine]
device = "cuda:1"
threads = 2
gradient-checkpointing = true
"#;

const SCRATCH: &str = "output = \"o\"\n[scratch]\nlayers = 2\nhidden = 256\nheads = 4\n\
                       [data]\nfiles = [\"a.txt\"]\n";

fn parse(text: &str) -> Result<TrainConfig, ConfigError> {
    TrainConfig::parse(text, Path::new("dir/train.toml"), &Overrides::new())
}

fn told(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn everything_that_can_be_set_is_read_and_written_again() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.output, Path::new("dir/runs/a"));
    assert_eq!(
        config.data.files,
        [Path::new("dir/a.jsonl"), Path::new("/data/b")]
    );
    assert_eq!(config.data.split(), Split::Fraction(0.1));
    let adapter = config.method.adapter().unwrap();
    assert_eq!(
        (adapter.rank, adapter.alpha, adapter.rslora),
        (16, 8.0, true)
    );
    assert_eq!(config.method.frozen(), Some(Quantisation::Q4_0));
    assert_eq!(config.machine.device, Device::Cuda(1));
    let schedule = config.schedule(200);
    assert_eq!(
        (schedule.warmup, schedule.rate(10), schedule.rate(200)),
        (10, 3e-4, 1e-5)
    );
    let written = toml::to_string(&config).unwrap();
    let again = TrainConfig::parse(&written, Path::new("x.toml"), &Overrides::new()).unwrap();
    // Paths were made whole, the second time by another directory.
    assert_eq!(again.method, config.method);
    assert_eq!(again.optimisation, config.optimisation);
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(serde_json::from_value::<TrainConfig>(json).unwrap(), config);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(SCRATCH).unwrap();
    assert_eq!(config.method.adapter(), None);
    assert_eq!(config.optimisation, Optimisation::default());
    assert_eq!(config.cadence, Cadence::default());
    assert_eq!(config.data.files, [Path::new("dir/a.txt")]);
    let dimensions = config.dimensions().unwrap();
    assert_eq!(
        (
            dimensions.kv_heads,
            dimensions.intermediate,
            dimensions.context
        ),
        (4, 768, 512)
    );
    assert_eq!(config.learning_rate(), 1e-3);
    assert_eq!(config.optimisation.warmup(1000), 30);
    assert_eq!(config.optimisation.warmup(1), 1);
}

#[test]
fn each_method_has_its_learning_rate() {
    let rate = |method: &str| {
        let text =
            format!("output = \"o\"\n[model]\nbase = \"m\"\n[data]\nfiles = [\"a\"]\n{method}");
        parse(&text).unwrap().learning_rate()
    };
    assert_eq!(rate(""), 2e-5);
    assert_eq!(rate("[method]\nkind = \"lora\""), 2e-4);
    assert_eq!(
        rate("[method]\nkind = \"qlora\"\n[optimisation]\nlearning-rate = 1"),
        1.0
    );
}

#[test]
fn flags_take_precedence_and_are_enough_alone() {
    let mut flags = Overrides::new();
    flags
        .set("optimisation.epochs", 2.5)
        .set("data.files", vec!["b.txt"])
        .set("machine.device", "cpu");
    let config = TrainConfig::parse(WHOLE, Path::new("dir/train.toml"), &flags).unwrap();
    assert_eq!(
        (config.optimisation.steps, config.optimisation.epochs),
        (None, Some(2.5))
    );
    assert_eq!(config.data.files, [Path::new("b.txt")]);
    assert_eq!(config.machine.device, Device::Cpu);
    assert_eq!(config.optimisation.seed, 7);

    let mut flags = Overrides::new();
    flags
        .set("output", "o")
        .set("model.base", "./m")
        .set_typed("data.files", "[\"a\"]");
    let config = TrainConfig::of_flags(&flags).unwrap();
    assert_eq!(config.model.unwrap().directory(), Some(Path::new("./m")));
    assert_eq!(config.output, Path::new("o"));
}

#[test]
fn a_flag_that_begins_otherwise_takes_the_place_of_the_files_model() {
    let mut flags = Overrides::new();
    flags
        .set_typed("scratch.layers", "1")
        .set_typed("scratch.hidden", "64")
        .set_typed("scratch.heads", "2")
        .set("method.kind", "full");
    let text = "output = \"o\"\n[model]\nbase = \"m\"\n[data]\nfiles = [\"a\"]\n";
    let config = TrainConfig::parse(text, Path::new("t.toml"), &flags).unwrap();
    assert!(matches!(config.start(), Some(Start::Scratch(_))));
}

#[test]
fn all_problems_are_told_at_once_with_place_and_way_out() {
    let text = "ouput = \"o\"\n[model]\nbase = \"\"\n[data]\nfiles = [\"a\"]\nformat = \"mesages\"\n\
                context = 1\nevaluation-count = 1\nevaluation-fraction = 0.5\n\
                [machine]\ndevice = \"gpu\"\n";
    assert_eq!(
        told(text),
        "dir/train.toml:1:1: unknown key `ouput`\n  \
         hint: did you mean `output`?\n\
         dir/train.toml:1:1: `output` is missing\n  \
         hint: add `output = \"runs/first\"`\n\
         dir/train.toml:3:8: `base` is empty\n  \
         hint: write something, or leave it out\n\
         dir/train.toml:6:10: unknown `format`: `mesages`\n  \
         hint: did you mean `messages`?\n\
         dir/train.toml:7:11: `context` cannot be 1\n  \
         hint: write at least 2\n\
         dir/train.toml:8:20: `evaluation-fraction` and `evaluation-count` exclude one another\n  \
         hint: remove one of them\n\
         dir/train.toml:11:10: unknown device `gpu`\n  \
         hint: use `auto`, `cpu`, `cuda`, `cuda:<n>` with the number of a device, or `metal`"
    );
}

#[test]
fn problems_of_every_table_are_told() {
    let text = "output = \"o\"\n[model]\nbase = \"m\"\n[data]\nfiles = [\"a\"]\n\
                [method]\nkind = \"lora\"\nquantisation = \"nf4\"\nrank = 0\n\
                [optimisation]\nlearning-rate = -1.0\nbetas = [0.9]\nclip = \"x\"\nclipp = 1\n\
                minimum-rate = inf\n[machine]\ndevice = \"gpu\"\n[cadence]\nkeep-best = true\n";
    assert_eq!(
        told(text),
        "dir/train.toml:8:16: `quantisation` has no effect here\n  \
         hint: it is of `qlora`: write `kind = \"qlora\"`, or remove it\n\
         dir/train.toml:9:8: `rank` cannot be 0\n  \
         hint: write at least 1\n\
         dir/train.toml:11:17: `learning-rate` cannot be -1\n  \
         hint: write more than 0, such as 2e-4\n\
         dir/train.toml:12:9: `betas` must be two numbers\n  \
         hint: write `[0.9, 0.999]`\n\
         dir/train.toml:13:8: `clip` must be a number, not a string\n\
         dir/train.toml:14:1: unknown key `clipp` in `optimisation`\n  \
         hint: did you mean `clip`?\n\
         dir/train.toml:15:16: `minimum-rate` cannot be inf: it is not a finite number\n\
         dir/train.toml:17:10: unknown device `gpu`\n  \
         hint: use `auto`, `cpu`, `cuda`, `cuda:<n>` with the number of a device, or `metal`\n\
         dir/train.toml:19:13: `keep-best` needs something to evaluate on\n  \
         hint: add `evaluation-fraction = 0.05` to `data`, or `evaluation-files`"
    );
}

#[test]
fn an_adapter_of_no_layers_is_refused() {
    let text = "output = \"o\"\n[model]\nbase = \"m\"\n[data]\nfiles = [\"a\"]\n\
                [method]\nkind = \"lora\"\n";
    let targets = parse(text).unwrap().method.adapter().unwrap().targets;
    assert_eq!(targets, ["q_proj", "v_proj"]);
    assert_eq!(
        told(&format!("{text}targets = []\n")),
        "dir/train.toml:8:11: `targets` names no layers\n  \
         hint: name layers, such as `q_proj`, or `all-linear`, or leave it out"
    );
}

#[test]
fn an_adapter_that_is_trained_further_has_its_own_settings() {
    let text = "output = \"o\"\n[model]\nbase = \"m\"\n[data]\nfiles = [\"a\"]\n\
                [method]\nkind = \"qlora\"\nfrom = \"./adapter\"\n";
    let method = parse(text).unwrap().method;
    assert_eq!(method.from.as_deref(), Some("dir/./adapter"));
    assert_eq!(method.adapter(), None);
    assert_eq!(method.frozen(), Some(Quantisation::Nf4));
    assert_eq!(
        told(&format!("{text}rank = 4\n")),
        "dir/train.toml:9:8: `rank` has no effect here\n  \
         hint: the adapter in `from` has its own: remove it"
    );
}

#[test]
fn a_shape_that_cannot_be_is_told_at_its_keys() {
    let text = SCRATCH.replace("heads = 4", "heads = 3\nkv-heads = 2\ncontext = 64")
        + "[method]\nkind = \"lora\"\n";
    let told = told(&text);
    let lines: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("  hint"))
        .collect();
    assert_eq!(
        lines,
        [
            "dir/train.toml:4:10: 256 is no multiple of 3 heads",
            "dir/train.toml:6:12: 2 is no divisor of 3 heads",
            "dir/train.toml:7:11: the model's context of 64 is shorter than the data's of 512",
            "dir/train.toml:11:8: an adapter changes a model that was trained, and this one is new",
        ]
    );
}

#[test]
fn what_is_wrong_with_flags_is_told_beside_what_is_wrong_with_the_file() {
    let mut flags = Overrides::new();
    flags
        .set("machine.device", "tpu")
        .set("optimisation.step", 3);
    let error = TrainConfig::parse("[data]\nfile = 1\n", Path::new("t.toml"), &flags).unwrap_err();
    assert_eq!(error.errors().len(), 2);
    let told = error.to_string();
    assert!(
        told.contains("command line:2:10: unknown device `tpu`"),
        "{told}"
    );
    assert!(
        told.contains("unknown key `step` in `optimisation`\n  hint: did you mean `steps`?"),
        "{told}"
    );
    assert!(
        told.contains("t.toml:2:1: unknown key `file` in `data`"),
        "{told}"
    );
    assert!(
        told.contains("neither `model` nor `scratch` is there"),
        "{told}"
    );
}

#[test]
fn model_and_scratch_exclude_one_another() {
    let told = told(&format!("{SCRATCH}[model]\nbase = \"m\"\n"));
    assert!(
        told.contains(":2:2: `model` and `scratch` exclude one another"),
        "{told}"
    );
}

#[test]
fn a_file_that_is_not_toml_is_told() {
    assert!(
        told("output = \n").contains("train.toml:1:10: not valid TOML"),
        "{}",
        told("output = \n")
    );
}

#[test]
fn devices_are_written_as_they_are_read() {
    for text in ["auto", "cpu", "cuda:0", "cuda:12", "metal"] {
        assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
    }
    assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
    for text in ["", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:99999999999"] {
        assert!(text.parse::<Device>().is_err(), "{text}");
    }
}

#[test]
fn the_schema_lists_exactly_the_keys_that_are_read() {
    let schema = TrainConfig::schema();
    let keys = |place: &Value| -> Vec<String> {
        assert_eq!(place["additionalProperties"], false);
        let properties = place["properties"].as_object().unwrap();
        for (name, property) in properties {
            assert!(property["description"].is_string(), "{name}: {property}");
        }
        properties.keys().cloned().collect()
    };
    for (place, known) in [
        (&schema, read::KEYS),
        (&schema["$defs"]["Model"], read::MODEL),
        (&schema["$defs"]["Scratch"], read::SCRATCH),
        (&schema["$defs"]["Data"], read::DATA),
        (&schema["$defs"]["Method"], read::METHOD),
        (&schema["$defs"]["Optimisation"], read::OPTIMISATION),
        (&schema["$defs"]["Cadence"], read::CADENCE),
        (&schema["$defs"]["Machine"], read::MACHINE),
    ] {
        let mut known: Vec<String> = known.iter().map(|key| (*key).to_owned()).collect();
        known.sort();
        assert_eq!(keys(place), known);
    }
    assert!(!schema.to_string().contains("null"), "{schema:#}");
}
