//! Weights that say something else than they seem to.

use crate::lint::{
    codes,
    report::Findings,
    resources::{Resources, VIRTUAL_SERVICE},
    view::View as _,
};

pub(in crate::lint::analyze) fn analyze(resources: &Resources<'_>, findings: &mut Findings) {
    for (document, spec) in resources.specs(VIRTUAL_SERVICE) {
        for section in ["http", "tcp", "tls"] {
            for (rule, node) in spec.list(section).iter().enumerate() {
                let route = node.list("route");
                let weights: Vec<i64> = route.iter().filter_map(|route| route.int("weight")).collect();
                match (route, &weights[..]) {
                    // istio HTTPRouteDestination.weight: "If there is only one destination in the rule, it will receive
                    // all traffic."
                    ([_], [weight]) if *weight != 100 => {
                        let message =
                            format!("weight {weight} has no effect: a destination that is alone receives all traffic");
                        let path = format!("{section}[{rule}].route[0].weight");
                        findings.add(&codes::WEIGHT_WITHOUT_EFFECT, document, path, message);
                    }
                    // "A destination will receive weight/(sum of all weights) requests."
                    ([_, _, ..], [_, ..]) => {
                        let total: i64 = weights.iter().fold(0, |sum, weight| sum.saturating_add(*weight));
                        if total != 100 && total > 0 {
                            let message =
                                format!("weights add up to {total}: they are shares of that, and not percentages");
                            let path = format!("{section}[{rule}].route");
                            findings.add(&codes::WEIGHTS_ARE_NO_PERCENTAGES, document, path, message);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
