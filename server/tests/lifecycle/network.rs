//! A network of three namespaces for one test, which can be cut.
//!
//! ```text
//!   clients 10.66.2.2 ─── 10.66.2.1 router 10.66.1.1 ─── 10.66.1.2 server
//! ```
//!
//! The namespaces have no names: the kernel removes each one when its last descriptor is closed and its
//! last process has ended, however a run ends.

use std::{
    fs::File,
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    panic::resume_unwind,
    process::{Command, Stdio},
    sync::Once,
    time::Instant,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::{
    measurements,
    support::{
        process::{self, Server},
        raise_descriptor_limit, turn, wait,
    },
};

const SERVER_HOST: &str = "10.66.1.2";

/// Prints once that the tests are skipped.
static SKIP_NOTICE: Once = Once::new();

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

/// Runs `test` on a thread in the server's namespace, one test at a time.
///
/// Without the permission to create namespaces, skips the test.
///
/// # Panics
/// If it would be skipped, and `TIDEWHEEL_NETNS=required`.
pub(crate) fn with_network(test: impl FnOnce(&Network) + Send) {
    let _turn = turn::take();
    measurements::begin();
    raise_descriptor_limit();
    let network = match Network::new() {
        Ok(network) => network,
        Err(error) if std::env::var_os("TIDEWHEEL_NETNS").is_some_and(|it| it == "required") => {
            panic!("cannot create network namespaces, and TIDEWHEEL_NETNS=required: {error}")
        }
        Err(error) => {
            // Not by `eprintln`, whose output libtest captures.
            SKIP_NOTICE.call_once(|| {
                let _ = writeln!(
                    io::stderr(),
                    "skipped: all tests of `lifecycle`, which need root and iproute2 for network \
                     namespaces: {error}"
                );
            });
            return;
        }
    };
    let on_server_side = || {
        network.server_side.enter().expect("the namespace exists");
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
        // The first connection waits for links and neighbours, so it must not be a measured one.
        let listener = network
            .server_side
            .within(|| TcpListener::bind((SERVER_HOST, 0)))?;
        let address = listener.local_addr()?;
        let client = network.clients(|| TcpStream::connect(address))?;
        // Accepted, because a connection that is not accepted is reset, and a test counts resets.
        let (server, _) = listener.accept()?;
        drop((client, server));
        Ok(network)
    }

    /// Starts `tidewheel echo` with `flags`; the calling thread is in the server's namespace.
    pub(crate) fn start(&self, flags: &str) -> Server {
        self.start_with(flags, &[])
    }

    /// Starts `tidewheel echo` with `flags` and environment variables.
    pub(crate) fn start_with(&self, flags: &str, variables: &[(&str, &str)]) -> Server {
        let mut command = process::echo_at(&format!("{SERVER_HOST}:0"), flags);
        Server::spawn(command.envs(variables.iter().copied()))
    }

    /// Returns `tidewheel serve` with `flags`; the calling thread is in the server's namespace.
    pub(crate) fn serve(&self, flags: &str) -> Command {
        process::command_at("serve", &format!("{SERVER_HOST}:0"), flags)
    }

    /// Runs `work` in the clients' namespace. A socket stays in the namespace in which it is created.
    pub(crate) fn clients<T>(&self, work: impl FnOnce() -> T) -> T {
        self.client_side.within(work)
    }

    /// Stops forwarding: both sides keep their carrier, and all packets are dropped. Returns the time.
    pub(crate) fn cut(&self) -> Instant {
        self.forward(false).expect("forwarding can be set");
        wait::now()
    }

    /// Drops all packets in the server's namespace already, at a bridge without ports. Returns the time.
    ///
    /// The sending core also runs the receiving end of a virtual link. A very large burst overflows that
    /// core's backlog (`net.core.netdev_max_backlog`), which drops packets of the loopback device as well.
    pub(crate) fn cut_at_server(&self) -> Instant {
        self.server_side
            .configure(
                "link add void type bridge\n\
                 link set void arp off up\n\
                 route add 10.66.2.0/24 dev void\n",
            )
            .expect("a bridge can be created");
        self.cut()
    }

    /// Forwards packets again after [`cut`](Self::cut).
    pub(crate) fn restore(&self) {
        self.forward(true).expect("forwarding can be set");
    }

    /// Sets `net.ipv4.ip_forward`, which belongs to the thread's namespace (ip-sysctl).
    fn forward(&self, forward: bool) -> io::Result<()> {
        let value = if forward { "1" } else { "0" };
        self.router
            .within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", value))
    }
}

impl Namespace {
    /// Creates a namespace, on a thread that ends with this call.
    fn new() -> io::Result<Self> {
        let make = || {
            // SAFETY: without `UnshareFlags::FILES`, the thread keeps sharing the descriptors of the process.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            Self::current()
        };
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        made.expect("the thread does not panic")
    }

    /// Returns the namespace of the calling thread.
    fn current() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// Moves the calling thread into the namespace, and so all sockets and processes that it creates later.
    fn enter(&self) -> io::Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Runs `work` in the namespace.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _return = ReturnOnDrop(Self::current().expect("a thread has a namespace"));
        self.enter().expect("the namespace exists");
        work()
    }

    /// Returns the path by which `ip` refers to the namespace.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `ip -batch` in the namespace.
    fn configure(&self, commands: &str) -> io::Result<()> {
        let output = self.within(|| {
            let mut ip = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut stdin = ip.stdin.take().expect("the stream is piped");
            stdin.write_all(commands.as_bytes())?;
            drop(stdin);
            ip.wait_with_output()
        })?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("ip: {}", message.trim())))
    }
}

/// Moves the calling thread back into a namespace on drop.
struct ReturnOnDrop(Namespace);

impl Drop for ReturnOnDrop {
    fn drop(&mut self) {
        self.0.enter().expect("the namespace exists");
    }
}
