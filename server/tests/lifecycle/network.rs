//! A network of a test's own, which can be cut.
//!
//! ```text
//!   clients 10.66.2.2 ─── 10.66.2.1 router 10.66.1.1 ─── 10.66.1.2 server
//! ```
//!
//! The namespaces have no names: the kernel removes each, with all that is in it, when its last
//! descriptor is closed and its last process has ended. So nothing stays, however a run ends, and
//! no run meets what another has left.

use std::{
    fs::File,
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    panic::resume_unwind,
    process::{Command, Stdio},
    sync::{Mutex, Once, PoisonError},
    time::Instant,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::{
    figures,
    support::{
        process::{self, Server},
        raise_descriptor_limit, wait,
    },
};

const SERVER_HOST: &str = "10.66.1.2";

/// One test has its network at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Said once by a program that may make no namespaces.
static LEFT_OUT: Once = Once::new();

/// The three namespaces.
#[derive(Debug)]
pub(crate) struct Network {
    server_side: Namespace,
    router: Namespace,
    client_side: Namespace,
}

/// A network namespace, held by a descriptor.
#[derive(Debug)]
struct Namespace(OwnedFd);

/// Runs `test` on a thread in the server's namespace.
///
/// Where no namespaces can be made, it is left out; unless they are required.
pub(crate) fn with_network(test: impl FnOnce(&Network) + Send) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    figures::begin();
    raise_descriptor_limit();
    let network = match Network::new() {
        Ok(network) => network,
        Err(error) if std::env::var_os("TIDEWHEEL_NETNS").is_some_and(|it| it == "required") => {
            panic!("network namespaces are required, and cannot be made: {error}")
        }
        Err(error) => {
            // Not by a macro, whose output is kept from whoever runs the tests.
            LEFT_OUT.call_once(|| {
                let _ = writeln!(
                    io::stderr(),
                    "left out: all tests of program `lifecycle`, which need root and iproute2 to \
                     make network namespaces: {error}"
                );
            });
            return;
        }
    };
    let on_server_side = || {
        network.server_side.enter().expect("it was made");
        test(&network);
    };
    let end = std::thread::scope(|scope| scope.spawn(on_server_side).join());
    end.unwrap_or_else(|panic| resume_unwind(panic));
}

impl Network {
    fn new() -> io::Result<Self> {
        let network = Self {
            server_side: Namespace::new()?,
            router: Namespace::new()?,
            client_side: Namespace::new()?,
        };
        network.router.configure(&format!(
            "link set lo up\n\
             link add server type veth peer name uplink netns {}\n\
             link add clients type veth peer name uplink netns {}\n\
             address add 10.66.1.1/24 dev server\n\
             address add 10.66.2.1/24 dev clients\n\
             link set server up\n\
             link set clients up\n",
            network.server_side.path(),
            network.client_side.path()
        ))?;
        for (host, side) in [(1, &network.server_side), (2, &network.client_side)] {
            side.configure(&format!(
                "link set lo up\n\
                 address add 10.66.{host}.2/24 dev uplink\n\
                 link set uplink up\n\
                 route add default via 10.66.{host}.1\n"
            ))?;
        }
        network.forward(true)?;
        // A first connection waits for links and neighbours, a second perhaps: not one that is timed.
        let listener = network
            .server_side
            .within(|| TcpListener::bind((SERVER_HOST, 0)))?;
        let address = listener.local_addr()?;
        let client = network.clients(|| TcpStream::connect(address))?;
        // Accepted, or it would be reset; and resets are counted.
        let (server, _) = listener.accept()?;
        drop((client, server));
        Ok(network)
    }

    /// Starts `tidewheel echo` with `flags`; the caller is on the server's side.
    pub(crate) fn start(&self, flags: &str) -> Server {
        self.start_with(flags, &[])
    }

    /// The same, with these variables in its environment.
    pub(crate) fn start_with(&self, flags: &str, variables: &[(&str, &str)]) -> Server {
        let mut command = process::echo_at(&format!("{SERVER_HOST}:0"), flags);
        Server::spawn(command.envs(variables.iter().copied()))
    }

    /// `tidewheel serve` with `flags`; the caller is on the server's side.
    pub(crate) fn serve(&self, flags: &str) -> Command {
        process::command_at("serve", &format!("{SERVER_HOST}:0"), flags)
    }

    /// Runs `make` on the clients' side: where a socket is made, there it stays.
    pub(crate) fn clients<T>(&self, make: impl FnOnce() -> T) -> T {
        self.client_side.within(make)
    }

    /// Turns the router into a black hole, which neither forwards nor answers: both sides keep
    /// their carrier, and hear nothing. Gives the time.
    pub(crate) fn cut(&self) -> Instant {
        self.forward(false).expect("it was forwarding");
        wait::now()
    }

    /// The same, nearer: what the server sends ends in a bridge that leads nowhere.
    ///
    /// The far side of a virtual link is the work of the core that sends. With very many packets
    /// in one burst, that core's queue for such work (`net.core.netdev_max_backlog`) overflows, and
    /// packets over loopback are lost as well, which no network card would do.
    pub(crate) fn cut_nearby(&self) -> Instant {
        self.server_side
            .configure(
                "link add void type bridge\n\
                 link set void arp off up\n\
                 route add 10.66.2.0/24 dev void\n",
            )
            .expect("the kernel has bridges");
        self.cut()
    }

    /// Lets the router forward again.
    pub(crate) fn mend(&self) {
        self.forward(true).expect("it was forwarding once");
    }

    /// `net.ipv4.ip_forward` is that of the thread's namespace (ip-sysctl).
    fn forward(&self, forward: bool) -> io::Result<()> {
        let value = if forward { "1" } else { "0" };
        self.router
            .within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", value))
    }
}

impl Namespace {
    /// A new one.
    fn new() -> io::Result<Self> {
        let make = || {
            // SAFETY: the descriptors of the thread stay those of the process; that only
            // `UnshareFlags::FILES` would change.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            Self::current()
        };
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        made.expect("it returns errors")
    }

    /// That of the calling thread.
    fn current() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// Moves the calling thread into it, and with that all sockets and processes to come.
    fn enter(&self) -> io::Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Runs `work` in it.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _way_back = WayBack(Self::current().expect("a thread is in one"));
        self.enter().expect("it was made");
        work()
    }

    /// What `ip` knows it by.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `ip` in it, with these commands.
    fn configure(&self, commands: &str) -> io::Result<()> {
        let output = self.within(|| {
            let mut ip = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut stdin = ip.stdin.take().expect("it is piped");
            stdin.write_all(commands.as_bytes())?;
            drop(stdin);
            ip.wait_with_output()
        })?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("ip: {}", told.trim())))
    }
}

/// Where a thread returns to.
struct WayBack(Namespace);

impl Drop for WayBack {
    fn drop(&mut self) {
        self.0.enter().expect("the thread was there before");
    }
}
