//! What processes cost: CPU time and memory, as the kernel tells.

use std::fs;

use rustix::process::Pid;

/// CPU seconds, user and system, of a process, its living children and all children that it waited for.
pub(crate) fn tree_cpu_seconds(root: Pid) -> Option<f64> {
    let root = root.as_raw_nonzero().get();
    let mut ticks = Stat::read(root)?.own_and_reaped_ticks;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while its entry is looked at: then its parent counts it from now on.
        let Some(stat) = Stat::read(pid) else { continue };
        if stat.parent == root {
            ticks += stat.own_and_reaped_ticks;
        }
    }
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The fields of `/proc/PID/stat` that are needed here, proc_pid_stat(5).
struct Stat {
    parent: i32,
    own_and_reaped_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in field 2 may hold spaces and parentheses; what follows the last one does not.
        let after_name = &text[text.rfind(')')? + 1..];
        let mut fields = after_name.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let times = fields.skip(9).take(4).map(|field| field.parse::<i64>().ok());
        let ticks = times.sum::<Option<i64>>()?;
        Some(Self { parent, own_and_reaped_ticks: ticks.try_into().ok()? })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn own_work_is_counted() {
        let pid = rustix::process::getpid();
        let before = tree_cpu_seconds(pid).unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed().as_millis() < 100 {
            std::hint::spin_loop();
        }
        assert!(tree_cpu_seconds(pid).unwrap() > before);
    }
}
