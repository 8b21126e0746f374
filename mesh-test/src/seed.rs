/// The seed of a randomised test: `MESH_SEED`, 1 otherwise, so that what a new seed finds does not stop somebody
/// else's change. Says which it is.
///
/// # Panics
///
/// `MESH_SEED` is no integer.
#[must_use]
pub fn seed() -> u64 {
    let seed = std::env::var("MESH_SEED").map_or(1, |text| text.parse().expect("MESH_SEED is an integer"));
    println!("MESH_SEED={seed}");
    seed
}
