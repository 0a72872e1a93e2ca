//! The exit status of a run.

use std::process::ExitCode;

/// A problem of a run, in order of increasing weight.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Problem {
    /// This host or the command line does not allow the run, or a file cannot be written.
    Unable,
    /// Connections ended unexpectedly, or a bound of the scenario was exceeded. A late generator
    /// may be the cause.
    Unexpected,
    /// The generator or its machine was the limit.
    Invalid,
    /// The server failed, refused connections, or violated the protocol. A late generator cannot be
    /// the cause.
    ServerFault,
    /// Messages were lost, altered, duplicated or reordered.
    MessagesWrong,
    /// A gate does not hold.
    GateFailed,
    /// SIGINT or SIGTERM.
    Interrupted,
}

/// The exit status of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Everything is as expected.
    Passed = 0,
    /// Something is not as expected.
    Failed = 1,
    /// The run is invalid, or could not be done.
    Unusable = 2,
    /// Interrupted, as shells report SIGINT.
    Interrupted = 130,
}

/// Returns the exit status of the problem with the highest weight.
pub(crate) fn decide(problems: impl IntoIterator<Item = Problem>) -> Status {
    match problems.into_iter().max() {
        None => Status::Passed,
        Some(Problem::Unable | Problem::Invalid) => Status::Unusable,
        Some(
            Problem::Unexpected
            | Problem::ServerFault
            | Problem::MessagesWrong
            | Problem::GateFailed,
        ) => Status::Failed,
        Some(Problem::Interrupted) => Status::Interrupted,
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// A problem and its description.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) problem: Problem,
    /// One sentence.
    pub(crate) reason: String,
}

/// The failures of a run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Failures(Vec<Failure>);

impl Failures {
    /// Adds a failure that a late generator may have caused, such as an exceeded bound.
    pub(crate) fn push(&mut self, reason: String) {
        self.add(Problem::Unexpected, reason);
    }

    /// Adds a failure of the kind `problem`.
    pub(crate) fn add(&mut self, problem: Problem, reason: String) {
        self.0.push(Failure { problem, reason });
    }

    /// Moves all failures of `other` to this list.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Failure> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Problem::{
        GateFailed, Interrupted, Invalid, MessagesWrong, ServerFault, Unable, Unexpected,
    };

    #[test]
    fn the_heaviest_problem_decides_the_exit_status() {
        let table: [(&[Problem], u8); 20] = [
            (&[], 0),
            (&[Unexpected], 1),
            (&[ServerFault], 1),
            (&[MessagesWrong], 1),
            (&[GateFailed], 1),
            (&[Invalid], 2),
            (&[Unable], 2),
            (&[Interrupted], 130),
            // An invalid run excuses problems that a late generator may cause.
            (&[Unexpected, Invalid], 2),
            (&[Unexpected, Invalid, Unable], 2),
            // It does not hide failed gates, wrong messages, or a failed server.
            (&[GateFailed, Invalid], 1),
            (&[MessagesWrong, Invalid], 1),
            (&[ServerFault, Invalid], 1),
            (&[GateFailed, Unexpected, Invalid, Unable], 1),
            // An unwritable file hides no failure.
            (&[Unexpected, Unable], 1),
            (&[GateFailed, Unable], 1),
            (&[MessagesWrong, Unable], 1),
            (&[ServerFault, Unable], 1),
            (&[Invalid, Unable], 2),
            (&[Interrupted, GateFailed, Unable], 130),
        ];
        for (problems, status) in table {
            assert_eq!(
                decide(problems.iter().copied()) as u8,
                status,
                "{problems:?}"
            );
            let reversed = problems.iter().rev().copied();
            assert_eq!(decide(reversed) as u8, status, "{problems:?} in reverse");
        }
    }
}
