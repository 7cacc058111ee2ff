//! Counts cases in what a step wrote: our runner's lines and those of Rust's test harness.

/// How many cases came out how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl Count {
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

pub fn count(text: &str) -> Count {
    let mut total = Count::default();
    for line in text.lines() {
        if line.starts_with("ok ") {
            total.passed += 1;
        } else if line.starts_with("FAILED ") {
            total.failed += 1;
        } else if line.starts_with("skipped ") {
            total.skipped += 1;
        } else if let Some(sums) = line.strip_prefix("test result: ") {
            total.add(&harness(sums));
        }
    }
    total
}

/// The lines that say what failed.
pub fn failures(text: &str) -> String {
    let says =
        |line: &&str| line.starts_with("FAILED ") || (line.starts_with("test ") && line.ends_with("FAILED"));
    text.lines().filter(says).map(|line| format!("{line}\n")).collect()
}

/// What a step wrote without cargo's progress.
pub fn without_progress(text: &str) -> String {
    let progress =
        ["Blocking", "Checking", "Compiling", "Downloaded", "Downloading", "Finished", "Locking", "Running"];
    let says = |line: &&str| !progress.iter().any(|word| line.trim_start().starts_with(word));
    text.lines().filter(says).map(|line| format!("{line}\n")).collect()
}

/// Sums such as `ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
fn harness(sums: &str) -> Count {
    let sum = |word: &str| {
        let before = sums.split([';', '.']).find_map(|part| part.trim().strip_suffix(word));
        before.and_then(|digits| digits.trim().parse().ok()).unwrap_or(0)
    };
    Count { passed: sum("passed"), failed: sum("failed"), skipped: sum("ignored") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lines_are_counted() {
        let text = "ok exec is followed\nFAILED pid reuse: wrong origin\nskipped sctp: no module\nokay\n";
        assert_eq!(count(text), Count { passed: 1, failed: 1, skipped: 1 });
        assert_eq!(failures(text), "FAILED pid reuse: wrong origin\n");
    }

    #[test]
    fn the_harness_s_sums_are_added() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                    test a::b ... FAILED\n\
                    test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(count(text), Count { passed: 5, failed: 1, skipped: 1 });
        assert_eq!(failures(text), "test a::b ... FAILED\n");
    }
}
