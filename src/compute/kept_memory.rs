//! In: nothing. Out: memory that was let go stays with the process for the next result. Networks let go of as much as they
//! ask for, and pages that come fresh from the system are cleared first: that took up to 7 % of a call
//! (docs/measurements/cpu-products.md).
#![allow(unsafe_code)]

/// Variables by which the user sets the allocator.
const USERS: [&str; 4] =
    ["GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"];

/// For all of this process (in threads but the first: what is below 64 MB), where the C library is glibc and the user has not set its allocator. For programs that do
/// nothing else: what was let go is not given back to the system.
pub fn keep() {
    if USERS.iter().all(|name| std::env::var_os(name).is_none()) {
        set();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set() {
    /// Larger results than those of any network here, and the most that glibc before 2.35 takes.
    const LARGEST: [libc::c_int; 2] = [1 << 30, 1 << 25];
    /// Never given back.
    const NEVER: libc::c_int = -1;
    /// Asked for at once, beyond what is wanted.
    const MORE: libc::c_int = 1 << 26;
    // SAFETY: `mallopt` takes any numbers, and answers 0 where it does not follow.
    unsafe {
        let _taken =
            LARGEST.into_iter().any(|size| libc::mallopt(libc::M_MMAP_THRESHOLD, size) == 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER);
        libc::mallopt(libc::M_TOP_PAD, MORE);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set() {}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Pages of this process that came from the system so far.
    fn fresh_pages() -> u64 {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        // Behind the name, which ends in the last bracket: minor faults are the eighth word.
        text.rsplit_once(')').unwrap().1.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// In a process of its own: others allocate meanwhile, and the setting is the whole process's.
    #[test]
    fn what_was_let_go_is_had_again_without_fresh_pages() {
        const CHILD: &str = "DPG_BENCH_KEPT_MEMORY";
        if let Ok(setting) = std::env::var(CHILD) {
            if setting == "kept" {
                set();
            }
            let before = fresh_pages();
            for round in 0..8u8 {
                // More than the 32 MB that glibc keeps unasked, and within the 64 MB of what threads but the first have.
                std::hint::black_box(vec![round + 1; 40 << 20]);
            }
            let pages = (fresh_pages() - before) / (40 << 8);
            // The first one is fresh in any case; all eight are where nothing is kept.
            assert!(if setting == "kept" { pages <= 2 } else { pages >= 7 }, "{pages} times");
            return;
        }
        for setting in ["kept", "plain"] {
            let ran = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "compute::kept_memory::tests::what_was_let_go_is_had_again_without_fresh_pages",
                ])
                .env(CHILD, setting)
                .output()
                .unwrap();
            assert!(ran.status.success(), "{setting}: {}", String::from_utf8_lossy(&ran.stdout));
            assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"));
        }
    }
}
