use std::fs;
use std::path::Path;

use datasets::cifar10::{self, CifarError, IMAGE_BYTES, RECORD_BYTES};

/// A record with a label and pixels that tell its place: plane, row and column.
pub fn record(label: u8) -> Vec<u8> {
    let pixel = |at: usize| (at / 1024 * 80 + at % 1024 / 32 + at % 32) as u8;
    std::iter::once(label)
        .chain((0..IMAGE_BYTES).map(pixel))
        .collect()
}

pub fn records(labels: &[u8]) -> Vec<u8> {
    labels.iter().flat_map(|label| record(*label)).collect()
}

pub const NAMES: &str =
    "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n\n";

/// The data set's files, with a few records each.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let batch = |i: u8| (format!("data_batch_{i}.bin"), records(&[i, i + 1]));
    let mut files: Vec<_> = (1..=5).map(batch).collect();
    files.push((String::from("test_batch.bin"), records(&[9, 0, 3])));
    files.push((String::from("batches.meta.txt"), NAMES.as_bytes().to_vec()));
    files
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files() {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn records_are_a_label_and_three_planes() {
    let data = cifar10::parse(&records(&[3, 9])).unwrap();
    assert_eq!(data.labels, [3, 9]);
    assert_eq!((data.len(), data.is_empty()), (2, false));
    assert_eq!(data.images.len(), 2 * IMAGE_BYTES);
    let image = data.image(1);
    // Channel 2 (blue), row 5, column 7.
    assert_eq!(image[2 * 1024 + 5 * 32 + 7], 172);
    assert_eq!(image, &record(9)[1..]);
}

#[test]
fn bad_records_are_refused() {
    assert!(matches!(cifar10::parse(&[]), Err(CifarError::Empty)));
    let two = records(&[1, 2]);
    for cut in [1, RECORD_BYTES - 1, RECORD_BYTES + 1, 2 * RECORD_BYTES - 1] {
        let error = cifar10::parse(&two[..cut]).unwrap_err().to_string();
        let (records, rest) = (cut / RECORD_BYTES, cut % RECORD_BYTES);
        let expected = format!("got {records} of them and {rest} bytes more");
        assert!(error.contains(&expected), "{error}");
    }
    let error = cifar10::parse(&records(&[9, 10])).unwrap_err().to_string();
    assert_eq!(error, "record 1: expected a label from 0 to 9, got 10");
}

#[test]
fn a_folder_gives_both_parts_in_order_and_names() {
    let dir = folder();
    let (train, test) = cifar10::read_folder(dir.path()).unwrap();
    assert_eq!(train.labels, [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]);
    assert_eq!(test.labels, [9, 0, 3]);
    assert_eq!(train.images.len(), 10 * IMAGE_BYTES);
    let names = cifar10::read_labels(dir.path()).unwrap();
    assert_eq!(
        (names.len(), names[0].as_str(), names[9].as_str()),
        (10, "airplane", "truck")
    );
}

#[test]
fn a_bad_folder_names_its_files() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);

    fs::write(at("data_batch_4.bin"), &records(&[1])[..100]).unwrap();
    let error = cifar10::read_folder(dir.path()).unwrap_err().to_string();
    assert!(error.contains("data_batch_4.bin: truncated"), "{error}");

    fs::remove_file(at("data_batch_4.bin")).unwrap();
    fs::remove_file(at("test_batch.bin")).unwrap();
    let error = cifar10::read_folder(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("missing data_batch_4.bin, test_batch.bin; give the folder"),
        "{error}"
    );

    fs::create_dir(at("data_batch_4.bin")).unwrap();
    fs::write(at("test_batch.bin"), records(&[1])).unwrap();
    let error = cifar10::read_folder(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("data_batch_4.bin: expected a file"),
        "{error}"
    );

    fs::remove_dir(at("data_batch_4.bin")).unwrap();
    fs::File::create(at("data_batch_4.bin"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = cifar10::read_folder(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("of at most 1073741824 bytes, got 1099511627776"),
        "{error}"
    );

    fs::write(at("batches.meta.txt"), "cat\ndog\n").unwrap();
    let error = cifar10::read_labels(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("expected 10 class names, one a line, got 2"),
        "{error}"
    );

    let error = cifar10::read_folder(Path::new("/nowhere")).unwrap_err();
    assert!(matches!(error, CifarError::Missing { .. }), "{error}");
}
