//! The exit status of a run.

use std::process::ExitCode;

/// A problem of a run, in order of increasing weight.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Sign {
    /// This host or the command line does not allow the run, or a file cannot be written.
    Unable,
    /// Connections ended unexpectedly, or a bound of the scenario was exceeded. A late generator
    /// may be the cause.
    NotAsAsked,
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
pub(crate) fn decide(signs: impl IntoIterator<Item = Sign>) -> Status {
    match signs.into_iter().max() {
        None => Status::Passed,
        Some(Sign::Unable | Sign::Invalid) => Status::Unusable,
        Some(Sign::NotAsAsked | Sign::ServerFault | Sign::MessagesWrong | Sign::GateFailed) => {
            Status::Failed
        }
        Some(Sign::Interrupted) => Status::Interrupted,
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
    pub(crate) sign: Sign,
    /// One sentence.
    pub(crate) reason: String,
}

/// The failures of a run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Failures(Vec<Failure>);

impl Failures {
    /// Adds a failure that a late generator may have caused, such as an exceeded bound.
    pub(crate) fn push(&mut self, reason: String) {
        self.add(Sign::NotAsAsked, reason);
    }

    /// Adds a failure of the kind `sign`.
    pub(crate) fn add(&mut self, sign: Sign, reason: String) {
        self.0.push(Failure { sign, reason });
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
    use Sign::{GateFailed, Interrupted, Invalid, MessagesWrong, NotAsAsked, ServerFault, Unable};

    #[test]
    fn the_heaviest_problem_decides_the_exit_status() {
        let table: [(&[Sign], u8); 20] = [
            (&[], 0),
            (&[NotAsAsked], 1),
            (&[ServerFault], 1),
            (&[MessagesWrong], 1),
            (&[GateFailed], 1),
            (&[Invalid], 2),
            (&[Unable], 2),
            (&[Interrupted], 130),
            // An invalid run excuses problems that a late generator may cause.
            (&[NotAsAsked, Invalid], 2),
            (&[NotAsAsked, Invalid, Unable], 2),
            // It does not hide failed gates, wrong messages, or a failed server.
            (&[GateFailed, Invalid], 1),
            (&[MessagesWrong, Invalid], 1),
            (&[ServerFault, Invalid], 1),
            (&[GateFailed, NotAsAsked, Invalid, Unable], 1),
            // An unwritable file hides no failure.
            (&[NotAsAsked, Unable], 1),
            (&[GateFailed, Unable], 1),
            (&[MessagesWrong, Unable], 1),
            (&[ServerFault, Unable], 1),
            (&[Invalid, Unable], 2),
            (&[Interrupted, GateFailed, Unable], 130),
        ];
        for (signs, status) in table {
            assert_eq!(decide(signs.iter().copied()) as u8, status, "{signs:?}");
            let reversed = signs.iter().rev().copied();
            assert_eq!(decide(reversed) as u8, status, "{signs:?} in reverse");
        }
    }
}
