use datasets::digits::{self, DigitsError};
use sha2::{Digest, Sha256};

#[test]
fn the_committed_file_is_the_published_one() {
    let csv = include_bytes!("../../digits/digits.csv");
    let hash: String = Sha256::digest(csv)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hash,
        "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
    );
    assert!(include_str!("../../digits/README.md").contains(&hash));
}

#[test]
fn there_are_1797_digits_in_their_ranges() {
    let digits = digits::load().unwrap();
    assert_eq!(digits.len(), 1797);
    assert!(!digits.is_empty());
    assert_eq!(digits.pixels.len(), 1797 * 64);
    assert_eq!(digits.pixels.iter().max(), Some(&digits::MAX_PIXEL));
    assert_eq!(digits.pixels.iter().min(), Some(&0));
    let mut counts = [0; digits::CLASSES];
    for label in &digits.labels {
        counts[usize::from(*label)] += 1;
    }
    // UCI's page lists the same counts for its test part.
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
}

#[test]
fn an_image_is_its_row() {
    let digits = digits::load().unwrap();
    assert_eq!(digits.image(0)[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
    assert_eq!(digits.labels[0], 0);
    assert_eq!(digits.image(1796).len(), digits::SIDE * digits::SIDE);
    assert_eq!(digits.labels[1796], 8);
}

#[test]
fn a_bad_table_is_named_by_line_and_field() {
    let row = |pixel: &str, label: &str| {
        let mut fields = vec!["0"; 64];
        fields[9] = pixel;
        format!("{},{label}\n", fields.join(","))
    };
    let good = row("16", "9");
    assert_eq!(digits::parse(&good).unwrap().labels, [9]);
    assert_eq!(digits::parse(""), Err(DigitsError::Empty));
    assert_eq!(
        digits::parse(&format!("{good}1,2,3\n")),
        Err(DigitsError::Fields { line: 2, got: 3 })
    );
    for bad in ["17", "-1", "x", "", "1.0", "300"] {
        let error = digits::parse(&row(bad, "0")).unwrap_err().to_string();
        let expected = format!("digits, line 1, field 10: expected a pixel, 0 to 16, got {bad:?}");
        assert_eq!(error, expected);
    }
    let error = digits::parse(&row("0", "10")).unwrap_err().to_string();
    assert_eq!(
        error,
        "digits, line 1, field 65: expected a label, 0 to 9, got \"10\""
    );
}
