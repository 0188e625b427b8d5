//! The pages on the catalogue and on capabilities.

use std::fmt::Write as _;

use vox_contract::{Capability, Catalog};

use super::{Page, cell, code_list};
use crate::workspace::Workspace;

/// First-party plugins and distributions.
pub fn page(workspace: &Workspace) -> anyhow::Result<Page> {
    let catalog = Catalog::load(&workspace.root.join("catalog.toml"))?;
    let mut text = "# Plugins and distributions\n\n\
        `vox plugin search` looks through the same catalogue.\n\n## Plugins\n\n\
        | id | | payloads | extension points | asks for |\n|---|---|---|---|---|\n"
        .to_owned();
    for plugin in &catalog.plugins {
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            plugin.id,
            cell(&plugin.description),
            code_list(&plugin.payloads),
            code_list(&plugin.extension_points),
            code_list(&plugin.capabilities),
        );
    }
    text.push_str("\n## Distributions\n\n| name | | extends | plugins |\n|---|---|---|---|\n");
    for distribution in &catalog.distributions {
        let plugins = catalog.distribution(distribution.name.as_str())?;
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            distribution.name,
            cell(&distribution.description),
            code_list(&distribution.extends),
            code_list(plugins.iter().map(|plugin| &plugin.id)),
        );
    }
    Ok(Page {
        file: "catalog.md",
        source: "`catalog.toml`",
        text,
    })
}

/// What a plugin may ask for.
pub fn capabilities() -> Page {
    let mut text = "# Capabilities\n\n\
        A plugin asks for capabilities in its [`Plugin.toml`](plugin-manifest.md#capabilityrequest). \
        Each is denied until it is granted in `grants.toml`, in the data directory or beside the \
        executable: `true` for all of it, or a list or a number where it has a scope. What a \
        project's [`Vox.toml`](settings.md#grants) grants counts once it is allowed with `vox plugin \
        grant --project`. The host's functions `log`, `config` and `cancel` need no grant.\n\n\
        A plugin that [nobody whom you trust signed](../how-to/sign-plugins.md) has of its grants \
        only those of low risk: with them it reaches nothing but itself and what it is connected \
        to.\n\n\
        ```toml\n[plugin.redact]\nstream_io = true\n\n[plugin.fetch]\nnetwork = [\"api.example.org\"]\nagent_spawn = 3\n```\n\n\
        | capability | lets a plugin | its scope | low risk |\n|---|---|---|---|\n"
        .to_owned();
    for capability in Capability::ALL {
        let scope = match capability.scope_of() {
            Some(scope) if capability.is_counted() => scope.to_owned(),
            Some(scope) => format!("a list; each entry is {scope}"),
            None => String::new(),
        };
        let risk = if capability.is_low_risk() { "yes" } else { "" };
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "| `{capability}` | {} | {scope} | {risk} |",
            capability.summary()
        );
    }
    Page {
        file: "capabilities.md",
        source: "`crates/vox-contract/src/capability.rs`",
        text,
    }
}
