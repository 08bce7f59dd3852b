//! A folder of JPEG and PNG files as a sorted list of paths.
//!
//! The layout is torchvision's `ImageFolder`, or less: pictures in the folder itself, and
//! pictures in its subfolders, whose names are then their classes. Nothing deeper is looked at.
//! No file is opened here: names alone decide, so that 100,000 of them are listed in a moment,
//! and whether a file is a picture is seen where it is decoded.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// The extensions that are looked for, in any case.
pub const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// The pictures of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The pictures, sorted by path.
    pub images: Vec<Image>,
    /// The names of the subfolders that hold pictures, sorted.
    pub classes: Vec<String>,
    /// What has a picture's name and is left out, sorted by path; and folders that are too deep.
    pub skipped: Vec<Skipped>,
    /// How many entries have other names and are left out, such as text files.
    pub other_entries: usize,
}

/// A picture's path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// The path, beginning with the folder as it was given.
    pub path: PathBuf,
    /// Index into [`Listing::classes`]; none for a picture in the folder itself.
    pub class: Option<usize>,
}

/// An entry that is left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The path, beginning with the folder as it was given.
    pub path: PathBuf,
    /// Why it is left out.
    pub reason: &'static str,
}

/// Why a folder gives no list of pictures.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// There is nothing of that name.
    #[error("{}: no such folder; give a folder of JPEG or PNG files", path.display())]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// It is something else than a folder.
    #[error("{}: expected a folder of JPEG or PNG files, got {got}", path.display())]
    NotAFolder {
        /// The path as it was given.
        path: PathBuf,
        /// What it is.
        got: &'static str,
    },
    /// The folder, a subfolder or an entry cannot be read.
    #[error("{}: cannot read: {source}; change its permissions, or move it out of the folder", path.display())]
    Unreadable {
        /// The entry that cannot be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder has no picture.
    #[error(
        "{}: no picture; looked for names that end in .{} (any case), here and in its subfolders; \
         found {other_entries} other entries{}",
        path.display(), EXTENSIONS.join(", ."), first_skipped(skipped)
    )]
    NoImages {
        /// The path as it was given.
        path: PathBuf,
        /// Entries of other names.
        other_entries: usize,
        /// What has a picture's name and was left out.
        skipped: Vec<Skipped>,
    },
}

/// Lists the pictures of a folder and of its subfolders, sorted, without opening any.
///
/// * `dir`: a folder; subfolders are classes, as in torchvision's `ImageFolder`
///
/// Left out and named in [`Listing::skipped`]: links that lead out of the folder or nowhere,
/// links to folders, pipes and devices with a picture's name, folders inside subfolders. Names
/// that begin with a dot are left out (macOS writes `._photo.jpg` beside `photo.jpg` on foreign
/// disks, and it is no picture).
///
/// # Errors
/// [`ImagesError`]: no such folder, not a folder, something unreadable, no picture.
pub fn list(dir: &Path) -> Result<Listing, ImagesError> {
    let unreadable = |source| ImagesError::Unreadable {
        path: dir.to_owned(),
        source,
    };
    let metadata = match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ImagesError::NotFound {
                path: dir.to_owned(),
            });
        }
        metadata => metadata.map_err(unreadable)?,
    };
    if !metadata.is_dir() {
        let got = if metadata.is_file() {
            "a file"
        } else {
            "neither a folder nor a file"
        };
        return Err(ImagesError::NotAFolder {
            path: dir.to_owned(),
            got,
        });
    }
    // Links are held against the folder's real place, so that a folder given by a link works.
    let root = fs::canonicalize(dir).map_err(unreadable)?;

    let mut folder = Folder {
        root,
        paths: Vec::new(),
        subfolders: Vec::new(),
        ..Folder::default()
    };
    folder.read(dir)?;
    let mut images: Vec<Image> = folder
        .paths
        .drain(..)
        .map(|path| Image { path, class: None })
        .collect();

    let mut classes = Vec::new();
    let mut subfolders = std::mem::take(&mut folder.subfolders);
    subfolders.sort_unstable();
    for subfolder in subfolders {
        folder.read(&subfolder)?;
        let too_deep = folder.subfolders.drain(..).map(|path| Skipped {
            path,
            reason: "a folder in a subfolder; only one level of subfolders is read",
        });
        folder.skipped.extend(too_deep);
        if folder.paths.is_empty() {
            continue;
        }
        let class = Some(classes.len());
        let name = subfolder.file_name().unwrap_or(subfolder.as_os_str());
        classes.push(name.to_string_lossy().into_owned());
        images.extend(folder.paths.drain(..).map(|path| Image { path, class }));
    }

    folder.skipped.sort_unstable();
    if images.is_empty() {
        return Err(ImagesError::NoImages {
            path: dir.to_owned(),
            other_entries: folder.other_entries,
            skipped: folder.skipped,
        });
    }
    images.sort_unstable();
    Ok(Listing {
        images,
        classes,
        skipped: folder.skipped,
        other_entries: folder.other_entries,
    })
}

/// What reading folders has found so far.
#[derive(Default)]
struct Folder {
    root: PathBuf,
    paths: Vec<PathBuf>,
    subfolders: Vec<PathBuf>,
    skipped: Vec<Skipped>,
    other_entries: usize,
}

impl Folder {
    /// Sorts the entries of one folder into pictures, subfolders and the rest.
    fn read(&mut self, dir: &Path) -> Result<(), ImagesError> {
        let unreadable = |path: &Path, source| ImagesError::Unreadable {
            path: path.to_owned(),
            source,
        };
        for entry in fs::read_dir(dir).map_err(|source| unreadable(dir, source))? {
            let entry = entry.map_err(|source| unreadable(dir, source))?;
            self.sort_in(&entry)
                .map_err(|source| unreadable(&entry.path(), source))?;
        }
        Ok(())
    }

    fn sort_in(&mut self, entry: &DirEntry) -> io::Result<()> {
        let name = entry.file_name();
        // From the folder's own record on Linux and macOS: no system call for each of 100,000.
        let kind = entry.file_type()?;
        if name.as_encoded_bytes().starts_with(b".") {
            self.other_entries += 1;
        } else if kind.is_dir() {
            self.subfolders.push(entry.path());
        } else if !has_image_extension(Path::new(&name)) {
            self.other_entries += 1;
        } else if kind.is_file() {
            self.paths.push(entry.path());
        } else if kind.is_symlink() {
            match self.refusal_of_link(&entry.path()) {
                None => self.paths.push(entry.path()),
                Some(reason) => self.skipped.push(Skipped {
                    path: entry.path(),
                    reason,
                }),
            }
        } else {
            // To open a pipe would wait for a writer, for ever.
            let reason = "neither a file nor a folder";
            self.skipped.push(Skipped {
                path: entry.path(),
                reason,
            });
        }
        Ok(())
    }

    /// Why a link with a picture's name is not followed; none if it may be.
    fn refusal_of_link(&self, link: &Path) -> Option<&'static str> {
        match fs::canonicalize(link) {
            Err(_) => Some("a link that leads nowhere"),
            Ok(target) if !target.starts_with(&self.root) => Some("a link out of the folder"),
            Ok(target) if !target.is_file() => Some("a link to something that is not a file"),
            Ok(_) => None,
        }
    }
}

fn has_image_extension(name: &Path) -> bool {
    name.extension().is_some_and(|extension| {
        EXTENSIONS
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// A clause on the first entry that was left out.
fn first_skipped(skipped: &[Skipped]) -> String {
    match skipped {
        [] => String::new(),
        [first, ..] => format!(
            " and left out {}, such as {} ({})",
            skipped.len(),
            first.path.display(),
            first.reason
        ),
    }
}
