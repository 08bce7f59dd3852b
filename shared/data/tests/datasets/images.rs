use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datasets::images::{self, ImagesError, Listing};
use tempfile::TempDir;

fn folder(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap();
    }
    dir
}

/// Paths without the folder, with `/` between.
fn names(listing: &Listing, dir: &Path) -> Vec<String> {
    let relative = |path: &PathBuf| {
        path.strip_prefix(dir)
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    listing
        .images
        .iter()
        .map(|image| relative(&image.path))
        .collect()
}

#[test]
fn pictures_by_extension_in_any_case_and_sorted() {
    let dir = folder(&[
        "b.PNG",
        "a.jpeg",
        "c.JpG",
        "notes.txt",
        "jpg",
        "d.jpg.bak",
        ".e.jpg",
    ]);
    let listing = images::list(dir.path()).unwrap();
    assert_eq!(names(&listing, dir.path()), ["a.jpeg", "b.PNG", "c.JpG"]);
    assert!(listing.images.iter().all(|image| image.class.is_none()));
    assert_eq!(listing.other_entries, 4);
    assert!(listing.classes.is_empty() && listing.skipped.is_empty());
}

#[test]
fn subfolders_are_classes_one_level_deep() {
    let dir = folder(&[
        "dog/2.jpg",
        "dog/1.png",
        "cat/x.jpg",
        "empty/readme",
        "z.jpg",
        "dog/deeper/3.jpg",
        ".hidden/4.jpg",
    ]);
    let listing = images::list(dir.path()).unwrap();
    assert_eq!(
        names(&listing, dir.path()),
        ["cat/x.jpg", "dog/1.png", "dog/2.jpg", "z.jpg"]
    );
    assert_eq!(listing.classes, ["cat", "dog"]);
    let classes: Vec<_> = listing.images.iter().map(|image| image.class).collect();
    assert_eq!(classes, [Some(0), Some(1), Some(1), None]);
    assert_eq!(listing.skipped.len(), 1);
    assert!(listing.skipped[0].path.ends_with("dog/deeper"));
    assert!(listing.skipped[0].reason.contains("one level"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_the_folder_only() {
    use std::os::unix::fs::symlink;
    let outside = folder(&["secret.jpg", "more/x.jpg"]);
    let dir = folder(&["real.jpg", "class/real.png"]);
    let link = |target: PathBuf, name: &str| symlink(target, dir.path().join(name)).unwrap();
    link(dir.path().join("class/real.png"), "inside.png");
    link(outside.path().join("secret.jpg"), "outside.jpg");
    link(outside.path().join("more"), "folder.jpg");
    link(outside.path().join("more"), "folder-without-extension");
    link(dir.path().join("class"), "to-class.jpg");
    link(PathBuf::from("nowhere.jpg"), "broken.jpg");
    link(PathBuf::from("loop.jpg"), "loop.jpg");
    let status = std::process::Command::new("mkfifo")
        .arg(dir.path().join("pipe.jpg"))
        .status();
    assert!(status.unwrap().success());

    let listing = images::list(dir.path()).unwrap();
    assert_eq!(
        names(&listing, dir.path()),
        ["class/real.png", "inside.png", "real.jpg"]
    );
    let skipped: Vec<_> = listing
        .skipped
        .iter()
        .map(|entry| {
            (
                entry.path.file_name().unwrap().to_str().unwrap(),
                entry.reason,
            )
        })
        .collect();
    assert_eq!(
        skipped,
        [
            ("broken.jpg", "a link that leads nowhere"),
            ("folder.jpg", "a link out of the folder"),
            ("loop.jpg", "a link that leads nowhere"),
            ("outside.jpg", "a link out of the folder"),
            ("pipe.jpg", "neither a file nor a folder"),
            ("to-class.jpg", "a link to something that is not a file"),
        ]
    );

    // The folder itself may be given by a link.
    let alias = outside.path().join("alias");
    symlink(dir.path(), &alias).unwrap();
    assert_eq!(images::list(&alias).unwrap().images.len(), 3);
}

#[test]
fn what_is_no_folder_of_pictures_is_refused() {
    let dir = folder(&["file.jpg", "empty/.keep", "texts/a.txt", "texts/b.md"]);
    let at = |name: &str| dir.path().join(name);

    let error = images::list(&at("missing")).unwrap_err();
    assert!(matches!(error, ImagesError::NotFound { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("no such folder; give a folder of JPEG or PNG files")
    );

    let error = images::list(&at("file.jpg")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected a folder of JPEG or PNG files, got a file")
    );
    let error = images::list(Path::new("/dev/null")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("got neither a folder nor a file"),
        "{error}"
    );

    let error = images::list(&at("texts")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("names that end in .jpg, .jpeg, .png (any case)")
    );
    assert!(error.to_string().contains("found 2 other entries"));
    assert!(matches!(
        images::list(&at("empty")),
        Err(ImagesError::NoImages { .. })
    ));

    // A folder that may not be read shows nothing to root, so: a name that no system accepts.
    let error = images::list(&at(&"x".repeat(5000))).unwrap_err();
    assert!(matches!(error, ImagesError::Unreadable { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_kept() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(&[]);
    let path = dir.path().join(OsStr::from_bytes(b"caf\xe9.jpg"));
    File::create(&path).unwrap();
    assert_eq!(images::list(dir.path()).unwrap().images[0].path, path);
}

#[test]
fn a_hundred_thousand_names_are_listed_in_a_moment() {
    // In memory where there is such a folder: a disk takes long to make and remove the files.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    for number in 0..100_000 {
        File::create(dir.path().join(format!("{number:06}.jpg"))).unwrap();
    }
    let start = Instant::now();
    let listing = images::list(dir.path()).unwrap();
    let took = start.elapsed();
    println!("listed 100,000 names in {took:?}");
    assert_eq!(listing.images.len(), 100_000);
    assert!(listing.images.is_sorted());
    // 0.2 s in a debug build on a slow core; the limit leaves room for a busy machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
}
