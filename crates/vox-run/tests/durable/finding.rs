//! How a run is found, and how it stands in the list.

use serde_json::json;
use vox_run::{RecordError, RunId};

use super::{fails_first, notes_itself};
use crate::project::Project;
use crate::steps::{fate, of};

#[test]
fn a_run_is_found_by_its_id_its_beginning_its_end_and_as_the_last() {
    let project = Project::new();
    let steps = [notes_itself("a", json!({}))];
    let (one, two) = (
        project.run(&steps).report.run,
        project.run(&steps).report.run,
    );
    let history = project.history();
    let here = project.directory();
    let find = |wanted: &str| history.find(wanted, &here);
    assert_eq!(find("last").unwrap(), two);
    assert_eq!(find(&one.to_string()).unwrap(), one);
    let text = one.to_string();
    assert_eq!(find(&text[text.len() - 8..]).unwrap(), one);
    // Ids begin with the time.
    let same = find(&text[..4]).unwrap_err();
    assert!(
        matches!(&same, RecordError::Ambiguous { found, .. } if found.len() == 2),
        "{same}"
    );
    let none = find("nothing").unwrap_err();
    assert!(matches!(none, RecordError::NoRun { .. }), "{none}");
    let listed: Vec<RunId> = history
        .list(10, |_| true)
        .unwrap()
        .iter()
        .map(|run| run.id)
        .collect();
    assert_eq!(listed, [two, one]);
}

#[test]
fn the_last_run_is_one_of_this_directory_or_of_none() {
    let project = Project::new();
    let run = project.run(&[notes_itself("a", json!({}))]).report.run;
    let history = project.history();
    let (here, data) = (project.directory(), project.data());
    assert_eq!(history.find("last", here.parent().unwrap()).unwrap(), run);
    let other = history.find("last", &data).unwrap_err();
    let RecordError::Elsewhere {
        run: named,
        directory,
        ..
    } = &other
    else {
        panic!("{other}")
    };
    assert_eq!(*named, run);
    assert_eq!(*directory, here.display().to_string());
    // Named by its id it is found from anywhere.
    assert_eq!(history.find(&run.to_string(), &data).unwrap(), run);
}

#[test]
fn a_run_beside_this_directory_is_not_of_it_though_its_name_begins_so() {
    let project = Project::new();
    let (work, data) = (project.directory(), project.data());
    let steps = [notes_itself("a", json!({}))];
    let told = project.run_with(&steps, |options| options.directory = data.join("../work"));
    let history = project.history();
    let other = history.find("last", &data).unwrap_err();
    assert!(matches!(other, RecordError::Elsewhere { .. }), "{other}");
    let here = work.canonicalize().unwrap();
    assert_eq!(history.find("last", &here).unwrap(), told.report.run);
}

#[test]
fn a_run_that_fails_says_so_in_the_list_with_why() {
    let project = Project::new();
    let run = project.run(&[fails_first("a", &[])]).report;
    assert_eq!(fate(&run, "a"), "failed: a");
    let listed = project.history().list(1, |_| true).unwrap();
    assert_eq!(listed[0].state.name(), "failed");
    let end = &project.recorded(run.run).ends["a"];
    assert_eq!(end.outcome, of(&run, "a").outcome);
}
