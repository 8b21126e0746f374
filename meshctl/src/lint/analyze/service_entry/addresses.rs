//! TCP ports without an address: a sidecar could not tell their connections from others'.

use crate::lint::{
    codes,
    report::Findings,
    resources::{Resources, SERVICE_ENTRY},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    let metadata = resources.mesh().map(|mesh| mesh.child("defaultConfig").child("proxyMetadata"));
    let on = |name: &str| metadata.is_some_and(|metadata| metadata.text(name) == "true" || metadata.is_true(name));
    if on("ISTIO_META_DNS_CAPTURE") && on("ISTIO_META_DNS_AUTO_ALLOCATE") {
        return;
    }
    for (document, spec) in resources.specs(SERVICE_ENTRY) {
        // Istio's controller writes those that it allocates into the status.
        let allocated = !document.root().child("status").list("addresses").is_empty();
        if spec.has("addresses") || allocated {
            continue;
        }
        for (index, port) in spec.list("ports").iter().enumerate() {
            let protocol = port.text("protocol");
            if protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP") {
                let message = "ServiceEntry addresses are required for this protocol.";
                findings.add(&codes::SERVICE_ENTRY_ADDRESSES_REQUIRED, document, format!("ports[{index}]"), message);
            }
        }
    }
}
