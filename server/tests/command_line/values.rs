//! Values of options.

use crate::{
    assert_fails,
    support::{
        client::{Client, FIN, REQUEST, TEXT, text},
        process::{Server, echo, serve, tidewheel},
    },
};

/// Flags with an invalid value, each with a part of the error.
const INVALID_VALUES: &[(&str, &str)] = &[
    ("--pong-interval 1s", "--pong-interval"),
    (
        "--ping-interval 10",
        "`10` has no unit; write 10s or 10ms, or off",
    ),
    (
        "--close-timeout 1.5",
        "`1.5` has no unit; write 1.5s or 1.5ms",
    ),
    (
        "--ping-interval -1s",
        "`-1s` is not a duration; write 20s, ",
    ),
    (
        "--ping-interval=-1s",
        "`-1s` is not a duration; write 20s, ",
    ),
    ("--max-connections -5", "`-5` is not a count; write 1 to "),
    ("--shards -1", "`-1` is not a number of shards; write 1 to "),
    (
        "--max-message-size -1KiB",
        "`-1KiB` is not a size; write 65536",
    ),
    ("--drain-code -1001", "`-1001` is not a drain code"),
    ("--topic-policy -1", "`-1` is not a topic policy"),
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
        "`1day` is not a duration; write 24h",
    ),
    (
        "--max-lifetime 99999999h",
        "`99999999h` is more than a year; write at most 8760h, or off",
    ),
    ("--ping-interval 1x", "`1x` is not a duration"),
    (
        "--ping-interval 1ms",
        "the ping interval is 1ms; the minimum is 8ms",
    ),
    (
        "--ping-timeout 0s",
        "the ping timeout is 0s; the minimum is 1ms",
    ),
    ("--close-timeout off", "`off` is not a duration"),
    (
        "--close-timeout 0s",
        "the close timeout is 0s; the minimum is 1ms",
    ),
    ("--handshake-timeout 0ms", "the handshake timeout is 0s"),
    ("--idle-timeout 0s", "the idle timeout is 0s"),
    ("--max-lifetime 0s", "the maximum lifetime is 0s"),
    ("--max-lifetime never", "`never` is not a duration"),
    (
        "--max-message-size 1MB",
        "`1MB` is not a size; write 1MiB or 1000000",
    ),
    (
        "--max-message-size 64k",
        "`64k` is not a size; write 64KiB or 64000",
    ),
    (
        "--max-send-queue 1.5MiB",
        "`1.5MiB` is not a size; write 1536KiB",
    ),
    (
        "--max-message-size 0",
        "the maximum message size is 0 bytes; the minimum is 1",
    ),
    (
        "--max-message-size 2TB",
        "`2TB` is too large; write at most 1024GiB",
    ),
    (
        "--max-send-queue 0",
        "the maximum send queue is 0 bytes; the minimum is 1",
    ),
    ("--fanout-memory 2048GiB", "write at most 1024GiB"),
    (
        "--fanout-memory 1KiB",
        "the fanout memory is 1KiB; the minimum is 1MiB",
    ),
    ("--fanout-memory 1kib", "write at least 1MiB"),
    (
        "--max-request-size 0",
        "the maximum request size is 0 bytes; the range is 256 to 1MiB",
    ),
    ("--max-request-size 1GiB", "the range is 256 to 1MiB"),
    (
        "--max-request-size 1.5MiB",
        "`1.5MiB` is too large; write at most 1MiB",
    ),
    (
        "--max-request-headers 4",
        "request headers is 4; the range is 5 to 128",
    ),
    (
        "--max-request-headers 129",
        "request headers is 129; the range is 5 to 128",
    ),
    (
        "--max-request-headers 0",
        "`0` is not a count; write 5 to 128",
    ),
    (
        "--max-connections many",
        "`many` is not a count; write 1 to 4294967295, or off",
    ),
    ("--max-connections 0", "`0` is not a count"),
    (
        "--max-connections 10k",
        "`10k` is not a count; write 10000, or off",
    ),
    ("--drain-batch 1e4", "`1e4` is not a count; write 10000"),
    (
        "--max-connections 4294967296",
        "`4294967296` is not a count",
    ),
    ("--max-connections-per-address 0", "`0` is not a count"),
    ("--max-accept-rate 0", "`0` is not a count"),
    ("--max-message-rate 0.5", "`0.5` is not a count"),
    (
        "--max-connections 1 --shards 2",
        "the minimum is one for each of 2 shards",
    ),
    ("--shards 0", "`0` is not a number of shards"),
    ("--shards some", "`some` is not a number of shards"),
    (
        "--shards 65536",
        "`65536` is not a number of shards; write 1 to 65535, or auto",
    ),
    ("--slow-consumer ignore", "--slow-consumer"),
    (
        "--slow-consumer ignore",
        "close, close-1013, drop-oldest, drop-newest, conflate",
    ),
    (
        "--topic-policy a",
        "`a` is not a topic policy; write a pattern and a policy",
    ),
    (
        "--topic-policy a=ignore",
        "`ignore` is unknown; write close, close-1013, ",
    ),
    ("--topic-policy /a=close", "`/a` is not a topic pattern"),
    ("--topic-policy =conflate", "`` is not a topic pattern"),
    ("--drain-batch 0", "`0` is not a count"),
    ("--drain-interval 87600h", "`87600h` is more than a year"),
    (
        "--drain-interval 300ms --close-timeout 500ms",
        "the maximum is half of the close timeout",
    ),
    (
        "--drain-code 1000",
        "`1000` is not a drain code; write 1001 (going away) or 1012",
    ),
    (
        "--drain-code restart",
        "`restart` is not a drain code; write 1001",
    ),
    ("--ping-timeout 5s --ping-interval off", "no ping is sent"),
    (
        "--subprotocol a/b",
        "`a/b` is not a subprotocol; write a name such as chat.v1",
    ),
    ("--subprotocol a,,b", "there is an extra comma in `a,,b`"),
    (
        "--subprotocol 'a'",
        "`'a'` is not a subprotocol; the value has quotes in it",
    ),
    (
        "--origin https://a.com,",
        "there is an extra comma in `https://a.com,`",
    ),
    (
        "--origin any,https://a.com",
        "any includes every other value",
    ),
    (
        "--host any,a.com",
        "any includes every other value; leave the others out",
    ),
    ("--host ::1", "write [::1]"),
    (
        "--origin https://a.com:99999",
        "`99999` is not a port; write one from 1 to 65535",
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
    ("--host none", "`none` is not a host name; write any"),
];

/// Arguments that are invalid themselves, each with a part of the error.
const INVALID_ARGUMENTS: &[(&str, &str)] = &[
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
];

#[test]
fn an_invalid_flag_or_value_is_named_in_the_error_with_status_2() {
    for &(flags, part) in INVALID_VALUES {
        let (flag, value) = flags.split_once([' ', '=']).expect("a flag with a value");
        let is_unknown = flag == "--pong-interval";
        assert_fails(&mut echo(flags), 2, &["error: ", flag, part]);
        // The same value in a variable is the same error.
        if !value.contains("--") && !is_unknown {
            let variable = flag.trim_start_matches('-').to_uppercase();
            let variable = format!("TIDEWHEEL_{}", variable.replace('-', "_"));
            let parts = ["error: ", flag, &format!("({variable})"), part];
            assert_fails(echo("").env(&variable, value), 2, &parts);
        }
    }
    for &(flags, part) in INVALID_ARGUMENTS {
        assert_fails(&mut echo(flags), 2, &["error: ", part]);
    }
    let parts = ["options come after serve or echo"];
    assert_fails(tidewheel().args(["--listen", "[::1]:80"]), 2, &parts);
    assert_fails(tidewheel().arg("serf"), 2, &["serf"]);
    assert_fails(&mut tidewheel(), 2, &["Usage: tidewheel"]);
}

#[test]
fn every_valid_form_of_a_value_is_accepted() {
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
            // The shortest request has five headers.
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
