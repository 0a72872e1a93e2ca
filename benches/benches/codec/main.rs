//! Compares the codec with other implementations, under the same work and in the same run.
//!
//! `cargo bench -p benches --bench codec` measures times; with `--callgrind` it counts instructions.

#![allow(missing_docs, unreachable_pub, reason = "a program")]

mod comparison;
mod deflate;
mod frame_stream;
mod receivers;

use std::hint::black_box;
use std::process::Command;

use benches::results::{Output, Run, host::command};
use clap::Parser;
use tidewheel_codec::mask::mask;
use tidewheel_codec::{Config, Connection, Endpoint, Role, Time};

use comparison::{Candidate, print_table};
use frame_stream::FrameStream;
use receivers::Receiver as _;

/// Bytes of complete frames that are received at once.
const RECEIVE_BUFFER_SIZE: usize = 16 << 10;

/// Frames of a run under callgrind.
const CALLGRIND_FRAMES: usize = 100_000;

#[derive(Parser)]
struct Arguments {
    /// Rounds; each measures every candidate once, and the median is printed
    #[arg(long, default_value_t = 51)]
    rounds: usize,
    /// Count the instructions of a frame of 20 bytes; needs valgrind
    #[arg(long)]
    callgrind: bool,
    /// Receive a number of frames, as a child process under callgrind
    #[arg(long, hide = true)]
    traced: Option<usize>,
    /// Set by `cargo bench`; without it, as under `cargo test`, there is one round
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    output: Output,
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
        let run = receive(arguments.rounds);
        arguments.output.save(&run);
        send(arguments.rounds);
        deflate::run(arguments.rounds);
    }
}

/// Measures unmasking of payloads, which follow their headers in a receive buffer.
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

/// Checks that both implementations mask as in RFC 6455 5.3.
fn assert_masks(size: usize, key: [u8; 4]) {
    let expected: Vec<u8> = key.iter().copied().cycle().take(size).collect();
    for mask in [mask, fastwebsockets::unmask] {
        let mut payload = vec![0; size];
        mask(&mut payload, key);
        assert_eq!(payload, expected);
    }
}

/// Measures complete masked text messages: parsing, unmasking, validation, and the call of the application.
fn receive(rounds: usize) -> Run {
    let mut run = Run::new("codec", command("bench -p benches --bench codec"));
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
        let stream = FrameStream::new(&text, RECEIVE_BUFFER_SIZE);
        // Complete buffers, so that all candidates have the same work.
        let messages = (1_usize << 20).div_ceil(stream.bytes().len()) * stream.frames();
        let size = text.len();
        let mut candidates: Vec<_> = receivers::all(&stream)
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
        for candidate in &candidates {
            run.add(name, rounds, candidate.name(), candidate.figure());
        }
    }
    run
}

/// Measures the encoding of a client's frames. Above a few KiB, `memcpy` of glibc may be `rep movsb`, whose time depends
/// on the places of source and destination in their pages.
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
                            .expect("the connection is open");
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
                &format!(
                    "client's frame, {size} bytes, destination {further} bytes further in its page"
                ),
                rounds,
                &mut candidates,
            );
        }
    }
}

/// Receives frames in a child process of [`print_instructions`].
fn receive_traced(frames: usize) {
    let stream = FrameStream::new(&"x".repeat(20), RECEIVE_BUFFER_SIZE);
    let mut receiver = receivers::Tidewheel::new(stream);
    let (received, bytes) = receiver.receive(frames);
    assert_eq!(bytes, received * 20);
    println!("{received}");
}

/// Prints the instructions of a masked text frame of 20 bytes, with its share of the loop and of the copy of all frames:
/// the difference between two runs, divided by that of their frames.
fn print_instructions() {
    let (few, before) = trace(CALLGRIND_FRAMES);
    let (many, after) = trace(2 * CALLGRIND_FRAMES);
    let each = (after - before) / (many - few);
    println!("masked text frame, 20 bytes: {each:.1} instructions");
}

/// Runs a child process under callgrind. Returns its frames and instructions.
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
        instructions
            .trim()
            .parse()
            .expect("callgrind prints a number"),
    )
}
