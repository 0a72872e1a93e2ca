//! The examples in other languages do what they say.

use std::{env, io::ErrorKind, process::Command};

use crate::support::{
    client::{Client, REQUEST},
    process::{Server, serve},
};

const PUBLISH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/publish.py");

/// Runs the publisher; its status and what it has said. `None`: there is no Python here.
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
                "Python is required"
            );
            eprintln!("left out: the publisher in Python, which is not here");
            None
        }
        output => {
            let output = output.expect("it runs");
            let said = [output.stdout, output.stderr].concat();
            let status = output.status.code().expect("it ends by itself");
            Some((status, String::from_utf8_lossy(&said).into_owned()))
        }
    }
}

#[test]
fn the_publisher_in_python_reaches_subscribers() {
    let server = Server::spawn(&mut serve("--publish-token s3cret"));
    let mut subscriber = Client::connect(&server);
    subscriber.send(REQUEST.replace("/chat", "/orders/%C3%A4").as_bytes());
    subscriber.accept();
    let Some(done) = publish(&server, "s3cret", "orders/ä", "seven ♥") else {
        return;
    };
    assert_eq!(done, (0, "published\n".to_owned()));
    subscriber.expect(0x81, "seven ♥");
    for (token, topic, told) in [
        ("wrong", "orders/ä", "401: "),
        ("s3cret", "orders/*", "404: "),
    ] {
        let (status, said) = publish(&server, token, topic, "x").expect("it was here");
        assert!(status == 1 && said.starts_with(told), "{status}: {said}");
    }
}
