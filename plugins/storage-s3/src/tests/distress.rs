//! Against answers that a healthy server doesn't give.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::scripted::Reply::{Close, Cut, Silence, Text};
use super::scripted::{Reply, Scripted};
use super::*;

/// The answer to a listing by a server with this script.
fn listing(replies: &'static [Reply], settings: &str) -> (Result<()>, Vec<String>) {
    let server = Scripted::new(replies);
    let mut plugin = plugin(&server.endpoint, "b", settings);
    let answer = plugin.enumerate("", "", 9).map(drop);
    (answer, server.requests())
}

fn failure(replies: &'static [Reply]) -> String {
    let (answer, requests) = listing(replies, "");
    assert_eq!(requests.len(), 1, "what cannot pass is not repeated");
    match answer {
        Err(Error::Failed(text)) => {
            assert!(
                !text.contains("hunter2") && !text.contains("Signature="),
                "{text}"
            );
            text
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_credentials_are_named_with_where_they_are_from() {
    let text = failure(&[Text(
        403,
        "date: Mon, 01 Jan 2035 00:00:00 GMT\r\n",
        "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The request \
         signature we calculated does not match</Message><StringToSign>x</StringToSign></Error>",
    )]);
    for part in [
        "`THEKEY`",
        "AWS_ACCESS_KEY_ID",
        "SignatureDoesNotMatch",
        "2035",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn wrong_credentials_are_named_also_where_the_answer_has_no_body() {
    let server = Scripted::new(&[Text(403, "", "")]);
    let mut plugin = plugin(&server.endpoint, "b", "");
    assert!(matches!(plugin.stat("a"), Err(Error::Failed(text)) if text.contains("`THEKEY`")));
}

#[test]
fn a_wrong_clock_is_named_with_the_right_time() {
    let text = failure(&[Text(
        403,
        "date: Mon, 01 Jan 2035 00:00:00 GMT\r\n",
        "<Error><Code>RequestTimeTooSkewed</Code></Error>",
    )]);
    assert!(text.contains("clock") && text.contains("2035"), "{text}");
}

#[test]
fn a_bucket_of_another_region_is_named_with_its_region() {
    let text = failure(&[Text(
        301,
        "x-amz-bucket-region: eu-west-1\r\nlocation: http://127.0.0.1:1/\r\n",
        "<Error><Code>PermanentRedirect</Code></Error>",
    )]);
    assert!(text.contains("region = \"eu-west-1\""), "{text}");
    let text = failure(&[Text(
        400,
        "",
        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>",
    )]);
    assert!(text.contains("region = \"us-west-2\""), "{text}");
}

#[test]
fn what_is_no_s3_server_is_recognised() {
    let text = failure(&[Text(200, "", "<html>hello</html>")]);
    assert!(text.contains("`endpoint`"), "{text}");
}

#[test]
fn a_listing_out_of_order_is_refused() {
    let text = failure(&[Text(
        200,
        "",
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Contents><Key>b</Key>\
         <Size>1</Size></Contents><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>",
    )]);
    assert!(text.contains("key order"), "{text}");
}

#[test]
fn a_busy_server_is_asked_again() {
    const EMPTY: Reply = Text(
        200,
        "",
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></ListBucketResult>",
    );
    let (answer, requests) = listing(
        &[
            Text(503, "", "<Error><Code>SlowDown</Code></Error>"),
            Close,
            EMPTY,
        ],
        "",
    );
    answer.unwrap();
    assert_eq!(requests.len(), 3);
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let (answer, requests) = listing(&[Text(503, "", "")], r#","retries":2"#);
    assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
    assert_eq!(requests.len(), 3);
}

#[test]
fn a_silent_server_is_given_up_after_the_timeout() {
    let server = Scripted::new(&[Silence]);
    let settings = r#","retries":1,"timeout":"200 ms""#;
    let mut plugin = plugin(&server.endpoint, "b", settings);
    let answer = plugin.enumerate("", "", 9).map(drop);
    assert!(
        matches!(&answer, Err(Error::TimedOut(text)) if text.contains("`timeout`")),
        "{answer:?}"
    );
    // The server may be slower than its client is patient.
    for _ in 0..2 {
        server.next();
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_cancelled_run_does_not_wait_for_a_silent_server() {
    let server = Scripted::new(&[Silence]);
    let cancelled = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&cancelled);
    let mut plugin = plugin_with(
        &server.endpoint,
        "b",
        "",
        Box::new(move || asked.load(Ordering::Acquire)),
    );
    thread::scope(|scope| {
        let call = scope.spawn(move || plugin.enumerate("", "", 9).map(drop));
        server.next();
        let begin = Instant::now();
        cancelled.store(true, Ordering::Release);
        assert!(matches!(call.join().unwrap(), Err(Error::Cancelled)));
        // The timeout is 30 s.
        assert!(begin.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_cancelled_append_ends_its_upload_in_the_store() {
    let server = Scripted::new(&[
        Text(
            200,
            "",
            "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <UploadId>the-id</UploadId></InitiateMultipartUploadResult>",
        ),
        Silence,
        Text(204, "", ""),
    ]);
    let cancelled = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&cancelled);
    let mut plugin = plugin_with(
        &server.endpoint,
        "b",
        r#","part-size":"5 MiB""#,
        Box::new(move || asked.load(Ordering::Acquire)),
    );
    let upload = plugin.begin("a").unwrap();
    thread::scope(|scope| {
        let call = scope.spawn(|| plugin.append(upload, &vec![0; 6 << 20]));
        assert_eq!(server.next(), "POST /b/a");
        assert_eq!(server.next(), "PUT /b/a");
        cancelled.store(true, Ordering::Release);
        assert!(matches!(call.join().unwrap(), Err(Error::Cancelled)));
    });
    assert_eq!(server.next(), "DELETE /b/a");
}

#[test]
fn bytes_that_changed_on_the_way_are_noticed() {
    let server = Scripted::new(&[Text(
        200,
        "etag: \"00000000000000000000000000000000\"\r\n",
        "",
    )]);
    let mut plugin = plugin(&server.endpoint, "b", "");
    let upload = plugin.begin("a").unwrap();
    plugin.append(upload, b"x").unwrap();
    let answer = plugin.commit(upload);
    assert!(
        matches!(&answer, Err(Error::Failed(text)) if text.contains("other bytes")),
        "{answer:?}"
    );
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again() {
    let server = Scripted::new(&[
        Cut("da"),
        Text(206, "content-range: bytes 0-3/4\r\n", "data"),
    ]);
    let mut plugin = plugin(&server.endpoint, "b", "");
    assert_eq!(plugin.read("a", 0, 4).unwrap(), b"data");
}

#[test]
fn a_failure_after_the_status_is_not_taken_for_success() {
    let server = Scripted::new(&[Text(200, "", "<Error><Code>InvalidPart</Code></Error>")]);
    let plugin = plugin(&server.endpoint, "b", "");
    let answer = plugin.store.complete("a", "id", &[], 0);
    assert!(
        matches!(&answer, Err(Error::Failed(text)) if text.contains("InvalidPart")),
        "{answer:?}"
    );
}

#[test]
fn a_completion_whose_answer_was_lost_is_found_done() {
    // The etag of an object of no parts.
    let server = Scripted::new(&[
        Close,
        Text(404, "", "<Error><Code>NoSuchUpload</Code></Error>"),
        Text(200, "etag: \"d41d8cd98f00b204e9800998ecf8427e-0\"\r\n", ""),
    ]);
    let plugin = plugin(&server.endpoint, "b", "");
    plugin.store.complete("a", "id", &[], 0).unwrap();
    assert_eq!(server.requests(), ["POST /b/a", "POST /b/a", "HEAD /b/a"]);
}

#[test]
fn an_object_that_is_smaller_than_what_was_written_is_not_taken_for_whole() {
    // The etag of an object of no parts, which has no bytes.
    let server = Scripted::new(&[
        Text(200, "", "<CompleteMultipartUploadResult/>"),
        Text(200, "etag: \"d41d8cd98f00b204e9800998ecf8427e-0\"\r\n", ""),
    ]);
    let plugin = plugin(&server.endpoint, "b", "");
    let answer = plugin.store.complete("a", "id", &[], 5);
    assert!(
        matches!(&answer, Err(Error::Failed(text)) if text.contains("0 bytes of 5")),
        "{answer:?}"
    );
    assert_eq!(server.requests(), ["POST /b/a", "HEAD /b/a"]);
}
