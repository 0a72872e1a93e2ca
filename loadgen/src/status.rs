//! The exit status of a run.

use std::process::ExitCode;

/// An end of a run at which not everything is as asked for; the one that weighs more comes later.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Sign {
    /// This host or the command line does not allow what was asked for, or a file cannot be written.
    Unable,
    /// Connections ended otherwise than asked for, or the scenario's own bound was not kept.
    NotAsAsked,
    /// The generator or its machine was the limit, which may be why something is not as asked for.
    Invalid,
    /// The server failed, refused, or broke the protocol: no generator can be the reason of that.
    ServerFault,
    /// Messages were lost, altered, doubled, or came out of order.
    MessagesWrong,
    /// A gate does not hold.
    GateFailed,
    /// SIGINT or SIGTERM.
    Interrupted,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Everything is as asked for.
    Passed = 0,
    /// Something is not.
    Failed = 1,
    /// The run says nothing about the server.
    Unusable = 2,
    /// As shells tell SIGINT.
    Interrupted = 130,
}

/// Decides the exit status, by the sign that weighs most.
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

/// Something that is not as asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) sign: Sign,
    /// One sentence.
    pub(crate) reason: String,
}

/// All that is not as asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Failures(Vec<Failure>);

impl Failures {
    /// Adds a bound that was not kept, or the like: the reason may be that the generator was late.
    pub(crate) fn push(&mut self, reason: String) {
        self.add(Sign::NotAsAsked, reason);
    }

    /// Adds one of another weight.
    pub(crate) fn add(&mut self, sign: Sign, reason: String) {
        self.0.push(Failure { sign, reason });
    }

    /// Adds those of another.
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
    fn the_status_of_each_combination() {
        let table: [(&[Sign], u8); 20] = [
            (&[], 0),
            (&[NotAsAsked], 1),
            (&[ServerFault], 1),
            (&[MessagesWrong], 1),
            (&[GateFailed], 1),
            (&[Invalid], 2),
            (&[Unable], 2),
            (&[Interrupted], 130),
            // A run that says nothing about the server excuses what a late generator may have caused.
            (&[NotAsAsked, Invalid], 2),
            (&[NotAsAsked, Invalid, Unable], 2),
            // It hides neither a gate, nor messages, nor a server that failed.
            (&[GateFailed, Invalid], 1),
            (&[MessagesWrong, Invalid], 1),
            (&[ServerFault, Invalid], 1),
            (&[GateFailed, NotAsAsked, Invalid, Unable], 1),
            // A file that cannot be written hides no failure.
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
