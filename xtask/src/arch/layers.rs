//! The layers, as ARCHITECTURE.md draws them.

use anyhow::bail;

/// The crates in `crates/` in the order of the drawing: each may depend on those before it.
///
/// The drawing is the first block of code below the heading `Layers`; a crate is a line that is
/// indented below the line `crates/`.
pub fn parse(page: &str) -> anyhow::Result<Vec<String>> {
    let mut drawing = page
        .lines()
        .skip_while(|line| *line != "## Layers")
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"));
    let mut layers = Vec::new();
    if drawing.any(|line| line.trim_end() == "crates/") {
        let below = drawing.take_while(|line| line.starts_with(' '));
        layers.extend(
            below
                .filter_map(|line| line.split_whitespace().next())
                .map(str::to_owned),
        );
    }
    if layers.is_empty() {
        bail!(
            "ARCHITECTURE.md draws no layers: below `## Layers` a block of code is to have a line \
             `crates/`, and indented below it one line for each crate"
        );
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_the_indented_lines_below_crates() {
        let page = "# A\n```\ncrates/\n  not-this\n```\n## Layers\n\nText.\n\n```\nwit/   x\ncrates/\n  \
                    vox-abi   the ABI\n  vox-host  uses it\nplugins/  p\n  q\n```\n";
        assert_eq!(parse(page).unwrap(), ["vox-abi", "vox-host"]);
    }

    #[test]
    fn a_page_without_layers_is_refused() {
        assert!(parse("## Layers\n```\nplugins/\n```\n").is_err());
        assert!(parse("").is_err());
    }
}
