use std::fs;
use std::path::Path;

use datasets::checkpoint::{Checkpoint, CheckpointError, Dtype, FormatError, Problem, Spec};

/// A file with this header, these many bytes of data, and the header's true length.
pub fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    bytes
}

const TWO: &str = r#"{"__metadata__":{"arch":"resnet18","width":"16","mean":"[0.5]","by":"hand"},
"fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
"bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}"#;

fn problem(bytes: Vec<u8>) -> FormatError {
    match Checkpoint::parse(bytes) {
        Err(CheckpointError::Format { problem, .. }) => problem,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn spec(name: &str, shape: &[usize], dtype: Dtype) -> Spec {
    Spec {
        name: name.to_owned(),
        shape: shape.to_vec(),
        dtype,
        optional: false,
    }
}

#[test]
fn a_sound_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("two.safetensors");
    fs::write(&path, file(TWO, 16)).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(
        checkpoint.names().collect::<Vec<_>>(),
        ["bn.num_batches_tracked", "fc.bias"]
    );
    assert_eq!(checkpoint.len(), 2);
    let bias = checkpoint.tensor("fc.bias").unwrap();
    assert_eq!(
        (bias.shape, bias.dtype, bias.bytes),
        (&[2][..], Dtype::F32, &[7; 8][..])
    );
    assert!(checkpoint.tensor("fc").is_none());
    assert_eq!(
        checkpoint
            .tensors()
            .map(|tensor| tensor.bytes.len())
            .sum::<usize>(),
        16
    );
    assert_eq!(checkpoint.description.arch.as_deref(), Some("resnet18"));
    assert_eq!(checkpoint.description.width, Some(16));
    assert_eq!(checkpoint.description.mean, Some(vec![0.5]));
    assert_eq!(checkpoint.description.labels, None);
    assert_eq!(checkpoint.extra["by"], "hand");
    assert_eq!(checkpoint.extra.len(), 1);
    // The smallest file of all: smaller than what is first read of any.
    fs::write(&path, file("{}", 0)).unwrap();
    assert!(Checkpoint::open(&path).unwrap().is_empty());
}

#[test]
fn every_truncation_is_refused_by_open_as_by_parse() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.safetensors");
    let whole = file(TWO, 16);
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let opened = Checkpoint::open(&path).unwrap_err().to_string();
        let parsed = problem(whole[..length].to_vec()).to_string();
        assert_eq!(opened, format!("{}: {parsed}", path.display()));
    }
    let error = problem(whole[..whole.len() - 1].to_vec());
    let (expected, got) = (whole.len() as u64, whole.len() as u64 - 1);
    assert!(
        matches!(error, FormatError::Truncated { expected: e, got: g } if (e, g) == (expected, got))
    );
    assert!(matches!(
        problem(whole[..20].to_vec()),
        FormatError::HeaderTruncated { got: 20, .. }
    ));
    assert!(matches!(
        problem(Vec::new()),
        FormatError::TooShort { got: 0, .. }
    ));
    let longer = [whole, vec![0]].concat();
    assert!(matches!(problem(longer), FormatError::TooLong { .. }));
}

#[test]
fn what_is_another_format_is_told() {
    let cases: [(&[u8], &str); 6] = [
        (
            b"PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl",
            "a zip file, as torch.save writes",
        ),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a pickle"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html><html>", "an HTML or XML page"),
        (b"{\"a\": 1, \"b\": 2}", "JSON text"),
        (b"<html>", "an HTML or XML page"),
    ];
    for (bytes, expected) in cases {
        let error = problem(bytes.to_vec()).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend_from_slice(b"{}");
    assert!(matches!(
        problem(huge),
        FormatError::HeaderTooLarge {
            limit: 100_000_000,
            got: u64::MAX,
            looks_like: None
        }
    ));
}

#[test]
fn a_damaged_header_is_named() {
    let cases = [
        (
            "[]",
            "expected a safetensors header (JSON), got something else",
        ),
        ("{\"a\":1}", "\"a\": invalid type: integer"),
        (
            r#"{"a":{"dtype":"F31","shape":[],"data_offsets":[0,4]}}"#,
            "\"a\": unknown variant `F31`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            "\"a\": invalid value",
        ),
        (
            r#"{"a":{"shape":[],"data_offsets":[0,4]}}"#,
            "\"a\": missing field `dtype`",
        ),
        (
            r#"{"__metadata__":{"a":1}}"#,
            "\"__metadata__\": invalid type",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
            "two tensors are named \"a\"",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            "tensor \"a\", F32 [2], should have 8 bytes, its offsets 0..4 say otherwise",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[4,3]}}"#,
            "should have 1 bytes, its offsets 4..3 say otherwise",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
            "should have more than 2^64 bytes",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[5,9]}}"#,
            "tensor \"b\" should begin at byte 4 of the data, got 5",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            "tensor \"b\" should begin at byte 4 of the data, got 0",
        ),
    ];
    for (header, expected) in cases {
        let error = problem(file(header, 4)).to_string();
        assert!(error.contains(expected), "{header}\n{error}");
    }
    assert!(
        problem(file("\u{1}\u{2}{}", 0))
            .to_string()
            .contains("header (JSON)")
    );
}

/// The safetensors crate (0.8.0) adds these sizes up without a check and panics.
#[test]
fn sizes_that_add_up_to_2_to_64_do_not_overflow() {
    let most = (1_u64 << 61) - 1;
    let entries: Vec<String> = (0..8)
        .map(|i| {
            let (start, end) = (i * most, (i + 1) * most);
            format!(r#""{i}":{{"dtype":"U8","shape":[{most}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let error = problem(file(&format!("{{{}}}", entries.join(",")), 0));
    assert!(matches!(error, FormatError::Truncated { .. }), "{error}");
}

#[test]
fn a_description_that_cannot_be_meant_is_refused() {
    let cases = [
        (
            r#""width":"wide""#,
            "metadata \"width\": expected a whole number, got \"wide\"",
        ),
        (
            r#""classes":"0""#,
            "metadata \"classes\": expected at least 1, got \"0\"",
        ),
        (
            r#""mean":"0.5""#,
            "expected a JSON list of numbers, got \"0.5\"",
        ),
        (
            r#""std":"[0.0]""#,
            "metadata \"std\": expected numbers above 0",
        ),
        (r#""mean":"[1e99]""#, "metadata \"mean\": expected"),
        (
            r#""channels":"3","mean":"[0.5]""#,
            "expected a number for each of 3 channels, got \"1\"",
        ),
        (
            r#""classes":"2","labels":"[\"a\"]""#,
            "expected a name for each of 2 classes, got \"1\"",
        ),
    ];
    for (metadata, expected) in cases {
        let error = problem(file(&format!("{{\"__metadata__\":{{{metadata}}}}}"), 0)).to_string();
        assert!(error.contains(expected), "{metadata}\n{error}");
    }
}

#[test]
fn check_lists_every_difference_at_once() {
    let header = r#"{"__metadata__":{"arch":"resnet34","classes":"10"},
"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
"b.weight":{"dtype":"F16","shape":[2],"data_offsets":[16,20]},
"bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[20,28]},
"extra\u001b[31m":{"dtype":"U8","shape":[1],"data_offsets":[28,29]}}"#;
    let checkpoint = Checkpoint::parse(file(header, 29)).unwrap();
    let mut lacking = spec("opt", &[1], Dtype::F32);
    lacking.optional = true;
    let expected = [
        spec("a.weight", &[2, 3], Dtype::F32),
        spec("b.weight", &[2], Dtype::F32),
        spec("c.weight", &[5], Dtype::F32),
        spec("bn2.num_batches_tracked", &[], Dtype::I64),
        lacking,
    ];
    let error = checkpoint.check(&expected).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint: not the weights of this model, 4 differences:\n  \
         \"a.weight\": expected F32 [2, 3], got F32 [2, 2]\n  \
         \"b.weight\": expected F32 [2], got F16 [2]\n  \
         \"c.weight\": expected F32 [5], missing\n  \
         \"extra\\u{1b}[31m\": expected no such tensor, got U8 [1]\n\
         the file says that it is: resnet34, 10 classes"
    );
    let CheckpointError::Mismatch { problems, .. } = error else {
        panic!()
    };
    assert!(matches!(&problems[2], Problem::Missing { expected } if expected.name == "c.weight"));
}

#[test]
fn check_accepts_what_fits_with_or_without_counters() {
    let checkpoint = Checkpoint::parse(file(TWO, 16)).unwrap();
    let bias = spec("fc.bias", &[2], Dtype::F32);
    let counter = spec("bn.num_batches_tracked", &[], Dtype::I64);
    let other = spec("bn9.num_batches_tracked", &[], Dtype::I64);
    checkpoint.check(std::slice::from_ref(&bias)).unwrap();
    checkpoint.check(&[bias.clone(), counter, other]).unwrap();
    // A counter that the model knows must still be one.
    let wrong = spec("bn.num_batches_tracked", &[1], Dtype::I64);
    let error = checkpoint.check(&[bias, wrong]).unwrap_err().to_string();
    assert!(error.contains("1 difference:"), "{error}");
    assert!(
        error.contains("choose") || error.contains("the file says"),
        "{error}"
    );
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(&dir.path().join("missing")).unwrap_err();
    assert!(matches!(error, CheckpointError::NotFound { .. }), "{error}");
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("expected a safetensors file, got a folder"),
        "{error}"
    );
    let error = Checkpoint::open(Path::new("/dev/zero"))
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("expected a safetensors file, got not a regular file"),
        "{error}"
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Checkpoint::open(&file.join("inside")).unwrap_err();
    assert!(matches!(error, CheckpointError::Read { .. }), "{error}");
}

/// A wrong file of a terabyte is refused by its first bytes, not read.
#[test]
fn a_huge_wrong_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    // Eight zero bytes are a header of no length, and no JSON.
    let CheckpointError::Format {
        problem: FormatError::Header { .. },
        ..
    } = error
    else {
        panic!("{error}");
    };
}
