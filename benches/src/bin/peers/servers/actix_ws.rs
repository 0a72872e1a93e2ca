//! actix-ws on actix-web, with one worker.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt, web};
use actix_ws::{Message, Session};

use crate::server_process::report_listening;

/// Largest accepted frame in bytes; the default is 64 KiB.
const FRAME_BYTES_MAX: usize = 2 << 20;

/// Echoes as in the README of the crate, which writes all messages in its channel to the connection at once.
pub(super) fn echo(listen: SocketAddr) {
    serve(listen, |config| {
        config.route("/", web::get().to(accept));
    });
}

async fn accept(request: HttpRequest, body: web::Payload) -> actix_web::Result<HttpResponse> {
    let (response, mut session, messages) = actix_ws::handle(&request, body)?;
    let mut messages = messages.max_frame_size(FRAME_BYTES_MAX);
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.recv().await {
            let sent = match message {
                Message::Text(text) => session.text(text).await,
                Message::Binary(bytes) => session.binary(bytes).await,
                Message::Continuation(item) => session.continuation(item).await,
                Message::Ping(bytes) => session.pong(&bytes).await,
                Message::Close(reason) => return session.close(reason).await,
                Message::Pong(_) | Message::Nop => Ok(()),
            };
            sent?;
        }
        Ok(())
    });
    Ok(response)
}

/// Sessions of all subscribers.
type Sessions = Rc<RefCell<Vec<Session>>>;

/// Sends to a list of all sessions, as in the example of the crate.
pub(super) fn fan_out(listen: SocketAddr) {
    thread_local! {
        static SESSIONS: Sessions = Sessions::default();
    }
    serve(listen, |config| {
        let sessions = SESSIONS.with(Rc::clone);
        config.app_data(web::Data::new(sessions));
        config.default_service(web::to(subscribe));
    });
}

async fn subscribe(
    request: HttpRequest,
    body: web::Payload,
    sessions: web::Data<Sessions>,
) -> actix_web::Result<HttpResponse> {
    let (response, session, mut messages) = actix_ws::handle(&request, body)?;
    sessions.borrow_mut().push(session);
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.recv().await {
            if let Message::Text(text) = message {
                let all = sessions.borrow().clone();
                for mut session in all {
                    // All clients leave at the end, when this process ends.
                    let _ = session.text(text.clone()).await;
                }
            }
        }
    });
    Ok(response)
}

/// Runs one worker until the process ends.
fn serve(listen: SocketAddr, configure: impl Fn(&mut web::ServiceConfig) + Copy + Send + 'static) {
    let system = rt::System::new();
    let served = system.block_on(async {
        let server = HttpServer::new(move || App::new().configure(configure))
            .workers(1)
            .tcp_nodelay(true)
            // A signal ends the process, like the other servers.
            .disable_signals()
            .bind(listen)
            .expect("the address is free");
        report_listening(server.addrs()[0]);
        server.run().await
    });
    served.expect("the server runs until the process ends");
}
