//! Which children a process has and what they cost, as the kernel tells.

use std::fs;
use std::process::Command;

use rustix::process::Pid;

/// CPU seconds, user and system, of this process; `None` where the system does not tell (it is read from `/proc`).
pub fn process_cpu_seconds() -> Option<f64> {
    let stat = Stat::read(rustix::process::getpid())?;
    Some(seconds(stat.own_ticks))
}

/// The most memory that this process has had in use, in MiB; `None` where the system does not tell.
pub fn peak_rss_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// CPU seconds, user and system, of a process, its living children and all children that it waited for.
pub(crate) fn tree_cpu_seconds(root: Pid) -> Option<f64> {
    let mut ticks = Stat::read(root)?.own_and_reaped_ticks;
    // A process may end while its entry is looked at: then its parent counts it from now on.
    ticks += children_in_proc(root)?.iter().map(|(_, stat)| stat.own_and_reaped_ticks).sum::<u64>();
    Some(seconds(ticks))
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The children of a process at this moment.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    match children_in_proc(parent) {
        Some(found) => found.into_iter().map(|(pid, _)| pid).collect(),
        None => children_by_ps(parent),
    }
}

fn children_in_proc(parent: Pid) -> Option<Vec<(Pid, Stat)>> {
    // Without the system's own entry there is no /proc here.
    Stat::read(parent)?;
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let found = entries.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        Some((pid, Stat::read(pid)?)).filter(|(_, stat)| stat.parent == parent.as_raw_pid())
    });
    Some(found.collect())
}

fn children_by_ps(parent: Pid) -> Vec<Pid> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
    let Ok(output) = output else { return Vec::new() };
    let lines = String::from_utf8_lossy(&output.stdout);
    let pairs = lines.lines().filter_map(|line| {
        let (pid, parent) = line.trim().split_once(' ')?;
        Some((pid.parse().ok()?, parent.trim().parse::<i32>().ok()?))
    });
    pairs.filter(|(_, of)| *of == parent.as_raw_pid()).filter_map(|(pid, _)| Pid::from_raw(pid)).collect()
}

/// The fields of `/proc/PID/stat` that are needed here, proc_pid_stat(5).
struct Stat {
    parent: i32,
    own_ticks: u64,
    own_and_reaped_ticks: u64,
}

impl Stat {
    fn read(pid: Pid) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
        // The name in field 2 may hold spaces and parentheses; what follows the last one does not.
        let after_name = &text[text.rfind(')')? + 1..];
        let mut fields = after_name.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let mut times = fields.skip(9).map(|field| field.parse::<u64>().ok());
        let mut next_two = || Some(times.next()?? + times.next()??);
        let (own_ticks, reaped_ticks) = (next_two()?, next_two()?);
        Some(Self { parent, own_ticks, own_and_reaped_ticks: own_ticks + reaped_ticks })
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
        assert!(process_cpu_seconds().unwrap() > 0.0);
    }

    #[test]
    fn memory_is_told() {
        let filled = vec![1_u8; 64 << 20];
        assert!(peak_rss_mib().unwrap() > 64.0);
        drop(filled);
    }

    #[test]
    fn children_are_found_both_ways() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let own = rustix::process::getpid();
        assert!(children(own).contains(&pid));
        assert!(children_by_ps(own).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(own).contains(&pid));
    }
}
