//! Reads and checks a `catalog.toml`.

use std::{ops::Range, path::Path};

use toml::Spanned;

use super::{Catalog, CatalogPlugin, Distribution};
use crate::{
    DistributionName, ManifestError,
    document::{Document, Table},
    nearest,
};

pub(super) fn catalog(text: &str, file: &Path) -> Result<Catalog, ManifestError> {
    Document::read(text, file, Catalog::KEYS, |root| {
        let tables = root.tables("plugin", CatalogPlugin::KEYS);
        let plugins: Vec<_> = tables.iter().filter_map(plugin).collect();
        for (index, table) in tables.iter().enumerate() {
            note_second(table, "plugin", "id", &tables[..index]);
        }
        let tables = root.tables("distribution", Distribution::KEYS);
        for (index, table) in tables.iter().enumerate() {
            note_second(table, "distribution", "name", &tables[..index]);
            note_unlisted_plugins(table, &plugins);
        }
        let distributions: Vec<_> = tables.iter().filter_map(distribution).collect();
        check_extends(&distributions);
        Some(Catalog {
            plugins,
            distributions: distributions
                .into_iter()
                .map(|read| read.distribution)
                .collect(),
            file: file.into(),
        })
    })
}

fn plugin(table: &Table<'_, '_>) -> Option<CatalogPlugin> {
    let id = table.required("id", table.parsed("id"), "id = \"redact\"");
    let description = table.sentence("description");
    let description = table.required(
        "description",
        description,
        "description = \"What it is for\"",
    );
    let source = table.required(
        "source",
        table.sentence("source"),
        "source = \"plugins/redact\"",
    );
    let payloads: Vec<crate::PayloadKind> = table.distinct("payloads");
    if table.items_count("payloads") == 0 {
        table.note(
            table.key_span("payloads"),
            "the plugin has no payloads",
            "add `payloads = [\"component\", \"native\"]`",
        );
    }
    Some(CatalogPlugin {
        id: id?,
        description: description?,
        source: source?,
        payloads,
        extension_points: table.distinct("extension-points"),
        runners: table.distinct("runners"),
        commands: table.distinct("commands"),
        services: table.distinct("services"),
        capabilities: table.distinct("capabilities"),
    })
}

/// A distribution with what is needed to speak of its place.
struct Read<'t, 'd, 'a> {
    distribution: Distribution,
    table: &'t Table<'d, 'a>,
    extends: Option<Range<usize>>,
}

fn distribution<'t, 'd, 'a>(table: &'t Table<'d, 'a>) -> Option<Read<'t, 'd, 'a>> {
    let name = table.required("name", table.parsed("name"), "name = \"vox-run\"");
    let description = table.sentence("description");
    let description = table.required(
        "description",
        description,
        "description = \"Whom it is for\"",
    );
    let extends = table.text("extends").map(|text| text.span());
    let distribution = Distribution {
        name: name?,
        description: description?,
        extends: table.parsed("extends"),
        plugins: table.distinct("plugins"),
    };
    Some(Read {
        distribution,
        table,
        extends,
    })
}

/// Notes an entry whose `key` is that of an entry before it.
fn note_second(table: &Table<'_, '_>, what: &str, key: &str, before: &[Table<'_, '_>]) {
    let text = |table: &Table<'_, '_>| {
        let value = table.value(key)?;
        Some(Spanned::new(
            value.span(),
            value.get_ref().as_str()?.to_owned(),
        ))
    };
    if let Some(own) = text(table)
        && before
            .iter()
            .filter_map(text)
            .any(|other| other.get_ref() == own.get_ref())
    {
        let shown = own.get_ref().escape_debug();
        let message = format!("the {what} `{shown}` stands twice in the catalogue");
        table.note(own.span(), message, "remove one of them");
    }
}

fn note_unlisted_plugins(table: &Table<'_, '_>, plugins: &[CatalogPlugin]) {
    let ids: Vec<&str> = plugins.iter().map(|plugin| plugin.id.as_str()).collect();
    for id in table.texts("plugins") {
        if !ids.contains(id.get_ref()) {
            let shown = id.get_ref().escape_debug();
            let message = format!("the catalogue lists no plugin `{shown}`");
            table.note(id.span(), message, nearest::hint(id.get_ref(), &ids));
        }
    }
}

/// Notes what is extended and does not exist, and each circle once, at the distribution of it
/// that stands first.
fn check_extends(all: &[Read<'_, '_, '_>]) {
    let names: Vec<&str> = all
        .iter()
        .map(|read| read.distribution.name.as_str())
        .collect();
    let base_of = |index: usize| {
        let base: &DistributionName = all[index].distribution.extends.as_ref()?;
        names.iter().position(|name| *name == base.as_str())
    };
    for (index, read) in all.iter().enumerate() {
        let (Some(base), Some(span)) = (&read.distribution.extends, read.extends.clone()) else {
            continue;
        };
        if base_of(index).is_none() {
            let message = format!("there is no distribution `{base}` to extend");
            read.table
                .note(span, message, nearest::hint(base.as_str(), &names));
            continue;
        }
        let mut circle = vec![index];
        while let Some(next) = base_of(circle[circle.len() - 1]) {
            if circle.contains(&next) {
                let first = next == index && circle.iter().all(|member| *member >= index);
                if first {
                    let mut shown: Vec<&str> = circle.iter().map(|member| names[*member]).collect();
                    shown.push(names[index]);
                    read.table.note(
                        span,
                        format!("distributions extend each other: {}", shown.join(" -> ")),
                        "remove one `extends`",
                    );
                }
                break;
            }
            circle.push(next);
        }
    }
}
