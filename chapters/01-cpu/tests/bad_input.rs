//! Whatever comes in: a bad picture is named and skipped, and the run ends with
//! exit code 1; everything else is refused before work begins, with what to do.
//! Nothing panics, nothing hangs. See `fixtures/make_fixtures.py` for the small
//! pictures.

mod program;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use cpu_inference::preprocess::{self, PictureError};
use datasets::checkpoint::{self, Checkpoint, Dtype};
use predicates::prelude::*;
use program::{
    DIGITS, best, classify, finish, fixture, photograph, predictions, program, reason, root,
    summary,
};
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A PNG's chunk, with its checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut chunk = (data.len() as u32).to_be_bytes().to_vec();
    chunk.extend_from_slice(kind);
    chunk.extend_from_slice(data);
    // CRC-32 of the PNG specification, annex D, without its table.
    let mut crc = u32::MAX;
    for byte in &chunk[4..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    chunk.extend_from_slice(&(!crc).to_be_bytes());
    chunk
}

/// A PNG that says it is of this size, and has hardly any data.
fn png_that_claims(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    // A stored deflate block of one zero byte, as zlib wraps it.
    let data = [0x78, 0x01, 1, 1, 0, 0xFE, 0xFF, 0, 0, 1, 0, 1];
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &data),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// The photograph, with another size in its frame header.
fn jpeg_that_claims(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = photograph("china.jpg");
    let header = bytes
        .windows(4)
        .position(|w| w == [0xFF, 0xC0, 0x00, 0x11])
        .expect("a baseline frame header");
    bytes[header + 5..header + 7].copy_from_slice(&height.to_be_bytes());
    bytes[header + 7..header + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn the_chunks_of_these_tests_have_the_right_checksum() {
    // The end chunk is the same in every PNG.
    let file = fs::read(fixture("grey.png")).expect("a fixture");
    assert!(file.ends_with(&chunk(b"IEND", &[])));
}

#[test]
fn bad_pictures_are_named_and_skipped_and_good_ones_are_not() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    let whole = photograph("china.jpg");
    let png = fs::read(fixture("wide.png")).unwrap();
    let mut broken_png = png.clone();
    broken_png[50] ^= 0xFF;
    let bad: Vec<(&str, Vec<u8>, &str)> = vec![
        ("bytes-0.jpg", vec![], "the file is empty"),
        ("bytes-0.png", vec![], "the file is empty"),
        (
            "bytes-1.jpg",
            whole[..1].to_vec(),
            "neither a JPEG nor a PNG: it begins with ff",
        ),
        (
            "text.jpg",
            b"Not a picture.\n".to_vec(),
            "neither a JPEG nor a PNG: it begins with 4e6f742061207069",
        ),
        (
            "gif.png",
            b"GIF89a\x01\x00\x01\x00".to_vec(),
            "neither a JPEG nor a PNG: it begins with 474946383961",
        ),
        ("png-cut.png", png[..70].to_vec(), "damaged PNG"),
        ("png-header-cut.png", png[..20].to_vec(), "damaged PNG"),
        ("png-broken.png", broken_png, "damaged PNG"),
        (
            "png-60000.png",
            png_that_claims(60_000, 60_000),
            "60000 x 60000 pixels are more than the 67108864 that are decoded",
        ),
        (
            "png-2147483647.png",
            png_that_claims(0x7FFF_FFFF, 0x7FFF_FFFF),
            "PNG",
        ),
        ("png-0.png", png_that_claims(0, 0), "damaged PNG"),
        ("png-no-data.png", png_that_claims(64, 64), "damaged PNG"),
        (
            "jpeg-60000.jpg",
            jpeg_that_claims(60_000, 60_000),
            "60000 x 60000 pixels are more than the 67108864 that are decoded",
        ),
        ("jpeg-0.jpg", jpeg_that_claims(0, 0), "damaged JPEG"),
        // Four times the pixels that are there.
        (
            "jpeg-claims.jpg",
            jpeg_that_claims(1280, 854),
            "damaged JPEG",
        ),
    ];
    for (name, bytes, _) in &bad {
        fs::write(images.join(name), bytes).unwrap();
    }
    fs::copy(fixture("colour.jpg"), images.join("good.jpg")).unwrap();
    // Phones write a second picture or padding behind the first.
    let padded = [whole, vec![0; 20_000]].concat();
    fs::write(images.join("good-padded.JPEG"), padded).unwrap();

    let out = dir.path().join("out");
    let run = classify(&images, &out);
    run.expect(
        1,
        &["warning: text.jpg: neither a JPEG nor a PNG", "skipped"],
    );

    let lines = predictions(&out);
    assert_eq!(lines.len(), bad.len() + 2);
    for (name, _, said) in &bad {
        let reason = reason(&lines, name);
        assert!(reason.contains(said), "{name}: {reason}");
        assert!(!reason.contains('\n'), "{name}: {reason:?}");
        assert!(
            run.stderr.contains(&format!("warning: {name}: ")),
            "{name} is not named on stderr:\n{}",
            run.stderr
        );
    }
    best(&lines, "good.jpg");
    best(&lines, "good-padded.JPEG");
    let summary = summary(&out);
    assert_eq!(summary["images_in"], lines.len());
    assert_eq!(summary["images_failed"], bad.len());
    assert_eq!(summary["images_predicted"], 2);
    let text = format!(
        "{} images in, 2 predicted, {} failed",
        lines.len(),
        bad.len()
    );
    assert!(
        predicate::str::contains(text).eval(&run.stdout),
        "{}",
        run.stdout
    );
}

#[test]
fn a_truncated_jpeg_is_skipped_wherever_it_was_cut() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    let whole = photograph("china.jpg");
    let progressive = fs::read(fixture("progressive.jpg")).unwrap();
    let n = whole.len();
    let mut cuts = vec![2, 3, 20, 200, 700, n / 4, n / 2, n * 9 / 10];
    cuts.extend([n - 2000, n - 100, n - 40, n - 3, n - 2, n - 1]);
    let mut names = vec![];
    for cut in cuts {
        names.push(format!("cut-{cut:06}.jpg"));
        fs::write(images.join(names.last().unwrap()), &whole[..cut]).unwrap();
    }
    // With an end-of-image marker, as a broken transfer or a repair leaves it:
    // decoders that trust it paint the rest grey.
    for cut in [700, n / 4, n / 2, n * 9 / 10, n - 2000, n - 100, n - 40] {
        names.push(format!("cut-{cut:06}-with-end.jpg"));
        let bytes = [&whole[..cut], &[0xFF, 0xD9]].concat();
        fs::write(images.join(names.last().unwrap()), bytes).unwrap();
    }
    for cut in [progressive.len() - 2, progressive.len() - 30] {
        names.push(format!("cut-{cut:06}-progressive.jpg"));
        fs::write(images.join(names.last().unwrap()), &progressive[..cut]).unwrap();
    }
    let out = dir.path().join("out");
    classify(&images, &out).expect(1, &["damaged JPEG", "more bad pictures are named in"]);
    let lines = predictions(&out);
    assert_eq!(lines.len(), names.len());
    for name in &names {
        let reason = reason(&lines, name);
        assert!(reason.starts_with("damaged JPEG: "), "{name}: {reason}");
        if !name.contains("-with-end") {
            assert!(
                reason.contains("cut short: no end-of-image marker"),
                "{name}: {reason}"
            );
        }
    }
    assert_eq!(summary(&out)["images_failed"], names.len());
}

#[test]
fn no_cut_and_no_flipped_byte_makes_the_decoder_panic() {
    for name in [
        "colour.jpg",
        "progressive.jpg",
        "ycck.jpg",
        "16-bit.png",
        "palette.png",
    ] {
        let whole = fs::read(fixture(name)).unwrap();
        assert!(preprocess::decode(&whole).is_ok(), "{name}");
        for cut in 0..whole.len() {
            let decoded = preprocess::decode(&whole[..cut]);
            // A PNG without its end chunk has all of its pixels.
            if name.ends_with(".jpg") || cut < whole.len() - 12 - 4 {
                assert!(decoded.is_err(), "{name} cut to {cut} bytes was accepted");
            }
        }
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                // Some flips leave a picture: of the size that its header says.
                if let Ok(picture) = preprocess::decode(&bytes) {
                    let expected = picture.width as usize * picture.height as usize * 3;
                    assert_eq!(picture.pixels.len(), expected, "{name}, byte {at}");
                }
            }
        }
    }
    assert!(matches!(preprocess::decode(&[]), Err(PictureError::Empty)));
}

#[test]
fn unusual_pictures_have_the_colours_that_pillow_sees() {
    let text = fs::read_to_string(fixture("colours.json")).unwrap();
    let colours: Value = serde_json::from_str(&text).unwrap();
    let pictures = colours["pictures"].as_object().unwrap();
    assert_eq!(pictures.len(), 16);
    let mut modes = vec![];
    for (name, expected) in pictures {
        let bytes = fs::read(fixture(name)).unwrap();
        let picture = preprocess::decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let size = [picture.width, picture.height];
        assert_eq!(serde_json::json!(size), expected["size"], "{name}");
        assert_eq!(picture.channels, 3, "{name}");
        // The decoders' rounding differs by up to 2 where colours are converted.
        let tolerance = if name.ends_with(".jpg") { 3 } else { 0 };
        for (side, x) in [("left", size[0] / 4), ("right", size[0] * 3 / 4)] {
            let at = ((size[1] / 2 * size[0] + x) * 3) as usize;
            for channel in 0..3 {
                let got = i64::from(picture.pixels[at + channel]);
                let wanted = expected[side][channel].as_i64().unwrap();
                assert!(
                    (got - wanted).abs() <= tolerance,
                    "{name}, {side}, channel {channel}: expected {wanted}, got {got}"
                );
            }
        }
        modes.push(expected["mode"].as_str().unwrap().to_owned());
    }
    for mode in ["CMYK", "L", "LA", "P", "RGBA", "I;16", "1", "RGB"] {
        assert!(modes.iter().any(|m| m == mode), "no fixture of mode {mode}");
    }
}

#[test]
fn unusual_pictures_are_classified() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(root().join("tests/fixtures")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "jpg" || e == "png") {
            fs::copy(&path, images.join(path.file_name().unwrap())).unwrap();
            count += 1;
        }
    }
    let out = dir.path().join("out");
    let run = classify(&images, &out);
    run.expect(0, &[]);
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    let lines = predictions(&out);
    assert_eq!(lines.len(), count);
    assert_eq!(summary(&out)["images_predicted"], count);
    // The digits' model is grey: one picture in any coding is one prediction.
    let (class, probability) = best(&lines, "grey.png");
    for name in [
        "16-bit.png",
        "alpha.png",
        "colour.jpg",
        "cmyk.jpg",
        "grey-alpha.png",
        "grey.jpg",
        "palette.png",
        "progressive.jpg",
        "ycck.jpg",
    ] {
        let (other_class, other_probability) = best(&lines, name);
        assert_eq!(other_class, class, "{name}");
        let difference = (other_probability - probability).abs();
        assert!(
            difference < 0.05,
            "{name}: {other_probability}, not {probability}"
        );
    }
}

#[test]
fn a_folder_without_pictures_is_refused() {
    let dir = folder();
    let out = dir.path().join("out");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let said = ["no picture", ".jpg, .jpeg, .png", "found 0 other entries"];
    classify(&empty, &out)
        .refused(&said)
        .refused(&[empty.to_str().unwrap()]);

    fs::write(empty.join("notes.txt"), "no picture").unwrap();
    classify(&empty, &out).refused(&["no picture", "found 1 other entries"]);

    let missing = dir.path().join("missing");
    classify(&missing, &out).refused(&["missing: no such folder", "give a folder of JPEG or PNG"]);

    let file = dir.path().join("photo.jpg");
    fs::write(&file, photograph("china.jpg")).unwrap();
    classify(&file, &out).refused(&["expected a folder of JPEG or PNG files, got a file"]);
}

#[test]
fn a_refused_run_leaves_the_results_of_the_last_one_alone() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::copy(fixture("grey.png"), images.join("grey.png")).unwrap();
    let out = dir.path().join("out");
    classify(&images, &out).expect(0, &[]);
    let files = ["predictions.jsonl", "summary.json", "result.json"];
    let read = || files.map(|name| fs::read_to_string(out.join(name)).unwrap());
    let before = read();
    assert!(before[0].contains("grey.png"));
    classify(&dir.path().join("mistyped"), &out).refused(&["no such folder"]);
    assert_eq!(read(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn links_pipes_and_folders_with_a_picture_s_name_are_left_out_and_nothing_hangs() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::copy(fixture("grey.png"), images.join("good.png")).unwrap();
    fs::create_dir(images.join("folder.jpg")).unwrap();
    std::os::unix::fs::symlink("nowhere", images.join("dangling.jpg")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", images.join("device.png")).unwrap();
    std::os::unix::fs::symlink("itself.png", images.join("itself.png")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(images.join("pipe.png"))
        .status()
        .expect("mkfifo");
    assert!(made.success());

    let out = dir.path().join("out");
    let run = classify(&images, &out);
    run.expect(
        1,
        &[
            "warning: dangling.jpg: a link that leads nowhere; left out",
            "warning: device.png: a link out of the folder; left out",
            "warning: itself.png: a link that leads nowhere; left out",
            "warning: pipe.png: neither a file nor a folder; left out",
        ],
    );
    let lines = predictions(&out);
    assert_eq!(lines.len(), 1, "{lines:?}");
    best(&lines, "good.png");
    assert_eq!(summary(&out)["left_out"], 4);

    // Only such: nothing to do, and one of them is named.
    fs::remove_file(images.join("good.png")).unwrap();
    classify(&images, &out).refused(&["no picture", "left out 4, such as", "dangling.jpg"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_picture_that_vanishes_after_the_listing_is_named() {
    // Without privileges one would take the permission away; root reads it then.
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    for index in 0..2000 {
        fs::write(images.join(format!("a-{index:04}.png")), []).unwrap();
    }
    let last = images.join("z.png");
    fs::copy(fixture("grey.png"), &last).unwrap();
    let out = dir.path().join("out");
    let mut process = program::process();
    process.args(DIGITS).args(["--batch", "1"]);
    let child = process
        .arg("--images")
        .arg(&images)
        .arg("--out")
        .arg(&out)
        .spawn()
        .unwrap();
    let predictions_file = out.join("predictions.jsonl");
    program::wait_until("the first prediction", || {
        fs::metadata(&predictions_file).is_ok_and(|file| file.len() > 0)
    });
    fs::remove_file(&last).unwrap();
    let output = child.wait_with_output().unwrap();
    program::Finished::new(output.status, &output.stdout, &output.stderr).expect(1, &[]);
    let lines = predictions(&out);
    assert_eq!(lines.len(), 2001);
    let reason = reason(&lines, "z.png");
    assert!(
        reason.starts_with("cannot be read: No such file"),
        "{reason}"
    );
}

#[cfg(unix)]
#[test]
fn names_with_line_breaks_and_other_bytes_stay_one_line() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::copy(fixture("grey.png"), images.join("a\nb\"c.png")).unwrap();
    let mut expected = vec!["a\nb\"c.png".to_owned()];
    // macOS refuses names that are not UTF-8.
    if cfg!(target_os = "linux") {
        let name = std::ffi::OsStr::from_bytes(b"x\xFF.png");
        fs::copy(fixture("grey.png"), images.join(name)).unwrap();
        expected.push("x\u{FFFD}.png".into());
    }
    let out = dir.path().join("out");
    classify(&images, &out).expect(0, &[]);
    let lines = predictions(&out);
    let names: Vec<&str> = lines.iter().filter_map(|l| l["input"].as_str()).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_hundred_thousand_names_are_listed_and_counted() {
    const COUNT: usize = 100_000;
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    for index in 0..COUNT {
        fs::File::create(images.join(format!("{index:06}.jpg"))).unwrap();
    }
    let out = dir.path().join("out");
    let start = Instant::now();
    let run = classify(&images, &out);
    let seconds = start.elapsed().as_secs_f64();
    run.expect(1, &["warning: 000000.jpg: the file is empty; skipped"]);
    // Twenty are named on stderr, and where the rest is.
    assert_eq!(run.stderr.matches("the file is empty").count(), 20);
    assert!(
        run.stderr
            .contains("more bad pictures are named in predictions.jsonl")
    );
    let summary = summary(&out);
    assert_eq!(summary["images_in"], COUNT);
    assert_eq!(summary["images_failed"], COUNT);
    assert_eq!(summary["images_predicted"], 0);
    let text = fs::read_to_string(out.join("predictions.jsonl")).unwrap();
    assert_eq!(text.lines().count(), COUNT);
    let last = text.lines().last().unwrap();
    assert!(last.contains("\"099999.jpg\""), "{last}");
    // Memory is that of a stream, and of the names: not of 100,000 pictures.
    for reading in summary["resident_bytes"].as_array().unwrap() {
        let bytes = reading["bytes"].as_u64().unwrap();
        assert!(bytes < 1 << 30, "{reading}");
    }
    assert!(seconds < 60.0, "{seconds} s");
}

type Tensors = Vec<(String, Vec<usize>, Dtype, Vec<u8>)>;

/// The committed checkpoint after `change`, as a file below `dir`.
fn changed(dir: &Path, change: impl FnOnce(&mut Tensors)) -> PathBuf {
    let committed = Checkpoint::open(&root().join("weights/digits.safetensors")).unwrap();
    let mut tensors: Tensors = committed
        .names()
        .map(|name| {
            let view = committed.tensor(name).unwrap();
            let (shape, bytes) = (view.shape.to_vec(), view.bytes.to_vec());
            (name.to_owned(), shape, view.dtype, bytes)
        })
        .collect();
    change(&mut tensors);
    let path = dir.join("changed.safetensors");
    checkpoint::write(&path, &tensors, &committed.description, &BTreeMap::new()).unwrap();
    path
}

fn with_weights(weights: &Path, out: &Path) -> program::Finished {
    finish(
        program()
            .args(["run", "--data", "digits", "--quick", "--weights"])
            .arg(weights)
            .arg("--out")
            .arg(out),
    )
}

fn tensor<'a>(
    tensors: &'a mut Tensors,
    name: &str,
) -> &'a mut (String, Vec<usize>, Dtype, Vec<u8>) {
    tensors
        .iter_mut()
        .find(|t| t.0 == name)
        .expect("the tensor")
}

#[test]
fn a_checkpoint_is_read_from_a_file_as_from_the_program() {
    let dir = folder();
    let out = dir.path().join("out");
    let path = changed(dir.path(), |_| {});
    with_weights(&path, &out).expect(0, &["model: changed.safetensors (resnet18)"]);
    let summary = summary(&out);
    assert_eq!(summary["images_predicted"], 269);
    assert!(summary["accuracy"].as_f64().unwrap() >= 0.97, "{summary}");
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_with_all_that_differs() {
    let dir = folder();
    let out = dir.path().join("out");
    let f32s = |n: usize| vec![0; 4 * n];
    type Change = Box<dyn FnOnce(&mut Tensors)>;
    let cases: Vec<(Change, Vec<&str>)> = vec![
        (
            Box::new(|t| t.retain(|t| t.0 != "layer3.0.bn1.running_mean")),
            vec![
                "1 difference",
                "\"layer3.0.bn1.running_mean\": expected F32 [64], missing",
            ],
        ),
        (
            Box::new(move |t| t.push(("head.weight".into(), vec![2, 3], Dtype::F32, f32s(6)))),
            vec![
                "1 difference",
                "\"head.weight\": expected no such tensor, got F32 [2, 3]",
            ],
        ),
        (
            Box::new(move |t| {
                let bias = tensor(t, "layer1.0.bn1.bias");
                (bias.1, bias.3) = (vec![17], f32s(17));
            }),
            vec!["\"layer1.0.bn1.bias\": expected F32 [16], got F32 [17]"],
        ),
        (
            // As many values, in another order of dimensions.
            Box::new(|t| tensor(t, "fc.weight").1 = vec![128, 10]),
            vec!["\"fc.weight\": expected F32 [10, 128], got F32 [128, 10]"],
        ),
        (
            Box::new(|t| {
                let weight = tensor(t, "bn1.weight");
                (weight.2, weight.3) = (Dtype::F16, vec![0; 32]);
            }),
            vec!["\"bn1.weight\": expected F32 [16], got F16 [16]"],
        ),
        (
            Box::new(|t| tensor(t, "conv1.weight").2 = Dtype::I32),
            vec!["\"conv1.weight\": expected F32 [16, 1, 3, 3], got I32 [16, 1, 3, 3]"],
        ),
        (
            // Several at once: one error that lists them all.
            Box::new(move |t| {
                t.retain(|t| t.0 != "fc.bias" && t.0 != "bn1.bias");
                t.push(("fc.scale".into(), vec![], Dtype::F32, f32s(1)));
            }),
            vec![
                "3 differences",
                "\"bn1.bias\": expected F32 [16], missing",
                "\"fc.bias\": expected F32 [10], missing",
                "\"fc.scale\": expected no such tensor, got F32 []",
            ],
        ),
        (
            Box::new(|t| t.clear()),
            vec![
                "102 differences",
                "\"conv1.weight\": expected F32 [16, 1, 3, 3], missing",
            ],
        ),
    ];
    for (change, said) in cases {
        let path = changed(dir.path(), change);
        let run = with_weights(&path, &out);
        run.refused(&said).refused(&[path.to_str().unwrap()]);
        assert_eq!(run.stdout, "");
    }
    assert!(!out.join("summary.json").exists(), "work began");
}

#[test]
fn a_checkpoint_of_another_network_is_refused() {
    let dir = folder();
    let out = dir.path().join("out");
    for (flags, said) in [
        (
            ["--arch", "resnet50"],
            "expected architecture resnet50, got resnet18",
        ),
        (
            ["--arch", "resnet34"],
            "expected architecture resnet34, got resnet18",
        ),
        (["--stem", "imagenet"], "expected stem imagenet, got small"),
    ] {
        finish(
            program()
                .args(["run", "--weights", "digits", "--out"])
                .arg(&out)
                .args(flags),
        )
        .refused(&[said]);
    }
}

#[test]
fn a_damaged_safetensors_file_is_refused() {
    let dir = folder();
    let out = dir.path().join("out");
    let path = dir.path().join("damaged.safetensors");
    let whole = fs::read(root().join("weights/digits.safetensors")).unwrap();
    let cut = |n: usize| whole[..n].to_vec();
    let huge_header = [&u64::MAX.to_le_bytes(), &whole[8..]].concat();
    let mut no_json = whole.clone();
    no_json[8..20].fill(b'x');
    let n = whole.len();
    let sizes = format!("asks for a file of {n} bytes, got {}", n - 1);
    let longer = format!("asks for a file of {n} bytes, got {}", n + 4);
    let cases: Vec<(Vec<u8>, Vec<&str>)> = vec![
        (vec![], vec!["at least 10 bytes, got 0"]),
        (cut(7), vec!["at least 10 bytes, got 7"]),
        (
            cut(100),
            vec![
                "truncated, or not a safetensors file",
                "the file has 100 bytes",
            ],
        ),
        (
            cut(n / 2),
            vec![
                "truncated: its header asks for a file of",
                "fetch or copy it again",
            ],
        ),
        (cut(n - 1), vec!["truncated", &sizes]),
        ([&whole[..], &[0; 4]].concat(), vec!["damaged", &longer]),
        (
            huge_header,
            vec![
                "not a safetensors file, or a damaged one",
                "18446744073709551615",
            ],
        ),
        (no_json, vec!["expected a safetensors header (JSON)"]),
        (
            b"Not a checkpoint, but text.\n".to_vec(),
            vec!["not a safetensors file"],
        ),
        (photograph("china.jpg"), vec!["not a safetensors file"]),
        (
            b"PK\x03\x04 a file of torch.save, which is a ZIP".to_vec(),
            vec!["not a safetensors file"],
        ),
    ];
    for (bytes, said) in cases {
        fs::write(&path, &bytes).unwrap();
        with_weights(&path, &out)
            .refused(&said)
            .refused(&["damaged.safetensors: "]);
    }
    fs::remove_file(&path).unwrap();
    let said = ["no such checkpoint", "give the path of a safetensors file"];
    with_weights(&path, &out).refused(&said);
    fs::create_dir(&path).unwrap();
    with_weights(&path, &out).refused(&["expected a safetensors file, got a folder"]);
}

#[test]
fn an_output_folder_that_cannot_be_written_is_refused_before_the_model_is_loaded() {
    let dir = folder();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let taken = dir.path().join("taken");
    fs::create_dir_all(taken.join("predictions.jsonl")).unwrap();
    for (out, said) in [
        (file.clone(), "exists"),
        (file.join("below"), "Not a directory"),
        (taken, "Is a directory"),
    ] {
        let run = finish(program().args(DIGITS).arg("--out").arg(&out));
        run.refused(&[
            &format!("--out {}: cannot write there", out.display()),
            said,
            "give a folder that you may write to",
        ]);
        assert!(!run.stderr.contains("model: "), "{}", run.stderr);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_folder() {
    let dir = folder();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("predictions.jsonl")).unwrap();
    let run = finish(program().args(DIGITS).arg("--out").arg(dir.path()));
    run.expect(
        1,
        &[
            "error: ",
            dir.path().to_str().unwrap(),
            "cannot write predictions: No space left on device",
        ],
    );
    assert_eq!(
        run.stderr.matches("No space left").count(),
        1,
        "{}",
        run.stderr
    );
    assert!(!dir.path().join("summary.json").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let dir = folder();
    let mut process = program::process();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = process
        .args(DIGITS)
        .arg("--out")
        .arg(dir.path())
        .stdout(full)
        .output()
        .unwrap();
    program::Finished::new(output.status, &[], &output.stderr).expect(
        1,
        &["error: cannot write to stdout: No space left on device"],
    );
    // The files were written before.
    assert_eq!(summary(dir.path())["images_in"], 269);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_size_limit_is_an_error_and_no_death_by_signal() {
    let dir = folder();
    // 512-byte blocks in dash, 1024 in bash: far less than 20,000 lines.
    let script = "ulimit -f 100 && exec \"$0\" \"$@\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_cpu-inference")])
        .args(DIGITS)
        .args(["--count", "20000", "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    let run = program::Finished::new(output.status, &output.stdout, &output.stderr);
    run.expect(1, &["error: ", "cannot write predictions: File too large"]);
    let text = fs::read_to_string(dir.path().join("predictions.jsonl")).unwrap();
    assert!(text.lines().count() > 100);
    assert!(!dir.path().join("summary.json").exists());
}
