//! ServiceEntry, beside others and the mesh's settings.

pub(super) mod addresses;
pub(super) mod protocols;
