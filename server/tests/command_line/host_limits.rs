//! Limits of the host: reports of `check`, errors and warnings of a server.

use std::{os::unix::process::CommandExt as _, process::Command};

use rustix::process::Signal;

use crate::{
    assert_fails, output,
    support::{
        client::{Client, FIN, REQUEST, text},
        ms,
        process::{Server, echo, tidewheel},
    },
};

#[test]
fn check_reports_the_limits_of_the_host() {
    let (status, stdout, stderr) = output(tidewheel().arg("check"));
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    for line in [
        "kernel",
        "io_uring        allowed",
        "cores",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
    ] {
        assert!(stdout.contains(line), "{line} is not in:\n{stdout}");
    }
    let verdict = stdout.lines().last().expect("a last line");
    // Lines of advice begin with spaces.
    let advised = stdout.lines().filter(|line| line.starts_with(' ')).count();
    let expected = match advised {
        0 => "no limit is low".to_owned(),
        1 => "advice on 1 limit.".to_owned(),
        more => format!("advice on {more} limits."),
    };
    assert!(
        verdict.contains(&expected),
        "{expected} is not in:\n{stdout}"
    );
}

/// Sets a soft and a hard limit of the process that `command` starts.
fn set_limit(command: &mut Command, resource: libc::__rlimit_resource_t, limit: u64) {
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
fn too_few_descriptors_are_an_error_of_the_server_and_of_check() {
    let mut command = echo("");
    set_limit(&mut command, libc::RLIMIT_NOFILE, 16);
    assert_fails(&mut command, 1, &["RLIMIT_NOFILE is 16"]);
    let mut check = tidewheel();
    check.arg("check");
    set_limit(&mut check, libc::RLIMIT_NOFILE, 16);
    let (status, stdout, _) = output(&mut check);
    assert_eq!(status, Some(1), "{stdout}");
    let verdict = stdout.lines().last().expect("a last line");
    assert!(
        verdict.starts_with("A server cannot run here: "),
        "{stdout}"
    );
    assert!(verdict.contains("RLIMIT_NOFILE is 16"), "{stdout}");
}

#[test]
fn a_low_descriptor_limit_lowers_max_connections_and_logs_a_warning() {
    let mut command = echo("--shards 1 --max-connections 5000");
    set_limit(&mut command, libc::RLIMIT_NOFILE, 64);
    let server = Server::spawn(&mut command);
    let mut clients = Client::open_many(&server, 56);
    for client in &mut clients {
        client.send(&text("accepted"));
        client.expect(FIN | 1, "accepted");
    }
    // Eight slots are reserved for connections that get 503.
    let mut late: Vec<_> = (0..8).map(|_| Client::connect(&server)).collect();
    for client in &mut late {
        client.send(REQUEST.as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    }
    // Further connections wait until a slot is free.
    let mut last = Client::connect(&server);
    last.send(REQUEST.as_bytes());
    assert_eq!(server.connections(), 64);
    drop(clients.pop());
    last.accept();
    server.signal(Signal::TERM);
    drop((clients, late, last));
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0), "{log}");
    for part in [
        "WARN",
        "RLIMIT_NOFILE is 64",
        "limits the connections to 56",
        "ulimit -n 5312",
    ] {
        assert!(log.contains(part), "`{part}` is not in:\n{log}");
    }
}

/// Makes io_uring_setup(2) fail with `errno` in the process that `command` starts, as a container's seccomp
/// profile does.
fn forbid_io_uring(command: &mut Command, errno: i32) {
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
        // The number of the system call is the first field of `seccomp_data`.
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: prctl(2) is async-signal-safe; the closure owns the filter's program.
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
fn io_uring_forbidden_by_seccomp_is_an_error_with_the_fix() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let parts = [
            "io_uring is forbidden here",
            "seccomp",
            "seccomp=unconfined",
        ];
        let mut command = echo("");
        forbid_io_uring(&mut command, errno);
        assert_fails(&mut command, 1, &parts);
        let mut check = tidewheel();
        check.arg("check");
        forbid_io_uring(&mut check, errno);
        let (status, stdout, _) = output(&mut check);
        assert_eq!(status, Some(1), "{stdout}");
        assert!(stdout.contains("io_uring        not usable"), "{stdout}");
        assert!(stdout.contains("seccomp=unconfined"), "{stdout}");
        let verdict = stdout.lines().last().expect("a last line");
        assert!(verdict.starts_with("A server cannot run here"), "{stdout}");
    }
}

/// Limits the lockable memory, in bytes, of the process that `command` starts.
fn set_locked_memory(command: &mut Command, limit: u64) {
    set_limit(command, libc::RLIMIT_MEMLOCK, limit);
    const CAP_IPC_LOCK: libc::c_ulong = 14;
    // SAFETY: prctl(2) is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            // Without this capability, root has to keep to the limit as well. A process that may not drop
            // it does not have it.
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
            Ok(())
        });
    }
}

#[test]
fn little_lockable_memory_shrinks_the_rings_and_too_little_is_an_error() {
    // The failing limits come first: the kernel frees a server's rings some time after its end.
    for limit in [0, 4 << 10] {
        let mut command = echo("--shards 1");
        set_locked_memory(&mut command, limit);
        let parts = [
            "no memory for the ring",
            &format!("RLIMIT_MEMLOCK is {limit}"),
            "ulimit -l",
        ];
        assert_fails(&mut command, 1, &parts);
    }
    let mut command = echo("--shards 1");
    set_locked_memory(&mut command, 128 << 10);
    let server = Server::spawn(&mut command);
    let mut client = Client::open(&server);
    client.send(&text("accepted"));
    client.expect(FIN | 1, "accepted");
    drop(client);
    server.signal(Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    for part in [
        "WARN",
        "RLIMIT_MEMLOCK is too low",
        "trying with half",
        "ulimit -l",
    ] {
        assert!(log.contains(part), "`{part}` is not in:\n{log}");
    }
}
