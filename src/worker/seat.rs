//! The seat: a random word in the worker's own folder, by which Postgres tells it from another of its name.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The seat that is kept in a worker's folder; made, once, when there is none.
///
/// # Errors
/// When the folder can't be read or written.
pub fn seat(folder: &Path) -> io::Result<String> {
    let path = folder.join("seat");
    match fs::read_to_string(&path) {
        Ok(seat) if !seat.trim().is_empty() => return Ok(seat.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let seat = super::new_token();
    let passing = folder.join(".seat");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&passing)?;
    file.write_all(seat.as_bytes())?;
    file.sync_all()?;
    fs::rename(passing, path)?;
    Ok(seat)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_seat_is_made_once_and_is_its_owners_alone() {
        let folder = std::env::temp_dir().join(format!("signalbox-seat-{}", std::process::id()));
        let other = folder.join("other");
        fs::create_dir_all(&other).unwrap();
        let mine = seat(&folder).unwrap();
        assert_eq!(seat(&folder).unwrap(), mine);
        assert_ne!(seat(&other).unwrap(), mine);
        let mode = fs::metadata(folder.join("seat")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }
}
