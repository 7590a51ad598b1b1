//! The tunnel device.
