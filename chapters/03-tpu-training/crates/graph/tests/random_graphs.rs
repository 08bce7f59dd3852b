//! Gradients of random compositions of operations against central differences:
//! what the rules give together, where values branch and meet again.

mod composition;
mod derivative;

use composition::{Step, compose};
use derivative::Function;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

proptest! {
    // The same graphs each time: a failure can be looked at again, and no change
    // is blamed for what was there before. PROPTEST_CASES asks for more of them.
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn gradients_of_random_graphs(
        seed in any::<u64>(),
        recipe in prop::collection::vec(any::<Step>(), 1..14),
    ) {
        let mut function = Function::new(seed);
        // Operations such as maximum may be met where both operands are equal.
        function.kinks = true;
        let inputs = [
            function.input(&[2, 3]),
            function.input(&[4]),
            function.input(&[]),
        ];
        let output = compose(&mut function.graph, &inputs, &recipe).unwrap();
        let compared = function.check("random graph", output);
        prop_assert_eq!(compared, 11);
    }
}
