//! Ranks the plugins of a catalogue by how well they fit some words.

use super::CatalogPlugin;
use crate::nearest;

/// How much a word counts by where it is found: all of the text, or a part of it.
const ID: (u32, u32) = (100, 50);
const SERVED: (u32, u32) = (60, 30);
const DESCRIPTION: (u32, u32) = (20, 10);
const MISSPELT_ID: u32 = 5;

/// The plugins that fit all words, best first; equals in the order of their ids.
pub(super) fn ranked<'c>(plugins: &'c [CatalogPlugin], words: &str) -> Vec<&'c CatalogPlugin> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let mut fitting: Vec<(u32, &CatalogPlugin)> = plugins
        .iter()
        .filter_map(|plugin| Some((score(plugin, &words)?, plugin)))
        .collect();
    fitting
        .sort_by(|(score_a, a), (score_b, b)| score_b.cmp(score_a).then_with(|| a.id.cmp(&b.id)));
    fitting.into_iter().map(|(_, plugin)| plugin).collect()
}

/// The sum over the words of the best place of each; none when a word is found nowhere.
fn score(plugin: &CatalogPlugin, words: &[String]) -> Option<u32> {
    words.iter().map(|word| score_of_word(plugin, word)).sum()
}

fn score_of_word(plugin: &CatalogPlugin, word: &str) -> Option<u32> {
    let description = plugin.description.to_lowercase();
    let in_description = description.split(|c: char| !c.is_alphanumeric());
    let best = std::iter::once(fit(word, plugin.id.as_str(), ID))
        .chain(served(plugin).map(|name| fit(word, name, SERVED)))
        .chain(in_description.map(|text| fit(word, text, DESCRIPTION)))
        .max()
        .unwrap_or(0);
    match best {
        0 => nearest(word, [plugin.id.as_str()]).map(|_| MISSPELT_ID),
        best => Some(best),
    }
}

fn fit(word: &str, text: &str, (whole, part): (u32, u32)) -> u32 {
    if text == word {
        whole
    } else if text.contains(word) {
        part
    } else {
        0
    }
}

/// Every name of something that the plugin serves or asks for.
fn served(plugin: &CatalogPlugin) -> impl Iterator<Item = &str> {
    let runners = plugin.runners.iter().map(|name| name.as_str());
    let verbs = plugin.commands.iter().map(|name| name.as_str());
    let services = plugin.services.iter().map(|name| name.as_str());
    let points = plugin.extension_points.iter().map(|point| point.name());
    let capabilities = plugin
        .capabilities
        .iter()
        .map(|capability| capability.name());
    runners
        .chain(verbs)
        .chain(services)
        .chain(points)
        .chain(capabilities)
}
