//! Options that scenarios share.

pub(crate) mod after_help;
pub(crate) mod common;
pub(crate) mod deadlines;
pub(crate) mod values;
