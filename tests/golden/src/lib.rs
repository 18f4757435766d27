//! Golden cases: manifests in, Envoy configuration and findings out, and what a proxy says of them.
//!
//! A case is a folder below `cases`:
//!
//! - `in.yaml`: the objects of a mesh, as a user writes them;
//! - `case.yaml`, optional: [`CaseOptions`];
//! - `out/mesh/<type>.yaml`: the layer that all proxies share, a file per xDS type;
//! - `out/<namespace>.<service account>/<type>.yaml`: the layer of the proxies of that workload, which lies above it;
//! - `out/findings.yaml`: what the authors of the objects are told.
//!
//! `UPDATE_GOLDEN=1 cargo test -p osm-golden` writes `out`; without it differing, missing and stale files fail. Resources
//! are printed as canonical proto JSON with sorted keys, in YAML. Parts that are the same everywhere are printed in full in
//! the case `reference` and elsewhere by name, such as `(access-log)`: see [`fragments`].
//!
//! What this is not: a test of what Envoy does with requests. It shows that Envoy *accepts* every case ([`envoy`]).
//!
//! The path through it: [`Case`] reads a folder, [`Mesh`] is the computation from its objects, [`golden`] prints it and
//! compares, [`envoy`] puts it into a static configuration.

mod case;
pub mod envoy;
pub mod fragments;
pub mod golden;
mod mesh;

pub use case::{Case, CaseOptions};
pub use mesh::{ENVOY_SECRETS, Mesh};
