//! A link with a rate, a delay and a buffer between two network namespaces.
//!
//! Each side is a TUN device (Documentation/networking/tuntap.rst of the kernel). This process forwards the packets of
//! each side to the other, through a buffer that holds what the link transmits in a tenth of a second. A packet is
//! dropped if the buffer is full; otherwise it leaves the buffer at the rate of the link, and arrives after the delay.

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

/// Bytes of the largest packet.
const PACKET_BYTES_MAX: usize = 1500;

/// A link, which ends with the process.
pub(crate) struct Link {
    /// Side of the server.
    pub(crate) near: Side,
    /// Side of the subscriber.
    pub(crate) far: Side,
}

/// A network namespace at an end of the link.
pub(crate) struct Side {
    namespace: OwnedFd,
}

impl Side {
    /// Address of the near side.
    pub(crate) const NEAR: &str = "10.77.0.1";
    /// Address of the far side.
    pub(crate) const FAR: &str = "10.77.0.2";

    /// Creates a namespace, and in it the TUN device of a side.
    fn new(address: &str) -> io::Result<(Self, File)> {
        let make = || {
            // SAFETY: the thread still shares its descriptors with the process, because
            // `UnshareFlags::FILES` is not set.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            let namespace = File::open("/proc/thread-self/ns/net")?.into();
            let device = tun()?;
            ip("link set lo up")?;
            ip(&format!("address add {address}/24 dev link"))?;
            ip("link set dev link mtu 1500 txqueuelen 10000 up")?;
            Ok((Self { namespace }, device))
        };
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        made.expect("the thread returns its errors")
    }

    /// Runs `work` on a thread in the namespace. Sockets and processes of `work` stay in the namespace.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let run = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), network)
                .expect("the namespace exists");
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(run).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Link {
    /// Creates a link of `rate_mbit` million bits a second.
    pub(crate) fn new(rate_mbit: u32, delay: Duration) -> io::Result<Self> {
        let (near, near_end) = Side::new(Side::NEAR)?;
        let (far, far_end) = Side::new(Side::FAR)?;
        let bytes_per_second = f64::from(rate_mbit) * 1e6 / 8.0;
        forward(
            near_end.try_clone()?,
            far_end.try_clone()?,
            bytes_per_second,
            delay,
        );
        forward(far_end, near_end, bytes_per_second, delay);
        Ok(Self { near, far })
    }
}

/// Opens a TUN device named `link` in the namespace of the thread.
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
    // SAFETY: the ioctl reads a `struct ifreq`, and `Request` has its layout.
    unsafe { ioctl::ioctl(&device, Setter::<TUNSETIFF, Request>::new(request)) }?;
    Ok(device)
}

/// Runs ip(8).
fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "ip {arguments}: {}",
        stderr.trim()
    )))
}

/// Packets in flight in one direction, each with the time of its arrival.
#[derive(Default)]
struct InFlight {
    packets: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    not_empty: Condvar,
}

/// Forwards packets from one TUN device to the other, on threads that end with the process.
fn forward(mut from: File, mut to: File, bytes_per_second: f64, delay: Duration) {
    let in_flight = Arc::new(InFlight::default());
    let entering = Arc::clone(&in_flight);
    let buffer_time = Duration::from_millis(100);
    std::thread::spawn(move || {
        let mut free_at = Instant::now();
        let mut packet = [0; PACKET_BYTES_MAX];
        while let Ok(length) = from.read(&mut packet) {
            let now = Instant::now();
            let starts = free_at.max(now);
            if starts - now > buffer_time {
                continue;
            }
            free_at = starts + Duration::from_secs_f64(length as f64 / bytes_per_second);
            let mut packets = entering
                .packets
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            packets.push_back((free_at + delay, packet[..length].to_vec()));
            entering.not_empty.notify_one();
        }
    });
    std::thread::spawn(move || {
        loop {
            let packets = in_flight
                .packets
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let waited = in_flight
                .not_empty
                .wait_while(packets, |packets| packets.is_empty());
            let next = waited.unwrap_or_else(PoisonError::into_inner).pop_front();
            let (arrives, packet) = next.expect("a packet is in flight");
            std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
            // The kernel drops a packet that it cannot take.
            let _ = to.write(&packet);
        }
    });
}
