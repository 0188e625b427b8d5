//! Buckets of the server, and what is in them beside objects.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusty_s3::S3Action;

use super::plugin;
use super::server::Server;
use crate::S3;
use crate::transport::{Answer, Request};

impl Server {
    /// A plugin with a new bucket; `settings` as [`plugin`] takes them.
    pub fn plugin(&self, settings: &str) -> S3 {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let bucket = format!("bucket-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let plugin = plugin(&self.endpoint, &bucket, settings);
        let action = plugin
            .store
            .config
            .bucket
            .create_bucket(&rusty_s3::Credentials::new("k", "s"))
            .sign(Duration::from_secs(60));
        let answer = send(Request::new(rusty_s3::Method::Put, action));
        assert_eq!(answer.status, 200);
        plugin
    }

    /// How many uploads are neither completed nor aborted.
    pub fn open_uploads(&self, plugin: &S3) -> usize {
        // The empty key is the bucket itself.
        let bucket = &plugin.store.config.bucket;
        let mut action = bucket.get_object(None, "");
        action.query_mut().insert("uploads", "");
        let answer = send(Request::new(
            rusty_s3::Method::Get,
            action.sign(Duration::from_secs(60)),
        ));
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains("ListMultipartUploadsResult"), "{text}");
        text.matches("<UploadId>").count()
    }
}

fn send(request: Request) -> Answer {
    let transport = crate::transport::Transport::new(Duration::from_secs(30), Box::new(|| false));
    transport
        .send(request)
        .unwrap_or_else(|_| panic!("moto does not answer"))
}
