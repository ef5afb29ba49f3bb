//! The sandbox on real servers: they start, die and come back as tests need them.

mod postgres;
mod proxy;
mod redis;
mod writer;
