//! `--listen` and `--admin`.

use crate::{
    assert_fails, config_file,
    support::process::{Server, tidewheel},
};

#[test]
fn an_address_without_a_host_or_a_port_is_an_error_with_an_example() {
    let any = |port: u16| {
        format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} to accept clients from other hosts")
    };
    for (address, part) in [
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
            "`99999` is not a port; write one from 1 to 65535".to_owned(),
        ),
        ("localhost:http", "`http` is not a port".to_owned()),
        (
            "ws://localhost:8080/",
            "is a URL; write localhost:8080".to_owned(),
        ),
    ] {
        let parts = [part.as_str()];
        for (flag, variable) in [
            ("--listen", "TIDEWHEEL_LISTEN"),
            ("--admin", "TIDEWHEEL_ADMIN"),
        ] {
            for subcommand in ["serve", "echo"] {
                let mut command = tidewheel();
                command.args([subcommand, &format!("{flag}={address}")]);
                assert_fails(&mut command, 2, &parts);
                let mut command = tidewheel();
                command.arg(subcommand).env(variable, address);
                assert_fails(&mut command, 2, &[&parts[..], &[variable]].concat());
            }
            let key = flag.trim_start_matches('-');
            let file = config_file(&format!("{key} = '{address}'"));
            let path = file.path().to_str().expect("a name in UTF-8");
            let mut command = tidewheel();
            command.args(["serve", "--config", path]);
            let in_file = format!("{path}: {key}: ");
            assert_fails(&mut command, 2, &[&parts[..], &[&in_file]].concat());
        }
    }
}

#[test]
fn a_port_in_use_is_an_error_with_status_1() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other
        .local_addr()
        .expect("the listener is bound")
        .to_string();
    let parts = [
        "cannot listen on",
        &address,
        "the port is taken",
        "ss -ltnp",
    ];
    assert_fails(tidewheel().args(["echo", "--listen", &address]), 1, &parts);
    let mut admin = tidewheel();
    admin.args(["echo", "--listen", "127.0.0.1:0", "--admin", &address]);
    assert_fails(&mut admin, 1, &parts);
    // The port of another server is in use as well.
    let server = Server::start("--shards 2");
    let address = server.address.to_string();
    assert_fails(
        tidewheel().args(["echo", "--listen", &address]),
        1,
        &["the port is taken"],
    );
}

#[test]
fn an_address_that_cannot_be_bound_is_an_error_that_names_its_option() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other
        .local_addr()
        .expect("the listener is bound")
        .to_string();
    // No host has an address of TEST-NET-1 (RFC 5737) or of the documentation prefix (RFC 3849).
    for (address, part) in [
        (taken.as_str(), "the port is taken; write another"),
        (
            "no.such.host.invalid:80",
            "0.0.0.0:PORT for all its addresses",
        ),
        ("192.0.2.1:8080", "or 0.0.0.0:8080 for all its addresses"),
        ("[2001:db8::1]:8080", "or [::]:8080 for all its addresses"),
    ] {
        for (option, variable) in [("listen", "TIDEWHEEL_LISTEN"), ("admin", "TIDEWHEEL_ADMIN")] {
            let other = match option {
                "listen" => "--admin=127.0.0.1:0",
                _ => "--listen=127.0.0.1:0",
            };
            let flag = format!("--{option}");
            let file = config_file(&format!("{option} = '{address}'"));
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
                assert_fails(command, 1, &[&place, address, part]);
            }
        }
    }
}
