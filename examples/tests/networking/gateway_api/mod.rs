//! The same rules as HTTPRoutes.

mod rules;

const DIRECTORY: &str = "istio/bookinfo/gateway-api";

files! {
    DIRECTORY;
    "bookinfo-gateway.yaml" => rules::bookinfo_gateway,
    "route-all-v1.yaml" => rules::route_all_v1,
    "route-reviews-50-v3.yaml" => rules::route_reviews_50_v3,
    "route-reviews-90-10.yaml" => rules::route_reviews_90_10,
    "route-reviews-v1.yaml" => rules::route_reviews_v1,
    "route-reviews-v3.yaml" => rules::route_reviews_v3,
}

#[test]
fn every_file_has_a_test() {
    crate::all_of(DIRECTORY, FILES, 6);
}
