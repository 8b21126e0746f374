//! Istio's own bookinfo rules, `samples/bookinfo/networking` and `samples/bookinfo/gateway-api`, file by file: each is
//! applied as it stands to a bookinfo that runs over real sockets, and does what Istio's does with it.
//!
//! Shares are counted over 2,000 requests and may lie 5 standard deviations of the binomial distribution from their
//! expectation, which a right mesh exceeds in one of 1.7 million comparisons; there are about a dozen.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_debug_implementations,
    reason = "helpers of tests; a fixture may panic"
)]

/// A test for each file of a directory, and the list of the files that have one.
macro_rules! files {
    ($directory:expr; $($file:literal => $module:ident::$test:ident,)*) => {
        const FILES: &[&str] = &[$($file),*];
        $(
            #[test]
            fn $test() {
                $crate::applied($directory, $module::$test);
            }
        )*
    };
}

#[path = "../common/mod.rs"]
mod common;
mod destinations;
mod egress;
mod gateway_api;
mod gateways;
mod ratings;
mod stub;
mod users;
mod versions;
mod weights;
mod world;

use std::{collections::BTreeSet, future::Future, path::PathBuf};

/// Where Istio's files lie.
const NETWORKING: &str = "istio/bookinfo/networking";

files! {
    NETWORKING;
    "bookinfo-gateway.yaml" => gateways::bookinfo_gateway,
    "certmanager-gateway.yaml" => gateways::certmanager_gateway,
    "destination-rule-all.yaml" => destinations::destination_rule_all,
    "destination-rule-all-mtls.yaml" => destinations::destination_rule_all_mtls,
    "destination-rule-reviews.yaml" => weights::destination_rule_reviews,
    "egress-rule-google-apis.yaml" => egress::egress_rule_google_apis,
    "fault-injection-details-v1.yaml" => versions::fault_injection_details_v1,
    "virtual-service-all-v1.yaml" => versions::virtual_service_all_v1,
    "virtual-service-details-v2.yaml" => versions::virtual_service_details_v2,
    "virtual-service-ratings-db.yaml" => ratings::virtual_service_ratings_db,
    "virtual-service-ratings-mysql.yaml" => ratings::virtual_service_ratings_mysql,
    "virtual-service-ratings-mysql-vm.yaml" => ratings::virtual_service_ratings_mysql_vm,
    "virtual-service-ratings-test-abort.yaml" => ratings::virtual_service_ratings_test_abort,
    "virtual-service-ratings-test-delay.yaml" => ratings::virtual_service_ratings_test_delay,
    "virtual-service-reviews-50-v3.yaml" => weights::virtual_service_reviews_50_v3,
    "virtual-service-reviews-80-20.yaml" => weights::virtual_service_reviews_80_20,
    "virtual-service-reviews-90-10.yaml" => weights::virtual_service_reviews_90_10,
    "virtual-service-reviews-jason-v2-v3.yaml" => users::virtual_service_reviews_jason_v2_v3,
    "virtual-service-reviews-test-v2.yaml" => users::virtual_service_reviews_test_v2,
    "virtual-service-reviews-v2-v3.yaml" => weights::virtual_service_reviews_v2_v3,
    "virtual-service-reviews-v3.yaml" => versions::virtual_service_reviews_v3,
}

/// Run a test with its directory; where that is missing it is skipped, visibly.
fn applied<F: Future<Output = ()>>(directory: &str, test: impl FnOnce(PathBuf) -> F) {
    let Some(directory) = mesh_test::shared(directory) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test(directory));
    // What is left are tasks of servers that nobody asks any more.
    runtime.shutdown_background();
}

#[test]
fn every_file_has_a_test() {
    all_of(NETWORKING, FILES, 21);
}

fn all_of(directory: &str, files: &[&str], count: usize) {
    let Some(directory) = mesh_test::shared(directory) else { return };
    let there = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), files.iter().map(|file| (*file).to_owned()).collect());
    assert_eq!(files.len(), count);
}
