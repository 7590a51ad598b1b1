//! Links, addresses, routes, rules, nftables; every change journaled.
