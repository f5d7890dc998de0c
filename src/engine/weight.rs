//! How much a folder holds.

use std::fs;
use std::path::Path;

/// A folder is weighed up to so many files.
const FILES_MAX: usize = 20_000;

/// The size of a folder's files, in bytes; none when they are too many to look at, or can't be.
pub fn weigh(folder: &Path) -> Option<i64> {
    let (mut bytes, mut files, mut waiting) = (0_u64, 0, vec![folder.to_owned()]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).ok()? {
            files += 1;
            if files > FILES_MAX {
                return None;
            }
            let entry = entry.ok()?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => waiting.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                // Gone since.
                Err(_) => {}
            }
        }
    }
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_weighs_what_its_files_do_and_one_that_cannot_be_read_is_not_known() {
        let folder = std::env::temp_dir().join(format!("signalbox-weight-{}", std::process::id()));
        fs::create_dir_all(folder.join("in/ner")).unwrap();
        assert_eq!(weigh(&folder), Some(0));
        fs::write(folder.join("a"), "12345").unwrap();
        fs::write(folder.join("in/ner/b"), "123").unwrap();
        // What a link leads to is somebody else's.
        std::os::unix::fs::symlink("/", folder.join("in/root")).unwrap();
        assert_eq!(weigh(&folder), Some(9));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(weigh(&folder), None);
    }
}
