//! One path: RTT, loss, delivery rate, congestion control, pacing, MTU, health.
