//! Rotation of credentials with real servers and applications behind stand-ins of docker, systemd and pm2.

mod apps_compose;
mod apps_systemd;
mod checks;
mod hanna_stack;
