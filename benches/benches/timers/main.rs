//! Compares the timer wheel with other structures, under the same workload and in the same run.
//!
//! `cargo bench -p benches --bench timers -- --count 1000000` measures times; with `--cachegrind` it counts instructions
//! and cache misses of a reschedule. Each candidate runs in its own process, with a new heap.

#![allow(missing_docs, reason = "a program")]

mod blocks;
mod candidates;
mod counting_allocator;
mod list_wheel;
mod workload;

use std::process::{Command, Stdio};
use std::time::Duration;

use benches::results::{Figure, Output, Run, host::command};
use clap::Parser;

use blocks::BlockWheel;
use candidates::{Candidate, DelayQueueTimers, Heap, Hierarchical, Tidewheel, Touch, Tree};
use list_wheel::ListWheel;
use workload::Figures;

#[global_allocator]
static ALLOCATOR: counting_allocator::CountingAllocator = counting_allocator::CountingAllocator;

const TICK: Duration = Duration::from_millis(16);

/// Timers of a run under `cargo test`, which only checks that all candidates work.
const TEST_COUNT: u32 = 2000;

/// Reschedules of a run under cachegrind.
const CACHEGRIND_RESCHEDULES: u32 = 200_000;

/// Caches that cachegrind simulates: 32 KiB and 1 MiB on every machine.
const CACHES: [&str; 2] = ["--D1=32768,8,64", "--LL=1048576,16,64"];

const CANDIDATES: [&str; 8] = [
    "touch",
    "tidewheel",
    "tidewheel, blocks of 16",
    "DelayQueue",
    "BinaryHeap, lazy",
    "BTreeSet",
    "list wheel, eager",
    "hierarchical_hash_wheel_timer",
];

#[derive(Parser)]
struct Arguments {
    /// Number of timers; each is measured
    #[arg(long, default_values_t = [100_000, 1_000_000])]
    count: Vec<u32>,
    /// Candidates, by the beginning of their names; all if none is given
    #[arg(long)]
    only: Vec<String>,
    /// Runs; the smallest value of each figure is printed
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Count instructions and cache misses of a reschedule
    #[arg(long)]
    cachegrind: bool,
    /// Print the figures of one candidate, as a child process
    #[arg(long, hide = true)]
    child: Option<String>,
    /// Only reschedule this many times, as a child process under cachegrind
    #[arg(long, hide = true)]
    reschedules: Option<u32>,
    /// Set by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    output: Output,
}

fn main() {
    let mut arguments = Arguments::parse();
    if let Some(name) = &arguments.child {
        return child(name, arguments.count[0], arguments.reschedules);
    }
    if !arguments.bench {
        (arguments.count, arguments.runs) = (vec![TEST_COUNT], 1);
    }
    let wanted = |name: &&&str| {
        **name == "touch"
            || arguments.only.is_empty()
            || arguments.only.iter().any(|only| name.starts_with(only))
    };
    let names: Vec<&str> = CANDIDATES.iter().filter(wanted).copied().collect();
    let mut run = Run::new("timers", command("bench -p benches --bench timers"));
    for &count in &arguments.count {
        if arguments.cachegrind {
            trace(count, &names);
        } else {
            compare(count, &names, arguments.runs, &mut run);
        }
    }
    arguments.output.save(&run);
}

fn child(name: &str, count: u32, reschedules: Option<u32>) {
    fn run<C: Candidate>(count: u32, reschedules: Option<u32>) {
        match reschedules {
            Some(reschedules) => workload::reschedule_only::<C>(count, reschedules),
            None => println!("{}", workload::measure::<C>(count).into_line()),
        }
    }
    let run = match name {
        "touch" => run::<Touch>,
        "tidewheel" => run::<Tidewheel>,
        "tidewheel, blocks of 16" => run::<BlockWheel>,
        "DelayQueue" => run::<DelayQueueTimers>,
        "BinaryHeap, lazy" => run::<Heap>,
        "BTreeSet" => run::<Tree>,
        "list wheel, eager" => run::<ListWheel>,
        "hierarchical_hash_wheel_timer" => run::<Hierarchical>,
        other => panic!("unknown candidate {other:?}"),
    };
    run(count, reschedules);
}

/// Runs this program as a child process, under `wrapper` if that is not empty. Returns standard output and standard
/// error.
fn spawn(wrapper: &[&str], name: &str, count: u32, reschedules: Option<u32>) -> (String, String) {
    let program = std::env::current_exe()
        .expect("this program has a path")
        .display()
        .to_string();
    let mut line: Vec<String> = wrapper.iter().map(ToString::to_string).collect();
    line.extend([
        program,
        "--child".into(),
        name.into(),
        "--count".into(),
        count.to_string(),
    ]);
    if let Some(reschedules) = reschedules {
        line.extend(["--reschedules".into(), reschedules.to_string()]);
    }
    let output = Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .output()
        .expect("the child can be started");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} failed: {stderr}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
}

fn compare(count: u32, names: &[&str], runs: usize, run: &mut Run) {
    println!(
        "\n### {count} timers, best of {runs} runs, ns beyond the cost of touching the record, which is the first row\n"
    );
    println!(
        "| | insert | reschedule | its sweep | ratio | clear | idle tick | expiry, 1 s | expiry, 1 tick | longest \
         step, us: keepalive | 1 s | 1 tick | bytes/timer |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    // Each round measures all candidates, so that a change of the machine's speed affects all of them.
    let mut rounds = vec![Vec::new(); names.len()];
    for _ in 0..runs {
        for (name, figures) in names.iter().zip(&mut rounds) {
            figures.push(Figures::from_line(&spawn(&[], name, count, None).0));
        }
    }
    let all: Vec<Figures> = rounds.into_iter().map(Figures::least).collect();
    let touch = &all[0];
    let cost = |figures: &Figures| figures.reschedule - touch.reschedule + figures.sweep;
    let baseline = names
        .iter()
        .position(|name| *name == "DelayQueue")
        .map(|at| cost(&all[at]));
    for (name, figures) in names.iter().zip(&all) {
        let over = |figure: f64, touch: f64| {
            if *name == "touch" {
                figure
            } else {
                figure - touch
            }
        };
        let ratio = match baseline {
            Some(baseline) if *name != "touch" => format!("{:.1}x", baseline / cost(figures)),
            Some(_) | None => String::new(),
        };
        if *name != "touch" {
            record(name, count, runs, figures, touch, run);
        }
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {ratio} | {:.1} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.1} |",
            over(figures.insert, touch.insert),
            over(figures.reschedule, touch.reschedule),
            figures.sweep,
            over(figures.clear, touch.clear),
            over(figures.idle_tick, touch.idle_tick),
            figures.expiry_second,
            figures.expiry_tick,
            figures.longest_keepalive_us,
            figures.longest_second_us,
            figures.longest_tick_us,
            figures.bytes,
        );
    }
    let expired: Vec<f64> = all[1..].iter().map(|figures| figures.expired).collect();
    assert!(
        expired.iter().all(|&each| each == expired[0]),
        "the candidates have different numbers of expiries: {expired:?}"
    );
    assert!(
        expired
            .first()
            .is_none_or(|&each| each >= 2.0 * f64::from(count))
    );
}

/// Adds a candidate to the run.
fn record(name: &str, count: u32, runs: usize, figures: &Figures, touch: &Figures, run: &mut Run) {
    let row = format!("{name}, {count} timers");
    let reschedule = figures.reschedule - touch.reschedule + figures.sweep;
    for (column, value) in [
        ("insert", figures.insert - touch.insert),
        ("reschedule and sweep", reschedule),
        ("expiry within 1 s", figures.expiry_second),
        ("longest step, us", figures.longest_second_us),
        ("bytes", figures.bytes),
    ] {
        run.add(&row, runs, column, Figure::least(value));
    }
}

fn trace(count: u32, names: &[&str]) {
    println!(
        "\n### {count} timers: a reschedule under cachegrind ({}), beyond the cost of touching the record\n",
        CACHES.join(" ")
    );
    println!("| | instructions | D1 misses | LL misses |\n|---|--:|--:|--:|");
    let wrapper = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=yes",
        "--cachegrind-out-file=/dev/null",
    ];
    let wrapper = [&wrapper[..], &CACHES[..]].concat();
    let mut touch = None;
    for name in names {
        let run = |reschedules| {
            let report = spawn(&wrapper, name, count, Some(reschedules)).1;
            ["I refs:", "D1 misses:", "LLd misses:"].map(|line| counter(&report, line))
        };
        let (without, with) = (run(0), run(CACHEGRIND_RESCHEDULES));
        let each = [0, 1, 2].map(|i| (with[i] - without[i]) / f64::from(CACHEGRIND_RESCHEDULES));
        let base = *touch.get_or_insert(each);
        let over = if *name == "touch" {
            each
        } else {
            [0, 1, 2].map(|i| each[i] - base[i])
        };
        println!(
            "| {name} | {:.1} | {:.2} | {:.2} |",
            over[0], over[1], over[2]
        );
    }
}

/// Returns the first number after `name` in the report of cachegrind.
fn counter(report: &str, name: &str) -> f64 {
    let words = report.split_whitespace().collect::<Vec<_>>().join(" ");
    let after = words
        .split(name)
        .nth(1)
        .unwrap_or_else(|| panic!("no {name:?} in {report}"));
    let number = after
        .split_whitespace()
        .next()
        .expect("a number follows")
        .replace(',', "");
    number
        .parse()
        .unwrap_or_else(|_| panic!("not a number: {number}"))
}
