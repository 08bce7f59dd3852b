//! CIFAR-10: 60,000 colour images of 32x32 pixels in 10 classes, in its binary format.
//!
//! A record is 3,073 bytes: the label, then 1,024 red, 1,024 green and 1,024 blue pixels, each
//! plane row by row; a file is records without a header. The data are not in this repository:
//! their page names no licence, so each reader fetches them from there.
//!
//! Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
//! <https://www.cs.toronto.edu/~kriz/cifar.html>.

mod fetch;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use fetch::{Archive, FetchError, OFFICIAL, fetch, fetch_archive};

/// Width and height of an image, in pixels.
pub const SIDE: usize = 32;
/// Colour planes of an image: red, green, blue.
pub const CHANNELS: usize = 3;
/// How many classes there are.
pub const CLASSES: usize = 10;
/// Bytes of an image.
pub const IMAGE_BYTES: usize = CHANNELS * SIDE * SIDE;
/// Bytes of a record: a label and an image.
pub const RECORD_BYTES: usize = 1 + IMAGE_BYTES;

/// The folder's files that make the training part, in their order.
pub const TRAIN_FILES: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
/// The folder's file that is the test part.
pub const TEST_FILE: &str = "test_batch.bin";
/// The folder's file of class names.
pub const LABELS_FILE: &str = "batches.meta.txt";

/// The largest data file that is read: the real ones have 30.7 MB, all of it 184 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Images and labels, all in memory (the training part: 154 MB).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cifar10 {
    /// Pixels, `[images, 3, 32, 32]` (NCHW, RGB), each in `0..=255`.
    pub images: Vec<u8>,
    /// Labels, `[images]`, each in `0..10`.
    pub labels: Vec<u8>,
}

impl Cifar10 {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of image `index`, `[3, 32, 32]`.
    ///
    /// # Panics
    /// If `index` is not below [`Cifar10::len`], as a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * IMAGE_BYTES..(index + 1) * IMAGE_BYTES]
    }
}

/// Why bytes or a folder are not CIFAR-10.
#[derive(Debug, thiserror::Error)]
pub enum CifarError {
    /// No record at all.
    #[error("expected CIFAR-10 records of 3073 bytes, got none")]
    Empty,
    /// The last record is cut off, or this is another format.
    #[error(
        "truncated, or not CIFAR-10's binary format: expected whole records of 3073 bytes, got \
         {records} of them and {rest} bytes more"
    )]
    Truncated {
        /// Whole records.
        records: usize,
        /// Bytes after the last whole record.
        rest: usize,
    },
    /// A label that is no class.
    #[error("record {record}: expected a label from 0 to 9, got {got}")]
    Label {
        /// Record, from 0.
        record: usize,
        /// The label's byte.
        got: u8,
    },
    /// The class names are not ten.
    #[error("expected 10 class names, one a line, got {got}")]
    Labels {
        /// Names that were found.
        got: usize,
    },
    /// A file of the folder is not as it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        problem: Box<CifarError>,
    },
    /// A file of the folder cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder lacks files of the data set.
    #[error(
        "{}: expected CIFAR-10's binary files, missing {}; give the folder cifar-10-batches-bin \
         of cifar-10-binary.tar.gz", path.display(), missing.join(", ")
    )]
    Missing {
        /// The folder as it was given.
        path: PathBuf,
        /// The files that are not there.
        missing: Vec<&'static str>,
    },
    /// A file is far larger than any of the data set.
    #[error("expected a CIFAR-10 file of at most {limit} bytes, got {got}")]
    TooLarge {
        /// The largest file that is read, in bytes.
        limit: u64,
        /// The file's size in bytes.
        got: u64,
    },
    /// A folder, a device or a pipe stands where a file should be.
    #[error("expected a file, got something else")]
    NotAFile,
}

/// Reads records of CIFAR-10's binary format.
///
/// * `bytes`: the content of a file such as `test_batch.bin`; any number of records from 1
///
/// # Errors
/// [`CifarError`]: nothing at all, a record cut off, a label above 9.
pub fn parse(bytes: &[u8]) -> Result<Cifar10, CifarError> {
    let mut data = Cifar10::default();
    append(bytes, &mut data)?;
    Ok(data)
}

/// Reads records and appends them to `data`.
fn append(bytes: &[u8], data: &mut Cifar10) -> Result<(), CifarError> {
    if bytes.is_empty() {
        return Err(CifarError::Empty);
    }
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    if !rest.is_empty() {
        return Err(CifarError::Truncated {
            records: records.len(),
            rest: rest.len(),
        });
    }
    data.images.reserve_exact(records.len() * IMAGE_BYTES);
    data.labels.reserve_exact(records.len());
    for (record, [label, pixels @ ..]) in records.iter().enumerate() {
        if usize::from(*label) >= CLASSES {
            return Err(CifarError::Label {
                record,
                got: *label,
            });
        }
        data.labels.push(*label);
        data.images.extend_from_slice(pixels);
    }
    Ok(())
}

/// Reads the training and the test part from the folder `cifar-10-batches-bin`.
///
/// Returns `(train, test)`: 50,000 and 10,000 images in the real data set; any number here, so
/// that a small folder of the same format can stand in for it.
///
/// # Errors
/// [`CifarError`] names the files that are missing, or the one that is damaged.
pub fn read_folder(dir: &Path) -> Result<(Cifar10, Cifar10), CifarError> {
    let missing: Vec<&'static str> = TRAIN_FILES
        .into_iter()
        .chain([TEST_FILE])
        .filter(|name| !dir.join(name).exists())
        .collect();
    if !missing.is_empty() {
        return Err(CifarError::Missing {
            path: dir.to_owned(),
            missing,
        });
    }
    let mut train = Cifar10::default();
    for name in TRAIN_FILES {
        read_file(&dir.join(name), |bytes| append(bytes, &mut train))?;
    }
    let test = read_file(&dir.join(TEST_FILE), parse)?;
    Ok((train, test))
}

/// Reads the class names from the folder's `batches.meta.txt`: `airplane` to `truck`.
///
/// # Errors
/// [`CifarError`] if the file cannot be read or has not ten names.
pub fn read_labels(dir: &Path) -> Result<Vec<String>, CifarError> {
    read_file(&dir.join(LABELS_FILE), parse_labels)
}

/// Class names, one a line; the official file ends with empty lines.
fn parse_labels(bytes: &[u8]) -> Result<Vec<String>, CifarError> {
    let text = String::from_utf8_lossy(bytes);
    let names: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.len() != CLASSES {
        return Err(CifarError::Labels { got: names.len() });
    }
    Ok(names)
}

/// Reads a whole file, within the size limit, and names it in every error.
fn read_file<T>(
    path: &Path,
    read: impl FnOnce(&[u8]) -> Result<T, CifarError>,
) -> Result<T, CifarError> {
    let file = |problem| CifarError::File {
        path: path.to_owned(),
        problem: Box::new(problem),
    };
    let unreadable = |source| CifarError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(file(CifarError::NotAFile));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(file(CifarError::TooLarge {
            limit: MAX_FILE_BYTES,
            got: metadata.len(),
        }));
    }
    read(&fs::read(path).map_err(unreadable)?).map_err(file)
}
