//! Memory of connections, in user space and in the kernel.

use std::io;

use procfs::{Current, Meminfo};

use crate::measure::{
    figures::{FigureNames, Figures, Unit},
    usage::resident_bytes,
};

/// Path of the kernel's socket statistics.
const SOCKSTAT: &str = "/proc/net/sockstat";

/// Figures of connections, see [`Memory::growth_since`].
pub(crate) const CONNECTION_BYTES: FigureNames = &[
    ("generator.bytes_per_connection", Unit::Bytes),
    ("kernel.bytes_per_connection", Unit::Bytes),
];

/// Further figures if the server is started here.
pub(crate) const SERVER_BYTES: FigureNames = &[
    ("server.resident_bytes", Unit::Bytes),
    ("server.resident_bytes_over_connections", Unit::Bytes),
    ("server.bytes_per_connection", Unit::Bytes),
];

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident memory of the server.
    server: Option<u64>,
    /// Resident memory of this process.
    generator: u64,
    /// Memory that the kernel has allocated for itself.
    kernel: u64,
}

impl Memory {
    /// Reads the memory of this process, of the server with this process id, and of the kernel.
    ///
    /// # Errors
    /// Errors of proc(5).
    pub(crate) fn now(server: Option<i32>) -> io::Result<Self> {
        let own = i32::try_from(std::process::id()).expect("process ids are positive");
        Ok(Self {
            server: server.map(resident_bytes).transpose()?,
            generator: resident_bytes(own)?,
            kernel: kernel_bytes()?,
        })
    }

    /// Replaces the server's memory by that of a later moment.
    pub(crate) fn set_server_from(&mut self, later: &Self) {
        self.server = later.server;
    }

    /// Adds the figures of the growth since `earlier` for each of `connections`.
    pub(crate) fn growth_since(&self, earlier: &Self, connections: u64, figures: &mut Figures) {
        let each = |now: u64, then: u64| (now as f64 - then as f64) / connections.max(1) as f64;
        if let (Some(now), Some(then)) = (self.server, earlier.server) {
            figures.bytes("server.resident_bytes", now as f64);
            figures.bytes("server.resident_bytes_over_connections", each(now, 0));
            figures.bytes("server.bytes_per_connection", each(now, then));
        }
        figures.bytes(
            "generator.bytes_per_connection",
            each(self.generator, earlier.generator),
        );
        figures.bytes(
            "kernel.bytes_per_connection",
            each(self.kernel, earlier.kernel),
        );
    }
}

/// Returns the memory that the kernel has allocated for itself, including socket buffers.
fn kernel_bytes() -> io::Result<u64> {
    let info = Meminfo::current().map_err(io::Error::other)?;
    let parts = [
        Some(info.slab),
        info.kernel_stack,
        info.page_tables,
        info.per_cpu,
    ];
    let text = std::fs::read_to_string(SOCKSTAT)?;
    let buffers = tcp_pages(&text).unwrap_or(0) * procfs::page_size();
    Ok(parts.into_iter().flatten().sum::<u64>() + buffers)
}

/// Returns the number of pages in the buffers of TCP sockets.
fn tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_tcp_buffers_are_found() {
        let text =
            "sockets: used 1\nTCP: inuse 4 orphan 0 tw 2 alloc 9 mem 17\nUDP: inuse 0 mem 3\n";
        assert_eq!(tcp_pages(text), Some(17));
        assert_eq!(tcp_pages("UDP: mem 3"), None);
    }

    #[test]
    fn the_growth_is_divided_by_connections() {
        let memory = |server, generator, kernel| Memory {
            server: Some(server),
            generator,
            kernel,
        };
        let mut figures = Figures::default();
        memory(3000, 2500, 9000).growth_since(&memory(1000, 500, 1000), 10, &mut figures);
        let expected: Vec<_> = figures
            .iter()
            .map(|figure| (figure.name, figure.value))
            .collect();
        assert_eq!(
            expected,
            [
                ("server.resident_bytes", 3000.0),
                ("server.resident_bytes_over_connections", 300.0),
                ("server.bytes_per_connection", 200.0),
                ("generator.bytes_per_connection", 200.0),
                ("kernel.bytes_per_connection", 800.0),
            ]
        );
    }
}
