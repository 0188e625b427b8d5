//! `cargo xtask catalog`: catalog.toml, the plugins' manifests, their skills, the contract and the
//! reference pages say the same.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use semver::Version;
use vox_contract::{Catalog, CatalogPlugin, ExtensionPoint, MANIFEST_FILE, Manifest, Skill};

use crate::docs;
use crate::plugins::{FIRST_PARTY, Plugin, plugins_in};
use crate::workspace::{Workspace, announce, explain, read, write as write_file};

/// The command that mends a catalogue which differs from the manifests.
const MEND: &str = "mend with `cargo xtask catalog --write`";

/// Runs every check; the error lists all that disagrees, each with what mends it.
pub fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let catalog = Catalog::load(&workspace.root.join("catalog.toml"))?;
    let plugins = plugins_in(workspace, FIRST_PARTY)?;
    let version = workspace.version()?;

    let mut wrong = disagreements(&catalog, &listed(workspace, &plugins));
    for plugin in &plugins {
        wrong.extend(misfits(&plugin.manifest, &version));
        wrong.extend(check_skill(workspace, plugin, &catalog)?);
    }
    wrong.extend(check_interfaces(workspace)?);
    if let Err(error) = docs::check_pages_of_sources(workspace) {
        wrong.push(explain(&error));
    }
    if !wrong.is_empty() {
        bail!(
            "the catalogue and what it speaks of disagree:\n  - {}",
            wrong.join("\n  - ")
        );
    }
    announce(format_args!(
        "{} plugins: catalogue, manifests, skills and pages agree",
        plugins.len()
    ));
    Ok(())
}

/// Writes the plugins of catalog.toml anew from their manifests; the note above them and the
/// distributions stay as they are.
pub fn write(workspace: &Workspace) -> anyhow::Result<()> {
    let file = workspace.root.join("catalog.toml");
    let text = with_plugins(
        &read(&file)?,
        &listed(workspace, &plugins_in(workspace, FIRST_PARTY)?),
    )?;
    // What would be refused is not written.
    Catalog::parse(&text, &file)?;
    write_file(&file, &text)?;
    announce("catalog.toml is as the manifests say; next: `cargo xtask docs`");
    Ok(())
}

/// What the catalogue is to say of each plugin, by its manifest.
fn listed(workspace: &Workspace, plugins: &[Plugin]) -> Vec<CatalogPlugin> {
    let entry = |Plugin {
                     directory,
                     manifest,
                 }: &Plugin| {
        let source = directory.strip_prefix(&workspace.root).unwrap_or(directory);
        entry_of(manifest, source)
    };
    plugins.iter().map(entry).collect()
}

fn entry_of(manifest: &Manifest, source: &Path) -> CatalogPlugin {
    let provides = &manifest.provides;
    CatalogPlugin {
        id: manifest.id.clone(),
        description: manifest.description.clone(),
        source: source.to_string_lossy().replace('\\', "/"),
        payloads: manifest.payload.kinds().collect(),
        extension_points: provides.extension_points.keys().copied().collect(),
        runners: provides.runners.clone(),
        commands: provides
            .commands
            .iter()
            .map(|command| command.verb.clone())
            .collect(),
        services: provides.services.clone(),
        capabilities: manifest
            .capabilities
            .iter()
            .map(|request| request.name)
            .collect(),
    }
}

/// Where the catalogue does not say what the manifests say.
fn disagreements(catalog: &Catalog, plugins: &[CatalogPlugin]) -> Vec<String> {
    let mut wrong = Vec::new();
    for plugin in plugins {
        match catalog.plugin(&plugin.id) {
            None => wrong.push(format!(
                "catalog.toml has no plugin `{}`; {MEND}",
                plugin.id
            )),
            Some(listed) if listed != plugin => {
                let differing = differing_keys(listed, plugin).join(", ");
                wrong.push(format!(
                    "catalog.toml and {}/{MANIFEST_FILE} differ in {differing}; {MEND}",
                    plugin.source
                ));
            }
            Some(_) => {}
        }
    }
    for listed in &catalog.plugins {
        if !plugins.iter().any(|plugin| plugin.id == listed.id) {
            wrong.push(format!(
                "catalog.toml lists `{}`, and no directory in {FIRST_PARTY}/ has that plugin; {MEND}",
                listed.id
            ));
        }
    }
    wrong
}

/// The keys of two entries that have different values.
fn differing_keys(a: &CatalogPlugin, b: &CatalogPlugin) -> Vec<&'static str> {
    [
        ("description", a.description == b.description),
        ("source", a.source == b.source),
        ("payloads", a.payloads == b.payloads),
        ("extension-points", a.extension_points == b.extension_points),
        ("runners", a.runners == b.runners),
        ("commands", a.commands == b.commands),
        ("services", a.services == b.services),
        ("capabilities", a.capabilities == b.capabilities),
    ]
    .into_iter()
    .filter_map(|(key, same)| (!same).then_some(key))
    .collect()
}

/// Where a manifest does not fit the host of this checkout.
fn misfits(manifest: &Manifest, version: &Version) -> Vec<String> {
    let id = &manifest.id;
    let mut wrong = Vec::new();
    if manifest.version != *version {
        wrong.push(format!(
            "plugin `{id}` has version {}, and the workspace has {version}: mend `version` in its \
             {MANIFEST_FILE}",
            manifest.version
        ));
    }
    if !manifest.host.matches(version) {
        wrong.push(format!(
            "plugin `{id}` is for hosts {}, and this one is {version}: mend `host` in its \
             {MANIFEST_FILE}",
            manifest.host
        ));
    }
    for (point, revision) in &manifest.provides.extension_points {
        let current = point.current_revision();
        if *revision != current {
            wrong.push(format!(
                "plugin `{id}` serves revision {revision} of `{point}`, and the contract has \
                 {current}: mend `extension-points` in its {MANIFEST_FILE}"
            ));
        }
    }
    wrong
}

/// The tools of a plugin's skill that nothing provides.
fn check_skill(
    workspace: &Workspace,
    plugin: &Plugin,
    catalog: &Catalog,
) -> anyhow::Result<Vec<String>> {
    let Some(skill) = &plugin.manifest.payload.skill else {
        return Ok(Vec::new());
    };
    let file = plugin.directory.join(skill);
    let built_in = built_in_commands(&read(&workspace.root.join("docs/src/reference/cli.md"))?);
    let unknown = unknown_tools(&Skill::load(&file)?, catalog, &built_in);
    Ok(unknown
        .into_iter()
        .map(|tool| {
            format!(
                "{} declares the tool `{tool}`, which is no runner, command or service of the \
                 catalogue and no command of vox: mend `tools` there",
                workspace.name(&file)
            )
        })
        .collect())
}

/// The tools of a skill that are neither in the catalogue nor built in.
fn unknown_tools(skill: &Skill, catalog: &Catalog, built_in: &[String]) -> Vec<String> {
    let provided = |tool: &str| {
        catalog.plugins.iter().any(|plugin| {
            plugin.runners.iter().any(|runner| runner.as_str() == tool)
                || plugin.commands.iter().any(|verb| verb.as_str() == tool)
                || plugin
                    .services
                    .iter()
                    .any(|service| service.as_str() == tool)
        })
    };
    let known = |tool: &&String| provided(tool) || built_in.contains(tool);
    skill
        .tools
        .iter()
        .filter(|tool| !known(tool))
        .cloned()
        .collect()
}

/// The first words of the commands that the generated page on the command line describes.
fn built_in_commands(page: &str) -> Vec<String> {
    page.lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(" vox "))
        .filter_map(|path| path.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// Where the extension points of `vox-contract` and the interfaces in `wit/` differ.
fn check_interfaces(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let in_wit = docs::exported_interfaces(workspace)?;
    let named: Vec<&str> = ExtensionPoint::ALL
        .iter()
        .map(|point| point.interface())
        .collect();
    let missing = named
        .iter()
        .filter(|name| !in_wit.iter().any(|found| found == *name));
    let missing = missing.map(|name| {
        format!("vox-contract names `{name}`, which wit/ does not export: mend `ExtensionPoint::interface`")
    });
    let unnamed = in_wit.iter().filter(|name| {
        // Every plugin has the lifecycle; it is no extension point.
        !name.contains("/lifecycle@") && !named.contains(&name.as_str())
    });
    let unnamed = unnamed.map(|name| {
        format!("wit/ exports `{name}`, which is no extension point: add it to `ExtensionPoint`")
    });
    Ok(missing.chain(unnamed).collect())
}

/// The catalogue's text with these plugins in place of its own.
fn with_plugins(text: &str, plugins: &[CatalogPlugin]) -> anyhow::Result<String> {
    let note = text.split("[[").next().unwrap_or_default().trim_end();
    let distributions = text
        .find("[[distribution]]")
        .context("catalog.toml has no [[distribution]]")?;
    let mut new = format!("{note}\n\n");
    for plugin in plugins {
        let entry = toml::Table::try_from(plugin)?;
        new.push_str("[[plugin]]\n");
        // The order in which people look for things, where a table would sort by name.
        for key in [
            "id",
            "description",
            "source",
            "payloads",
            "extension-points",
            "runners",
            "commands",
            "services",
            "capabilities",
        ] {
            if let Some(value) = entry.get(key) {
                // Writing to a `String` cannot fail.
                let _ = writeln!(new, "{key} = {value}");
            }
        }
        new.push('\n');
    }
    new.push_str(&text[distributions..]);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use super::*;

    const CATALOG: &str = "# A note.\n\n[[plugin]]\nid = \"hello\"\ndescription = \"Greets\"\n\
        source = \"plugins/hello\"\npayloads = [\"component\"]\nextension-points = [\"command\"]\n\
        commands = [\"hello\"]\n\n[[distribution]]\nname = \"vox-base\"\ndescription = \"The host\"\n";

    const MANIFEST: &str = "id = \"hello\"\nversion = \"0.1.0\"\ndescription = \"Greets\"\nhost = \"^0.1\"\n\
        [payload]\ncomponent = \"hello.wasm\"\n[provides]\nextension-points = { command = 1 }\n\
        commands = [{ verb = \"hello\", summary = \"Greets\" }]\n";

    fn catalog(text: &str) -> Catalog {
        Catalog::parse(text, Path::new("catalog.toml")).unwrap()
    }

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(text, Path::new(MANIFEST_FILE)).unwrap()
    }

    fn entry(manifest: &Manifest) -> CatalogPlugin {
        entry_of(manifest, Path::new("plugins/hello"))
    }

    #[track_caller]
    fn assert_one(wrong: &[impl Display], parts: &[&str]) {
        let text: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 1, "{text:#?}");
        assert!(parts.iter().all(|part| text[0].contains(part)), "{text:#?}");
    }

    #[test]
    fn a_catalogue_that_says_what_the_manifests_say_passes_and_is_written_as_it_is() {
        let plugins = [entry(&manifest(MANIFEST))];
        assert!(disagreements(&catalog(CATALOG), &plugins).is_empty());
        assert_eq!(with_plugins(CATALOG, &plugins).unwrap(), CATALOG);
    }

    #[test]
    fn a_plugin_that_changed_is_named_with_what_differs_and_the_command_that_mends_it() {
        let changed = MANIFEST.replace("\"Greets\"\nhost", "\"Greets all\"\nhost");
        let plugins = [entry(&manifest(&changed))];
        let wrong = disagreements(&catalog(CATALOG), &plugins);
        assert_one(
            &wrong,
            &["plugins/hello/Plugin.toml differ in description; mend with `cargo xtask"],
        );
        let mended = with_plugins(CATALOG, &plugins).unwrap();
        assert!(disagreements(&catalog(&mended), &plugins).is_empty());
    }

    #[test]
    fn a_plugin_on_one_side_alone_is_named() {
        assert_one(&disagreements(&catalog(CATALOG), &[]), &["lists `hello`"]);
        let mut other = entry(&manifest(MANIFEST));
        other.id = "other".parse().unwrap();
        let both = [entry(&manifest(MANIFEST)), other];
        assert_one(
            &disagreements(&catalog(CATALOG), &both),
            &["has no plugin `other`"],
        );
    }

    #[test]
    fn a_manifest_that_does_not_fit_this_host_is_named() {
        let version = Version::new(0, 2, 0);
        let wrong = misfits(&manifest(MANIFEST), &version);
        assert_eq!(wrong.len(), 2, "{wrong:#?}");
        assert!(
            wrong[0].contains("has version 0.1.0, and the workspace has 0.2.0"),
            "{}",
            wrong[0]
        );
        assert!(
            wrong[1].contains("is for hosts ^0.1, and this one is 0.2.0"),
            "{}",
            wrong[1]
        );
    }

    #[test]
    fn a_skill_that_speaks_of_a_tool_which_is_not_there_is_named() {
        let text =
            "---\nname: greet\ndescription: Greets.\ntools: [hello, run, gone]\n---\nText.\n";
        let skill = Skill::parse(text, Path::new("SKILL.md")).unwrap();
        let built_in =
            built_in_commands("# Command line\n## vox\n### vox run\n#### vox plugin new\n");
        assert_eq!(built_in, ["run", "plugin"]);
        assert_eq!(
            unknown_tools(&skill, &catalog(CATALOG), &built_in),
            ["gone"]
        );
    }
}
