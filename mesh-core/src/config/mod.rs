//! Istio configuration as documents: parsed once, with the place of every value.
//!
//! Each crate owns the kinds it enforces: it declares serde types with Istio's field names, decodes a
//! [`Document`]'s spec into them and builds an immutable model. What makes that pleasant lives here:
//!
//! - a YAML tree that keeps line and column ([`Node`]), so that every error names its place;
//! - a serde deserializer over it, so that an unknown field, a wrong type or a bad value found by any
//!   `Deserialize` says `file:line:col: Kind ns/name field.path: what`;
//! - [`Unenforced`], a field that Istio has and we read but do not enforce: reported, never ignored in silence.
//!
//! ```
//! use mesh_core::config::{Document, Issues};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Spec { weight: u32 }
//!
//! let mut issues = Issues::default();
//! let text = "kind: Thing\nmetadata: {name: a}\nspec:\n  weight: -1\n";
//! let documents = Document::parse_all("a.yaml", text, &mut issues);
//! assert!(documents[0].decode::<Spec>(&mut issues).is_none());
//! assert_eq!(
//!     issues.to_string(),
//!     "a.yaml:4:11: error: Thing default/a weight: invalid value: integer `-1`, expected an integer, 0 or more",
//! );
//! ```

mod de;
mod document;
mod duration;
mod fields;
mod issue;
mod load;
mod node;
mod unenforced;

pub use document::{Document, ObjectRef};
pub use duration::{DurationText, InvalidDuration, parse_duration};
pub use fields::{Field, fields};
pub use issue::{Issue, Issues, Severity, Topic};
pub use node::{Key, Node, Position, Value};
pub use unenforced::Unenforced;
