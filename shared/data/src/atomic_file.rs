//! Writing a file whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `path` through a temporary file in the same folder, then renames it into place.
///
/// Whoever reads `path` sees the old file or the new one, never a part of it. The data reach the
/// disk before the name does (fsync of the file, rename, fsync of the folder), so that this also
/// holds after a power cut. Missing folders are created. On an error, such as a full disk, the
/// temporary file is removed and an old `path` stays as it was.
///
/// # Errors
/// Any error of the file system, and `InvalidInput` if `path` names something that is not a
/// regular file: a rename would replace a folder's or a device's name.
pub(crate) fn write(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    if let Ok(metadata) = fs::metadata(path)
        && !metadata.is_file()
    {
        let what = if metadata.is_dir() {
            "a folder"
        } else {
            "not a regular file"
        };
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("expected the name of a file, got {what}"),
        ));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;

    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    // Without this the file would be private (0600): `tempfile` is made for secrets. The
    // process's umask still applies.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let temporary = builder.tempfile_in(folder)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    content(&mut writer)?;
    // Explicit: dropping a BufWriter swallows the error of its last write.
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// What to do about an error of writing, where there is something to do.
pub(crate) fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room on that disk, or choose another folder"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that you may write to"
        }
        _ => "",
    }
}
