//! The two photographs that chapter 1 ships.

use std::fs;
use std::path::{Path, PathBuf};

use datasets::images;
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../chapters/01-cpu/samples")
}

#[test]
fn they_are_the_published_files() {
    let attribution = fs::read_to_string(folder().join("ATTRIBUTION.md")).unwrap();
    let known = [
        (
            "china.jpg",
            "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        ),
        (
            "flower.jpg",
            "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        ),
    ];
    for (name, expected) in known {
        let bytes = fs::read(folder().join(name)).unwrap();
        let hash: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hash, expected, "{name}");
        assert!(attribution.contains(expected));
        assert_eq!(
            image::image_dimensions(folder().join(name)).unwrap(),
            (640, 427)
        );
    }
}

#[test]
fn the_listing_finds_both_and_nothing_else() {
    let listing = images::list(&folder()).unwrap();
    let names: Vec<_> = listing
        .images
        .iter()
        .map(|image| image.path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["china.jpg", "flower.jpg"]);
    assert!(listing.classes.is_empty() && listing.skipped.is_empty());
}
