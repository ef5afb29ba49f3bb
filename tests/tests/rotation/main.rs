//! Rotation of credentials: real servers, applications behind stand-ins of docker, systemd and pm2, and the command killed
//! everywhere.

mod adopt;
mod apps_compose;
mod apps_systemd;
mod checks;
mod drift;
mod emergency;
mod fault;
mod hanna_stack;
mod kill_rotation_alternate;
mod kill_rotation_columns;
mod kill_rotation_compose;
mod kill_rotation_desk;
mod kill_rotation_files;
mod kill_rotation_replica;
mod kill_rotation_services;
mod kill_rotation_sync;
mod kill_rotation_wire;
mod notices;
mod readme_quick_start;
mod runbook_r1;
mod runbook_r2_key;
mod runbook_r4;
mod schedule;
mod status;
