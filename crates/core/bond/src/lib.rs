//! The bond over paths: queues, scheduling, repair, ordering, client and server endpoints.
