use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use datasets::checkpoint::{Checkpoint, CheckpointError, Description, Dtype, write};
use proptest::prelude::*;

use crate::child;

type Tensor = (String, Vec<usize>, Dtype, Vec<u8>);

fn tensor(name: &str, shape: &[usize], dtype: Dtype) -> Tensor {
    let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    let data = (0..bytes).map(|byte| byte as u8).collect();
    (name.to_owned(), shape.to_vec(), dtype, data)
}

fn description() -> Description {
    Description {
        arch: Some(String::from("resnet18")),
        width: Some(16),
        stem: Some(String::from("small")),
        channels: Some(1),
        classes: Some(2),
        mean: Some(vec![0.305_316_8]),
        std: Some(vec![0.1 + 0.2]),
        labels: Some(vec![String::from("zero \"0\""), String::from("één")]),
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| name(entry.unwrap()))
        .collect()
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/model.safetensors");
    let tensors = [
        tensor("layer.bias", &[3], Dtype::U8),
        tensor("layer.weight", &[3, 2], Dtype::F32),
        tensor("steps", &[], Dtype::I64),
        tensor("half", &[5], Dtype::BF16),
        tensor("none", &[0, 4], Dtype::F32),
    ];
    let extra = BTreeMap::from([(String::from("accuracy"), String::from("0.981"))]);
    write(&path, &tensors, &description(), &extra).unwrap();
    let read = Checkpoint::open(&path).unwrap();
    assert_eq!(read.description, description());
    assert_eq!(read.extra["accuracy"], "0.981");
    assert_eq!(read.extra["format"], "pt");
    assert_eq!(read.len(), tensors.len());
    for (name, shape, dtype, data) in &tensors {
        let got = read.tensor(name).unwrap();
        assert_eq!(
            (got.shape, got.dtype, got.bytes),
            (&shape[..], *dtype, &data[..])
        );
    }
    assert_eq!(entries(path.parent().unwrap()), ["model.safetensors"]);

    // The same content in another order gives the same bytes, and replaces the file.
    let first = fs::read(&path).unwrap();
    let mut reversed = tensors;
    reversed.reverse();
    write(&path, &reversed, &description(), &extra).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    // Large elements first, on their boundaries, so that a reader may use them in place.
    assert_eq!(u64::from_le_bytes(first[..8].try_into().unwrap()) % 8, 0);
    safetensors::SafeTensors::deserialize(&first).unwrap();
}

#[cfg(unix)]
#[test]
fn a_written_file_is_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, &[], &Description::default(), &BTreeMap::new()).unwrap();
    fs::write(dir.path().join("other"), "").unwrap();
    let mode = |name: &str| {
        fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(mode("model.safetensors"), mode("other"));
}

#[test]
fn what_no_file_can_hold_is_refused_before_writing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let none = BTreeMap::new();
    let refuse = |tensors: &[Tensor], description: &Description, extra| {
        let error = write(&path, tensors, description, extra).unwrap_err();
        assert!(matches!(error, CheckpointError::Content { .. }), "{error}");
        assert!(entries(dir.path()).is_empty());
        error.to_string()
    };
    let plain = Description::default();
    let a = tensor("a", &[2], Dtype::F32);
    let error = refuse(&[a.clone(), a.clone()], &plain, &none);
    assert!(error.ends_with("two tensors are named \"a\""), "{error}");
    let error = refuse(&[tensor("__metadata__", &[1], Dtype::U8)], &plain, &none);
    assert!(error.contains("keeps that name for itself"), "{error}");
    let mut short = a;
    short.3.pop();
    let error = refuse(&[short], &plain, &none);
    assert!(
        error.ends_with("tensor \"a\", F32 [2]: expected 8 bytes, got 7"),
        "{error}"
    );
    let clash = BTreeMap::from([(String::from("arch"), String::new())]);
    let error = refuse(&[], &plain, &clash);
    assert!(
        error.contains("\"arch\" belongs to the description"),
        "{error}"
    );
    let nan = Description {
        mean: Some(vec![f32::NAN]),
        ..Description::default()
    };
    let error = refuse(&[], &nan, &none);
    assert!(
        error.contains("description, mean: expected finite numbers, got NaN"),
        "{error}"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let write_to = |path: &Path| {
        let tensors = [tensor("a", &[2], Dtype::F32)];
        write(path, &tensors, &Description::default(), &BTreeMap::new()).unwrap_err()
    };
    // A file where a folder should be: refused for root, too.
    let error = write_to(&dir.path().join("file/model.safetensors"));
    assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
    let error = write_to(dir.path()).to_string();
    assert!(
        error.contains("expected the name of a file, got a folder"),
        "{error}"
    );
    // A rename would put a file in place of the device.
    let error = write_to(Path::new("/dev/null")).to_string();
    assert!(error.contains("got not a regular file"), "{error}");
    assert_eq!(entries(dir.path()), ["file"]);
}

/// A limit on the size of files stands for a full disk: the write fails half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_leaves_the_old_file() {
    let tensors = [tensor("a", &[1 << 20], Dtype::F32)];
    let none = BTreeMap::new();
    if child::is_child() {
        let path = std::env::var_os("CHECKPOINT").unwrap();
        let error = write(Path::new(&path), &tensors, &Description::default(), &none).unwrap_err();
        println!("error: {error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let small = [tensor("a", &[1], Dtype::F32)];
    write(&path, &small, &Description::default(), &none).unwrap();
    let before = fs::read(&path).unwrap();

    let test = "checkpoint_write::a_full_disk_is_told_and_leaves_the_old_file";
    let environment: [(&str, &OsStr); 1] = [("CHECKPOINT", path.as_os_str())];
    let output = child::run(test, &environment, Some(64));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("cannot write the checkpoint (41944"),
        "{text}"
    );
    assert!(text.contains("File too large"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(entries(dir.path()), ["model.safetensors"]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn any_description_and_any_names_survive(
        names in prop::collection::btree_set(".{0,12}", 0..6),
        arch in prop::option::of(".*"),
        width in prop::option::of(1_usize..4096),
        std in prop::option::of(prop::collection::vec(f32::MIN_POSITIVE..1e30, 0..4)),
        labels in prop::option::of(prop::collection::vec(".*", 0..4)),
        extra in prop::collection::btree_map("x.*", ".*", 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let tensors: Vec<Tensor> = names
            .iter()
            .enumerate()
            .map(|(i, name)| tensor(name, &[i, 2], [Dtype::F32, Dtype::U8, Dtype::F64][i % 3]))
            .collect();
        let description = Description { arch, width, std, labels, ..Description::default() };
        write(&path, &tensors, &description, &extra).unwrap();
        let read = Checkpoint::open(&path).unwrap();
        prop_assert_eq!(&read.description, &description);
        for (key, value) in &extra {
            prop_assert_eq!(&read.extra[key], value);
        }
        prop_assert_eq!(read.len(), tensors.len());
        for (name, shape, _, data) in &tensors {
            let got = read.tensor(name).unwrap();
            prop_assert_eq!((got.shape, got.bytes), (&shape[..], &data[..]));
        }
    }
}
