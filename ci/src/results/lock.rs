//! Which pinned versions differ between two states of the project, as far as they matter:
//! of `Cargo.lock` those packages that a program is built from, of `ci/native.toml` those
//! parts that there were.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// The packages from outside that `program` is built from, by name and version, with their
/// checksums; `None` if the text is no lock file or does not have the program.
fn closure(lock: &str, program: &str) -> Option<BTreeMap<(String, String), Option<String>>> {
    let lock: Lock = toml::from_str(lock).ok()?;
    // A dependency is "name", or "name version" where several versions are locked.
    let find = |wanted: &str| {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next()?, words.next());
        (lock.package.iter())
            .find(|one| one.name == name && version.is_none_or(|version| one.version == version))
    };
    let mut queue = VecDeque::from([find(program)?]);
    let mut seen = BTreeSet::new();
    let mut outside = BTreeMap::new();
    while let Some(package) = queue.pop_front() {
        if !seen.insert((&package.name, &package.version)) {
            continue;
        }
        if package.source.is_some() {
            outside.insert(
                (package.name.clone(), package.version.clone()),
                package.checksum.clone(),
            );
        }
        queue.extend(package.dependencies.iter().filter_map(|name| find(name)));
    }
    Some(outside)
}

/// What differs for a program between two lock files, a line a package.
pub fn packages(old: &str, new: &str, program: &str) -> Vec<String> {
    let (Some(old), Some(new)) = (closure(old, program), closure(new, program)) else {
        return vec![format!("Cargo.lock: {program} is not in both")];
    };
    let gone = old.iter().filter(|one| new.get(one.0) != Some(one.1));
    let come = new.iter().filter(|one| old.get(one.0) != Some(one.1));
    let mut by_name: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for ((name, version), _) in gone {
        by_name.entry(name).or_default().0.push(version);
    }
    for ((name, version), _) in come {
        by_name.entry(name).or_default().1.push(version);
    }
    by_name
        .into_iter()
        .map(|(name, (was, is))| match (was.join(", "), is.join(", ")) {
            (was, is) if was.is_empty() => format!("{name} {is} is new"),
            (was, is) if is.is_empty() => format!("{name} {was} is gone"),
            (was, is) if was == is => format!("{name} {was} has another checksum"),
            (was, is) => format!("{name} {was} became {is}"),
        })
        .collect()
}

/// Which native parts have changed or are gone; a part that came changes no measurement.
pub fn parts(old: &str, new: &str) -> Vec<String> {
    let read = |text: &str| -> Option<Vec<toml::Table>> {
        let table: toml::Table = toml::from_str(text).ok()?;
        Some(
            (table.get("part")?.as_array()?.iter())
                .filter_map(|part| part.as_table().cloned())
                .collect(),
        )
    };
    let (Some(old), Some(new)) = (read(old), read(new)) else {
        return vec!["ci/native.toml cannot be read".to_owned()];
    };
    old.iter()
        .filter(|part| !new.contains(part))
        .map(|part| {
            let title = part.get("title").and_then(toml::Value::as_str);
            format!("{} has changed", title.unwrap_or("a native part"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{packages, parts};

    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "program"
        version = "0.1.0"
        dependencies = ["used", "twice 2.0.0", "ours"]
        [[package]]
        name = "ours"
        version = "0.1.0"
        dependencies = ["deep"]
        [[package]]
        name = "used"
        version = "1.0.0"
        source = "registry"
        checksum = "a"
        [[package]]
        name = "deep"
        version = "1.0.0"
        source = "registry"
        checksum = "b"
        [[package]]
        name = "twice"
        version = "1.0.0"
        source = "registry"
        checksum = "c"
        [[package]]
        name = "twice"
        version = "2.0.0"
        source = "registry"
        checksum = "d"
        [[package]]
        name = "unused"
        version = "1.0.0"
        source = "registry"
        checksum = "e"
    "#;

    #[test]
    fn only_what_a_program_is_built_from_counts() {
        assert_eq!(packages(LOCK, LOCK, "program"), [""; 0]);
        // Nothing of ours depends on these two.
        for (from, to) in [("\"e\"", "\"f\""), ("\"c\"", "\"f\"")] {
            assert_eq!(packages(LOCK, &LOCK.replace(from, to), "program"), [""; 0]);
        }
        let deep = LOCK.replace(
            "name = \"deep\"\n        version = \"1.0.0\"",
            "name = \"deep\"\n        version = \"1.0.1\"",
        );
        assert_ne!(deep, LOCK);
        assert_eq!(
            packages(LOCK, &deep, "program"),
            ["deep 1.0.0 became 1.0.1"]
        );
        assert_eq!(
            packages(LOCK, &LOCK.replace("\"d\"", "\"f\""), "program"),
            ["twice 2.0.0 has another checksum"]
        );
        assert_eq!(
            packages(LOCK, &LOCK.replace("\"used\", ", ""), "program"),
            ["used 1.0.0 is gone"]
        );
        assert_eq!(packages(LOCK, LOCK, "none").len(), 1);
    }

    #[test]
    fn a_part_that_came_is_no_change() {
        let old = "[[part]]\ntitle = \"A\"\npath = \"a\"\n";
        let more = format!("{old}[[part]]\ntitle = \"B\"\npath = \"b\"\n");
        assert_eq!(parts(old, &more), [""; 0]);
        assert_eq!(parts(&more, old), ["B has changed"]);
        assert_eq!(
            parts(old, &old.replace("\"a\"", "\"c\"")),
            ["A has changed"]
        );
    }
}
