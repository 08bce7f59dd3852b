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

/// What a state of the project pins.
pub struct Pinned {
    /// The text of `Cargo.lock`.
    pub lock: String,
    /// The texts of the workspace's manifests.
    pub manifests: Vec<String>,
}

impl Pinned {
    /// By package of the workspace, what only its tests depend on: a lock file does not tell that
    /// from what its programs are built from.
    fn for_tests(&self) -> BTreeMap<String, BTreeSet<String>> {
        let names = |manifest: &toml::Table, key: &str| -> BTreeSet<String> {
            let table = manifest.get(key).and_then(toml::Value::as_table);
            let named = |(key, value): (&String, &toml::Value)| {
                let package = value.get("package").and_then(toml::Value::as_str);
                package.unwrap_or(key).to_owned()
            };
            table.into_iter().flatten().map(named).collect()
        };
        let read = |manifest: &String| {
            let manifest: toml::Table = toml::from_str(manifest).ok()?;
            let package = manifest.get("package")?.get("name")?.as_str()?.to_owned();
            let mut only = names(&manifest, "dev-dependencies");
            for key in ["dependencies", "build-dependencies"] {
                for name in names(&manifest, key) {
                    only.remove(&name);
                }
            }
            Some((package, only))
        };
        self.manifests.iter().filter_map(read).collect()
    }
}

/// The packages from outside that `program` is built from, by name and version, with their
/// checksums; `None` if there is no lock file or it does not have the program.
fn closure(pinned: &Pinned, program: &str) -> Option<BTreeMap<(String, String), Option<String>>> {
    let lock: Lock = toml::from_str(&pinned.lock).ok()?;
    let for_tests = pinned.for_tests();
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
        // Of what is not ours, a lock file has no tests.
        let not_built = match package.source {
            Some(_) => None,
            None => for_tests.get(&package.name),
        };
        if package.source.is_some() {
            outside.insert(
                (package.name.clone(), package.version.clone()),
                package.checksum.clone(),
            );
        }
        let built = (package.dependencies.iter())
            .filter_map(|name| find(name))
            .filter(|package| not_built.is_none_or(|names| !names.contains(&package.name)));
        queue.extend(built);
    }
    Some(outside)
}

/// What differs for a program between two states, a line a package.
pub fn packages(old: &Pinned, new: &Pinned, program: &str) -> Vec<String> {
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
    use super::{Pinned, packages, parts};

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

    fn pinned(lock: &str, manifests: &[&str]) -> Pinned {
        Pinned {
            lock: lock.to_owned(),
            manifests: manifests.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    /// What differs for the program between two lock files, with these manifests.
    fn differ(old: &str, new: &str, manifests: &[&str]) -> Vec<String> {
        packages(&pinned(old, manifests), &pinned(new, manifests), "program")
    }

    #[test]
    fn what_only_tests_depend_on_does_not_count() {
        let deep = LOCK.replace("\"b\"", "\"f\"");
        let ours = "package.name = 'ours'\n";
        let for_tests = format!("{ours}dev-dependencies.renamed.package = 'deep'");
        assert_eq!(differ(LOCK, &deep, &[&for_tests]), [""; 0]);
        for changes in [
            differ(LOCK, &deep, &[ours]),
            differ(LOCK, &deep, &[&for_tests.replace("ours", "program")]),
            differ(
                LOCK,
                &deep,
                &[&format!("{for_tests}\ndependencies.deep = '1'")],
            ),
        ] {
            assert_eq!(changes, ["deep 1.0.0 has another checksum"]);
        }
    }

    #[test]
    fn only_what_a_program_is_built_from_counts() {
        let packages = |old: &str, new: &str| differ(old, new, &[]);
        assert_eq!(packages(LOCK, LOCK), [""; 0]);
        // Nothing of ours depends on these two.
        for (from, to) in [("\"e\"", "\"f\""), ("\"c\"", "\"f\"")] {
            assert_eq!(packages(LOCK, &LOCK.replace(from, to)), [""; 0]);
        }
        let deep = LOCK.replace(
            "name = \"deep\"\n        version = \"1.0.0\"",
            "name = \"deep\"\n        version = \"1.0.1\"",
        );
        assert_ne!(deep, LOCK);
        assert_eq!(packages(LOCK, &deep), ["deep 1.0.0 became 1.0.1"]);
        assert_eq!(
            packages(LOCK, &LOCK.replace("\"d\"", "\"f\"")),
            ["twice 2.0.0 has another checksum"]
        );
        assert_eq!(
            packages(LOCK, &LOCK.replace("\"used\", ", "")),
            ["used 1.0.0 is gone"]
        );
        let same = pinned(LOCK, &[]);
        assert_eq!(super::packages(&same, &same, "none").len(), 1);
        let nothing = differ(LOCK, "", &[]);
        assert_eq!(nothing, ["Cargo.lock: program is not in both"]);
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
