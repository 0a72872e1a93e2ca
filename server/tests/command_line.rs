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
    client::{BINARY, Client, FIN, REQUEST, binary, text},
    ms,
    process::{Server, echo, tidewheel},
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
fn a_wrong_flag_or_value_is_named_and_ends_with_2() {
    for (flags, told) in [
        ("--pong-interval 1s", "--pong-interval"),
        ("--ping-interval 10", "`10` is no duration"),
        ("--ping-interval -1s", "-1"),
        ("--ping-interval 1x", "`1x` is no duration"),
        ("--ping-interval 1ms", "least is 8ms"),
        ("--ping-timeout 0s", "ping timeout is 0"),
        ("--close-timeout off", "`off` is no duration"),
        ("--close-timeout 0s", "close timeout is 0"),
        ("--handshake-timeout 0ms", "handshake timeout is 0"),
        ("--idle-timeout 0s", "idle timeout is 0"),
        ("--max-lifetime never", "`never` is no duration"),
        ("--max-message-size 1MB", "`1MB` is no size"),
        ("--max-message-size 99999999999GiB", "is no size"),
        ("--max-send-queue 0", "send queue is 0"),
        ("--max-connections many", "--max-connections"),
        (
            "--max-connections 1 --shards 2",
            "least is one for each of 2 shards",
        ),
        ("--shards 0", "`0` is no number of shards"),
        ("--shards some", "`some` is no number of shards"),
        ("--slow-consumer ignore", "--slow-consumer"),
        ("--log-format xml", "--log-format"),
        ("--config /nowhere/at/all.toml", "/nowhere/at/all.toml"),
        ("unexpected", "unexpected"),
    ] {
        assert_fails(&mut echo(flags), 2, &["error: ", told]);
    }
    assert_fails(tidewheel().arg("serf"), 2, &["serf"]);
    assert_fails(&mut tidewheel(), 2, &["Usage: tidewheel"]);
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
            assert!(stderr.contains("--publish-token: "), "{stderr}");
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
fn an_address_that_is_none_is_told() {
    for address in ["127.0.0.1", "127.0.0.1:99999", "no.such.host.invalid:80"] {
        let mut command = tidewheel();
        command.args(["echo", "--listen", address]);
        assert_fails(&mut command, 1, &[&format!("cannot resolve {address}")]);
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
        ("pong-interval = '1s'", "unknown field `pong-interval`"),
        ("ping-interval = '1x'", "`1x` is no duration"),
        ("ping-interval", "is wrong"),
    ] {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("it is writable");
        let path = file.path().to_str().expect("a name in UTF-8");
        assert_fails(&mut echo(&format!("--config {path}")), 2, &[path, told]);
    }
    let wrong = &mut echo("");
    wrong.env("TIDEWHEEL_PING_INTERVAL", "soon");
    assert_fails(wrong, 2, &["`soon` is no duration", "--ping-interval"]);
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
