//! Looks at a running command again and again: arguments and environment of it and of its children, and the files of
//! its directory, so that what exists only for a moment is seen too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What was seen, by place.
type Seen = BTreeMap<String, Vec<u8>>;

pub(super) struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    pub(super) fn start(pid: u32, directory: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let over = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::new();
            while !over.load(Ordering::SeqCst) {
                look_at_processes(pid, &mut seen);
                // The vault's journal and temporary files; the vault itself is looked at when the command has ended.
                for (name, bytes) in
                    files(&directory).into_iter().filter(|(name, _)| !name.ends_with(".vault"))
                {
                    seen.entry(format!("{name}, {} bytes", bytes.len())).or_insert(bytes);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { ended, thread }
    }

    pub(super) fn stop(self) -> Seen {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn look_at_processes(root: u32, seen: &mut Seen) {
    let mut family = vec![root];
    let mut index = 0;
    while index < family.len() {
        let pid = family[index];
        for what in ["cmdline", "environ"] {
            // A process may end while it is looked at.
            if let Ok(bytes) = std::fs::read(format!("/proc/{pid}/{what}")) {
                seen.entry(format!("{what} of {pid}, {} bytes", bytes.len())).or_insert(bytes);
            }
        }
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        index += 1;
    }
}

/// The files below a directory.
pub(super) fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.is_file() {
                // A file may go while it is looked at.
                found.extend(std::fs::read(&path).ok().map(|bytes| (path.display().to_string(), bytes)));
            }
        }
    }
    found
}
