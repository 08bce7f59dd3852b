//! Free space on the disk of a folder, and what a folder takes.

use std::{path::Path, process::Command};

use anyhow::Context;

/// Size of all files below a folder; symbolic links are not followed.
///
/// # Errors
/// If a folder cannot be listed.
pub fn bytes_below(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => bytes_below(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}

/// Free bytes for this user on the file system that holds `folder`; `None` where `df` cannot tell.
///
/// `df -Pk` has one format on every POSIX system, and needs no foreign function.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|path| path.exists())?;
    let output = Command::new("df").arg("-Pk").arg(existing).output().ok()?;
    if !output.status.success() {
        return None;
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The fourth column (available, in KiB) of `df -Pk`'s second line.
fn parse(text: &str) -> Option<u64> {
    let available = text.lines().nth(1)?.split_whitespace().nth(3)?;
    available.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_posix_format() {
        let text = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n\
                    /dev/vda         263174212 18011040  77000000      19% /\n";
        assert_eq!(parse(text), Some(77_000_000 * 1024));
        assert_eq!(parse("Filesystem 1024-blocks\n"), None);
        assert_eq!(parse(""), None);
    }
}
