//! What a program finds in its environment.
//!
//! The step's own variables, a `PATH` where it has none, and what the run tells by variables whose
//! names begin with `VOX_`. These win over variables of the same name in the step's `env`, and
//! nothing of the host's environment goes on.

use vox_plugin::step::{Artifact, Invocation};

/// Where programs are looked for when the step's environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a step's program, but for the [mark](crate::mark) of its processes.
pub fn of(invocation: &Invocation) -> Vec<(String, String)> {
    let told = [
        ("VOX_RUN", invocation.run.clone()),
        ("VOX_STEP", invocation.step.clone()),
        ("VOX_ATTEMPT", invocation.attempt.to_string()),
        ("VOX_IDEMPOTENCY_KEY", invocation.idempotency_key.clone()),
    ];
    let told = told.map(|(name, value)| (name.to_owned(), value));
    let files = |kind: &'static str, files: &[Artifact]| -> Vec<(String, String)> {
        files
            .iter()
            .map(|file| (variable(kind, &file.name), file.path.clone()))
            .collect()
    };
    let mut variables: Vec<(String, String)> = invocation
        .environment
        .iter()
        .map(|variable| (variable.key.clone(), variable.value.clone()))
        .collect();
    if !variables.iter().any(|(key, _)| key == "PATH") {
        variables.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
    }
    variables.extend(told);
    variables.extend(files("INPUT", &invocation.input_files));
    variables.extend(files("OUTPUT", &invocation.output_files));
    variables
}

/// The `PATH` of an environment.
pub fn path(environment: &[(String, String)]) -> &str {
    environment
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or("", |(_, path)| path)
}

/// The variable that tells the path of a file: `model-card` is `VOX_OUTPUT_MODEL_CARD`.
fn variable(kind: &str, name: &str) -> String {
    let name: String = name
        .chars()
        .map(|char| {
            if char.is_ascii_alphanumeric() {
                char.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    format!("VOX_{kind}_{name}")
}

#[cfg(test)]
mod tests {
    use vox_plugin::attribute;
    use vox_plugin::serde_json::json;

    use super::*;
    use crate::testing::invocation;

    fn value<'e>(environment: &'e [(String, String)], name: &str) -> Option<&'e str> {
        // As the system does it where a name is there twice: the last one counts.
        let mut found = environment.iter().rev();
        Some(&found.find(|(key, _)| key == name)?.1)
    }

    #[test]
    fn the_environment_is_the_steps_own_and_a_path() {
        let mut asked = invocation(json!({}));
        assert_eq!(value(&of(&asked), "PATH"), Some(DEFAULT_PATH));
        asked.environment = vec![attribute("PATH", "/x"), attribute("A", "b c")];
        let environment = of(&asked);
        assert_eq!(value(&environment, "PATH"), Some("/x"));
        assert_eq!(value(&environment, "A"), Some("b c"));
        let strange = |(key, _): &&(String, String)| !key.starts_with("VOX_");
        assert_eq!(environment.iter().filter(strange).count(), 2);
    }

    #[test]
    fn a_program_is_told_its_run_and_its_files() {
        let mut asked = invocation(json!({}));
        asked.environment = vec![attribute("VOX_STEP", "another")];
        asked.input_files = vec![Artifact {
            name: "raw-data".to_owned(),
            path: "/in/a b".to_owned(),
        }];
        asked.output_files = vec![Artifact {
            name: "model".to_owned(),
            path: "/out/model.bin".to_owned(),
        }];
        let environment = of(&asked);
        assert_eq!(value(&environment, "VOX_RUN"), Some("run"));
        assert_eq!(value(&environment, "VOX_STEP"), Some("step"));
        assert_eq!(value(&environment, "VOX_ATTEMPT"), Some("1"));
        assert_eq!(value(&environment, "VOX_IDEMPOTENCY_KEY"), Some("key"));
        assert_eq!(value(&environment, "VOX_INPUT_RAW_DATA"), Some("/in/a b"));
        assert_eq!(
            value(&environment, "VOX_OUTPUT_MODEL"),
            Some("/out/model.bin")
        );
    }
}
