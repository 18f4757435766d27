//! The Helm charts: what is generated into them and from them, and how tests render and install them.
//!
//! What this is: [`generate`] makes the parts of `helm/` and `config/` that follow from code or from each other, so that a Helm
//! installation and `kubectl apply --kustomize config/default` give the same objects; [`Helm`] runs the real program. What this is
//! not: a renderer of its own.
//!
//! The path through it: [`Repository`] knows where things are; the program `osm-generate` writes or checks what [`generate`] makes.

mod documents;
pub mod generate;
mod helm;
mod repository;
mod values;

pub use documents::{ObjectName, objects};
pub use helm::Helm;
pub use repository::Repository;
pub use values::{Documented, RetiredValue, documented, retired};
