use std::collections::BTreeSet;

use datasets::imagenet;

#[test]
fn there_are_1000_different_names_in_torchvisions_order() {
    let classes = imagenet::classes();
    assert_eq!(classes.len(), imagenet::CLASSES);
    assert_eq!(
        classes.iter().collect::<BTreeSet<_>>().len(),
        imagenet::CLASSES
    );
    assert!(
        classes
            .iter()
            .all(|name| !name.is_empty() && name.trim() == *name)
    );
    // Places that a reader can look up in any list of ImageNet's classes.
    for (index, name) in [
        (0, "tench"),
        (207, "golden retriever"),
        (999, "toilet tissue"),
    ] {
        assert_eq!(classes[index], name);
    }
}
