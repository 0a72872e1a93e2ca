//! The end of the help text of each scenario.

/// Exit status, INVALID runs, gates and files.
pub(crate) const AFTER_HELP: &str = "\
Exit status:
  0    The run passed: every connection, every bound of the scenario and every gate is as \
expected.
  1    The run failed: a gate does not hold; messages were lost, altered, duplicated or \
reordered; connections ended unexpectedly; a bound of the scenario was exceeded; or the server \
did not start, refused connections or violated the protocol.
  2    The run is INVALID: the generator or its machine was the limit, so the figures do not \
describe the server. Or: the command line is wrong, this host lacks a requirement, or a file \
cannot be written.
  130  The run was interrupted.
       If both 1 and 2 apply, the status is 1, with one exception: if the run is INVALID, and \
only connections ended unexpectedly or bounds of the scenario were exceeded, the status is 2, \
because a late generator may be the reason.

A run is INVALID:
  1. If the server was busy for less than 80 % of the measured window, and
    - the generator's core was in use for 95 % of the window or more, by the generator, by other \
threads while the generator was ready to run, or by the host of a virtual machine, or
    - the generator's lateness was at least half of the reported latency, and at least 1 ms \
(99th percentiles).
    A server is busy while it is on a CPU or ready to run. A server that loadgen did not start \
counts as idle.
  2. If answers may have been unread for as long as the reported latency, and for at least 1 ms \
(`unread`, 99th percentiles).
  The report names the cause: the generator's own work, other work on this machine, or the host \
of this machine. These rules do not apply to a window below 20 ms, to a run in which the \
generator only waits, and to a bound that was met in spite of a late generator.

Gates (--assert, any number of them):
  NAME RELATION BOUND, such as protocol_error==0 or generator.busy<90%. With --baseline a bound \
can be a ratio to the baseline's value plus an absolute amount: generator.cpu_seconds<=1.15x+2s.
  NAME is a figure or an outcome of summary.json, or a latency followed by count, min, mean, \
p50, p90, p99, p99.9, p99.99 or max, such as LATENCY.p99. LATENCY.uncorrected.p99 counts from \
the send. Units are ns, us, ms, s, B, KiB, MiB, GiB, % and /s. A count has no unit. A share is a \
percentage or a fraction from 0 to 1. An unknown name is refused before the run, with a list of \
all names.

Files (--out DIR): summary.json, summary.md, junit.xml, NAME.hgrm and NAME.hlog (HdrHistogram) \
for each latency, and the plots percentiles.svg, rate.svg and course.svg.";
