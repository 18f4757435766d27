//! Tests of the pure state machine, with a client that is as pure.

mod client;
mod containment;
mod delta;
mod fixture;
mod limits;
mod ordering;
mod property;
mod state_of_the_world;
