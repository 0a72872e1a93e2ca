//! The admin listener: HTTP, metrics, publishing and limits.

mod http;
mod metrics;
mod overload;
mod publish;

use std::{collections::HashMap, net::TcpStream};

use crate::support::{ms, process::Server};

const TOKEN: &str = "Authorization: Bearer s3cret\r\n";

/// A parsed response; the names of its headers are in lower case.
struct Response {
    status: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Response {
    /// Parses a response.
    ///
    /// # Panics
    /// If the response is malformed or repeats a header.
    #[track_caller]
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("the head is complete");
        let mut lines = head.lines();
        let status = lines.next().expect("a status").to_owned();
        let mut headers = HashMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let before = headers.insert(name.to_ascii_lowercase(), value.to_owned());
            assert_eq!(before, None, "{name} is repeated in:\n{head}");
        }
        Self {
            status,
            headers,
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Sends an HTTP/1.1 request on a new connection, and returns the response.
#[track_caller]
fn request(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{length}{headers}\r\n{body}"
    );
    Response::parse(&server.admin_raw(&request))
}

/// Connects without a request.
fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.admin_address()).expect("the admin listener accepts");
    let timeout = Some(ms(20_000));
    let set = stream.set_read_timeout(timeout);
    set.and_then(|()| stream.set_write_timeout(timeout))
        .expect("the timeout is not zero");
    stream
}
