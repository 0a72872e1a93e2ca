//! The files of `--out`, and the options `--baseline` and `--assert`.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{loadgen, run, text};

fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn out_writes_all_files() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("a/b");
    let arguments = ["--connections", "100", "--window", "200ms", "--out"];
    let run = run(&[&arguments[..], &[out.to_str().unwrap()]].concat());
    run.assert_passed();
    let mut expected = BTreeSet::from([
        "close.hgrm",
        "close.hlog",
        "course.svg",
        "fin.hgrm",
        "fin.hlog",
        "junit.xml",
        "lateness.hgrm",
        "lateness.hlog",
        "percentiles.svg",
        "rate.svg",
        "summary.json",
        "summary.md",
        "unread.hgrm",
        "unread.hlog",
    ]);
    // Hiccups are measured only with the right to real-time priority.
    if run.document.pointer("/latencies/hiccup").is_some() {
        expected.extend(["hiccup.hgrm", "hiccup.hlog"]);
    }
    assert_eq!(
        names(&out),
        expected.into_iter().map(str::to_owned).collect()
    );
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(summary, run.document);
    assert!(read("percentiles.svg").contains("99 %"));
    assert!(read("summary.md").contains("| closed | 100 |"));
    assert!(read("junit.xml").contains("loadgen close-storm"));
    assert!(read("close.hgrm").contains("Total count    =          100"));
}

#[test]
fn the_document_has_all_documented_fields() {
    let run = run(&["--connections", "20", "--seed", "5"]);
    assert_eq!(*run.at("/schema"), 1);
    assert_eq!(*run.at("/scenario"), "close-storm");
    assert_eq!(*run.at("/settings/mode"), "close");
    assert_eq!(*run.at("/generator/seed"), 5);
    assert_eq!(*run.at("/generator/rings"), 1);
    for pointer in [
        "/version",
        "/server/address",
        "/server/child",
        "/server/process_id",
        "/server/core",
        "/server/causes",
        "/generator/core",
        "/connections",
        "/outcomes/closed",
        "/latencies/fin/corrected/p99.9",
        "/latencies/fin/uncorrected/mean",
        "/latencies/fin/curve/0/1",
        "/latencies/lateness/corrected/min",
        "/latencies/unread/corrected/max",
        "/figures/window_seconds",
        "/figures/server.busy",
        "/figures/server.cpu_seconds",
        "/figures/generator.busy",
        "/figures/generator.waiting",
        "/figures/generator.stolen",
        "/figures/machine.stolen_seconds",
        "/figures/generator.cpu_seconds",
        "/gates",
        "/verdict",
        "/reasons",
        "/invalid",
        "/discarded",
    ] {
        run.at(pointer);
    }
}

#[test]
fn each_failed_gate_is_a_reason_and_decides_the_status() {
    let gates = ["--assert", "closed==20", "--assert", "fin.p99.9<1h"];
    let base = ["--connections", "20"];
    // Hours are not a unit of gates.
    let output = loadgen(&[&base[..], &gates].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let gates = ["--assert", "closed==20", "--assert", "fin.p99.9<3600s"];
    run(&[&base[..], &gates].concat()).assert_passed();
    let gates = [
        "--assert",
        "closed==21",
        "--assert",
        "fin.p99>3600s",
        "--assert",
        "closed==20",
    ];
    let run = run(&[&base[..], &gates].concat());
    let failed: Vec<_> = run.at("/gates").as_array().unwrap().iter().collect();
    let passed: Vec<_> = failed.iter().map(|gate| gate["passed"] == true).collect();
    assert_eq!(passed, [false, false, true]);
    let reasons = run.at("/reasons").to_string();
    assert!(reasons.contains("closed==21"), "{reasons}");
    run.assert_failed_despite_limit();
    assert_eq!(*run.at("/gates/0/unit"), "count");
    assert_eq!(*run.at("/gates/1/unit"), "seconds");
    assert!(reasons.contains("(measured 20, limit 21)"), "{reasons}");
    assert!(reasons.contains("limit 3600 s)"), "{reasons}");
}

#[test]
fn an_unwritable_directory_is_refused_before_the_run() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for out in [file.to_str().unwrap(), "/proc/loadgen"] {
        let output = loadgen(&["--connections", "20", "--out", out]).output();
        let output = output.unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(2), "{printed}");
        assert!(
            printed.contains("--out needs a directory to write to"),
            "{printed}"
        );
        assert!(!printed.contains("opened"), "{printed}");
    }
}

#[test]
fn unwritable_files_do_not_hide_the_report_or_a_failure() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().to_str().unwrap();
    // A directory with the name of a file.
    fs::create_dir(directory.path().join("summary.md")).unwrap();
    for (gate, status) in [("closed==20", 2), ("closed==21", 1)] {
        let arguments = ["--connections", "20", "--out", out, "--assert", gate];
        let run = run(&arguments);
        assert_eq!(run.status, status, "{gate}");
        assert_eq!(run.number("/outcomes/closed"), 20.0);
    }
}

#[test]
fn a_baseline_is_compared_and_plotted() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (directory.path().join("1"), directory.path().join("2"));
    let base = ["--connections", "50", "--window", "100ms"];
    let out = ["--out", first.to_str().unwrap()];
    run(&[&base[..], &out].concat()).assert_passed();
    let baseline = first.join("summary.json");
    let baseline = baseline.to_str().unwrap();
    let compared = [
        "--out",
        second.to_str().unwrap(),
        "--baseline",
        baseline,
        "--assert",
        "fin.p99<=1x+10s",
    ];
    run(&[&base[..], &compared].concat()).assert_passed();
    let plot = fs::read_to_string(second.join("percentiles.svg")).unwrap();
    assert!(plot.contains("fin, baseline"));
    let page = fs::read_to_string(second.join("summary.md")).unwrap();
    assert!(page.contains("| fin, baseline |"), "{page}");
    // A baseline of another scenario.
    let output = loadgen(&["churn", "--baseline", baseline])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("is of scenario close-storm"));
    // A baseline without the figure.
    let missing = [
        "--baseline",
        baseline,
        "--assert",
        "server.window_syscalls<=1x",
    ];
    let arguments = [&missing[..], &["--count-syscalls"]].concat();
    let output = loadgen(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("there is no server.window_syscalls in the baseline"));
    // A ratio without a baseline.
    let output = loadgen(&["--assert", "fin.p99<=2x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("'fin.p99<=2x' compares with a baseline"));
    // A document of another kind, and a baseline with other settings.
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let output = loadgen(&["--baseline", readme]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("is not a summary.json of --out"));
    let other = ["--connections", "40", "--window", "200ms"];
    let other = [&other[..], &["--baseline", baseline]].concat();
    let gate = ["--assert", "closed<=1x"];
    let printed = text(&loadgen(&[&other[..], &gate].concat()).output().unwrap());
    for message in [
        "note: the baseline is of another run: connections was 50, and is 40",
        "note: the baseline is of another run: window was 100ms, and is 200ms",
        "(measured 40, limit 50, baseline 50)",
    ] {
        assert!(printed.contains(message), "{message}: {printed}");
    }
}
