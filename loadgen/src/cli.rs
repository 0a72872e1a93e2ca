//! The command line.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use tidewheel::cli::units::Span;
use ureq::http::Uri;

use crate::fleet::Target;

/// Opens very many WebSocket connections and measures how the server ends them
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a scenario: close-storm. `loadgen close-storm --help` tells what it \
                  measures, and what the exit status means."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    close_storm: CloseStorm,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Open connections, end them all at the same moment, and measure how long the server takes
    #[command(long_about = CLOSE_STORM, after_long_help = EXIT_STATUS)]
    CloseStorm(CloseStorm),
}

const CLOSE_STORM: &str = "\
Open connections, end them all at the same moment, and measure how long the server takes.

Each connection is opened, and counts as open when a first message has come back as it was sent. \
Then a moment in the near future is planned, at which all of them end:

  close   Each sends Close 1000. Measured, for each: until the server's Close arrives, and until \
its FIN does. Asked for: Close 1000, then FIN.
  reset   Each is reset (RST). Measured: until the server's own report shows no connection. \
Bound: 1 s.
  silent  Each stops reading and answering, and stays connected. Measured: until neither the \
server's own report nor the kernel's socket table shows a connection, and how many sockets the \
kernel still keeps half a second later (FIN_WAIT1, CLOSING, LAST_ACK). Bound: ping interval + ping \
timeout + close timeout + 0.8 s, and none. Without other settings each of the three is 1 s.

All latencies are counted from the planned moment, whenever the generator came round to sending, \
so that a slow generator makes them longer and never shorter. Beside them stand the uncorrected \
ones, from the actual send, and the lateness, from the plan to the actual send. With all closes \
planned for one moment lateness is inherent: one thread sends them one after the other. The true \
latency of the server lies between the two.

Without --url the server is a child process on a core of its own, the generator on another.";

const EXIT_STATUS: &str = "\
Exit status:
  0    Every connection ended as asked for, within the bound.
  1    Some did not, or the server did not start.
  2    INVALID: the run says nothing about the server. Either the generator was the limit, or the \
command line is wrong, or this host lacks what is needed.
       The generator was the limit if the server was busy for less than 80 % of the window measured \
(busy: on a CPU, or ready while others had it; unknown with --url, so taken for idle), and
         - the generator was busy for 95 % of it or more, or
         - half of what is reported, or more, was its own lateness, and that was 1 ms or more (99th \
percentiles; of the time from planned to FIN in mode close, to the last connection gone in mode \
reset).
       Not judged are a window below 20 ms, which is too short to tell, mode silent, in which the \
generator only waits, and a bound of mode reset that was kept. --window spreads the ends over a \
time that the generator can keep to.
  130  Interrupted.";

/// The options of the close storm.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub(crate) struct CloseStorm {
    /// Connections to open, such as 500, 10k or 1M [default: 10k, or what the host's limits allow]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) connections: Option<u32>,

    /// Server to test, instead of a child process
    #[arg(long, value_name = "ws://HOST:PORT/PATH", value_parser = target)]
    pub(crate) url: Option<Target>,

    /// How the connections end
    #[arg(long, value_enum, default_value_t = Mode::Close)]
    pub(crate) mode: Mode,

    /// Spread the ends evenly over this time, instead of all at once
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub(crate) window: Duration,

    /// Longest wait for each step of a connection: to open, to close
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) timeout: Duration,

    /// Count a connection as open right after its handshake, for servers that do not echo
    #[arg(long)]
    pub(crate) no_echo: bool,

    /// Print one JSON document on stdout, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,

    /// Ping interval of the server; with --url, what it is set to [child's default: 20s, silent: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ping_interval: Option<Duration>,

    /// Ping timeout of the server; with --url, what it is set to [child's default: 20s, silent: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ping_timeout: Option<Duration>,

    /// Close timeout of the server; with --url, what it is set to [child's default: 10s, silent: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) close_timeout: Option<Duration>,
}

/// How the connections of a close storm end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// By the closing handshake, with Close 1000
    Close,
    /// By RST
    Reset,
    /// By the server, after the clients stop answering
    Silent,
}

impl Cli {
    /// Reads the arguments; a wrong one ends the process with status 2.
    pub(crate) fn read() -> Scenario {
        let cli = Self::parse();
        let scenario = cli
            .scenario
            .unwrap_or(Scenario::CloseStorm(cli.close_storm));
        let Scenario::CloseStorm(options) = &scenario;
        if options.mode == Mode::Silent && !options.window.is_zero() {
            let message = "--window has no meaning with --mode silent: all fall silent at once";
            Self::command()
                .error(ErrorKind::ArgumentConflict, message)
                .exit();
        }
        scenario
    }
}

/// A number of connections: at least 1, with `k` for thousands and `M` for millions.
fn count(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number: u32 = digits
        .parse()
        .map_err(|_| "a count is a whole number, such as 500, 10k or 1M".to_owned())?;
    match number.checked_mul(unit) {
        Some(0) => Err("the least is 1".to_owned()),
        Some(count) => Ok(count),
        None => Err(format!("the most is {}", u32::MAX)),
    }
}

/// A duration in the units of the server's command line.
fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(|Span(duration)| duration)
}

/// The server at a `ws://` URL, its name resolved.
fn target(text: &str) -> Result<Target, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err("TLS is not supported yet; ws:// is".to_owned()),
        Some(other) => return Err(format!("scheme is {other}://; ws:// is supported")),
        None => return Err("the scheme is missing: ws://HOST:PORT/PATH".to_owned()),
    }
    let host = uri.host().ok_or("the host is missing")?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let address = (name, uri.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}"))?
        .next()
        .ok_or_else(|| format!("{host} has no address"))?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Target {
        address,
        host: authority.to_owned(),
        path: path.to_owned(),
    })
}

impl Target {
    /// The root of the server at `address`.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            host: address.to_string(),
            path: "/".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn counts_have_units() {
        let table = [("1", 1), ("500", 500), ("10k", 10_000), ("1M", 1_000_000)];
        for (text, expected) in table {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        for text in [
            "", "k", "0", "0k", "-1", "1.5k", "10x", "5000M", "1 000", "é",
        ] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_give_an_address_a_host_and_a_path() {
        let url = target("ws://127.0.0.1:9001/chat?room=1").unwrap();
        assert_eq!(url.address, "127.0.0.1:9001".parse().unwrap());
        assert_eq!((&*url.host, &*url.path), ("127.0.0.1:9001", "/chat?room=1"));
        let url = target("ws://[::1]").unwrap();
        assert_eq!(url.address, "[::1]:80".parse().unwrap());
        assert_eq!((&*url.host, &*url.path), ("[::1]", "/"));
        for text in [
            "wss://a",
            "http://127.0.0.1",
            "127.0.0.1:80",
            "ws://",
            "ws://host:x/",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_go_with_and_without_the_name_of_the_scenario() {
        let bare = Cli::try_parse_from(["loadgen", "--mode", "reset"]).unwrap();
        assert!(bare.scenario.is_none());
        assert_eq!(bare.close_storm.mode, Mode::Reset);
        let named = Cli::try_parse_from(["loadgen", "close-storm", "--mode", "silent"]).unwrap();
        let Some(Scenario::CloseStorm(options)) = named.scenario else {
            panic!("the scenario was named");
        };
        assert_eq!(options.mode, Mode::Silent);
    }
}
