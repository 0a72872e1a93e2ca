//! A link between two network namespaces that carries so many bits in a second, and takes its time.
//!
//! Each side is a TUN device (the kernel's Documentation/networking/tuntap.rst), whose packets this process
//! carries to the other: into a buffer as large as what the link carries in a tenth of a second, or dropped
//! if that is full; out of it at the link's rate; and to the other side after the delay.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    process::Command,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    ioctl::{self, Setter, opcode},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

/// Bytes of a packet, at most.
const PACKET_MAX: usize = 1500;

/// The link; it ends with the process.
pub(crate) struct Link {
    pub(crate) near: Side,
    pub(crate) far: Side,
}

/// A network namespace at an end of the link.
pub(crate) struct Side {
    namespace: OwnedFd,
}

impl Side {
    /// The addresses of both.
    pub(crate) const NEAR: &str = "10.77.0.1";
    pub(crate) const FAR: &str = "10.77.0.2";

    /// Makes a namespace, and in it the end of the link.
    fn new(address: &str) -> io::Result<(Self, File)> {
        let make = || {
            // SAFETY: the thread shares its descriptors with the process still; only
            // `UnshareFlags::FILES` would change that.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            let namespace = File::open("/proc/thread-self/ns/net")?.into();
            let device = tun()?;
            ip("link set lo up")?;
            ip(&format!("address add {address}/24 dev link"))?;
            ip("link set dev link mtu 1500 txqueuelen 10000 up")?;
            Ok((Self { namespace }, device))
        };
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        made.expect("it returns errors")
    }

    /// Runs `work` on a thread in the namespace: where a socket or a process is made, there it stays.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let run = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), network).expect("it was made");
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(run).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Link {
    /// Makes a link that carries so many millions of bits in a second.
    pub(crate) fn new(rate_mbit: u32, delay: Duration) -> io::Result<Self> {
        let (near, near_end) = Side::new(Side::NEAR)?;
        let (far, far_end) = Side::new(Side::FAR)?;
        let bytes_per_second = f64::from(rate_mbit) * 1e6 / 8.0;
        carry(
            near_end.try_clone()?,
            far_end.try_clone()?,
            bytes_per_second,
            delay,
        );
        carry(far_end, near_end, bytes_per_second, delay);
        Ok(Self { near, far })
    }
}

/// A TUN device named `link`, in the namespace of the thread.
fn tun() -> io::Result<File> {
    /// `struct ifreq` (netdevice(7)).
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    const IFF_TUN: i16 = 0x0001;
    const IFF_NO_PI: i16 = 0x1000;
    const TUNSETIFF: ioctl::Opcode = opcode::write::<i32>(b'T', 202);
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let mut name = [0; 16];
    name[..4].copy_from_slice(b"link");
    let request = Request {
        name,
        flags: IFF_TUN | IFF_NO_PI,
        rest: [0; 22],
    };
    // SAFETY: the request is what the ioctl reads.
    unsafe { ioctl::ioctl(&device, Setter::<TUNSETIFF, Request>::new(request)) }?;
    Ok(device)
}

fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {arguments}: {}", told.trim())))
}

/// Packets on the way, each with the time of its arrival.
#[derive(Default)]
struct Way {
    packets: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    more: Condvar,
}

/// Carries packets from one end to the other, in threads that end with the process.
fn carry(mut from: File, mut to: File, bytes_per_second: f64, delay: Duration) {
    let way = Arc::new(Way::default());
    let its = Arc::clone(&way);
    let buffer = Duration::from_millis(100);
    std::thread::spawn(move || {
        let mut free_at = Instant::now();
        let mut packet = [0; PACKET_MAX];
        while let Ok(length) = from.read(&mut packet) {
            let now = Instant::now();
            let begins = free_at.max(now);
            if begins - now > buffer {
                continue;
            }
            free_at = begins + Duration::from_secs_f64(length as f64 / bytes_per_second);
            let mut packets = its.packets.lock().unwrap_or_else(PoisonError::into_inner);
            packets.push_back((free_at + delay, packet[..length].to_vec()));
            its.more.notify_one();
        }
    });
    std::thread::spawn(move || {
        loop {
            let packets = way.packets.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = way.more.wait_while(packets, |packets| packets.is_empty());
            let next = waited.unwrap_or_else(PoisonError::into_inner).pop_front();
            let (arrives, packet) = next.expect("it is not empty");
            std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
            // The other end takes it, or drops it.
            let _ = to.write(&packet);
        }
    });
}
