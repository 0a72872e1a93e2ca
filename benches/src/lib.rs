//! The results of benchmarks: one JSON file for each run, and the tables that are written from these files.

pub mod results;
