//! Pools that are scaled, on virtual hosts with real guests, under real load.

mod fleet;
mod hooks;
mod leader;
mod recovery;
mod refresh;
mod scale;
