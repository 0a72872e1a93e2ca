//! The codec and its peers under the same work, side by side in one run.
//!
//! `cargo bench -p benches --bench codec`; with `--callgrind`, instructions in place of times.

#![allow(missing_docs, unreachable_pub, reason = "a program")]

mod deflate;
mod receivers;
mod rounds;
mod wire;

use std::hint::black_box;
use std::process::Command;

use clap::Parser;
use tidewheel_codec::mask::mask;
use tidewheel_codec::{Config, Connection, Endpoint, Role, Time};

use receivers::Receiver as _;
use rounds::{Candidate, print_table};
use wire::Wire;

/// Bytes of whole frames that are received at a time.
const RECEIVE_BUFFER_SIZE: usize = 16 << 10;

/// Frames under callgrind.
const TRACED: usize = 100_000;

#[derive(Parser)]
struct Arguments {
    /// Rounds, in each of which every candidate has its turn, and of which the median is printed
    #[arg(long, default_value_t = 51)]
    rounds: usize,
    /// Count the instructions of a frame of 20 bytes (needs valgrind)
    #[arg(long)]
    callgrind: bool,
    /// The work of a child process under callgrind: receive so many frames
    #[arg(long, hide = true)]
    traced: Option<usize>,
    /// Given by `cargo bench`, and by `cargo test` not: then a round is enough
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        arguments.rounds = 1;
    }
    if let Some(frames) = arguments.traced {
        receive_traced(frames);
    } else if arguments.callgrind {
        print_instructions();
    } else {
        unmask(arguments.rounds);
        receive(arguments.rounds);
        send(arguments.rounds);
        deflate::run(arguments.rounds);
    }
}

/// Payloads of clients' frames, where they lie behind their headers in a receive buffer.
fn unmask(rounds: usize) {
    for (size, header_size) in [(125, 6), (1 << 10, 8), (16 << 10, 8)] {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let frame_size = header_size + size;
        let frames = (RECEIVE_BUFFER_SIZE / frame_size).max(1);
        let passes = (2 << 20) / (frames * frame_size);
        let buffer = || vec![0; frames * frame_size];
        assert_masks(size, key);
        let (mut ours, mut theirs, mut from, mut to) = (buffer(), buffer(), buffer(), buffer());
        let mut candidates = [
            Candidate::new("tidewheel", || {
                for frame in (0..passes).flat_map(|_| 0..frames) {
                    let payload = &mut ours[frame * frame_size..][header_size..frame_size];
                    mask(black_box(payload), black_box(key));
                }
                passes * frames
            }),
            Candidate::new("fastwebsockets", || {
                for frame in (0..passes).flat_map(|_| 0..frames) {
                    let payload = &mut theirs[frame * frame_size..][header_size..frame_size];
                    fastwebsockets::unmask(black_box(payload), black_box(key));
                }
                passes * frames
            }),
            Candidate::new("memcpy", || {
                for frame in (0..passes).flat_map(|_| 0..frames) {
                    let from = &mut from[frame * frame_size..][header_size..frame_size];
                    let to = &mut to[frame * frame_size..][header_size..frame_size];
                    black_box(to).copy_from_slice(black_box(from));
                }
                passes * frames
            }),
        ];
        print_table(&format!("unmask, {size} bytes"), rounds, &mut candidates);
    }
}

/// Both mask as RFC 6455 5.3 says.
fn assert_masks(size: usize, key: [u8; 4]) {
    let expected: Vec<u8> = key.iter().copied().cycle().take(size).collect();
    for mask in [mask, fastwebsockets::unmask] {
        let mut payload = vec![0; size];
        mask(&mut payload, key);
        assert_eq!(payload, expected);
    }
}

/// Whole masked text messages: parsed, unmasked, validated, and handed over.
fn receive(rounds: usize) {
    let ascii = |size: usize| "tide wheel ".chars().cycle().take(size).collect::<String>();
    let cjk = |size: usize| {
        "潮の車輪は回る"
            .chars()
            .cycle()
            .take(size / 3)
            .collect::<String>()
    };
    for (name, text) in [
        ("20 bytes", ascii(20)),
        ("125 bytes", ascii(125)),
        ("1 KiB, ASCII", ascii(1 << 10)),
        ("1 KiB, CJK", cjk(1 << 10)),
        ("16 KiB, ASCII", ascii(16 << 10)),
        ("16 KiB, CJK", cjk(16 << 10)),
    ] {
        let wire = Wire::new(&text, RECEIVE_BUFFER_SIZE);
        // Whole buffers, so that all have the same work.
        let messages = (1_usize << 20).div_ceil(wire.bytes().len()) * wire.frames();
        let size = text.len();
        let mut candidates: Vec<_> = receivers::all(&wire)
            .into_iter()
            .map(|mut receiver| {
                Candidate::new(receiver.name(), move || {
                    let received = receiver.receive(messages);
                    assert_eq!(received, (messages, messages * size));
                    messages
                })
            })
            .collect();
        print_table(
            &format!("masked text frame, {name}"),
            rounds,
            &mut candidates,
        );
    }
}

/// A client's frames. How far in its page the payload is to lie, compared with where it is, decides
/// what a copy costs: above a few KiB `memcpy` of glibc may be `rep movsb`.
fn send(rounds: usize) {
    const PAGE: usize = 4096;
    const HEADER_SIZE: usize = 8;
    const FRAMES: usize = 64;
    for size in [1 << 10, 16 << 10] {
        for further in [8, PAGE / 2] {
            let bytes = [vec![7_u8; PAGE + size], vec![7; PAGE + size]];
            let [mut ours, mut copied] = [(); 2].map(|()| Vec::with_capacity(PAGE + size));
            let payload = |number: usize, out: &Vec<u8>| {
                let place = out.as_ptr().addr() + HEADER_SIZE - further;
                let start = place.wrapping_sub(bytes[number].as_ptr().addr()) % PAGE;
                &bytes[number][start..][..size]
            };
            let (payload, same) = (payload(0, &ours), payload(1, &copied));
            let config = Config::new(Role::Client);
            let mut endpoint = Endpoint::new(config).expect("the default is valid");
            let mut connection = Connection::new(Time::from_millis(0), 0);
            let mut candidates = [
                Candidate::new("tidewheel", || {
                    for _ in 0..FRAMES {
                        ours.clear();
                        connection
                            .send_binary(&mut endpoint, black_box(payload), &mut ours)
                            .expect("it is open");
                        assert_eq!(black_box(&ours).len(), HEADER_SIZE + size);
                    }
                    FRAMES
                }),
                Candidate::new("memcpy, then mask", || {
                    for number in 0..FRAMES as u32 {
                        copied.clear();
                        copied.extend_from_slice(&[0; HEADER_SIZE]);
                        copied.extend_from_slice(black_box(same));
                        mask(&mut copied[HEADER_SIZE..], number.to_le_bytes());
                        assert_eq!(black_box(&copied).len(), HEADER_SIZE + size);
                    }
                    FRAMES
                }),
            ];
            print_table(
                &format!("client's frame, {size} bytes, {further} bytes further in its page"),
                rounds,
                &mut candidates,
            );
        }
    }
}

/// What a child process does for [`print_instructions`].
fn receive_traced(frames: usize) {
    let wire = Wire::new(&"x".repeat(20), RECEIVE_BUFFER_SIZE);
    let mut receiver = receivers::Tidewheel::new(wire);
    let (received, bytes) = receiver.receive(frames);
    assert_eq!(bytes, received * 20);
    println!("{received}");
}

/// Instructions of a masked text frame of 20 bytes, the loop around it and its share of the copy
/// of all frames included: what one run takes more than a shorter one.
fn print_instructions() {
    let (few, before) = trace(TRACED);
    let (many, after) = trace(2 * TRACED);
    let each = (after - before) / (many - few);
    println!("masked text frame, 20 bytes: {each:.1} instructions");
}

/// Runs a child under callgrind; frames and instructions.
fn trace(frames: usize) -> (f64, f64) {
    let program = std::env::current_exe().expect("this program has a path");
    let child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--traced", &frames.to_string()])
        .output()
        .expect("valgrind runs");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr),
    );
    assert!(child.status.success(), "{stderr}");
    let received = stdout.trim().parse().expect("the child prints a number");
    let collected = stderr
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, instructions) = collected.expect("callgrind prints what it collected");
    (
        received,
        instructions.trim().parse().expect("it is a number"),
    )
}
