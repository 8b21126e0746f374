//! The simulation against a theory that is known, at a size that a test can afford. The full size is the binary's.

use mesh_sim::supermarket::{TOLERANCE, reduced, theory};

const SEEDS: [u64; 2] = [1, 2];

#[test]
fn the_supermarket_model_comes_out_as_theory_says() {
    for case in reduced() {
        let result = case.measure(&SEEDS);
        let (measured, theory) = (result.response, case.theory());
        assert!(result.holds(), "{case:?}: {measured:?}, not {theory}, seeds {SEEDS:?}");
        assert!(measured.error < TOLERANCE * theory, "{case:?}: {measured:?} says too little, seeds {SEEDS:?}");
    }
}

#[test]
fn a_wrong_policy_would_be_seen() {
    let result = reduced()[1].measure(&SEEDS);
    assert_eq!((result.case.choices, result.case.load), (1, 0.7));
    assert!(!result.response.agrees(theory(2, 0.7), TOLERANCE), "{:?}", result.response);
    assert!(!result.response.agrees(1.05 * theory(1, 0.7), TOLERANCE), "{:?}", result.response);
}
