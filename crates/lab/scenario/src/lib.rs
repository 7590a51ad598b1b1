//! The scenario file: links and events, shared by sim, netns and bench.
