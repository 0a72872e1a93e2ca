//! The command line: what is wrong is told with its name, and what the host forbids with the
//! command that mends it.

mod support;

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
};

use rustix::process::Signal;

use support::{
    client::{BINARY, Client, FIN, REQUEST, TEXT, binary, text},
    ms,
    process::{Server, echo, serve, tidewheel},
};

/// Runs to the end, which is near: the command is one that does not serve.
fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    (status.code(), text(stdout), text(stderr))
}

#[track_caller]
fn assert_fails(command: &mut Command, code: i32, told: &[&str]) {
    let (status, stdout, stderr) = output(command);
    assert_eq!(status, Some(code), "{stdout}{stderr}");
    for told in told {
        assert!(stderr.contains(told), "`{told}` is told in:\n{stderr}");
    }
    assert!(!stdout.contains("listening on"), "{stdout}");
}

#[test]
fn a_publish_token_that_no_header_carries_is_refused_and_not_told() {
    for (token, told) in [
        ("", "the publish token is empty"),
        (" ", "character 1 of the publish token"),
        ("s3cret word", "character 7 of the publish token"),
        ("s3cret\n", "character 7 of the publish token"),
        ("s3cret\u{7f}", "character 7 of the publish token"),
        ("s3crät", "character 5 of the publish token"),
    ] {
        let mut by_flag = echo("");
        by_flag.args(["--publish-token", token]);
        let mut by_variable = echo("");
        by_variable.env("TIDEWHEEL_PUBLISH_TOKEN", token);
        for command in [&mut by_flag, &mut by_variable] {
            let (status, stdout, stderr) = output(command);
            assert_eq!(status, Some(2), "{token:?}: {stdout}{stderr}");
            assert!(stderr.starts_with("error: --publish-token"), "{stderr}");
            assert!(stderr.contains(told), "{token:?}: {stderr}");
            assert!(!stderr.contains("s3cr"), "a secret is told: {stderr}");
        }
    }
}

#[test]
fn a_publish_token_without_an_admin_listener_is_warned_of() {
    for (flags, is_warned_of) in [
        ("--admin off --publish-token s3cret", true),
        ("--admin off", false),
        ("--publish-token s3cret", false),
    ] {
        // The address is taken, so the program ends when it has read its options.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound").to_string();
        let mut command = tidewheel();
        command.args(["serve", "--listen", &address]);
        if !flags.contains("--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        let (_, _, log) = output(command.args(flags.split_whitespace()));
        let warns = log.contains("WARN") && log.contains("--publish-token has no effect");
        assert_eq!(warns, is_warned_of, "{flags}: {log}");
        assert!(!log.contains("s3cret"), "{log}");
    }
}

#[test]
fn a_wrong_flag_or_value_is_named_and_ends_with_2() {
    for (flags, told) in [
        ("--pong-interval 1s", "--pong-interval"),
        (
            "--ping-interval 10",
            "`10` has no unit; write 10s or 10ms, or off",
        ),
        (
            "--close-timeout 1.5",
            "`1.5` has no unit; write 1.5s or 1.5ms",
        ),
        ("--ping-interval -1s", "`-1s` is no duration; write 20s, "),
        ("--ping-interval=-1s", "`-1s` is no duration; write 20s, "),
        ("--max-connections -5", "`-5` is no count; write 1 to "),
        ("--shards -1", "`-1` is no number of shards; write 1 to "),
        (
            "--max-message-size -1KiB",
            "`-1KiB` is no size; write 65536",
        ),
        ("--drain-code -1001", "`-1001` is no code for a drain"),
        ("--topic-policy -1", "`-1` is no rule"),
        (
            "--ping-interval --ping-timeout 5s",
            "a value is required for '--ping-interval",
        ),
        (
            "--idle-timeout 0",
            "write 20s, 500ms, 1.5s, 2m or 1h, or off",
        ),
        ("--idle-timeout=", "the duration is empty; write 20s, "),
        (
            "--handshake-timeout 1day",
            "`1day` is no duration; write 24h",
        ),
        (
            "--max-lifetime 99999999h",
            "`99999999h` is more than a year; write at most 8760h, or off",
        ),
        ("--ping-interval 1x", "`1x` is no duration"),
        (
            "--ping-interval 1ms",
            "the ping interval is 1ms; least is 8ms",
        ),
        ("--ping-timeout 0s", "the ping timeout is 0s; least is 1ms"),
        ("--close-timeout off", "`off` is no duration"),
        (
            "--close-timeout 0s",
            "the close timeout is 0s; least is 1ms",
        ),
        ("--handshake-timeout 0ms", "the handshake timeout is 0s"),
        ("--idle-timeout 0s", "the idle timeout is 0s"),
        ("--max-lifetime 0s", "the maximum lifetime is 0s"),
        ("--max-lifetime never", "`never` is no duration"),
        (
            "--max-message-size 1MB",
            "`1MB` is no size; write 1MiB or 1000000",
        ),
        (
            "--max-message-size 64k",
            "`64k` is no size; write 64KiB or 64000",
        ),
        (
            "--max-send-queue 1.5MiB",
            "`1.5MiB` is no size; write 1536KiB",
        ),
        (
            "--max-message-size 0",
            "the maximum message size is 0 bytes; least is 1",
        ),
        (
            "--max-message-size 2TB",
            "`2TB` is too large; write at most 1024GiB",
        ),
        (
            "--max-send-queue 0",
            "the maximum send queue is 0 bytes; least is 1",
        ),
        ("--fanout-memory 2048GiB", "write at most 1024GiB"),
        (
            "--fanout-memory 1KiB",
            "the fanout memory is 1KiB; least is 1MiB",
        ),
        ("--fanout-memory 1kib", "write at least 1MiB"),
        (
            "--max-request-size 0",
            "the maximum request size is 0 bytes; 256 to 1MiB",
        ),
        ("--max-request-size 1GiB", "256 to 1MiB are possible"),
        (
            "--max-request-size 1.5MiB",
            "`1.5MiB` is too large; write at most 1MiB",
        ),
        (
            "--max-request-headers 4",
            "headers of a request is 4; 5 to 128",
        ),
        (
            "--max-request-headers 129",
            "headers of a request is 129; 5 to 128",
        ),
        ("--max-request-headers 0", "`0` is no count; write 5 to 128"),
        (
            "--max-connections many",
            "`many` is no count; write 1 to 4294967295, or off",
        ),
        ("--max-connections 0", "`0` is no count"),
        (
            "--max-connections 10k",
            "`10k` is no count; write 10000, or off",
        ),
        ("--drain-batch 1e4", "`1e4` is no count; write 10000"),
        ("--max-connections 4294967296", "`4294967296` is no count"),
        ("--max-connections-per-address 0", "`0` is no count"),
        ("--max-accept-rate 0", "`0` is no count"),
        ("--max-message-rate 0.5", "`0.5` is no count"),
        (
            "--max-connections 1 --shards 2",
            "least is one for each of 2 shards",
        ),
        ("--shards 0", "`0` is no number of shards"),
        ("--shards some", "`some` is no number of shards"),
        (
            "--shards 65536",
            "`65536` is no number of shards; write 1 to 65535, or auto",
        ),
        ("--slow-consumer ignore", "--slow-consumer"),
        (
            "--slow-consumer ignore",
            "close, close-1013, drop-oldest, drop-newest, conflate",
        ),
        (
            "--topic-policy a",
            "`a` is no rule; write a pattern and a policy",
        ),
        (
            "--topic-policy a=ignore",
            "`ignore` is unknown; write close, close-1013, ",
        ),
        ("--topic-policy /a=close", "`/a` is no pattern of topics"),
        ("--topic-policy =conflate", "`` is no pattern of topics"),
        ("--drain-batch 0", "`0` is no count"),
        ("--drain-interval 87600h", "`87600h` is more than a year"),
        (
            "--drain-interval 300ms --close-timeout 500ms",
            "most is half of the close timeout",
        ),
        (
            "--drain-code 1000",
            "`1000` is no code for a drain; write 1001 (going away) or 1012",
        ),
        (
            "--drain-code restart",
            "`restart` is no code for a drain; write 1001",
        ),
        (
            "--ping-timeout 5s --ping-interval off",
            "no ping is ever sent",
        ),
        (
            "--subprotocol a/b",
            "`a/b` is no subprotocol; write a name such as chat.v1",
        ),
        ("--subprotocol a,,b", "there is a comma too many in `a,,b`"),
        ("--subprotocol 'a'", "`'a'` is no subprotocol; the quotes"),
        (
            "--origin https://a.com,",
            "there is a comma too many in `https://a.com,`",
        ),
        ("--origin any,https://a.com", "any allows all"),
        ("--host any,a.com", "any allows all; leave the others out"),
        ("--host ::1", "write [::1]"),
        (
            "--origin https://a.com:99999",
            "`99999` is no port; write one from 1 to 65535",
        ),
        ("--origin localhost:3000", "write http://localhost:3000"),
        ("--compression maybe", "on, off"),
        ("--log-format xml", "--log-format"),
        ("--log-format xml", "text, json"),
        (
            "--origin none",
            "`none` is not an origin; write any for all ",
        ),
        ("--origin self", "`self` is not an origin; write same"),
        ("--host none", "`none` is no name of a host; write any"),
    ] {
        let (flag, value) = flags.split_once([' ', '=']).expect("a flag with a value");
        let is_unknown = flag == "--pong-interval";
        assert_fails(&mut echo(flags), 2, &["error: ", flag, told]);
        // A variable is as good as a flag.
        if !value.contains("--") && !is_unknown {
            let variable = flag.trim_start_matches('-').to_uppercase();
            let variable = format!("TIDEWHEEL_{}", variable.replace('-', "_"));
            let told = ["error: ", flag, &format!("({variable})"), told];
            assert_fails(echo("").env(&variable, value), 2, &told);
        }
    }
    for (flags, told) in [
        (
            "--config /nowhere/at/all.toml",
            "--config: cannot read /nowhere/at/all.toml",
        ),
        ("--port 80", "the port is part of --listen"),
        ("--log-level debug", "TIDEWHEEL_LOG=debug"),
        ("-v", "TIDEWHEEL_LOG=debug"),
        ("unexpected", "unexpected"),
        ("-5", "-5"),
        ("--shards", "--shards"),
    ] {
        assert_fails(&mut echo(flags), 2, &["error: ", told]);
    }
    let told = ["options stand behind serve or echo"];
    assert_fails(tidewheel().args(["--listen", "[::1]:80"]), 2, &told);
    assert_fails(tidewheel().arg("serf"), 2, &["serf"]);
    assert_fails(&mut tidewheel(), 2, &["Usage: tidewheel"]);
}

#[test]
fn a_value_that_can_be_meant_is_taken() {
    for flags in [
        "--compression true",
        "--compression On",
        "--compression false",
        "--ping-interval OFF",
        "--ping-interval off --ping-timeout off",
        "--ping-timeout 5s",
        "--shards Auto",
        "--max-connections 1",
        "--max-connections off",
        "--max-accept-rate 4294967295 --max-message-rate 4294967295",
        "--slow-consumer close-1008",
        "--slow-consumer Conflate --topic-policy a=Close,b/>=drop-newest",
        "--max-message-size 1 --max-send-queue 1",
        "--max-message-size 1024GiB --max-send-queue 1024GiB --fanout-memory 1024GiB --compression on",
        "--max-request-size 256 --max-request-headers 5",
        "--max-request-size 1MiB --max-request-headers 128",
        "--drain-interval 5s",
        "--drain-interval 0s",
        "--close-timeout 1ms",
        "--close-timeout 10ms",
        "--drain-batch 4294967295 --drain-code 1012",
        "--subprotocol chat.v2,chat.v1 --subprotocol mqtt",
        "--max-lifetime 8760h --idle-timeout 8760h --handshake-timeout 8760h",
    ] {
        for mut command in [echo(flags), serve(flags)] {
            let server = Server::spawn(&mut command);
            // The shortest request: five headers.
            let mut client = Client::connect(&server);
            client.send(REQUEST.replace("server.example.com", "a").as_bytes());
            client.accept();
            client.send(&text("x"));
            if !flags.contains("--close-timeout") {
                client.expect(FIN | TEXT, "x");
            }
        }
    }
}

#[test]
fn a_message_that_is_longer_than_the_send_queue_is_sent() {
    for mut command in [echo, serve].map(|it| it("--max-send-queue 1KiB --shards 1")) {
        let server = Server::spawn(&mut command);
        let mut client = Client::open(&server);
        for _ in 0..3 {
            let message = vec![7; 1 << 20];
            client.send(&binary(&message));
            client.expect(FIN | BINARY, message);
        }
    }
}

#[test]
fn an_address_without_a_host_or_a_port_is_told_with_what_to_write() {
    let any =
        |port: u16| format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} to serve other hosts too");
    for (address, told) in [
        ("8080", format!("`8080` has no host; {}", any(8080))),
        (":8080", format!("`:8080` has no host; {}", any(8080))),
        ("", "the address is empty; write 127.0.0.1:".to_owned()),
        (
            "localhost",
            "`localhost` has no port; write localhost:".to_owned(),
        ),
        (
            "127.0.0.1",
            "`127.0.0.1` has no port; write 127.0.0.1:".to_owned(),
        ),
        ("::1", "`::1` has no port; write [::1]:".to_owned()),
        (
            "127.0.0.1:99999",
            "`99999` is no port; write one from 1 to 65535".to_owned(),
        ),
        ("localhost:http", "`http` is no port".to_owned()),
        (
            "ws://localhost:8080/",
            "is a URL; write localhost:8080".to_owned(),
        ),
    ] {
        let told = [told.as_str()];
        for (flag, variable) in [
            ("--listen", "TIDEWHEEL_LISTEN"),
            ("--admin", "TIDEWHEEL_ADMIN"),
        ] {
            for subcommand in ["serve", "echo"] {
                let mut command = tidewheel();
                command.args([subcommand, &format!("{flag}={address}")]);
                assert_fails(&mut command, 2, &told);
                let mut command = tidewheel();
                command.arg(subcommand).env(variable, address);
                assert_fails(&mut command, 2, &[&told[..], &[variable]].concat());
            }
            let key = flag.trim_start_matches('-');
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            write!(file, "{key} = '{address}'").expect("it is writable");
            let path = file.path().to_str().expect("a name in UTF-8");
            let mut command = tidewheel();
            command.args(["serve", "--config", path]);
            let in_file = format!("{path}: {key}: ");
            assert_fails(&mut command, 2, &[&told[..], &[&in_file]].concat());
        }
    }
}

/// The help of a subcommand, without the form of its lines.
fn help(subcommand: &str) -> String {
    let (status, stdout, _) = output(tidewheel().args([subcommand, "--help"]));
    assert_eq!(status, Some(0));
    stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn help_begins_with_what_most_people_need() {
    for subcommand in ["serve", "echo"] {
        let help = help(subcommand);
        let mut at = 0;
        for part in [
            "Usage: ",
            " --listen ",
            " --admin ",
            " --publish-token ",
            " --origin ",
            " --subprotocol ",
            " --config ",
            " Connections: ",
            " --max-connections ",
            " --max-request-size ",
            " --max-request-headers ",
            " Deadlines: ",
            " --ping-interval ",
            " Messages: ",
            " --max-message-size ",
            " Slow clients: ",
            " --max-send-queue ",
            " Shutting down: ",
            " --drain-interval ",
            " Log: ",
            " --log-format ",
            "A DURATION is written as",
        ] {
            let found = help[at..].find(part);
            at += found.unwrap_or_else(|| panic!("{part} comes behind {at} in:\n{help}"));
        }
    }
}

#[test]
fn help_of_a_command_does_not_speak_of_the_other() {
    let serve = help("serve");
    assert!(
        !serve.replace("?echo=false", "").contains("echo"),
        "{serve}"
    );
    assert!(serve.contains("[default: same]"), "{serve}");
    assert!(serve.contains("POST /publish/TOPIC"), "{serve}");
    let echo = help("echo");
    for other in ["tidewheel serve", "`serve`", "for serve", "?echo", "TOPIC "] {
        assert!(!echo.contains(other), "{other} is in:\n{echo}");
    }
    assert!(echo.contains("[default: any]"), "{echo}");
    assert!(echo.contains("POST /publish/all"), "{echo}");
}

#[test]
fn help_names_the_levels_of_the_log() {
    for subcommand in ["serve", "echo"] {
        let help = help(subcommand);
        let levels = "TIDEWHEEL_LOG says how much of it there is: off, error, warn, info (the default), \
                      debug or trace";
        assert!(help.contains(levels), "{help}");
        assert!(help.contains("tidewheel::close=debug"), "{help}");
    }
}

#[test]
fn a_level_of_the_log_that_is_none_ends_with_2() {
    for value in ["verbose", "info,loud", "tidewheel::close=loud", "7", "2"] {
        let mut command = echo("");
        command.env("TIDEWHEEL_LOG", value);
        let told = [
            "TIDEWHEEL_LOG",
            "write off, error, warn, info, debug or trace",
        ];
        assert_fails(&mut command, 2, &told);
    }
    for (value, told) in [
        ("warning", "write warn"),
        ("info,", "a comma too many in `info,`"),
        ("info;tidewheel::close=debug", "commas stand between parts"),
        ("close=debug", "write tidewheel::close=debug"),
        ("warn,error", "two levels"),
    ] {
        let told = ["TIDEWHEEL_LOG", told];
        assert_fails(echo("").env("TIDEWHEEL_LOG", value), 2, &told);
    }
    for value in ["tidewheel::clsoe=debug", "tidewheell=debug"] {
        let (part, _) = value.split_once('=').expect("a part and a level");
        let told = ["TIDEWHEEL_LOG", &format!("`{part}` is no part"), "close"];
        assert_fails(echo("").env("TIDEWHEEL_LOG", value), 2, &told);
    }
    for (value, is_logged) in [
        ("", true),
        ("info", true),
        ("DEBUG", true),
        ("tidewheel=info", true),
        ("warn", false),
        ("off", false),
    ] {
        let server = Server::spawn(echo("").env("TIDEWHEEL_LOG", value));
        server.signal(Signal::TERM);
        let (status, log) = server.wait(ms(5000));
        assert_eq!(status.code(), Some(0));
        assert_eq!(log.contains("draining"), is_logged, "{value}: {log}");
    }
}

#[test]
fn variables_that_no_option_has_are_warned_of_in_one_line() {
    for mut command in [echo(""), serve("")] {
        command.env("TIDEWHEEL_PING_INTERVALL", "1s");
        command.env("TIDEWHEEL_PORT", "tcp://10.0.0.1:80");
        command.env("TIDEWHEEL_LOG_FORMAT", "text");
        let server = Server::spawn(&mut command);
        server.signal(Signal::TERM);
        let (status, log) = server.wait(ms(5000));
        assert_eq!(status.code(), Some(0));
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
        let told =
            "TIDEWHEEL_PING_INTERVALL (did you mean TIDEWHEEL_PING_INTERVAL?), TIDEWHEEL_PORT";
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].ends_with(told), "{log}");
    }
}

/// The head of the answer to a request with these further headers.
fn answer(server: &Server, headers: &str) -> String {
    let mut client = Client::connect(server);
    let end = "Sec-WebSocket-Version: 13\r\n";
    client.send(REQUEST.replace(end, &format!("{end}{headers}")).as_bytes());
    client.head()
}

#[test]
fn the_first_subprotocol_that_the_client_offers_is_chosen() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "subprotocol = ['chat.v2', 'chat.v1']").expect("it is writable");
    let in_file = format!("--config {}", file.path().display());
    for flags in [
        "--subprotocol chat.v2,chat.v1",
        "--subprotocol chat.v2 --subprotocol chat.v1",
        &in_file,
    ] {
        for mut command in [echo(flags), serve(flags)] {
            let server = Server::spawn(&mut command);
            for (offered, chosen) in [
                ("", None),
                ("Sec-WebSocket-Protocol: chat.v1\r\n", Some("chat.v1")),
                ("Sec-WebSocket-Protocol: chat.v2\r\n", Some("chat.v2")),
                ("Sec-WebSocket-Protocol: mqtt\r\n", None),
                ("Sec-WebSocket-Protocol: CHAT.V1\r\n", None),
                (
                    "Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n",
                    Some("chat.v2"),
                ),
                (
                    "Sec-WebSocket-Protocol: mqtt,chat.v1, soap\r\n",
                    Some("chat.v1"),
                ),
                (
                    "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: chat.v1\r\n",
                    Some("chat.v1"),
                ),
            ] {
                let head = answer(&server, offered).to_ascii_lowercase();
                assert!(head.starts_with("http/1.1 101 "), "{offered}: {head}");
                let name = "sec-websocket-protocol: ";
                let told: Vec<&str> = head
                    .lines()
                    .filter_map(|it| it.strip_prefix(name))
                    .collect();
                assert_eq!(told, Vec::from_iter(chosen), "{flags}, {offered}");
            }
        }
    }
    // Without the flag none is chosen.
    for mut command in [echo(""), serve("")] {
        let server = Server::spawn(&mut command);
        let head = answer(&server, "Sec-WebSocket-Protocol: chat.v1\r\n").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
    }
}

#[test]
fn requests_are_as_long_and_have_as_many_headers_as_is_asked_for() {
    let padding = |bytes: usize| format!("X-Padding: {}\r\n", "x".repeat(bytes - 13));
    let with_headers = |count: usize| "X-A: b\r\n".repeat(count - 5);
    let limit = 512;
    let room = limit - REQUEST.len();
    for mut command in [echo, serve].map(|it| it("--max-request-size 512 --max-request-headers 7"))
    {
        let server = Server::spawn(&mut command);
        for (headers, status) in [
            (padding(room), 101),
            (padding(room + 1), 431),
            (with_headers(7), 101),
            (with_headers(8), 431),
        ] {
            let head = answer(&server, &headers);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        }
    }
    let server = Server::start("--max-request-size 64KiB --max-request-headers 128");
    for (headers, status) in [
        (with_headers(128), 101),
        (padding(60_000), 101),
        (with_headers(129), 431),
    ] {
        let head = answer(&server, &headers);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}

#[test]
fn echo_of_a_query_is_true_or_false_in_any_case() {
    let server = Server::spawn(&mut serve("--shards 1"));
    for (query, status) in [
        ("", 101),
        ("?echo=true", 101),
        ("?echo=True", 101),
        ("?echo=false", 101),
        ("?echo=False", 101),
        ("?a=b&echo=FALSE", 101),
        ("?echo=%66alse", 101),
        ("?Echoes=false&e=1", 101),
        ("?echo=no", 400),
        ("?echo=", 400),
        ("?echo", 400),
        ("?Echo=false", 400),
        ("?a=b&%45cho=false", 400),
        ("?echo=true&echo=true", 400),
    ] {
        let mut client = Client::connect(&server);
        client.send(
            REQUEST
                .replace("/chat", &format!("/chat{query}"))
                .as_bytes(),
        );
        let head = client.head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{query}: {head}"
        );
        if status == 101 {
            client.send(&text(query));
            // What another client says comes next where the client's own message does not come.
            let mut other = Client::open(&server);
            let own = ["?echo=%66alse", "echo=false"];
            if !own.iter().any(|it| query.to_ascii_lowercase().contains(it)) {
                client.expect(FIN | TEXT, query);
            }
            other.send(&text("other"));
            client.expect(FIN | TEXT, "other");
        }
    }
}

#[test]
fn all_refusals_are_told_when_the_server_has_ended() {
    let server = Server::spawn(&mut serve("--shards 1 --origin https://a.example"));
    for _ in 0..3 {
        let head = answer(&server, "Origin: https://b.example\r\n");
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    server.signal(Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    let lines = log.matches("a page was refused").count();
    let others = log.split("others=").skip(1).map(|it| {
        let digits = it.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|it| it.parse::<usize>().ok())
    });
    let others: Option<usize> = others.sum();
    assert_eq!(others.map(|it| it + lines), Some(3), "{log}");
}

#[test]
fn help_and_version_are_no_errors() {
    let (status, stdout, _) = output(tidewheel().args(["echo", "--help"]));
    assert_eq!(status, Some(0));
    for flag in ["--listen", "--ping-interval", "--admin", "TIDEWHEEL_LISTEN"] {
        assert!(stdout.contains(flag), "{flag} is in:\n{stdout}");
    }
    let (status, stdout, _) = output(tidewheel().arg("--version"));
    assert_eq!(status, Some(0));
    assert_eq!(stdout, format!("tidewheel {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_port_that_is_taken_is_told_and_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let told = [
        "cannot listen on",
        &address,
        "the port is taken",
        "ss -ltnp",
    ];
    assert_fails(tidewheel().args(["echo", "--listen", &address]), 1, &told);
    let mut admin = tidewheel();
    admin.args(["echo", "--listen", "127.0.0.1:0", "--admin", &address]);
    assert_fails(&mut admin, 1, &told);
    // Neither may a server take the port of another one.
    let server = Server::start("--shards 2");
    let address = server.address.to_string();
    assert_fails(
        tidewheel().args(["echo", "--listen", &address]),
        1,
        &["the port is taken"],
    );
}

#[test]
fn an_address_that_cannot_be_listened_on_is_told_with_its_option_and_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    // TEST-NET-1 and the documentation prefix (RFC 5737, RFC 3849) are on no host.
    for (address, told) in [
        (taken.as_str(), "the port is taken; write another"),
        ("no.such.host.invalid:80", "0.0.0.0:PORT for all of its own"),
        ("192.0.2.1:8080", "or 0.0.0.0:8080 for all of its own"),
        ("[2001:db8::1]:8080", "or [::]:8080 for all of its own"),
    ] {
        for (option, variable) in [("listen", "TIDEWHEEL_LISTEN"), ("admin", "TIDEWHEEL_ADMIN")] {
            let other = match option {
                "listen" => "--admin=127.0.0.1:0",
                _ => "--listen=127.0.0.1:0",
            };
            let flag = format!("--{option}");
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            write!(file, "{option} = '{address}'").expect("it is writable");
            let path = file.path().to_str().expect("a name in UTF-8");
            let mut by_flag = tidewheel();
            by_flag.args(["echo", other, &flag, address]);
            let mut by_variable = tidewheel();
            by_variable.args(["serve", other]).env(variable, address);
            let mut by_file = tidewheel();
            by_file.args(["serve", other, "--config", path]);
            for (command, place) in [
                (&mut by_flag, flag.clone()),
                (&mut by_variable, format!("{flag} ({variable})")),
                (&mut by_file, format!("{path}: {option}")),
            ] {
                let place = format!("error: {place}: cannot ");
                assert_fails(command, 1, &[&place, address, told]);
            }
        }
    }
}

/// The limit of a message, as a client finds it.
fn message_limit_is(command: &mut Command, limit: usize) {
    let server = Server::spawn(command);
    let mut client = Client::open(&server);
    client.send(&binary(&vec![0; limit]));
    client.expect(FIN | BINARY, vec![0; limit]);
    client.send(&binary(&vec![0; limit + 1]));
    assert_eq!(client.frame().close_code(), 1009);
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "max-message-size = '1KiB'\nshards = 1").expect("it is writable");
    let path = file.path().to_str().expect("a name in UTF-8");
    let with_file = format!("--config {path}");
    let variable = "TIDEWHEEL_MAX_MESSAGE_SIZE";

    message_limit_is(&mut echo(&with_file), 1024);
    message_limit_is(echo(&with_file).env(variable, "2KiB"), 2048);
    let with_flag = format!("{with_file} --max-message-size 3KiB");
    message_limit_is(echo(&with_flag).env(variable, "2KiB"), 3072);
    message_limit_is(echo("").env("TIDEWHEEL_CONFIG", path), 1024);
}

#[test]
fn a_file_with_an_unknown_entry_or_a_wrong_value_ends_with_2() {
    for (text, told) in [
        ("pong-interval = '1s'", "did you mean ping-interval?"),
        ("ping-interval = '1x'", "`1x` is no duration"),
        ("ping-interval", "is wrong"),
        (
            "ping-interval = 15",
            "ping-interval: `15` has no unit; write 15s or 15ms",
        ),
        (
            "listen = 8080",
            "listen: `8080` has no host; write 127.0.0.1:8080",
        ),
        ("listen = 127.0.0.1:8080", "listen = \"127.0.0.1:8080\""),
        (
            "max-message-size = 0",
            "max-message-size: the maximum message size is 0",
        ),
    ] {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("it is writable");
        let path = file.path().to_str().expect("a name in UTF-8");
        assert_fails(&mut echo(&format!("--config {path}")), 2, &[path, told]);
    }
    let wrong = &mut echo("");
    wrong.env("TIDEWHEEL_PING_INTERVAL", "soon");
    let told = [
        "`soon` is no duration",
        "--ping-interval",
        "TIDEWHEEL_PING_INTERVAL",
    ];
    assert_fails(wrong, 2, &told);
    // A flag comes before the variable, so that the flag's value is wrong.
    let wrong = &mut echo("--ping-interval never");
    wrong.env("TIDEWHEEL_PING_INTERVAL", "1s");
    let (_, _, stderr) = output(wrong);
    assert!(!stderr.contains("TIDEWHEEL_PING_INTERVAL"), "{stderr}");
}

#[test]
fn check_tells_what_this_host_allows() {
    let (status, stdout, stderr) = output(tidewheel().arg("check"));
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    for line in [
        "kernel",
        "io_uring        allowed",
        "cores",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
    ] {
        assert!(stdout.contains(line), "{line} is in:\n{stdout}");
    }
    let verdict = stdout.lines().last().expect("there are lines");
    // Advice has lines of its own, which begin with spaces.
    let advised = stdout.lines().filter(|line| line.starts_with(' ')).count();
    let told = match advised {
        0 => "Nothing stands in the way".to_owned(),
        1 => "advice on 1 point.".to_owned(),
        more => format!("advice on {more} points."),
    };
    assert!(verdict.contains(&told), "{told} is in:\n{stdout}");
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let server = Server::start("--log-format json");
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("draining"));
    for line in log.lines() {
        let is_object = line.starts_with("{\"timestamp\":\"") && line.ends_with('}');
        assert!(is_object, "a JSON object, not {line}");
    }
}

/// Makes `command` start with a limit of its own, soft and hard.
fn with_limit(command: &mut Command, resource: libc::__rlimit_resource_t, limit: u64) {
    let limit = libc::rlimit {
        rlim_cur: limit,
        rlim_max: limit,
    };
    // SAFETY: setrlimit(2) is async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[test]
fn too_few_descriptors_for_a_server_are_told_by_check_too() {
    let mut command = echo("");
    with_limit(&mut command, libc::RLIMIT_NOFILE, 16);
    assert_fails(&mut command, 1, &["RLIMIT_NOFILE is 16"]);
    let mut check = tidewheel();
    check.arg("check");
    with_limit(&mut check, libc::RLIMIT_NOFILE, 16);
    let (status, stdout, _) = output(&mut check);
    assert_eq!(status, Some(1), "{stdout}");
    let verdict = stdout.lines().last().expect("there are lines");
    assert!(
        verdict.starts_with("A server cannot run here: "),
        "{stdout}"
    );
    assert!(verdict.contains("RLIMIT_NOFILE is 16"), "{stdout}");
}

#[test]
fn few_descriptors_mean_few_connections_and_a_warning_with_their_number() {
    let mut command = echo("--shards 1 --max-connections 5000");
    with_limit(&mut command, libc::RLIMIT_NOFILE, 64);
    let server = Server::spawn(&mut command);
    let mut clients = Client::open_many(&server, 56);
    for client in &mut clients {
        client.send(&text("there is room"));
        client.expect(FIN | 1, "there is room");
    }
    // The other places are for those who are told that there is none.
    let mut late: Vec<_> = (0..8).map(|_| Client::connect(&server)).collect();
    for client in &mut late {
        client.send(REQUEST.as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    }
    // And who comes when those are taken, too, waits until one is free.
    let mut last = Client::connect(&server);
    last.send(REQUEST.as_bytes());
    assert_eq!(server.connections(), 64);
    drop(clients.pop());
    last.accept();
    server.signal(Signal::TERM);
    drop((clients, late, last));
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0), "{log}");
    for told in [
        "WARN",
        "RLIMIT_NOFILE is 64",
        "room for 56 in all",
        "ulimit -n 5312",
    ] {
        assert!(log.contains(told), "`{told}` is told in:\n{log}");
    }
}

/// Makes io_uring_setup(2) say `errno` to `command`, as a container's profile does.
fn without_io_uring(command: &mut Command, errno: i32) {
    const LOAD_NUMBER: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let program = [
        // The system call's number is the first field of `seccomp_data`.
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: prctl(2) is async-signal-safe; the program lives in the closure.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog {
                len: program.len() as u16,
                filter: program.as_ptr().cast_mut(),
            };
            let mode = libc::SECCOMP_MODE_FILTER;
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) == 0;
            if done {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}

#[test]
fn io_uring_that_a_filter_forbids_is_told_with_what_allows_it() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let told = [
            "io_uring is forbidden here",
            "seccomp",
            "seccomp=unconfined",
        ];
        let mut command = echo("");
        without_io_uring(&mut command, errno);
        assert_fails(&mut command, 1, &told);
        let mut check = tidewheel();
        check.arg("check");
        without_io_uring(&mut check, errno);
        let (status, stdout, _) = output(&mut check);
        assert_eq!(status, Some(1), "{stdout}");
        assert!(stdout.contains("io_uring        not usable"), "{stdout}");
        assert!(stdout.contains("seccomp=unconfined"), "{stdout}");
        let verdict = stdout.lines().last().expect("there are lines");
        assert!(verdict.starts_with("A server cannot run here"), "{stdout}");
    }
}

/// Makes `command` start with so much lockable memory, and no privilege to exceed that.
fn with_locked_memory(command: &mut Command, limit: u64) {
    with_limit(command, libc::RLIMIT_MEMLOCK, limit);
    const CAP_IPC_LOCK: libc::c_ulong = 14;
    // SAFETY: prctl(2) is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            // Who may not drop it does not have it: exec gives what is in the bounding set to
            // root alone.
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
            Ok(())
        });
    }
}

#[test]
fn little_lockable_memory_means_smaller_rings_and_too_little_a_clear_error() {
    // In this order: what a server held is given back only some time after its end.
    for limit in [0, 4 << 10] {
        let mut command = echo("--shards 1");
        with_locked_memory(&mut command, limit);
        let told = [
            "no memory for the ring",
            &format!("RLIMIT_MEMLOCK is {limit}"),
            "ulimit -l",
        ];
        assert_fails(&mut command, 1, &told);
    }
    let mut command = echo("--shards 1");
    with_locked_memory(&mut command, 128 << 10);
    let server = Server::spawn(&mut command);
    let mut client = Client::open(&server);
    client.send(&text("it serves"));
    client.expect(FIN | 1, "it serves");
    drop(client);
    server.signal(Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    for told in [
        "WARN",
        "RLIMIT_MEMLOCK is too low",
        "trying with half",
        "ulimit -l",
    ] {
        assert!(log.contains(told), "`{told}` is told in:\n{log}");
    }
}
