//! Load models: open loop and closed loop.

/// The rule by which messages are due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LoadModel {
    /// Messages are due as planned, whatever is unanswered.
    OpenLoop,
    /// A message is due when an earlier one is answered, so it is never late.
    ClosedLoop,
}
