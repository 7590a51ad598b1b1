//! Whole bonds over netem in virtual time.
