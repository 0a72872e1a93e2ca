//! Echoes every message: `cargo run --release -p tidewheel --example echo`.

use tidewheel::{Conn, Error, Handler, Message, Request, Server, Verdict};

struct Echo;

impl Handler for Echo {
    type State = ();
    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }
    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        conn.send(message);
    }
}

fn main() -> Result<(), Error> {
    Server::builder()
        .listen("127.0.0.1:8080")
        .bind()?
        .run(|_shard| Ok(Echo))
}
