//! VirtualService, and what it names.

pub(super) mod claims;
pub(super) mod conflicts;
pub(super) mod delegates;
pub(super) mod gateways;
pub(super) mod hosts;
pub(in crate::lint) mod layer4;
pub(super) mod subsets;
pub(super) mod weights;

use mesh_core::config::Node;

use crate::lint::view::View as _;

/// The reserved gateway name of sidecars, that is of us.
const MESH: &str = "mesh";

/// A destination somewhere in a VirtualService; the node is empty where the destination is missing.
struct Destination<'a> {
    place: Place,
    node: &'a Node,
}

/// Which destination: `http[rule].route[index]`, `http[rule].mirror`, `http[rule].mirrors[index]`.
#[derive(Clone, Copy)]
enum Place {
    Route(&'static str, usize, usize),
    Mirror(usize),
    Mirrors(usize, usize),
}

impl Place {
    fn is_mirror(self) -> bool {
        !matches!(self, Self::Route(..))
    }

    fn path(self) -> String {
        match self {
            Self::Route(section, rule, index) => format!("{section}[{rule}].route[{index}].destination"),
            Self::Mirror(rule) => format!("http[{rule}].mirror"),
            Self::Mirrors(rule, index) => format!("http[{rule}].mirrors[{index}].destination"),
        }
    }
}

/// Every destination of a VirtualService, in its order.
fn destinations(spec: &Node) -> Vec<Destination<'_>> {
    let mut found = Vec::new();
    for section in ["http", "tcp", "tls"] {
        for (rule, node) in spec.list(section).iter().enumerate() {
            for (index, route) in node.list("route").iter().enumerate() {
                found.push(Destination { place: Place::Route(section, rule, index), node: route.child("destination") });
            }
        }
    }
    for (rule, node) in spec.list("http").iter().enumerate() {
        if node.has("mirror") {
            found.push(Destination { place: Place::Mirror(rule), node: node.child("mirror") });
        }
        for (index, mirror) in node.list("mirrors").iter().enumerate() {
            found.push(Destination { place: Place::Mirrors(rule, index), node: mirror.child("destination") });
        }
    }
    found
}

/// Is it for clients in the mesh? One that lists gateways without `mesh` is not.
fn is_for_mesh(spec: &Node) -> bool {
    let gateways = spec.list("gateways");
    gateways.is_empty() || gateways.iter().any(|gateway| gateway.as_str() == Some(MESH))
}
