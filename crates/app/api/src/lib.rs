//! The control API: types, routes, client and server.
