use datasets::{digits, split};
use proptest::prelude::*;

#[test]
fn the_generator_makes_the_committed_file() {
    let labels = digits::load().unwrap().labels;
    let made = split::stratified(&labels, split::DIGITS_SEED);
    assert_eq!(
        split::to_json(&made),
        include_str!("../../digits/split.json")
    );
    assert_eq!(made, split::digits());
}

#[test]
fn the_digits_are_split_70_15_15_in_every_class() {
    let labels = digits::load().unwrap().labels;
    let split = split::digits();
    assert_eq!(
        (split.train.len(), split.validation.len(), split.test.len()),
        (1259, 269, 269)
    );
    for class in 0..10 {
        let count = |rows: &[usize]| rows.iter().filter(|row| labels[**row] == class).count();
        let all = labels.iter().filter(|label| **label == class).count() as f64;
        for held_out in [&split.validation, &split.test] {
            assert!((count(held_out) as f64 - 0.15 * all).abs() <= 0.5);
        }
    }
}

#[test]
fn another_seed_is_another_split() {
    let labels = digits::load().unwrap().labels;
    assert_ne!(split::stratified(&labels, 1), split::stratified(&labels, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_row_is_in_one_part(labels in prop::collection::vec(0_u8..12, 0..400), seed: u64) {
        let split = split::stratified(&labels, seed);
        for part in [&split.train, &split.validation, &split.test] {
            prop_assert!(part.is_sorted());
        }
        let mut rows = [split.train, split.validation, split.test].concat();
        rows.sort_unstable();
        prop_assert_eq!(rows, (0..labels.len()).collect::<Vec<_>>());
    }
}
