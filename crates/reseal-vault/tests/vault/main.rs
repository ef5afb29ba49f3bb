//! The vault through its public face, on real files.

mod agent;
mod audit;
mod backup;
mod child;
mod integrity;
mod kill_points;
mod lifecycle;
mod rollback;
mod secrets;
mod slots;
mod snapshots;
mod support;
