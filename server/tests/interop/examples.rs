//! The examples in other languages.

use std::{env, io::ErrorKind, process::Command};

use crate::support::{
    client::Client,
    process::{Server, serve},
};

const PUBLISH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/publish.py");

/// Runs the publisher, and returns its exit status and output, or `None` if Python is not installed.
fn publish(server: &Server, token: &str, topic: &str, message: &str) -> Option<(i32, String)> {
    let python = env::var_os("TIDEWHEEL_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python)
        .args([PUBLISH, &server.admin_url(), topic, message])
        .env("TOKEN", token)
        .output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(
                env::var("TIDEWHEEL_INTEROP").as_deref() != Ok("required"),
                "Python is not installed, and TIDEWHEEL_INTEROP=required"
            );
            eprintln!("skipped: Python is not installed");
            None
        }
        output => {
            let output = output.expect("the publisher runs");
            let text = [output.stdout, output.stderr].concat();
            let status = output.status.code().expect("the publisher exits");
            Some((status, String::from_utf8_lossy(&text).into_owned()))
        }
    }
}

#[test]
fn publish_py_publishes_to_subscribers_and_prints_errors() {
    let server = Server::spawn(&mut serve("--publish-token s3cret"));
    let mut subscriber = Client::open_path(&server, "/orders/%C3%A4");
    let Some(done) = publish(&server, "s3cret", "orders/ä", "seven ♥") else {
        return;
    };
    assert_eq!(done, (0, "published\n".to_owned()));
    subscriber.expect(0x81, "seven ♥");
    for (token, topic, error) in [
        ("wrong", "orders/ä", "401: "),
        ("s3cret", "orders/*", "404: "),
    ] {
        let (status, text) = publish(&server, token, topic, "x").expect("Python is installed");
        assert!(status == 1 && text.starts_with(error), "{status}: {text}");
    }
}
