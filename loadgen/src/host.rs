//! The host of a run: its limits, its cores and its addresses.

pub(crate) mod addresses;
pub(crate) mod cores;
pub(crate) mod limits;
