//! Pools that are scaled, on virtual hosts with real guests, under real load.

mod fleet;
mod leader;
mod recovery;
mod scale;
