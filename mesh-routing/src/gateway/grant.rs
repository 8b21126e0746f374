//! ReferenceGrant: a namespace lets routes of others send requests to its services.

use mesh_core::config::{Document, Field, Issues, ObjectRef, fields};

use super::spec::{GrantFrom, GrantSpec, GrantTo};
use crate::virtual_service::Foreign;

/// A ReferenceGrant, checked.
#[derive(Clone, Debug)]
pub struct ReferenceGrant {
    object: ObjectRef,
    from: Vec<GrantFrom>,
    to: Vec<GrantTo>,
}

impl ReferenceGrant {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<GrantSpec>()
    }

    /// Read a ReferenceGrant. Errors go to `issues`; `None` when there are errors.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: GrantSpec = document.decode(issues)?;
        let before = issues.errors().count();
        for (field, empty) in [("from", spec.from.is_empty()), ("to", spec.to.is_empty())] {
            if empty {
                issues.push(document.error(field, "should have at least 1 items"));
            }
        }
        for (index, from) in spec.from.iter().enumerate() {
            for (field, text) in [("kind", &from.kind), ("namespace", &from.namespace)] {
                if text.is_empty() {
                    issues.push(document.error(format!("from[{index}].{field}"), "Required value"));
                }
            }
        }
        for (index, _) in spec.to.iter().enumerate().filter(|(_, to)| to.kind.is_empty()) {
            issues.push(document.error(format!("to[{index}].kind"), "Required value"));
        }
        let grant = Self { object: document.object().clone(), from: spec.from, to: spec.to };
        (issues.errors().count() == before).then_some(grant)
    }

    /// Which object it is.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// gateway API ReferenceGrant: "Each ReferenceGrant can be used to represent a unique trust relationship"; an absent
    /// `to.name` "refers to all resources of the specified Group and Kind in the local namespace".
    pub(super) fn lets(&self, route: &ObjectRef, target: &Foreign) -> bool {
        let from = |from: &GrantFrom| {
            from.group == super::GROUP && *from.kind == *route.kind && *from.namespace == *route.namespace
        };
        let to = |to: &GrantTo| {
            let named = to.name.as_deref().is_none_or(|name| name.is_empty() || *name == *target.name);
            *to.group == *target.group && *to.kind == *target.kind && named
        };
        self.object.namespace == target.namespace && self.from.iter().any(from) && self.to.iter().any(to)
    }
}
