//! The results of benchmarks: one JSON file for each run, and the tables that are written from these files.
//!
//! A benchmark records its figures in a [`Run`](results::Run):
//!
//! ```
//! use benches::results::{Figure, Run};
//!
//! let mut run = Run::new("echo", "cargo run --release -p benches --bin peers -- echo".to_owned());
//! let measurements = [6.05, 5.65, 6.76];
//! run.add("echo, 20 B x 200", measurements.len(), "tidewheel", Figure::of(measurements));
//! assert_eq!(run.rows[0].n, Some(3));
//! println!("{}", run.to_json());
//! ```

pub mod results;
