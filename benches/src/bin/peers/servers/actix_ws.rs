use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt, web};
use actix_ws::{Message, Session};

use crate::child::announce;

/// The largest frame that is taken; by default it is of 64 KiB.
const FRAME_SIZE_MAX: usize = 2 << 20;

/// As in its README, with one worker. The crate writes at once what its channel to the connection
/// holds.
pub(super) fn echo(listen: SocketAddr) {
    serve(listen, |config| {
        config.route("/", web::get().to(accept));
    });
}

async fn accept(request: HttpRequest, body: web::Payload) -> actix_web::Result<HttpResponse> {
    let (response, mut session, messages) = actix_ws::handle(&request, body)?;
    let mut messages = messages.max_frame_size(FRAME_SIZE_MAX);
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

/// The sessions of all subscribers.
type Sessions = Rc<RefCell<Vec<Session>>>;

/// As in the example of the crate: a list of all sessions.
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
                    // They all leave together, and this process with them.
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
            // A signal ends the process, as it does the others'.
            .disable_signals()
            .bind(listen)
            .expect("the address is free");
        announce(server.addrs()[0]);
        server.run().await
    });
    served.expect("it runs until the process ends");
}
