//! Against a real server.

use super::server::Server;
use super::*;

fn storage() -> Option<(S3, ())> {
    Some((Server::shared()?.plugin(r#","prefix":"a +/""#), ()))
}

storage_conformance::promises!(storage);

#[test]
fn a_prefix_keeps_what_is_beside_it_out_of_sight() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut whole = server.plugin("");
    let bucket = whole.store.config.bucket.name().to_owned();
    let mut part = plugin(&server.endpoint, &bucket, r#","prefix":"mine/""#);
    for (plugin, key) in [(&mut whole, "other"), (&mut part, "x")] {
        let upload = plugin.begin(key).unwrap();
        plugin.commit(upload).unwrap();
    }
    let keys = |plugin: &mut S3| -> Vec<String> {
        let entries = plugin.enumerate("", "", 9).unwrap();
        entries.into_iter().map(|entry| entry.key).collect()
    };
    assert_eq!(keys(&mut whole), ["mine/x", "other"]);
    assert_eq!(keys(&mut part), ["x"]);
}

#[test]
fn a_listing_of_more_keys_than_a_page_is_whole() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut plugin = server.plugin("");
    let expected: Vec<_> = (0..1003).map(|number| format!("k{number:04}")).collect();
    for key in &expected {
        let upload = plugin.begin(key).unwrap();
        plugin.commit(upload).unwrap();
    }
    let entries = plugin.enumerate("", "", u32::MAX).unwrap();
    assert!(entries.iter().map(|entry| &entry.key).eq(&expected));
    let entries = plugin.enumerate("k", "k0001", 1001).unwrap();
    assert!(entries.iter().map(|entry| &entry.key).eq(&expected[2..]));
}

#[test]
fn a_missing_bucket_is_told_from_a_missing_object() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut plugin = plugin(&server.endpoint, "nowhere", "");
    let upload = plugin.begin("a").unwrap();
    let answers = [
        plugin.stat("a").map(drop),
        plugin.read("a", 0, 1).map(drop),
        plugin.remove("a").map(drop),
        plugin.enumerate("", "", 1).map(drop),
        plugin.commit(upload),
    ];
    for answer in answers {
        let Err(Error::NotFound(text)) = answer else {
            panic!("{answer:?}");
        };
        assert!(text.contains("no bucket `nowhere`"), "{text}");
        assert!(text.contains("create-bucket"), "{text}");
    }
}

#[test]
fn an_upload_that_is_left_behind_is_aborted() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut plugin = server.plugin(r#","part-size":"5 MiB""#);
    for key in ["aborted", "left"] {
        let upload = plugin.begin(key).unwrap();
        plugin.append(upload, &vec![1; 11 << 20]).unwrap();
    }
    assert_eq!(server.open_uploads(&plugin), 2);
    plugin.abort(1).unwrap();
    assert_eq!(server.open_uploads(&plugin), 1);
    plugin.shutdown().unwrap();
    assert_eq!(server.open_uploads(&plugin), 0);
    assert!(plugin.enumerate("", "", 9).unwrap().is_empty());
}

#[test]
fn a_server_that_dies_during_an_upload_is_named_and_nothing_appears() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let mut plugin = server.plugin(r#","part-size":"5 MiB","retries":1"#);
    let upload = plugin.begin("a").unwrap();
    plugin.append(upload, &vec![1; 6 << 20]).unwrap();
    server.kill();
    let Err(Error::Unavailable(text)) = plugin.append(upload, &vec![1; 6 << 20]) else {
        panic!("it went on");
    };
    assert!(text.contains(&server.endpoint), "{text}");
    assert!(!text.contains("Signature"), "{text}");
    assert!(matches!(plugin.commit(upload), Err(Error::NotFound(_))));
}

#[test]
fn uploads_at_a_time_are_bounded() {
    let Some(server) = Server::shared() else {
        return;
    };
    let mut plugin = server.plugin(r#","uploads":2"#);
    let first = plugin.begin("a").unwrap();
    plugin.begin("b").unwrap();
    assert!(matches!(plugin.begin("c"), Err(Error::Exceeded(_))));
    plugin.abort(first).unwrap();
    plugin.begin("c").unwrap();
}
