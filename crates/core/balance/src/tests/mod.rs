//! The whole policy: over model links, in virtual time.

mod bounds;
mod capacity;
mod choice;
mod failure;
mod plan;
mod world;
