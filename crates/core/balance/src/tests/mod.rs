//! The whole policy: over model links, in virtual time.
