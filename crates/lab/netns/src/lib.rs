//! A private internet in network namespaces.
